"""Is the landscape of distilled images true? Their loss against that of the real ones, near a model and far from it.

    distilled.distilled("short")     # a row of `flatlab reproduce background`

Short takes MNIST, quick the digits; clients hold two classes each, all classes as often.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..data import Classes, DataSpec
from ..geometry.surrogate_loss import BASELINE, RANDOM, ZONES
from ..models import ModelSpec
from ..training import Evaluation, Experiment
from .measurements import Measurement
from .quantities import score, surrogate_error
from .tables import Item, ScaleName, Table, cell, method
from .unseen import SEEDS

CLIENTS, CLASSES, ROUNDS, STEPS, RATE = 10, 2, 40, 5, 0.05
RADIUS = 5.0  # FedDM's rho
ROWS = (BASELINE, RANDOM, "rho 0", f"rho {RADIUS:g}")
DATASET: dict[ScaleName, str] = {"quick": "digits", "short": "mnist", "paper": "mnist"}
ITERATIONS: dict[ScaleName, int] = {"quick": 30, "short": 150, "paper": 1000}
LEAVES_OUT: dict[ScaleName, str] = {
    "quick": "MNIST (digits); 30 steps of the distillation",
    "short": "cnn4 of full width; 150 of 1000 steps of the distillation",
    "paper": "nothing; no paper has this table",
}


def experiment(*, scale: ScaleName = "short", seed: int = 0, **changes: Any) -> Experiment:
    """FedAvg on clients of two classes; GroupNorm, under which a loss does not depend on a batch's other images.

    Args:
        scale: of the table.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    settings = {"lr": RATE, "momentum": 0.9, "batch_size": 50, "local_steps": STEPS, **changes}
    return Experiment(
        data=DataSpec(name=DATASET[scale], partition=Classes(per_client=CLASSES), clients=CLIENTS, seed=seed),
        model=ModelSpec(name="cnn4", norm="group", width=1.0 if scale == "paper" else 0.25),
        algorithm=method("FedAvg", settings),
        rounds=ROUNDS,
        evaluation=Evaluation(every=ROUNDS // 4),
        seed=seed,
    )


def measured(scale: ScaleName) -> Measurement:
    """The surrogates of the last model."""
    return Measurement(kind="surrogates", settings={"radius": RADIUS, "iterations": ITERATIONS[scale]})


def distilled(scale: ScaleName) -> Table:
    """How much the loss on synthetic images differs from the real one: at the model, within FedDM's rho, beyond."""
    needs, make = measured(scale), partial(experiment, scale=scale)
    cells = [
        cell(row, zone if zone == "at w" else f"{zone} {RADIUS:g}", surrogate_error(needs, row, zone), make, SEEDS)
        for row in ROWS
        for zone in ZONES
    ]
    cells.append(cell("the model itself", "accuracy", score(), make, SEEDS))
    done = (
        f"{DATASET[scale]}, {CLIENTS} clients of {CLASSES} classes, {ROUNDS} rounds of {STEPS} steps, SGD {RATE:g},"
        " momentum 0.9, batches of 50; 10 synthetic images a class and client; on a plane of 11 x 11 weights, up to 3"
        " rho to each side, mean |synthetic - real loss| over mean real loss, on 500 real train images;"
        f" {ITERATIONS[scale]} steps of the distillation"
    )
    title = "Distilled images: is their loss the real one, near the model and far from it?"
    return Table("background.distilled", title, scale, tuple(cells), done, LEAVES_OUT[scale])


TABLES: dict[str, Callable[[ScaleName], Item]] = {"background.distilled": distilled}
