"""FedLESAM: a perturbation of the global loss, guessed from two received models (Fan et al., 2405.18890)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Message, Params, Slots, stretched
from ..declare import setting
from .feddyn import FedDyn
from .perturbing import Beside, check_own_perturbation
from .scaffold import SCAFFOLD


class FedLESAM(Algorithm):
    """y -= lr g(y + e) with e = rho (x_old - x) / ||x_old - x||: one gradient a step, the same e for a whole round.

    x_old is what the client received when it last took part; before its first time, the first model. The norm is one
    over all tensors; the authors' code divides by the sum of theirs. The loss on record is that at y + e.

    >>> fl.train(fl.FedLESAM(rho=0.1), data, "lenet", rounds=2).round
    2
    """

    kind: Literal["FedLESAM"] = "FedLESAM"
    rho: float = setting(0.1, "length of the perturbation", ge=0, span=(0.0, 1.0))

    def check(self, rounds: int) -> None:
        """The perturbation is part of the method."""
        super().check(rounds)
        check_own_perturbation(self)

    def memory(self, trained: Params) -> Slots:
        """The model that was received last."""
        return super().memory(trained) | {"last": trained}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """From y + e."""
        back = {k: v - carry.anchor[k] for k, v in carry.memory["last"].items()}
        return super().step(carry, Beside(batch, stretched(back, self.rho)), lr)

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """Remember what was received."""
        message = super().finish(carry, lr)
        return message._replace(memory=message.memory | {"last": carry.anchor})


class FedLESAMD(FedLESAM, FedDyn):
    """FedLESAM-D: FedDyn's steps and server, with the gradient at y + e. With rho = 0 it is FedDyn.

    >>> fl.train(fl.FedLESAMD(rho=0.1, alpha=0.1), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedLESAMD"] = "FedLESAMD"  # type: ignore[assignment]  # a kind of its own, told apart by name


class FedLESAMS(FedLESAM, SCAFFOLD):
    """FedLESAM-S: SCAFFOLD's steps and server, with the gradient at y + e. With rho = 0 it is SCAFFOLD.

    >>> fl.train(fl.FedLESAMS(rho=0.1), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedLESAMS"] = "FedLESAMS"  # type: ignore[assignment]  # a kind of its own, told apart by name
