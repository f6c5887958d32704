"""SCAFFOLD: control variates take the clients' drift out of each step (Karimireddy et al., 1910.06378, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Message, Params, Slots
from ..declare import SettingError, setting


class SCAFFOLD(Algorithm):
    """y -= lr (g(y) - c_i + c); then c_i' by option I or II, and c += sum over the round (c_i' - c_i) / N.

    Option II: c_i' = c_i - c + (x - y) / (K lr) after K steps. Option I: c_i' = the gradient over all the client's
    samples at x, one more pass over them. c is the mean of all N clients' c_i after every round.

    >>> run = fl.train(fl.SCAFFOLD(lr=0.1), data, "lenet", rounds=1)
    >>> run.state().memory["control"]["head.bias"].shape  # [clients, classes]
    torch.Size([4, 10])
    """

    kind: Literal["SCAFFOLD"] = "SCAFFOLD"
    option: Literal["I", "II"] = setting("II", "how a client's control variate is renewed")

    @property
    def whole_gradient(self) -> bool:
        """Option I needs it."""
        return self.option == "I"

    def check(self, rounds: int) -> None:
        """Option II reads the mean gradient off the way that plain steps went."""
        super().check(rounds)
        if self.option == "II" and self.momentum:
            raise SettingError("momentum", self.momentum, "option II needs plain steps; set it to 0, or option to 'I'")

    def memory(self, trained: Params) -> Slots:
        """The client's control variate."""
        return super().memory(trained) | {"control": {k: torch.zeros_like(v) for k, v in trained.items()}}

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The server's control variate."""
        return {"control": slots.get("control") or {k: torch.zeros_like(v) for k, v in trained.items()}}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along g - c_i + c."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        own, common = carry.memory["control"], carry.received["control"]
        return self.descend(carry, {k: g - own[k] + common[k] for k, g in grads.items()}, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The new control variate stays; its change goes to the server."""
        message = super().finish(carry, lr)
        old, common = carry.memory["control"], carry.received["control"]
        new = carry.received.get("gradient") or {
            k: old[k] - common[k] - moved / (carry.steps * lr) for k, moved in message.update.items()
        }
        change = {k: new[k] - old[k] for k in old}
        return message._replace(memory=message.memory | {"control": new}, extra={"control": change})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """C += sum (c_i' - c_i) / N."""
        change = extra["control"]
        old = slots.get("control") or {k: torch.zeros_like(v) for k, v in change.items()}
        return slots | {"control": {k: old[k] + v / population for k, v in change.items()}}
