"""Ditto: a personal model beside the global one, held near it (Li et al., 2012.04221, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Params, Slots
from ..declare import setting


class Ditto(Algorithm):
    """The global copy is FedAvg's; the client's own v takes v -= lr (g(v) + lam (v - x)) on the same batches.

    With lam = 0 the personal models are those of clients that train alone.

    >>> ditto = fl.train(fl.Ditto(lam=0.1), data, "lenet", rounds=1)
    >>> torch.equal(ditto.model().head.bias, ditto.model(client=3).head.bias)  # the global one, and client 3's own
    False
    """

    kind: Literal["Ditto"] = "Ditto"
    lam: float = setting(0.75, "pull of a personal model to the received one", ge=0, log=True, span=(1e-2, 2.0))

    @property
    def gradients_per_step(self) -> int:
        """Two models take each step."""
        return super().gradients_per_step + self.local.gradients_per_step

    def memory(self, trained: Params) -> Slots:
        """The personal model, and its momentum where there is one."""
        speed = {"speed": {k: torch.zeros_like(v) for k, v in trained.items()}} if self.momentum else {}
        return super().memory(trained) | {"personal": trained} | speed

    def init(self, trained: Params, memory: Slots, received: Slots, steps: Tensor) -> Carry:
        """Momentum of the personal model restarts with the global one's."""
        if self.momentum and not self.keep_momentum:
            memory = memory | {"speed": {k: torch.zeros_like(v) for k, v in trained.items()}}
        return super().init(trained, memory, received, steps)

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """A step of each model; the loss is the global copy's."""
        moved, loss = super().step(carry, batch, lr)
        own = carry._replace(params=carry.memory["personal"], velocity=carry.memory.get("speed", {}))
        grads, _ = self.local.gradient(batch.gradient, own.params)
        own = self.model_copy(update={"mu": self.lam}).descend(own, grads, lr)
        speed = {"speed": own.velocity} if own.velocity else {}
        return moved._replace(memory=carry.memory | {"personal": own.params} | speed), loss

    def personal(self, params: Params, memory: Slots) -> Params:
        """V."""
        return params | memory["personal"]
