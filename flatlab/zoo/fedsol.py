"""FedSOL: local steps that keep what the global model knows, by a perturbation (Lee et al., 2308.12532)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..algorithms import Algorithm, Carry, LocalBatch, stretched
from ..declare import setting
from .perturbing import Beside, check_own_perturbation


class FedSOL(Algorithm):
    """y -= lr g(y + e), e = rho L p / ||p||: p is the gradient at y of KL(x's outputs || y's), L = |y - x|, scaled.

    The KL is that of the softmax of outputs / temperature. A reading after the authors' code: each tensor of L has
    length 1 along its first axis, and all trained tensors are perturbed. The first step of a round, where y = x, is
    FedAvg's; so is every step with rho = 0. The loss on record is that at y + e.

    >>> fl.train(fl.FedSOL(rho=2.0), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedSOL"] = "FedSOL"
    rho: float = setting(2.0, "strength of the perturbation", ge=0, span=(0.0, 5.0))
    temperature: float = setting(3.0, "that the outputs are divided by", gt=0)

    @property
    def gradients_per_step(self) -> int:
        """One for the perturbation; the global model's forward pass is not counted."""
        return 1 + super().gradients_per_step

    def check(self, rounds: int) -> None:
        """The perturbation is part of the method."""
        super().check(rounds)
        check_own_perturbation(self)

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """From y + e."""
        wanted = torch.softmax(batch.outputs(carry.anchor) / self.temperature, 1)

        def apart(outputs: Tensor) -> Tensor:  # the KL, but for what does not depend on y
            return -(wanted * torch.log_softmax(outputs / self.temperature, 1)).sum(1)

        proximal, _ = batch.gradient(carry.params, apart)
        unit = stretched(proximal, self.rho)
        away = {k: F.normalize((v - carry.anchor[k]).abs(), dim=0) for k, v in carry.params.items()}
        return super().step(carry, Beside(batch, {k: v * unit[k] for k, v in away.items()}), lr)
