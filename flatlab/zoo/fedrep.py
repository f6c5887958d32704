"""FedRep: the head first, then the body; heads stay with their clients (Collins et al., 2102.07078, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Params, Share
from ..declare import SettingError, setting


class FedRep(Algorithm):
    """The first `head_epochs` of the `epochs` train the head alone, the rest the body alone; the body is shared.

    FedBABU's tables use as many head epochs as the others have epochs, then one of the body. With none the heads stay
    as they began.

    >>> fl.train(fl.FedRep(epochs=2, head_epochs=1), data, "lenet", rounds=1).kept
    ('head.weight', 'head.bias')
    """

    kind: Literal["FedRep"] = "FedRep"
    epochs: int = setting(2, "local epochs in a round, of the head and of the body together", ge=1, unit="epochs")
    head_epochs: int = setting(1, "the first so many epochs train the head alone", ge=0, unit="epochs")
    share: Share = setting("body", "the part that is sent and averaged")

    def check(self, rounds: int) -> None:
        """Both parts must be trained: what is shared would never move."""
        if self.local_steps is not None and self.head_epochs:
            told = "FedRep shares a round's epochs out between head and body; leave it out"
            raise SettingError("local_steps", self.local_steps, told)
        super().check(rounds)
        if self.head_epochs >= self.epochs:
            raise SettingError("head_epochs", self.head_epochs, f"must be below epochs = {self.epochs}, for the body")
        if self.train != "all":
            raise SettingError("train", self.train, "FedRep trains head and body in turn; set it to 'all'")

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """A step in which one part does not move."""
        head = carry.step * self.epochs < self.head_epochs * carry.steps
        turn = {name: head if name.startswith("head.") else ~head for name in carry.params}

        def at(params: Params) -> tuple[Params, Tensor]:  # an ascent step leaves the resting part alone, too
            grads, loss = batch.gradient(params)
            return {name: torch.where(turn[name], g, 0) for name, g in grads.items()}, loss

        grads, loss = self.local.gradient(at, carry.params)
        pulled = carry
        if self.mu:  # the resting part is not pulled either: its pull would count in the norm that is clipped
            anchor = {name: torch.where(turn[name], value, carry.params[name]) for name, value in carry.anchor.items()}
            pulled = carry._replace(anchor=anchor)
        moved = self.descend(pulled, grads, lr)
        params, velocity = (
            {name: torch.where(turn[name], value, old[name]) for name, value in new.items()}
            for new, old in ((moved.params, carry.params), (moved.velocity, carry.velocity))
        )
        return carry._replace(params=params, velocity=velocity), loss
