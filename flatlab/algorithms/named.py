"""The algorithms by name. Each is a few defaults of `Algorithm`; every cross of them is one line:

FedBABU(local=ASAM(rho=0.7), swa=SWA(cycle=10))      # body only, adaptive SAM, server averaging
FedProx(mu=0.01, train="body", share="body")         # FedProx + BABU
"""

from __future__ import annotations

from typing import Any, Literal, Self

from ..declare import SettingError, setting
from .algorithm import Algorithm
from .local import ASAM, SAM, Local
from .server import Average, Part, Server, Share


class FedAvg(Algorithm):
    """Local SGD and a mean weighted by samples.

    Every sampled client k starts at the received w and takes steps y <- y - lr g_k(y) for `epochs` epochs; with n_k
    samples the server makes w + lr_server sum_k n_k (y_k - w) / sum_k n_k of what comes back.

    Source: McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 1602.05629.

    >>> fl.train(fl.FedAvg(lr=0.05), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedAvg"] = "FedAvg"


class FedAvgM(Algorithm):
    """FedAvg with momentum on the server: m <- momentum m + D, w <- w + lr_server m, with D the mean update.

    Source: Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification, 1909.06335.

    >>> fl.FedAvgM().server
    Average(momentum=0.9)
    >>> fl.train(fl.FedAvgM(server=fl.Average(momentum=0.5)), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedAvgM"] = "FedAvgM"
    server: Server = setting(Average(momentum=0.9), "what the server does with the mean update")


class FedProx(Algorithm):
    """FedAvg whose clients minimise F_k(y) + (mu / 2) ||y - w||², with w the received model.

    Source: Li et al., Federated Optimization in Heterogeneous Networks, 1812.06127.

    >>> near = fl.train(fl.FedProx(mu=1.0), data, "lenet", rounds=1)
    >>> drift = "metric == 'drift'"  # how far a client moves from the model that it received
    >>> bool((near.history.query(drift)["value"].mean() < run.history.query(f"{drift} and round == 1")["value"].mean()))
    True
    """

    kind: Literal["FedProx"] = "FedProx"
    mu: float = setting(0.01, "strength of the pull to the received model", ge=0, log=True, span=(1e-3, 1.0))


class FedBABU(Algorithm):
    """Train and share the body; the random head never moves until fine-tuning.

    With w = (body, head): body_k <- body_k - lr g_body(body_k, head_0) on every client, the mean over clients is the
    next body, and head_0 stays what it was initialised to. `personalize` then tunes all of it.

    Source: Oh, Kim and Yun, FedBABU: Towards Enhanced Representation for Federated Image Classification, 2106.06042,
    Algorithm 1.

    >>> babu = fl.train(fl.FedBABU(lr=0.1), data, "lenet", rounds=2)
    >>> torch.equal(babu.model(0).head.weight, babu.model(2).head.weight)
    True
    """

    kind: Literal["FedBABU"] = "FedBABU"
    train: Part = setting("body", "the part that clients train")
    share: Share = setting("body", "the part that is sent and averaged")


class FedSAM(Algorithm):
    """Clients train with SAM: y <- y - lr g(y + rho g(y) / ||g(y)||).

    `FedSAM(rho=0.1)` means `FedSAM(local=SAM(rho=0.1))`.

    Source: Caldarola, Caputo and Ciccone, Improving Generalization in Federated Learning by Seeking Flat Minima,
    2203.11834.

    >>> fl.FedSAM(rho=0.1).local
    SAM(rho=0.1)
    >>> fl.train(fl.FedSAM(rho=0.1), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedSAM"] = "FedSAM"
    local: Local = setting(SAM(), "how a local step gets its gradient")

    def __init__(self, *, rho: float | None = None, **settings: Any) -> None:
        super().__init__(**_with_local(SAM, settings, rho=rho))

    def replace(self, **changes: Any) -> Self:
        """As of any settings; `rho` is that of `local`."""
        return super().replace(**_inside(self.local, changes, "rho"))


class FedASAM(Algorithm):
    """Clients train with adaptive SAM: y <- y - lr g(y + rho T² g(y) / ||T g(y)||), T = |y| + eta.

    `FedASAM(rho=0.7, eta=0.2)` means `FedASAM(local=ASAM(rho=0.7, eta=0.2))`.

    Source: Caldarola, Caputo and Ciccone, Improving Generalization in Federated Learning by Seeking Flat Minima,
    2203.11834.

    >>> fl.FedASAM(rho=0.7, swa=fl.SWA(start=0.5, cycle=1)).name
    'FedASAM + SWA'
    >>> fl.train(fl.FedASAM(rho=0.7, swa=fl.SWA(start=0.5, cycle=1)), data, "lenet", rounds=2).round
    2
    """

    kind: Literal["FedASAM"] = "FedASAM"
    local: Local = setting(ASAM(), "how a local step gets its gradient")

    def __init__(self, *, rho: float | None = None, eta: float | None = None, **settings: Any) -> None:
        super().__init__(**_with_local(ASAM, settings, rho=rho, eta=eta))

    def replace(self, **changes: Any) -> Self:
        """As of any settings; `rho` and `eta` are those of `local`."""
        return super().replace(**_inside(self.local, changes, "rho", "eta"))


def _with_local(kind: type[SAM], settings: dict[str, Any], **own: float | None) -> dict[str, Any]:
    given = {name: value for name, value in own.items() if value is not None}
    if not given:
        return settings
    if "local" in settings:
        values = [*given.values()] if len(given) > 1 else next(iter(given.values()))
        told = f"of local, which is given, too: not both; change local.{next(iter(given))}"
        raise SettingError(", ".join(given), values, told)
    return settings | {"local": kind.from_dict(given)}


def _inside(local: Local, changes: dict[str, Any], *names: str) -> dict[str, Any]:
    """Changes of an algorithm, with those named made in its perturbing step."""
    own = {name: changes[name] for name in names if name in changes}
    if not own or "local" in changes or not isinstance(local, SAM):
        return changes
    return {name: value for name, value in changes.items() if name not in own} | {"local": local.replace(**own)}


class FedPer(Algorithm):
    """Train everything, share the body; each client keeps its head, so there is no global model.

    Source: Arivazhagan et al., Federated Learning with Personalization Layers, 1912.00818.

    >>> per = fl.train(fl.FedPer(), data, "lenet", rounds=1)
    >>> per.kept
    ('head.weight', 'head.bias')
    >>> per.model(client=3).head.weight.shape
    torch.Size([10, 192])
    """

    kind: Literal["FedPer"] = "FedPer"
    share: Share = setting("body", "the part that is sent and averaged")


class LocalOnly(Algorithm):
    """No server: every client trains its own model, y_k <- y_k - lr g_k(y_k). One end of federated learning.

    >>> alone = fl.train(fl.LocalOnly(), data, "lenet", rounds=1)
    >>> len(alone.kept) == len(list(alone.model(client=0).parameters()))
    True
    """

    kind: Literal["LocalOnly"] = "LocalOnly"
    share: Share = setting("none", "nothing is sent")
    keep_momentum: bool = setting(True, "whether a client keeps its momentum from round to round")


class Centralized(Algorithm):
    """One client holds all data: a round is `epochs` epochs of w <- w - lr g(w). The other end.

    >>> fl.train(fl.Centralized(), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["Centralized"] = "Centralized"
    pooled: bool = setting(True, "one client holds everybody's data")
    keep_momentum: bool = setting(True, "whether momentum is kept from round to round")
