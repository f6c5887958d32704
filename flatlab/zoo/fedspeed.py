"""FedSpeed: a gradient from uphill, a proximal term, and duals that correct its bias (Sun et al., 2302.10429)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Message, Params, Slots
from ..declare import setting
from .corrections import check_sent, no_correction
from .perturbing import check_own_perturbation


class FedSpeed(Algorithm):
    """y -= lr ((1 - alpha) g(y) + alpha g(y + rho g(y)) - d_i + (y - x) / lam); d_i -= (y - x) / lam.

    The client sends y - lam d_i with the new dual, the server takes the mean. So the first round goes twice as far as
    the clients went, and `drift` in the history is that of what was sent. The ascent rho g(y) is the gradient, not made
    a unit vector; both are a reading of Algorithm 1, recalled. The loss on record is that at y. With alpha = 0, lam
    towards infinity and no duals it is FedAvg.

    >>> fl.train(fl.FedSpeed(rho=0.1, lam=10.0), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedSpeed"] = "FedSpeed"
    alpha: float = setting(1.0, "weight of the gradient from uphill", ge=0, le=1)
    rho: float = setting(0.1, "the ascent, in units of the gradient", ge=0, span=(0.0, 1.0))
    lam: float = setting(10.0, "lambda: 1 / lam pulls to the received model", gt=0, log=True, span=(0.1, 1e3))

    @property
    def gradients_per_step(self) -> int:
        """One for the ascent."""
        return 1 + super().gradients_per_step

    def check(self, rounds: int) -> None:
        """The ascent is part of the method."""
        super().check(rounds)
        check_own_perturbation(self)
        check_sent(self)

    def memory(self, trained: Params) -> Slots:
        """The client's dual d_i."""
        return super().memory(trained) | {"dual": no_correction(self, trained)}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along the mixed gradient, less the dual, and back to the received model."""
        here, loss = batch.gradient(carry.params)
        uphill, _ = batch.gradient({k: v + self.rho * here[k] for k, v in carry.params.items()})
        mixed = {k: (1 - self.alpha) * here[k] + self.alpha * g for k, g in uphill.items()}
        bent = {
            k: mixed[k] - dual + (carry.params[k] - carry.anchor[k]) / self.lam
            for k, dual in carry.memory["dual"].items()
        }
        return self.descend(carry, mixed | bent, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The new dual stays, and goes with the model."""
        message = super().finish(carry, lr)
        dual = {k: v - message.update[k] / self.lam for k, v in carry.memory["dual"].items()}
        sent = message.update | {k: message.update[k] - self.lam * v for k, v in dual.items()}
        return message._replace(update=sent, memory=message.memory | {"dual": dual})
