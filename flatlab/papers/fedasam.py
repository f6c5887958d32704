"""FedSAM, FedASAM and server SWA (Caldarola, Caputo and Ciccone, ECCV 2022, arXiv 2203.11834): the protocol.

    fedasam.experiment("FedASAM + SWA", alpha=0, clients_per_round=5)     # a cell of the CIFAR-10 table
    fedasam.experiment("FedAvg", dataset="cifar100", alpha=1000, lr=0.1)  # with another rate

Constants are those of the official code (debcaldarola/fedsam) and, for rho, of FedGF's script: 100 clients, K a round,
one local epoch in batches of 64, SGD with learning rate 0.01 and weight decay 4e-4, 10,000 rounds (CIFAR-10) or 20,000
(CIFAR-100); SWA from 75 % of the rounds on, in cycles of 10 or 20 rounds, down to 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..algorithms import ASAM, SAM, SGD, SWA, Average, Local
from ..data import IID, Augmentation, DataSpec, Dirichlet
from ..declare import SettingError
from ..models import ModelSpec
from ..training import Evaluation, Experiment
from .tables import ScaleName, checked_scale, method

LOCALS = ("", "SAM", "ASAM")
# rho of SAM and of ASAM, by data set: for alpha below 0.5, and from there on (FedGF's script).
RHO = {
    "cifar10": {"skewed": (0.1, 0.7), "even": (0.02, 0.05)},
    "cifar100": {"skewed": (0.02, 0.5), "even": (0.05, 0.5)},
}
# Test images that the official split files of CIFAR-10 give to clients, of 9,999; as many of digits' 359.
LEAKED = {"cifar10": 1006, "digits": 36}
_OWN: dict[str, dict[str, Any]] = {
    "FedProx": {"mu": 0.01},
    "FedAvgM": {"server": Average(momentum=0.9)},
    "FedDyn": {"alpha": 0.1},
    "FedGloSS": {"local": SAM(rho=0.15)},
}
_STEP = {"FedSAM": "SAM", "FedASAM": "ASAM", "MoFedSAM": "SAM", "FedGAMMA": "SAM"}


LENET = ModelSpec(name="lenet")


@dataclass(frozen=True)
class Size:
    """What a scale makes of the protocol."""

    rounds: dict[str, int]
    window: int  # last rounds whose scores are averaged
    every: int  # rounds between two scores
    seeds: tuple[int, ...]
    leaves_out: str  # what the runs do not say; `protocols` adds what they do
    cycle: dict[str, int]
    lr: float = 0.01
    low: float = 1e-4
    momentum: float = 0.0
    epochs: int = 1  # of a round
    batch_size: int = 64
    rho: tuple[float, float] | None = None  # of SAM and ASAM; None: the paper's, see RHO
    clients: int = 100
    dataset: str | None = None  # None: the paper's
    model: ModelSpec = LENET
    samples: int | None = None  # of the Hessian and of landscapes; None: the whole holdout
    points: int = 51  # on an axis of a landscape


HESSIAN = "the Hessian is the last model's, the paper's that of the mean of the last 100"
SIZES: dict[ScaleName, Size] = {
    "paper": Size(
        {"cifar10": 10_000, "cifar100": 20_000},
        100,
        10,
        (0, 1, 2),
        HESSIAN,
        {"cifar10": 10, "cifar100": 20},
    ),
    "short": Size(
        {"cifar10": 400, "cifar100": 400},
        50,
        10,
        (0, 1, 2),
        f"lenet of half width; a larger rate, to make up for some of the rounds; {HESSIAN}; Hessian and landscapes on"
        " 1,000 samples",
        {"cifar10": 10, "cifar100": 10},
        lr=0.05,
        low=5e-4,
        model=ModelSpec(name="lenet", width=0.5),
        samples=1000,
        points=21,
    ),
    "quick": Size(
        {"cifar10": 100, "cifar100": 100},
        10,
        5,
        (0, 1, 2),
        "the data set (digits, 8x8 pixels, 20 clients, a quarter of them in a round), the network (lenet of half"
        f" width), one rho of SAM and one of ASAM for all alpha; {HESSIAN}; Hessian and landscapes on 360 samples",
        {"cifar10": 5, "cifar100": 5},
        lr=0.05,
        low=0.005,
        momentum=0.9,
        epochs=2,
        batch_size=50,
        rho=(0.1, 0.2),
        clients=20,
        dataset="digits",
        model=ModelSpec(name="lenet", width=0.5),
        samples=360,
        points=11,
    ),
}


def experiment(
    method_name: str = "FedASAM + SWA",
    *,
    dataset: str = "cifar10",
    alpha: float = 0.0,
    clients_per_round: int = 5,
    seed: int = 0,
    scale: ScaleName = "paper",
    mixup: bool = False,
    cutout: bool = False,
    swa: SWA | None = None,
    **changes: Any,
) -> Experiment:
    """The experiment of one cell and seed.

    Args:
        method_name: the kind of an algorithm with what is crossed: "FedAvg", "FedSAM", "FedASAM + SWA",
            "FedProx ASAM + SWA", "FedAvg E=2".
        dataset: "cifar10" or "cifar100"; scale "quick" puts digits in the place of either.
        alpha: total concentration of the Dirichlet partition; 0: one class a client.
        clients_per_round: K of the 100 clients.
        seed: of everything random, the partition included.
        scale: "paper", "short" or "quick".
        mixup: with Mixup (alpha 1).
        cutout: with one hole of half the image's side.
        swa: other constants of SWA.
        **changes: of the algorithm's settings, e.g. `lr=0.1`.

    Raises:
        SettingError: if there is no such method, or a setting is wrong.
    """
    size = size_of(scale)
    if dataset not in size.rounds:
        raise SettingError("dataset", dataset, f"one of {', '.join(size.rounds)}; scale='quick' takes digits for them")
    rounds = size.rounds[dataset]
    return Experiment(
        data=_data(dataset, scale, seed, alpha, mixup, cutout),
        model=size.model,
        algorithm=_algorithm(method_name, dataset, alpha, scale, swa, changes),
        rounds=rounds,
        participation=_share(scale, clients_per_round),
        evaluation=Evaluation(every=size.every, clients_every=max(1, rounds // 20)),
        seed=seed,
    )


def centralized(
    row: str = "SGD", *, dataset: str = "cifar100", seed: int = 0, scale: ScaleName = "paper", **changes: Any
) -> Experiment:
    """One model on all images, for as many samples as K = 5 clients a round pass: "SGD", "ASAM + SWA", "Mixup", ...

    The paper's code has no such script: batch, rate and decay are those of the clients.
    """
    size = size_of(scale)
    local, _, averaged = row.partition(" + ")
    epochs = epochs_centralized(dataset, scale)
    cycle = max(1, min(size.cycle[dataset], epochs // 8))
    swa = SWA(start=0.75, cycle=cycle, low=size.low) if "SWA" in (local, averaged) else None
    algorithm = method("Centralized", _common(scale) | {"local": _local(local, dataset, 0.0, scale), "swa": swa})
    data = _data(dataset, scale, seed, None, local == "Mixup", local == "Cutout")
    every = max(1, epochs // 50)
    return Experiment(
        data=data,
        model=size.model,
        algorithm=algorithm.replace(**changes),
        rounds=epochs,
        evaluation=Evaluation(every=every),
        seed=seed,
    )


def epochs_centralized(dataset: str, scale: ScaleName) -> int:
    """Of all images: as many samples as K = 5 clients a round pass."""
    size = size_of(scale)
    return round(size.rounds[dataset] * size.epochs * _share(scale, 5))


def size_of(scale: str) -> Size:
    """What a scale makes of the protocol.

    Raises:
        SettingError: if there is no such scale.
    """
    return SIZES[checked_scale(scale)]


def _algorithm(
    name: str, dataset: str, alpha: float, scale: ScaleName, swa: SWA | None, changes: dict[str, Any]
) -> Any:
    size = size_of(scale)
    words = name.replace(" + SWA", "").split()
    kind, crossed = words[0], [word for word in words[1:] if not word.startswith("E=")]
    epochs = next((int(word[2:]) for word in words[1:] if word.startswith("E=")), 1)
    settings: dict[str, Any] = _common(scale) | {"epochs": epochs * size.epochs} | _OWN.get(kind, {})
    step = crossed[0] if crossed else _STEP.get(kind, "")
    if changes.get("momentum", size.momentum):
        settings["option"] = "I"  # SCAFFOLD's other one reads the mean gradient off plain steps
    if crossed or "local" not in settings:
        settings["local"] = _local(step, dataset, alpha, scale)
    if "SWA" in name.split():
        settings["swa"] = swa or SWA(start=0.75, cycle=size.cycle[dataset], low=size.low)
    algorithm = method(kind, settings)
    return algorithm.replace(**changes) if changes else algorithm


def _share(scale: ScaleName, clients_per_round: int) -> float:
    """Of the clients in a round; `quick` has one for all K."""
    return clients_per_round / 100 if size_of(scale).dataset is None else 0.25


def _common(scale: ScaleName) -> dict[str, Any]:
    size = size_of(scale)
    return {"lr": size.lr, "momentum": size.momentum, "batch_size": size.batch_size, "weight_decay": 4e-4}


def _local(name: str, dataset: str, alpha: float, scale: ScaleName) -> Local:
    sam, asam = (
        size_of(scale).rho or RHO[dataset]["skewed" if alpha < (0.5 if dataset == "cifar100" else 1) else "even"]
    )
    if name == "SAM":
        return SAM(rho=sam)
    return ASAM(rho=asam, eta=0.2) if name == "ASAM" else SGD()


def _data(
    dataset: str, scale: ScaleName, seed: int, alpha: float | None, mixup: bool = False, cutout: bool = False
) -> DataSpec:
    """The data of a cell; without alpha those of centralized training."""
    size = size_of(scale)
    plain = DataSpec(
        name=size.dataset or dataset,
        partition=IID() if alpha is None else Dirichlet(alpha=alpha),
        clients=1 if alpha is None else size.clients,
        seed=seed,
    )
    if not (mixup or cutout):
        return plain
    hole = 16 if size.dataset is None else 4
    mixed: dict[str, Any] = {"mixup": 1.0 if mixup else 0.0, "cutout": hole if cutout else 0}
    return plain.replace(augmentation=Augmentation(**plain.augmentation.to_dict() | mixed))
