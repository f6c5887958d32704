"""Training that stopped being numbers: where, and the local step that did it.

What the error knows of the step, and the step once more:

    try:
        run.to()
    except fl.Diverged as error:
        error.client, error.round, error.step, error.indices, error.params
        error.replay()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, Params
from ..later import pd
from ..results import Result
from .hooks import stepped
from .objective import OneBatch

if TYPE_CHECKING:
    from .clients import Cohort


@dataclass(frozen=True)
class Step:
    """A local step of one client as plain autograd did it.

    Args:
        number: steps of the round before it.
        indices: positions of its samples in `data.images`.
        algorithm, carry, batch, lr: what `Algorithm.step` was given.
        after, loss: what it gave.
    """

    number: int
    indices: list[int]
    algorithm: Algorithm
    carry: Carry
    batch: OneBatch
    lr: float
    after: Carry
    loss: Tensor

    @property
    def fault(self) -> str:
        """What of it is no number: the loss, the weights after it, or how far they have moved; empty if all are."""
        if not bool(self.loss.isfinite().all()):
            return f"its loss is {float(self.loss.mean())}"
        moved = torch.stack([(value - self.carry.anchor[name]).abs().max() for name, value in self.after.params.items()
                             if value.numel()])  # fmt: skip
        if not bool(moved.isfinite().all()):
            return "the weights after it are no finite numbers"
        squares = [(value - self.carry.anchor[name]).square().sum() for name, value in self.after.params.items()]
        if not bool(torch.stack(squares).sum().isfinite()):
            return f"it moves a weight by {float(moved.max()):.2g}, whose square is no number; the loss follows"
        return ""

    def again(self) -> tuple[pd.DataFrame, float]:
        """The step once more: largest absolute value of each tensor in what it took and made, and the loss."""
        asked: list[Params] = []
        differentiate = self.batch.differentiate

        def heard(objective: Callable[[Params], Tensor], params: Params) -> tuple[Params, Tensor]:
            grads, value = differentiate(objective, params)
            asked.append(grads)
            return grads, value

        batch = dataclasses.replace(self.batch, differentiate=heard)
        with torch.no_grad():
            after, loss = stepped(self.algorithm, self.carry, batch, self.lr)
        many = len(asked) > 1
        columns = {"before": self.carry.params}
        columns |= {f"gradient {place}" if many else "gradient": grads for place, grads in enumerate(asked, 1)}
        columns |= {"after": after.params}
        rows = [
            {"tensor": name} | {column: _largest(values[name]) for column, values in columns.items() if name in values}
            for name in self.carry.params
        ]
        return pd.DataFrame(rows), float(loss)


class Diverged(RuntimeError):
    """The training loss or the weights of a client stopped being numbers.

    Attributes:
        round: in which, from 1; None in fine-tuning.
        client: whose training; None: the server's.
        step: local steps of the round (or of the fine-tuning) that were done before; None if the client, trained alone
            once more, stayed finite (rounding decided) or nobody's training was to blame.
        indices: positions in `run.data.images` of that step's batch.
        params: all parameters before that step, by name.
    """

    def __init__(
        self,
        message: str,
        round: int | None = None,
        client: int | None = None,
        taken: Step | None = None,
    ) -> None:
        super().__init__(message)
        self.round, self.client, self._taken = round, client, taken
        self.step: int | None = None
        self.indices: list[int] = []
        self.params: Params = {}
        if taken is not None:
            whole = {**taken.batch.frozen, **taken.carry.params}
            self.step, self.indices = taken.number, taken.indices
            self.params = {name: value.detach().cpu() for name, value in whole.items()}

    def replay(self) -> Result:
        """Do that step again, and show it: a row a tensor, with the largest absolute value of the weights before, of
        each gradient that the step asked for, and of the weights after. `about` has the loss, the rate, the batch, and
        in `fault` what of it is no number: where that is only how far the weights moved, which is a square, all that is
        shown is finite, and the loss of the next step is not.

        Raises:
            RuntimeError: if there is no such step, or the error comes from another process.
        """
        if self._taken is None:
            why = "it was trained in another process" if self.step is not None else "there is no such step"
            raise RuntimeError(f"nothing to replay: {why}; train the run here, with engine='loop'")
        frame, loss = self._taken.again()
        about = {"round": self.round, "client": self.client, "step": self.step, "loss": loss, "lr": self._taken.lr}
        return Result(frame, {**about, "fault": self._taken.fault, "indices": self.indices})

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"step": self.step, "indices": self.indices, "params": self.params}
        return type(self), (str(self), self.round, self.client), state


class _Ended(Exception):
    """The step that was looked for is found."""


def diverging(cohort: Cohort, algorithm: Algorithm, params: Params, **orders: Any) -> Step | None:
    """The first step of one client that gives what is no number; None if there is none.

    Args:
        cohort: that trains.
        algorithm: whose step.
        params: all parameters, as the client received them.
        **orders: of that client alone, as for `Cohort.train`.
    """
    met: list[Step] = []

    def watch(step: Step) -> None:
        if step.fault:
            met.append(step)
            raise _Ended

    try:
        for _ in cohort.train(algorithm, params, watch=watch, **orders):
            pass
    except _Ended:
        return met[0]
    return None


def local_fault(where: str, loss: float, drift: float, algorithm: Algorithm, step: Step | None) -> str:
    """What is said of local training in a round that diverged, and of the step that did it."""
    first = "" if step is None else f"; first local step {step.number + 1}: {step.fault}"
    return (
        f"{where}: the round's training loss became {loss:.4g}, the distance moved {drift:.4g}{first};"
        f" lower algorithm.{algorithm.suspect()}, or set algorithm.clip"
    )


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0
