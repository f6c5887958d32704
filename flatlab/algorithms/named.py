"""The algorithms by name. Each is a few defaults of `Algorithm`; every cross of them is one line:

FedBABU(local=ASAM(rho=0.7), swa=SWA(cycle=10))      # body only, adaptive SAM, server averaging
FedProx(mu=0.01, train="body", share="body")         # FedProx + BABU
"""

from __future__ import annotations

from typing import Any, Literal

from ..declare import SettingError, setting
from .algorithm import Algorithm, Part, Share
from .local import ASAM, SAM, Local
from .server import Average, Server


class FedAvg(Algorithm):
    """Local SGD and a mean weighted by samples (McMahan et al., 1602.05629)."""

    kind: Literal["FedAvg"] = "FedAvg"


class FedAvgM(Algorithm):
    """FedAvg with momentum on the server (Hsu et al., 1909.06335)."""

    kind: Literal["FedAvgM"] = "FedAvgM"
    server: Server = setting(Average(momentum=0.9), "what the server does with the mean update")


class FedProx(Algorithm):
    """FedAvg with (mu/2) ||w - received||² added to the local loss (Li et al., 1812.06127)."""

    kind: Literal["FedProx"] = "FedProx"
    mu: float = setting(0.01, "strength of the pull to the received model", ge=0, log=True, span=(1e-3, 1.0))


class FedBABU(Algorithm):
    """Train and share the body; the random head never moves until fine-tuning (Oh et al., 2106.06042, Algorithm 1)."""

    kind: Literal["FedBABU"] = "FedBABU"
    train: Part = setting("body", "the part that clients train")
    share: Share = setting("body", "the part that is sent and averaged")


class FedSAM(Algorithm):
    """Clients train with SAM (Caldarola et al., 2203.11834); `FedSAM(rho=0.1)` means `FedSAM(local=SAM(rho=0.1))`."""

    kind: Literal["FedSAM"] = "FedSAM"
    local: Local = setting(SAM(), "how a local step gets its gradient")

    def __init__(self, *, rho: float | None = None, **settings: Any) -> None:
        super().__init__(**_with_local(SAM, settings, rho=rho))


class FedASAM(Algorithm):
    """Clients train with adaptive SAM (Caldarola et al., 2203.11834); `rho` and `eta` are `local=ASAM(...)`'s."""

    kind: Literal["FedASAM"] = "FedASAM"
    local: Local = setting(ASAM(), "how a local step gets its gradient")

    def __init__(self, *, rho: float | None = None, eta: float | None = None, **settings: Any) -> None:
        super().__init__(**_with_local(ASAM, settings, rho=rho, eta=eta))


def _with_local(kind: type[SAM], settings: dict[str, Any], **own: float | None) -> dict[str, Any]:
    given = {name: value for name, value in own.items() if value is not None}
    if not given:
        return settings
    if "local" in settings:
        raise SettingError(f"{', '.join(given)} = {list(given.values())}: give these or local, not both")
    return settings | {"local": kind.from_dict(given)}


class FedPer(Algorithm):
    """Train everything, share the body; each client keeps its head (Arivazhagan et al., 1912.00818)."""

    kind: Literal["FedPer"] = "FedPer"
    share: Share = setting("body", "the part that is sent and averaged")


class LocalOnly(Algorithm):
    """No server: every client trains its own model. One end of federated learning."""

    kind: Literal["LocalOnly"] = "LocalOnly"
    share: Share = setting("none", "nothing is sent")
    keep_momentum: bool = setting(True, "whether a client keeps its momentum from round to round")


class Centralized(Algorithm):
    """One client holds all data: a round is `epochs` epochs of ordinary training. The other end."""

    kind: Literal["Centralized"] = "Centralized"
    pooled: bool = setting(True, "one client holds everybody's data")
    keep_momentum: bool = setting(True, "whether momentum is kept from round to round")
