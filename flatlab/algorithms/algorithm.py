"""An algorithm is a composition: local step x part trained and shared x server update x averaging.

The methods `init`, `step` and `finish` are pure functions of ONE client; the cohort runs them for many. Override them
in a subclass for an algorithm that needs more than a composition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from ..declare import Declared, Family, SettingError, setting
from .averaging import SWA
from .local import SGD, Gradient, Local, Params, joint_norm
from .schedules import Constant, Schedule
from .server import Average, Server

Part = Literal["all", "body", "head"]


class ServerData(Declared):
    """The server owns a share of the training data and trains on it for an epoch after each aggregation.

    Source: FedBABU, Table 2. The server's samples stay with their clients too, as in the official code.
    """

    share: float = setting(0.1, "fraction of all training samples that the server holds", gt=0, le=1)
    train: Part = setting("all", "the part that the server trains")


class Carry(NamedTuple):
    """What one client's local training carries from step to step."""

    params: Params  # the trained part
    velocity: Params  # momentum, empty without it
    anchor: Params  # the trained part as received


class Algorithm(Family):
    """Every setting works with every other; the named algorithms below this class only choose defaults."""

    lr: float = setting(0.1, "client learning rate", gt=0, log=True, span=(1e-4, 1.0))
    epochs: int = setting(1, "local epochs in a round", ge=1, unit="epochs", span=(1, 10))
    batch_size: int = setting(50, "samples in a local batch; the last batch of an epoch may be smaller", ge=1)
    momentum: float = setting(0.0, "client momentum, restarted in each round unless kept", ge=0, lt=1)
    keep_momentum: bool = setting(False, "whether a client keeps its momentum from round to round")
    weight_decay: float = setting(0.0, "L2 penalty on the trained part", ge=0, log=True, span=(1e-5, 1e-2))
    clip: float | None = setting(None, "largest joint norm of a step's gradient; none: no clipping", gt=0)
    mu: float = setting(0.0, "FedProx: strength of the pull to the received model", ge=0, log=True, span=(1e-3, 1.0))
    schedule: Schedule = setting(Constant(), "client learning rate over the rounds")
    local: Local = setting(SGD(), "how a local step gets its gradient")
    train: Part = setting("all", "the part that clients train")
    share: Literal["all", "body", "head", "none"] = setting(
        "all", "the part that is sent and averaged; the rest stays with each client"
    )
    aggregation: Literal["weighted", "uniform"] = setting(
        "weighted", "mean of the clients by their number of samples, or plain (FedBABU's official code)"
    )
    server: Server = setting(Average(), "what the server does with the mean update")
    swa: SWA | None = setting(None, "server-side averaging of the global model")
    server_data: ServerData | None = setting(None, "training data that the server holds itself")
    pooled: bool = setting(False, "one client holds everybody's data: centralized training")

    @property
    def name(self) -> str:
        """How figures and tables call it: its kind, with a crossed local step and SWA named."""
        plain = type(self).model_fields["local"].default
        crossed = "" if self.local.kind == plain.kind else f" {self.local.kind.upper()}"
        return f"{self.kind}{crossed}{' + SWA' if self.swa else ''}"

    def check(self, rounds: int) -> None:
        """Refuse settings that cannot work together in a run of `rounds` rounds.

        Raises:
            SettingError: naming the setting.
        """
        if self.swa is None:
            return
        self.swa.check(rounds)
        if self.swa.low > self.lr:
            raise SettingError(f"swa.low = {self.swa.low:g}: must not exceed lr = {self.lr:g}")
        if self.share == "none":
            raise SettingError("swa: the server has nothing to average with share = 'none'; set swa to None")

    def rate(self, round: int, rounds: int) -> float:
        """The clients' learning rate in `round` (from 0) of `rounds`."""
        base = self.schedule.lr(self.lr, round, rounds)
        return base if self.swa is None else self.swa.lr(base, round, rounds)

    def varied(self, values: Mapping[str, Any]) -> Self:
        """A copy with other values, by name ("mu", "local.rho"), unchecked: they may be tensors that vmap batches.

        Only for numbers that are in use (not 0, not None) here, in an algorithm that does not look at them.
        """
        inner = {name.removeprefix("local."): value for name, value in values.items() if name.startswith("local.")}
        changes = {name: value for name, value in values.items() if not name.startswith("local.")}
        return self.model_copy(update={**changes, "local": self.local.model_copy(update=inner)})

    def init(self, trained: Params, velocity: Params) -> Carry:
        """Start local training at `trained`; `velocity` is empty unless momentum is kept."""
        if _on(self.momentum) and not velocity:
            velocity = {name: value.new_zeros(value.shape) for name, value in trained.items()}
        return Carry(trained, velocity, trained)

    def step(self, carry: Carry, gradient: Gradient, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """One local step and the loss before it.

        Order as in torch.optim.SGD on a loss with the proximal term: gradient, pull, clipping, decay, momentum.
        """
        params, velocity, anchor = carry
        grads, loss = self.local.gradient(gradient, params)
        if _on(self.mu):
            grads = {k: _plus(g, params[k] - anchor[k], self.mu) for k, g in grads.items()}
        if self.clip is not None:
            shrink = (self.clip / (joint_norm(grads) + 1e-6)).clamp(max=1.0)
            grads = {k: g * shrink for k, g in grads.items()}
        if _on(self.weight_decay):
            grads = {k: _plus(g, params[k], self.weight_decay) for k, g in grads.items()}
        if _on(self.momentum):
            grads = velocity = {k: _plus(g, velocity[k], self.momentum) for k, g in grads.items()}
        return Carry({k: _plus(value, grads[k], -lr) for k, value in params.items()}, velocity, anchor), loss

    def finish(self, carry: Carry) -> Params:
        """The client's message: how far each trained tensor moved."""
        return {k: value - carry.anchor[k] for k, value in carry.params.items()}


def _on(value: float | Tensor) -> bool:
    """Whether a setting is in use; a tensor is, see `Algorithm.varied`."""
    return isinstance(value, Tensor) or value != 0


def _plus(value: Tensor, other: Tensor, factor: float | Tensor) -> Tensor:
    """The sum value + factor x other, in one pass over memory, unless the factor is a tensor."""
    return value + factor * other if isinstance(factor, Tensor) else torch.add(value, other, alpha=factor)
