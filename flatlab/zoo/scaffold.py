"""SCAFFOLD: control variates take the clients' drift out of each step (Karimireddy et al., 1910.06378, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..algorithms import Algorithm, Carry, LocalBatch, Message, Params, Slots
from ..declare import SettingError, setting
from .corrections import check_sent, no_correction
from .perturbing import zeros


class SCAFFOLD(Algorithm):
    """y -= lr (g(y) - c_i + c); then c_i' by option I or II, and c += sum over the round (c_i' - c_i) / N.

    Option II: c_i' = c_i - c + (x - y) / (K lr) after K steps. Option I: c_i' = the gradient over all the client's
    samples at x, one more pass over them. c is the mean of all N clients' c_i after every round; a change that is lost
    on its way (`Channel(loss=...)`) is missing in it for good.

    c weighs clients alike, so the optimum is that of the plain mean of their losses, whatever `aggregation` says:
    beside clients of different size FedAvg has the same one with `aggregation="uniform"`.

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
        check_sent(self)
        if self.option == "II" and self.momentum:
            raise SettingError("momentum", self.momentum, "option II needs plain steps; set it to 0, or option to 'I'")

    def memory(self, trained: Params) -> Slots:
        """The client's control variate."""
        return super().memory(trained) | {"control": no_correction(self, trained)}

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The server's control variate."""
        return {"control": slots.get("control") or no_correction(self, trained)}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along g - c_i + c."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        own, common = carry.memory["control"], carry.received["control"]
        return self.descend(carry, grads | {k: grads[k] - own[k] + common[k] for k in own}, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The new control variate stays; its change goes to the server."""
        message = super().finish(carry, lr)
        old, common = carry.memory["control"], carry.received["control"]
        whole, moved = carry.received.get("gradient"), message.update
        new = {k: whole[k] if whole else old[k] - common[k] - moved[k] / (carry.steps * lr) for k in old}
        change = {k: new[k] - old[k] for k in old}
        return message._replace(memory=message.memory | {"control": new}, extra={"control": change})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """C += sum (c_i' - c_i) / N."""
        change = extra["control"]
        old = slots.get("control") or zeros(change)
        return slots | {"control": {k: old[k] + v / population for k, v in change.items()}}
