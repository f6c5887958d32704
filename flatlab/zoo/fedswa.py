"""FedSWA and FedMoSWA: weight averaging in each round, with control by momentum (Liu et al., 2507.20016)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..algorithms import Algorithm, Average, Carry, LocalBatch, Message, Server, Slots
from ..declare import setting
from .scaffold import SCAFFOLD


class FedSWA(Algorithm):
    """Step k of K takes the rate lr (1 - (1 - rho) k / K), from k = 0; the server goes 1.5 times the mean way.

    The rate begins anew with each round. A reading: the rate falls as in the authors' code, which also has rho = 0;
    the paper has 0.1. With rho = 1 and `server=Average()` it is FedAvg.

    >>> fl.train(fl.FedSWA(rho=0.1), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedSWA"] = "FedSWA"
    rho: float = setting(0.1, "where the rate falls to within a round, in units of its start", ge=0, le=1)
    server: Server = setting(Average(lr=1.5), "what the server does with the mean update")

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """At the rate of this step."""
        return super().step(carry, batch, _falling(carry, lr, self.rho, carry.step))


class FedMoSWA(SCAFFOLD):
    """FedSWA's rates and server; y -= lr_k (g(y) - c_i + m), c_i' = c_i - m + (x - y) / sum lr_k, m a moving mean.

    m += gamma mean(c_i' - m) over the round's clients, plain. If all take part, with gamma = 1, rho = 1 and
    `server=Average()` it is SCAFFOLD.

    >>> fl.train(fl.FedMoSWA(rho=0.1, gamma=0.2), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedMoSWA"] = "FedMoSWA"  # type: ignore[assignment]  # a kind of its own, told apart by name
    rho: float = setting(0.1, "where the rate falls to within a round, in units of its start", ge=0, le=1)
    gamma: float = setting(0.2, "weight of a round in the server's moving mean", gt=0, le=1)
    server: Server = setting(Average(lr=1.5), "what the server does with the mean update")

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """SCAFFOLD's at the rate of this step."""
        return super().step(carry, batch, _falling(carry, lr, self.rho, carry.step))

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """SCAFFOLD's with the mean rate; c_i' - m goes to the server."""
        message = super().finish(carry, _falling(carry, lr, self.rho, (carry.steps - 1) / 2))
        new, common = message.memory["control"], carry.received["control"]
        return message._replace(extra={"control": {k: v - common[k] for k, v in new.items()}})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """The moving mean m."""
        share = {k: v * (self.gamma * population / heard) for k, v in extra["control"].items()}
        return super().receive(slots, {"control": share}, heard, population)


def _falling(carry: Carry, lr: float | Tensor, rho: float, at: Tensor) -> Tensor:
    """The rate at a step."""
    like = next(iter(carry.params.values()))
    return lr * (1 - (1 - rho) * at.to(like.dtype) / carry.steps)
