"""FedDyn: each client's loss is bent so that its optimum is the federation's (Acar et al., 2111.04263, Algorithm 1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ..algorithms import Algorithm, Average, Carry, LocalBatch, Message, Params, Slots
from ..declare import SettingError, setting
from .corrections import check_sent, no_correction
from .perturbing import zeros


class FedDyn(Algorithm):
    """y -= lr (g(y) - g_i + alpha (y - x)); g_i -= alpha (y - x); the server's x = mean y_i - h / alpha.

    h -= alpha / N sum (y_i - x) over the round's clients; N are all there are. The paper's mean of the clients is the
    plain one, `aggregation="uniform"`; by default it is weighted by samples, as with every algorithm here. g_i and h
    weigh clients alike, so the optimum is that of the plain mean of their losses in either case.

    The model that is scored is x. At a local optimum g_i is the gradient of the client's own loss there.

    >>> fl.train(fl.FedDyn(alpha=0.01), data, "lenet", rounds=1).round
    1
    """

    inside: ClassVar[frozenset[str]] = frozenset(["moved"])
    kind: Literal["FedDyn"] = "FedDyn"
    alpha: float = setting(0.01, "strength of the bend", gt=0, log=True, span=(1e-4, 1.0))

    def check(self, rounds: int) -> None:
        """The server's step is part of the method."""
        super().check(rounds)
        check_sent(self)
        if self.server != Average():
            raise SettingError("server", self.server.kind, "FedDyn has its own; leave it as it is")

    def memory(self, trained: Params) -> Slots:
        """The client's dual g_i."""
        return super().memory(trained) | {"dual": no_correction(self, trained)}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along g - g_i + alpha (y - x)."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        bent = {
            k: grads[k] - dual + self.alpha * (carry.params[k] - carry.anchor[k])
            for k, dual in carry.memory["dual"].items()
        }
        return self.descend(carry, grads | bent, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The new dual stays; the way the client went goes to the server again, to be summed without weights."""
        message = super().finish(carry, lr)
        dual = {k: v - self.alpha * message.update[k] for k, v in carry.memory["dual"].items()}
        moved = {k: message.update[k] for k in dual}
        return message._replace(memory=message.memory | {"dual": dual}, extra={"moved": moved})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """H -= alpha / N sum (y_i - x)."""
        moved = extra["moved"]
        h = slots.get("h") or zeros(moved)
        return slots | {"h": {k: h[k] - self.alpha / population * v for k, v in moved.items()}}

    def serve(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """X = mean of the clients - h / alpha."""
        params, slots = super().serve(params, mean_update, slots)
        return params | {k: params[k] - h / self.alpha for k, h in slots["h"].items()}, slots
