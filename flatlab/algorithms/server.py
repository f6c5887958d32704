"""What the server does with the clients' mean update D: add it, with momentum, or as an adaptive optimiser's gradient;
and training data that it holds, for itself or for everybody.

An update is a pure function: `(params, mean update, slots) -> (params, slots)`; slots hold momentum and the like. Slots
that it does not know (a control variate that an algorithm keeps there) go through it as they are.
"""

from __future__ import annotations

from typing import Literal

import torch

from ..declare import Declared, Family, setting
from .local import Params, Slots

# See `flatlab.models.names`; of all a-b those that have no shorter name.
Part = Literal[
    "all", "body", "head", "norms", "context",
    "all-norms", "all-context", "body-norms", "head-norms", "head-context",
]  # fmt: skip
Share = Literal[Part, "none"]


class Server(Family):
    """A kind of server update. Your own: subclass it, give it a `kind`, define `update`."""

    lr: float = setting(1.0, "server learning rate", gt=0, span=(0.01, 2.0))

    def update(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """The next global parameters, and the slots to hand in next time (empty in the first round)."""
        raise NotImplementedError


class Average(Server):
    """w + lr m with m = momentum m + D: FedAvg, and with momentum FedAvgM (Hsu et al., 1909.06335).

    >>> w, mean_update = {"weight": torch.tensor([1.0])}, {"weight": torch.tensor([0.5])}
    >>> w, slots = fl.Average(momentum=0.9).update(w, mean_update, {})
    >>> fl.Average(momentum=0.9).update(w, mean_update, slots)[0]["weight"]  # 1 + 0.5 + (0.9 x 0.5 + 0.5)
    tensor([2.4500])
    """

    kind: Literal["average"] = "average"
    momentum: float = setting(0.0, "server momentum; 0.9 is FedAvgM", ge=0, lt=1)

    def update(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """One step of SGD on -D."""
        if self.momentum:
            old = slots.get("momentum", {})
            mean_update = {k: self.momentum * old[k] + d if k in old else d for k, d in mean_update.items()}
            slots = {**slots, "momentum": mean_update}
        return {k: value + self.lr * mean_update[k] for k, value in params.items()}, slots


class Adaptive(Server):
    """w + lr m / (sqrt(v) + tau) without bias correction: FedAdam, FedYogi, FedAdagrad (Reddi et al., 2003.00295).

    With m = beta1 m + (1 - beta1) D, and v by `rule`: adam beta2 v + (1 - beta2) D², yogi
    v - (1 - beta2) D² sign(v - D²), adagrad v + D².

    >>> adam = fl.Adaptive(rule="adam", lr=0.1, beta1=0.0, beta2=0.0)
    >>> adam.update({"weight": torch.tensor([1.0])}, {"weight": torch.tensor([0.5])}, {})[0]["weight"]
    tensor([1.0998])
    """

    kind: Literal["adaptive"] = "adaptive"
    lr: float = setting(0.01, "server learning rate", gt=0, log=True, span=(1e-4, 1.0))
    rule: Literal["adam", "yogi", "adagrad"] = setting("adam", "how the second moment is kept")
    beta1: float = setting(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = setting(0.99, "decay of the second moment (not for adagrad)", ge=0, lt=1)
    tau: float = setting(1e-3, "degree of adaptivity; also where the second moment starts (tau²)", gt=0, log=True)

    def update(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """One step of the adaptive rule."""
        first, second = {}, {}
        for k, d in mean_update.items():
            m = slots.get("first", {}).get(k, torch.zeros_like(d))
            v = slots.get("second", {}).get(k, torch.full_like(d, self.tau**2))
            square = d * d
            first[k] = self.beta1 * m + (1 - self.beta1) * d
            if self.rule == "adam":
                second[k] = self.beta2 * v + (1 - self.beta2) * square
            elif self.rule == "yogi":
                second[k] = v - (1 - self.beta2) * square * torch.sign(v - square)
            else:
                second[k] = v + square
        moved = {k: value + self.lr * first[k] / (second[k].sqrt() + self.tau) for k, value in params.items()}
        return moved, {**slots, "first": first, "second": second}


class ServerData(Declared):
    """The server owns a share of the training data and trains on it for an epoch after each aggregation.

    Source: FedBABU, Table 2. The server's samples stay with their clients too, as in the official code. Public
    samples: Zhao et al. (1806.00582), `ServerData(share=0.05, train="none", clients=True)`.

    >>> helped = fl.FedBABU(server_data=fl.ServerData(share=0.1, train="all"))
    >>> fl.train(helped, data, "lenet", rounds=1).round
    1
    """

    share: float = setting(0.1, "fraction of all training samples that the server holds", gt=0, le=1)
    train: Share = setting("all", "the part that the server trains; none: it only gives samples to clients")
    clients: bool = setting(
        False,
        "whether its samples are public: clients train on them, too, and count by all they have",
        new=True,
    )
