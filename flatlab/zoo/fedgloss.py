"""FedGloSS: SAM on the server, without another message, over FedDyn's clients (Caldarola et al., 2412.03752)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..algorithms import SAM, Carry, Local, Params, Slots, stretched
from ..declare import setting
from .feddyn import FedDyn
from .perturbing import check_server


class FedGloSS(FedDyn):
    """Clients start at x~ = x + rho D / ||D||, with D = mean(x~ - y) of the round before; else FedDyn, from x on.

    y -= lr (g_SAM(y) - g_i + alpha (y - x~)); g_i -= alpha (y - x~); h -= alpha / N sum (y - x~); x -= D + h / alpha.
    The paper's beta is 1 / alpha. The model that is scored is x; what is sent is x~ alone. With rho = 0 it is FedDyn
    with a local step of SAM.

    >>> fl.train(fl.FedGloSS(rho=0.15, local=fl.SAM(rho=0.15)), data, "lenet", rounds=2).round
    2
    """

    inside: ClassVar[frozenset[str]] = FedDyn.inside | {"ascent"}
    kind: Literal["FedGloSS"] = "FedGloSS"  # type: ignore[assignment]  # a kind of its own, told apart by name
    alpha: float = setting(0.1, "strength of the bend: the paper's 1 / beta", gt=0, log=True, span=(1e-4, 1.0))
    rho: float = setting(0.15, "length of the server's ascent", ge=0, span=(0.0, 1.0))
    local: Local = setting(SAM(rho=0.15), "how a local step gets its gradient")

    def check(self, rounds: int) -> None:
        """There must be a global step."""
        super().check(rounds)
        check_server(self)

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The server's ascent; none of what stays with the clients."""
        uphill = slots.get("uphill", {})
        direction = {k: uphill.get(k, torch.zeros_like(v)) for k, v in trained.items()}
        return {"ascent": stretched(direction, self.rho)}

    def init(self, trained: Params, memory: Slots, received: Slots, steps: Tensor) -> Carry:
        """Start at x~."""
        start = {k: v + received["ascent"][k] for k, v in trained.items()}
        return super().init(start, memory, received, steps)

    def serve(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """FedDyn's from x, and D for the next round."""
        params, slots = super().serve(params, mean_update, slots)
        return params, slots | {"uphill": {k: -v for k, v in mean_update.items()}}
