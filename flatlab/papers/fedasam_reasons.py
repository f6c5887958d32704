"""Tables of our own: is it rounds, the rate or rho where a method of FedASAM's tables is behind or fails under skew?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..algorithms import ASAM, SAM
from ..training import Experiment
from .fedasam import experiment, size_of
from .fedasam_tables import protocol_table
from .quantities import score
from .tables import Item, ScaleName, Table, cell

OTHER_RATE = {"paper": 0.05, "short": 0.01, "quick": 0.01}  # `paper` has the other scales' rate, these the paper's
MOMENTUM = ("FedAvgM", "AdaBest")  # of the server, .9 or as much like it: ten times the way, so a tenth of the rate
WEAKER = 4  # rho divided by it
# What two cores train in a while.
AT_SHORT = (("FedAvg", 0.01), ("FedASAM", 0.01), ("SCAFFOLD", 0.01), (f"FedASAM, ρ/{WEAKER}", 0.05))


def rounds(scale: ScaleName) -> Table:
    """Do SAM and ASAM need more rounds under skew? With `short`'s rate its 2,000 make up for the paper's 10,000."""
    size, cells = size_of(scale), []
    longer = {"paper": (2000, 10_000), "short": (400, 2000), "quick": (100, 300)}[scale]
    for row in ("FedAvg", "FedSAM", "FedASAM"):
        for count in longer:
            make = partial(_lasting, row, count, scale)
            cells.append(cell(row, f"α=0, {count} rounds", score(size.window), make, size.seeds))
    return protocol_table("rounds", _title("More rounds", scale), scale, cells)


def settings(scale: ScaleName) -> Table:
    """Do methods that fail at a scale's rate learn at another one, and SAM and ASAM with a weaker rho?

    The rates are the scale's, the paper's (at `paper` the other scales') and, where the server has a momentum, a tenth
    of the scale's. Clients have no momentum, as in `fedasam.rivals`.
    """
    size, cells = size_of(scale), []
    plain: dict[str, Any] = {"momentum": 0.0} if size.momentum else {}
    for name in ("FedAvg", "FedSAM", "FedASAM", "SCAFFOLD", "FedAvgM", "AdaBest"):
        local = experiment(name, scale=scale).algorithm.local
        other = size.lr / 10 if name in MOMENTUM else OTHER_RATE[scale]
        tried: list[tuple[str, float, dict[str, Any]]] = [(name, size.lr, {}), (name, other, {"lr": other})]
        if isinstance(local, SAM | ASAM):
            weak = local.replace(rho=local.rho / WEAKER)
            tried.append((f"{name}, ρ/{WEAKER}", size.lr, {"local": weak}))
        for row, rate, changes in tried:
            if scale == "short" and changes and (row, rate) not in AT_SHORT:
                continue
            make = partial(_skewed, name, scale, **plain | changes)
            cells.append(cell(row, f"rate {rate:g}", score(size.window), make, size.seeds))
    less = "a weaker ρ and another rate of FedSAM, another rate of FedAvgM and AdaBest" if scale == "short" else ""
    return protocol_table("settings", _title("Another rate and a weaker ρ", scale), scale, cells, less)


def _title(what: str, scale: ScaleName) -> str:
    return f"{what}, {size_of(scale).dataset or 'cifar10'}, α=0, K=5 (no table of the paper)"


def _skewed(name: str, scale: ScaleName, seed: int, **changes: Any) -> Experiment:
    return experiment(name, dataset="cifar10", alpha=0, scale=scale, seed=seed, **changes)


def _lasting(name: str, rounds: int, scale: ScaleName, seed: int) -> Experiment:
    return _skewed(name, scale, seed).replace(rounds=rounds)


TABLES: dict[str, Callable[[ScaleName], Item]] = {"fedasam.rounds": rounds, "fedasam.settings": settings}
