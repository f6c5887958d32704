"""AdaBest: drift estimates that fade while a client is away (Varno et al., 2204.13170)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Algorithm, Average, Carry, LocalBatch, Message, Params, Slots
from ..declare import SettingError, setting
from .corrections import check_sent, no_correction


class AdaBest(Algorithm):
    """y -= lr (g(y) - h_i); h_i = h_i / (t - t_i) + mu (x - y); x = m - h with h = beta (m_old - m), m = mean y_i.

    t_i is the round in which the client last took part. A reading of the paper's Algorithm 1, recalled: the first m_old
    is the first model. The model that is scored is x.

    >>> fl.train(fl.AdaBest(beta=0.9), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["AdaBest"] = "AdaBest"
    beta: float = setting(0.96, "how far the server goes on along its own last step", ge=0, lt=1)
    mu_drift: float = setting(0.02, "the paper's mu: weight of a client's newest drift in its estimate", ge=0, log=True)

    def check(self, rounds: int) -> None:
        """The server's step is part of the method."""
        super().check(rounds)
        check_sent(self)
        if self.server != Average():
            raise SettingError("server", self.server.kind, "AdaBest has its own; leave it as it is")

    def memory(self, trained: Params) -> Slots:
        """The drift estimate, and the round of last taking part."""
        drift = no_correction(self, trained)
        return super().memory(trained) | {"drift": drift, "last": {"round": _number(0, trained)}}

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The number of this round, from 1."""
        return {"clock": {"round": slots["clock"]["round"] + 1 if "clock" in slots else _number(1, trained)}}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along g - h_i."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        return self.descend(carry, grads | {k: grads[k] - h for k, h in carry.memory["drift"].items()}, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The new estimate stays."""
        message, now = super().finish(carry, lr), carry.received["clock"]["round"]
        away = (now - carry.memory["last"]["round"]).clamp(min=1)  # a round in which nothing arrives is not counted
        drift = {k: v / away - self.mu_drift * message.update[k] for k, v in carry.memory["drift"].items()}
        memory = message.memory | {"drift": drift, "last": {"round": now}}
        return message._replace(memory=memory, extra={"clock": {"round": now}})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """Count the round."""
        return slots | {"clock": {"round": extra["clock"]["round"] / heard}}

    def serve(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """X = m + beta (m - m_old)."""
        old, (mean, slots) = slots.get("mean", params), super().serve(params, mean_update, slots)
        return {k: v + self.beta * (v - old[k]) for k, v in mean.items()}, slots | {"mean": mean}


def _number(value: float, beside: Params) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device=next(iter(beside.values())).device)
