"""FedWMSAM: momentum that is personal, says where to perturb, and counts less where clients disagree (NeurIPS 2025)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..algorithms import SGD, Carry, Local, LocalBatch, Message, Params, Slots, stretched
from ..declare import setting
from .mofedsam import MoFedSAM
from .perturbing import Beside, check_own_perturbation, zeros
from .scaffold import SCAFFOLD


class FedWMSAM(MoFedSAM, SCAFFOLD):
    """y -= lr (alpha g(y + e) + (1 - alpha) M_i), M_i = M + alpha / (1 - alpha) (c - c_i), e = rho d / ||d||.

    d = x + b M_i - y after b steps of the round; M = -D / (K lr) is MoFedSAM's momentum, c_i and c are SCAFFOLD's.
    After a round alpha = (1 - adapt) alpha + adapt clip(mean(1 + cos(y - x, M)), 0.1, 0.9): less momentum where clients
    go another way than the last round; without momentum yet, 0.1.

    A reading: formulas of Li et al.'s poster, with one M in both places, a gradient, so that e leads uphill; their code
    turns e round. The rule for alpha is the code's, and D is divided as in MoFedSAM. The loss on record is that at
    y + e.

    >>> fl.train(fl.FedWMSAM(rho=0.01), data, "lenet", rounds=2).round
    2
    """

    kind: Literal["FedWMSAM"] = "FedWMSAM"  # type: ignore[assignment]  # a kind of its own, told apart by name
    local: Local = setting(SGD(), "how a local step gets its gradient; FedWMSAM perturbs itself")
    alpha: float = setting(0.1, "weight of the client's gradient beside momentum, in the first round", gt=0, lt=1)
    adapt: float = setting(0.01, "weight of a round in alpha", ge=0, le=1)
    rho: float = setting(0.01, "length of the perturbation", ge=0, span=(0.0, 1.0))

    def check(self, rounds: int) -> None:
        """The perturbation is part of the method."""
        super().check(rounds)
        check_own_perturbation(self)

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The last global step, the server's control variate, and alpha."""
        first = {"value": next(iter(trained.values())).new_tensor(self.alpha)}
        return super().broadcast(slots, trained) | {"alpha": slots.get("alpha") or first}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Along gradient and personal momentum."""
        alpha, momentum, at = carry.received["alpha"]["value"], _momentum(carry, lr), carry.params
        own, common = carry.memory["control"], carry.received["control"]
        personal = momentum | {k: momentum[k] + alpha / (1 - alpha) * (common[k] - own[k]) for k in own}
        ahead = {k: carry.anchor[k] + carry.step * personal[k] - v for k, v in at.items()}
        grads, loss = Beside(batch, stretched(ahead, self.rho)).gradient(at)
        return self.descend(carry, {k: alpha * g + (1 - alpha) * personal[k] for k, g in grads.items()}, lr), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """SCAFFOLD's, and how the client went beside the momentum."""
        message, momentum = super().finish(carry, lr), _momentum(carry, lr)
        way, last = (torch.cat([v.flatten() for v in part.values()]) for part in (message.update, momentum))
        lengths = way.norm() * last.norm()
        turned = torch.where(lengths > 0, 1 + way @ last / lengths, 0)
        known = carry.received["alpha"]["value"]
        return message._replace(extra=message.extra | {"alpha": {"turned": turned, "known": known}})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """SCAFFOLD's, and the next alpha."""
        mean = {k: v / heard for k, v in extra["alpha"].items()}
        alpha = (1 - self.adapt) * mean["known"] + self.adapt * mean["turned"].clamp(0.1, 0.9)
        return super().receive(slots, extra, heard, population) | {"alpha": {"value": alpha}}


def _momentum(carry: Carry, lr: float | Tensor) -> Params:
    """MoFedSAM's, as a gradient; 0 for what stays with the client."""
    return zeros(carry.params) | {k: -v / carry.steps / lr for k, v in carry.received["last"].items()}
