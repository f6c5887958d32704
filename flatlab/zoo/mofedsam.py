"""MoFedSAM: FedSAM with the last global step in each local one (Qu et al., 2206.02618; plain: FedCM, 2106.10874)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import SAM, Algorithm, Carry, Local, LocalBatch, Params, Slots
from ..declare import SettingError, setting
from .corrections import sent
from .perturbing import check_server


class MoFedSAM(Algorithm):
    """y -= lr (alpha g_SAM(y) - (1 - alpha) D / (K lr)): K local steps go alpha of SAM's way, and (1 - alpha) D.

    D is the last step of the global model, 0 at first. A reading: the paper's momentum is the clients' mean gradient,
    -D / (K lr) with the K and lr of the round before; here each client divides by its own, so that unequal clients take
    the same part of D, and nothing more is sent up.

    With alpha = 1 it is FedSAM, with `local=SGD()` FedCM.

    >>> fl.train(fl.MoFedSAM(alpha=0.5, local=fl.SAM(rho=0.1)), data, "lenet", rounds=2).round
    2
    """

    kind: Literal["MoFedSAM"] = "MoFedSAM"
    alpha: float = setting(0.1, "weight of the client's gradient beside the last global step", gt=0, le=1)
    local: Local = setting(SAM(), "how a local step gets its gradient")

    def check(self, rounds: int) -> None:
        """There must be a global step; a client's own momentum would take its part of it many times over."""
        super().check(rounds)
        check_server(self)
        if self.momentum:
            raise SettingError("momentum", self.momentum, f"{self.kind} has the global model's; set it to 0")

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """D, of what clients send; where names do not tell that, 0 for what stays with them."""
        last, told = slots.get("last", {}), self.share in ("all", "body", "head")
        part = sent(self, trained) if told else trained
        words = {"last": {k: last.get(k, torch.zeros_like(v)) for k, v in part.items()}}
        return super().broadcast(slots, trained) | words

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along the mixture."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        mixed = {k: self.alpha * g for k, g in grads.items()}
        mixed |= {k: mixed[k] - (1 - self.alpha) * (v / carry.steps / lr) for k, v in carry.received["last"].items()}
        return self.descend(carry, mixed, lr), loss

    def serve(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """Remember the step."""
        moved, slots = super().serve(params, mean_update, slots)
        return moved, slots | {"last": {k: v - params[k] for k, v in moved.items()}}
