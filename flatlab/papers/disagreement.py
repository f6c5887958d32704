"""Do clients disagree along sharp directions? The runs are those of `background.topology`, and FedASAM's on them.

disagreement.disagreement("short")     # a row of `flatlab reproduce background`
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..algorithms import ASAM
from ..algorithms import aggregation as rules
from . import background, fedbabu
from .measurements import Measurement
from .quantities import differing, score
from .tables import Item, ScaleName, Table, crossed

SAMPLES = 256  # of the Hessian
ROWS: dict[str, dict[str, Any]] = {
    "FedAvg": {"aggregation": rules.Uniform()},
    "FedASAM": {"aggregation": rules.Uniform(), "local": ASAM(rho=0.5, eta=0.2)},
    "ring": {"topology": background.GRAPHS["ring"]},
}
QUICK_ASAM = ASAM(rho=0.1, eta=0.2)  # a body without norms learns nothing at 0.5
NEEDS = Measurement(kind="disagreement", settings={"limit": SAMPLES})
COLUMNS = {
    "distance": differing(NEEDS, "distance"),
    "penalty": differing(NEEDS, "penalty"),
    "alignment": differing(NEEDS, "alignment"),
    "tr(H)/d": differing(NEEDS, "mean eigenvalue"),
    "alignment / (tr(H)/d)": differing(NEEDS, "alignment", "mean eigenvalue"),
    "λ₁": differing(NEEDS, "lambda_1"),
}


def experiment(row: str, alpha: float, scale: ScaleName, seed: int = 0) -> Any:
    """The experiment of a row, at one skew.

    Args:
        row: "FedAvg", "FedASAM" or "ring".
        alpha: of the Dirichlet partition.
        scale: as of `background.experiment`.
        seed: of everything random.
    """
    changes = ROWS[row] | ({"local": QUICK_ASAM} if row == "FedASAM" and scale == "quick" else {})
    settings: dict[str, Any] = {"clients": background.NODES, "dataset": "mnist", **changes}
    return background.experiment(alpha=alpha, scale=scale, seed=seed, **settings)


def disagreement(scale: ScaleName) -> Table:
    """How far clients' models lie apart, and the curvature in these directions against that of random ones."""
    columns = {"accuracy": score(), **COLUMNS}
    rows, make = {row: {"row": row} for row in ROWS}, partial(experiment, scale=scale)
    cells = crossed(rows, columns, make, fedbabu.size_of(scale).seeds, background.GRAPH_LEVELS)
    done = (
        f"{background.trained(scale, background.NODES, 'mnist')}; ASAM rho 0.5 (quick: 0.1), eta 0.2; models of"
        " the last round's clients after their local steps, over the ring after neighbours have averaged; Hessian at"
        f" their mean, on {SAMPLES} holdout samples"
    )
    title = "Disagreement: do clients' models differ along sharp directions?"
    return Table("background.disagreement", title, scale, tuple(cells), done, background.LEAVES_OUT[scale])


TABLES: dict[str, Callable[[ScaleName], Item]] = {"background.disagreement": disagreement}
