"""The tables and figures of FedASAM + SWA as lists of experiments: `TABLES[id](scale)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..algorithms import SWA
from ..training import Experiment
from . import published
from .fedasam import LEAKED, centralized, experiment, size_of
from .measurements import Measurement
from .protocols import fedasam_words, stated
from .quantities import Quantity, eigenvalue, eigenvalue_ratio, holdout_loss, score, top_eigenvalues
from .tables import Cell, Figure, Item, ScaleName, Table, cell

SIX = ("FedAvg", "FedSAM", "FedASAM", "FedAvg + SWA", "FedSAM + SWA", "FedASAM + SWA")
RIVALS = ("FedProx", "SCAFFOLD", "FedAvgM", "FedDyn", "AdaBest")
FOLLOW_UPS = (
    *("MoFedSAM", "FedGAMMA", "FedSpeed", "FedSMOO", "FedLESAM", "FedSOL", "FedGloSS"),
    *("FedSWA", "FedMoSWA", "FedWMSAM"),
)
CENTRALIZED = ("SGD", "SAM", "ASAM", "SWA", "SAM + SWA", "ASAM + SWA")
ALPHAS = {"cifar10": (0, 0.05, 100), "cifar100": (0, 0.5, 1000)}
EVEN = {"cifar10": 100, "cifar100": 1000}


def datasets(scale: ScaleName) -> tuple[str, ...]:
    """Data sets whose two ends of alpha are looked at in figures: CIFAR-100 at full scale, else CIFAR-10."""
    return ("cifar100",) if scale == "paper" else ("cifar10",)


def _runs(name: str, scale: ScaleName, **settings: Any) -> tuple[Experiment, ...]:
    return tuple(experiment(name, seed=seed, scale=scale, **settings) for seed in size_of(scale).seeds)


def protocol_table(id: str, title: str, scale: ScaleName, cells: Iterable[Cell], without: str = "") -> Table:
    return stated(Table(f"fedasam.{id}", _on_data(title, scale), scale, tuple(cells), "", without), fedasam_words)


def _figure(id: str, title: str, scale: ScaleName, kind: str, series: dict[str, Any], **rest: Any) -> Figure:
    return stated(Figure(f"fedasam.{id}", _on_data(title, scale), scale, kind, series, "", "", **rest), fedasam_words)


def _on_data(title: str, scale: ScaleName) -> str:
    """A title with the data set that the scale trains on."""
    return title.format(data=size_of(scale).dataset or datasets(scale)[0])


def _accuracy(dataset: str, scale: ScaleName) -> Table:
    alphas = ALPHAS[dataset] if scale == "paper" else (0, EVEN[dataset])
    counts = (5, 10, 20) if scale == "paper" else (5,)
    rows = [*SIX, "FedAvg E=2"] if dataset == "cifar100" else [*SIX]
    without: list[str] = []
    if scale == "short" and dataset == "cifar100":  # what two cores train in four hours
        without = ["FedSAM", "FedSAM + SWA", "FedAvg E=2"]
    cells = [
        cell(
            row, f"α={alpha:g}, K={count}", score(size_of(scale).window),
            partial(experiment, row, scale=scale, dataset=dataset, alpha=alpha, clients_per_round=count),
            size_of(scale).seeds, published.fedasam(dataset, row, alpha, count),
        )
        for row in rows
        if row not in without
        for alpha in alphas
        for count in counts
    ]  # fmt: skip
    own, name = size_of(scale).dataset, dataset.replace("cifar", "CIFAR-")
    name = f"{own} in the place of {name}" if own else name
    return protocol_table(
        dataset, f"Holdout accuracy on {name} (FedASAM, main table)", scale, cells, ", ".join(without)
    )


def cifar10(scale: ScaleName) -> Table:
    """Accuracy on CIFAR-10 over alpha and clients a round."""
    return _accuracy("cifar10", scale)


def cifar100(scale: ScaleName) -> Table:
    """Accuracy on CIFAR-100 over alpha and clients a round."""
    return _accuracy("cifar100", scale)


def against_centralized(scale: ScaleName) -> Table:
    """Every method centralized and federated, alpha 0, K = 5."""
    (dataset,), size, cells = datasets(scale), size_of(scale), []
    federated = dict(zip(CENTRALIZED, SIX[:1] + SIX[1:3] + SIX[3:], strict=True))
    for row in CENTRALIZED:
        pooled = partial(centralized, row, dataset=dataset, scale=scale)
        known = published.centralized(row) if dataset == "cifar100" else ()
        cells.append(cell(row, "centralized", score(), pooled, size.seeds, known))
        fed = partial(experiment, federated[row], scale=scale, dataset=dataset, alpha=0)
        known = published.fedasam(dataset, federated[row], 0, 5)
        cells.append(cell(row, "federated", score(size.window), fed, size.seeds, known))
    return protocol_table("centralized", "Centralized and federated, {data}, α=0, K=5 (FedASAM)", scale, cells)


def mixing(scale: ScaleName) -> Table:
    """Mixup and Cutout, centralized and federated, alpha 0."""
    (dataset,), size, cells = datasets(scale), size_of(scale), []
    for row in ("none", "Mixup", "Cutout"):
        pooled = partial(centralized, "SGD" if row == "none" else row, dataset=dataset, scale=scale)
        known = published.centralized(row) if dataset == "cifar100" else ()
        cells.append(cell(row, "centralized", score(), pooled, size.seeds, known))
        switches: dict[str, Any] = {row.lower(): True} if row != "none" else {}
        for method in ("FedAvg", "FedASAM") if scale == "paper" else ("FedAvg",):
            fed = partial(experiment, method, scale=scale, dataset=dataset, alpha=0, **switches)
            known = published.mixed(row) if (dataset, method) == ("cifar100", "FedAvg") else ()
            cells.append(cell(row, method, score(size.window), fed, size.seeds, known))
    return protocol_table("mixing", "Mixup and Cutout, {data}, α=0, K=5 (FedASAM)", scale, cells)


def eigenvalues(scale: ScaleName) -> Table:
    """Largest eigenvalue of the Hessian on the holdout, and its ratio to the fifth."""
    (dataset,), size = datasets(scale), size_of(scale)
    needs, cells = top_eigenvalues(size.samples or 10_000), []
    for row in (*SIX, "FedAvg E=2"):
        for alpha in (0,) if (row, scale) == ("FedAvg E=2", "short") else (0, EVEN[dataset]):
            make = partial(experiment, row, scale=scale, dataset=dataset, alpha=alpha)
            for column, quantity in (("λ₁", eigenvalue(needs)), ("λ₁/λ₅", eigenvalue_ratio(needs))):
                known = published.eigenvalues(row, alpha, column != "λ₁") if dataset == "cifar100" else ()
                cells.append(cell(row, f"α={alpha:g}, {column}", quantity, make, size.seeds, known))
            # Curvatures at very different losses say little about flatness.
            cells.append(cell(row, f"α={alpha:g}, loss", holdout_loss(), make, size.seeds))
    return protocol_table("eigenvalues", "Largest Hessian eigenvalues, {data}, K=5 (FedASAM)", scale, cells)


def rivals(scale: ScaleName) -> Table:
    """Other federated methods, alone and with SAM, ASAM and SWA; at full scale the follow-ups, alone and with SWA.

    Clients have no momentum, at `quick` neither: FedAvgM and AdaBest bring one of the server, and the product of both
    took these to chance there, from 82 and 95 % (seed 0).
    """
    changes: dict[str, Any] = {"momentum": 0.0} if size_of(scale).momentum else {}
    columns = {
        "alone": "", "SAM": " SAM", "ASAM": " ASAM", "SWA": " + SWA", "SAM + SWA": " SAM + SWA",
        "ASAM + SWA": " ASAM + SWA",
    }  # fmt: skip
    main, cells = dict(zip(columns, SIX, strict=True)), []  # FedAvg's runs are those of the main table but at `quick`
    for row in ("FedAvg", *RIVALS, *(FOLLOW_UPS if scale == "paper" else ())):
        # Two cores train the rivals alone and with SWA in four hours, not what costs them two gradients a step.
        crossed = row not in FOLLOW_UPS and (scale != "short" or row == "FedAvg")
        for column, added in columns.items():
            if scale != "paper" and column.startswith("SAM"):
                continue
            if crossed or column in ("alone", "SWA"):
                name = main[column] if row == "FedAvg" else f"{row}{added}"
                make = partial(experiment, name, scale=scale, dataset="cifar10", alpha=0, **changes)
                cells.append(cell(row, column, score(size_of(scale).window), make, size_of(scale).seeds))
    title = f"Other methods with SAM, ASAM and SWA, {size_of(scale).dataset or 'cifar10'}, α=0, K=5 (FedASAM)"
    without = {"short": "SAM and ASAM of the rivals", "quick": "SAM of all"}.get(scale, "")
    return protocol_table("rivals", title, scale, cells, without)


def legacy(scale: ScaleName) -> Table:
    """What habits of code and paper change: test images among the train images, SWA's collection, clients sampled from
    the round number alone, the best round by test accuracy, and a score that is the mean of the last rounds.
    """
    size, mean = size_of(scale), score(size_of(scale).window)
    official = SWA(start=0.75, cycle=size.cycle["cifar10"], low=size.low, variant="official")
    leaked = LEAKED[size.dataset or "cifar10"]
    skewed, even, averaged = ("FedAvg", 0), ("FedAvg", EVEN["cifar10"]), ("FedAvg + SWA", 0)
    rows: dict[str, tuple[Quantity, dict[str, Any], tuple[tuple[str, float], ...]]] = {
        "default": (mean, {}, (skewed, even, averaged)),
        "last round alone": (score(), {}, (skewed, even, averaged)),
        "best round by test accuracy": (score(math.inf, best=True), {}, (skewed, even, averaged)),
        f"{leaked} test images trained on": (mean, {"data.leak": leaked}, (skewed, even)),
        "sampling by round number": (mean, {"sampling": "round_seed"}, (skewed,)),
        "SWA as collected officially": (mean, {"algorithm.swa": official}, (averaged,)),
    }

    def made(seed: int, name: str, alpha: float, changes: dict[str, Any]) -> Experiment:
        return experiment(name, alpha=alpha, scale=scale, seed=seed).replace(**changes)

    cells = [
        cell(row, f"{name}, α={alpha:g}", quantity, partial(made, name=name, alpha=alpha, changes=changes), size.seeds)
        for row, (quantity, changes, columns) in rows.items()
        for name, alpha in columns
    ]
    return protocol_table(
        "legacy", f"Official habits as switches, {size.dataset or 'cifar10'}, K=5 (FedASAM)", scale, cells
    )


def figure1(scale: ScaleName) -> Figure:
    """Loss surfaces of FedAvg and FedASAM at both ends of alpha, on one scale."""
    (dataset,) = datasets(scale)
    series = {
        f"{name}, α={alpha:g}": _runs(name, scale, dataset=dataset, alpha=alpha)
        for alpha in (0, EVEN[dataset])
        for name in ("FedAvg", "FedASAM")
    }
    settings = {"names": list(series), "points": size_of(scale).points, "limit": size_of(scale).samples or 10_000}
    return _figure(
        "figure1", "Loss surfaces, {data}, K=5 (FedASAM, Figure 1)", scale, "landscape", series,
        measurement=Measurement(kind="landscape", settings=settings), together=True,
    )  # fmt: skip


def figure2(scale: ScaleName) -> Figure:
    """Accuracy of the global model on each client's own distribution along the rounds, at both ends of alpha."""
    (dataset,) = datasets(scale)
    series = {
        f"FedAvg, α={alpha:g}": _runs("FedAvg", scale, dataset=dataset, alpha=alpha)[:1] for alpha in (0, EVEN[dataset])
    }
    title = "Accuracy on each client's distribution, {data}, K=5 (FedASAM, Figure 2)"
    return _figure("figure2", title, scale, "clients", series)


def figure3a(scale: ScaleName) -> Figure:
    """The loss on the plane through the solutions of three alphas."""
    (dataset,) = datasets(scale)
    series = {f"α={alpha:g}": _runs("FedAvg", scale, dataset=dataset, alpha=alpha) for alpha in ALPHAS[dataset]}
    settings = {"names": list(series), "directions": "plane", "points": size_of(scale).points}
    settings["limit"] = size_of(scale).samples or 10_000
    return _figure(
        "figure3a", "The plane through three solutions, {data}, K=5 (FedASAM, Figure 3a)", scale, "landscape",
        series, measurement=Measurement(kind="landscape", settings=settings), together=True,
    )  # fmt: skip


def figure3b(scale: ScaleName) -> Figure:
    """The largest eigenvalue of local models along the rounds."""
    (dataset,) = datasets(scale)
    series = {
        f"{name}, α={alpha:g}": _runs(name, scale, dataset=dataset, alpha=alpha)
        for name in ("FedAvg", "FedASAM")
        for alpha in (0, EVEN[dataset])
    }
    needs = Measurement(kind="client_eigenvalues", settings={"moments": 8 if scale == "paper" else 4})
    title = "Largest eigenvalue of the clients' models, {data}, K=5 (FedASAM, Figure 3b)"
    return _figure("figure3b", title, scale, "client_eigenvalues", series, measurement=needs)


def figure4(scale: ScaleName) -> Figure:
    """Spectra of the Hessian of three methods with and without SWA."""
    (dataset,) = datasets(scale)
    series = {name: _runs(name, scale, dataset=dataset, alpha=0) for name in SIX}
    needs = Measurement(kind="spectrum", settings={"steps": 50, "limit": size_of(scale).samples or 10_000})
    title = "Hessian spectra, {data}, α=0, K=5 (FedASAM, Figure 4)"
    return _figure("figure4", title, scale, "spectrum", series, measurement=needs)


def figure4_planes(scale: ScaleName) -> Figure:
    """The error on the plane through three clients' models."""
    (dataset,) = datasets(scale)
    series = {name: _runs(name, scale, dataset=dataset, alpha=0) for name in ("FedAvg", "FedASAM")}
    settings = {"points": size_of(scale).points, "limit": size_of(scale).samples or 10_000}
    needs = Measurement(kind="local_plane", settings=settings)
    title = "The plane through three clients' models, {data}, α=0, K=5 (FedASAM, Figure 4)"
    return _figure("figure4-planes", title, scale, "local_plane", series, measurement=needs)


def figure5(scale: ScaleName) -> Figure:
    """Accuracy along the rounds."""
    (dataset,) = datasets(scale)
    series = {name: _runs(name, scale, dataset=dataset, alpha=0) for name in SIX}
    return _figure("figure5", "Convergence, {data}, α=0, K=5 (FedASAM, Figure 5)", scale, "curves", series)


TABLES: dict[str, Callable[[ScaleName], Item]] = {
    "fedasam.cifar10": cifar10,
    "fedasam.cifar100": cifar100,
    "fedasam.centralized": against_centralized,
    "fedasam.eigenvalues": eigenvalues,
    "fedasam.mixing": mixing,
    "fedasam.rivals": rivals,
    "fedasam.legacy": legacy,
    "fedasam.figure1": figure1,
    "fedasam.figure2": figure2,
    "fedasam.figure3a": figure3a,
    "fedasam.figure3b": figure3b,
    "fedasam.figure4": figure4,
    "fedasam.figure4-planes": figure4_planes,
    "fedasam.figure5": figure5,
}
