"""Per-FedAvg, first order: a model that one step of fine-tuning makes good (Fallah et al., 2002.07948, section 5)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch
from ..declare import setting


class PerFedAvg(Algorithm):
    """w' = w - alpha g(w; batch 1); w -= lr g(w'; batch 2). A step takes two batches, so an epoch has half the steps.

    The loss on record is that at w'. With alpha = 0 it is FedAvg on every second batch.

    >>> fl.train(fl.PerFedAvg(alpha=0.05), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["PerFedAvg"] = "PerFedAvg"
    batches_per_step: ClassVar[int] = 2
    alpha: float = setting(0.1, "rate of the inner step", ge=0, log=True, span=(1e-3, 1.0))

    @property
    def gradients_per_step(self) -> int:
        """One for the step ahead."""
        return 1 + super().gradients_per_step

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Descend from w along the gradient at w'."""
        first, second = batch.halves()
        inner, _ = first.gradient(carry.params)
        ahead = {name: value - self.alpha * inner[name] for name, value in carry.params.items()}
        grads, loss = self.local.gradient(second.gradient, ahead)
        return self.descend(carry, grads, lr), loss
