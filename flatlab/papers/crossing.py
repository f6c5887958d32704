"""The crossing that neither paper has: {FedAvg, FedBABU} x {SGD, SAM, ASAM} x {last model, SWA}.

    crossing.experiment("FedBABU", local="ASAM", swa=True, scale="short")

On FedBABU's network and clients (momentum 0.9, batches of 50), with a constant rate, since SWA cycles one of its own.
At full scale FedASAM's follow-ups stand beside it, as their authors train them: without momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..algorithms import ASAM, SAM, SGD, SWA, Constant, Local
from ..data import Dirichlet, Partition
from ..training import Experiment
from . import fedbabu
from .measurements import Measurement
from .quantities import (
    eigenvalue,
    flatness_correlation,
    gain,
    holdout_loss,
    personalized,
    score,
    top_eigenvalues,
    trace,
)
from .tables import Figure, Item, ScaleName, Table, crossed

BASES = ("FedAvg", "FedBABU")
LOCALS: dict[str, Local] = {"SGD": SGD(), "SAM": SAM(rho=0.05), "ASAM": ASAM(rho=0.5, eta=0.2)}
# At scale quick a client has 36 images, one step an epoch in batches of 50, in which nothing is learned. And a body
# without norms learns nothing under a random head at rho = 0.5, where the whole network does; at 0.1 both learn.
QUICK: dict[str, Any] = {"batch_size": 10}
QUICK_LOCALS = LOCALS | {"SAM": SAM(rho=0.02), "ASAM": ASAM(rho=0.1, eta=0.2)}
FOLLOW_UPS = (
    *("FedGloSS", "MoFedSAM", "FedGAMMA", "FedSpeed", "FedSMOO", "FedLESAM"),
    *("FedSOL", "FedSWA", "FedMoSWA", "FedWMSAM"),
)
SAMPLES = 1000  # of the Hessian
EPOCHS = 2  # local epochs: enough rounds for SWA's cycles
CYCLE = 5


def experiment(
    base: str = "FedBABU",
    *,
    local: str | None = "ASAM",
    swa: bool = True,
    dataset: str = "cifar10",
    shards: int | None = 2,
    alpha: float | None = None,
    seed: int = 0,
    scale: ScaleName = "paper",
    **changes: Any,
) -> Experiment:
    """The experiment of one cell and seed.

    Args:
        base: the kind of an algorithm: what is trained and shared.
        local: "SGD", "SAM" or "ASAM": how a client's step gets its gradient; None: as the method does by itself.
        swa: whether the server averages its model over the last quarter of the rounds.
        dataset: as of `fedbabu.experiment`.
        shards: s, the most classes that a client holds; ignored with alpha.
        alpha: total concentration of a Dirichlet partition.
        seed: as of `fedbabu.experiment`.
        scale: as there.
        **changes: of the algorithm's settings.

    Raises:
        SettingError: if there is no such method, or a setting is wrong.
    """
    size = fedbabu.size_of(scale)
    partition: Partition | None = None if alpha is None else Dirichlet(alpha=alpha)
    crossed: dict[str, Any] = {
        "lr": size.lr / 2,
        **({} if local is None else {"local": (QUICK_LOCALS if scale == "quick" else LOCALS)[local]}),
        "schedule": Constant(),
        "swa": SWA(start=0.75, cycle=CYCLE, low=size.lr / 20) if swa else None,
    } | (QUICK if scale == "quick" else {})
    given: dict[str, Any] = {
        "dataset": dataset,
        "shards": shards or 2,
        "partition": partition,
        "seed": seed,
        "scale": scale,
    }
    return fedbabu.experiment(base, epochs=EPOCHS, **given, **crossed | changes)


def levels(scale: ScaleName) -> dict[str, dict[str, Any]]:
    """The skews of the columns: s and alpha."""
    if scale == "paper":
        return {
            **{f"s={shards}": {"shards": shards} for shards in (10, 5, 2)},
            **{f"α={alpha:g}": {"alpha": alpha} for alpha in (0.05, 0.5, 100)},
        }
    return {"s=2": {"shards": 2}} if scale == "quick" else {"α=0.5": {"alpha": 0.5}}


def rows(scale: ScaleName) -> dict[str, dict[str, Any]]:
    """The twelve crosses, and at full scale the follow-up methods, by name."""
    crosses = {
        f"{base} {local}{' + SWA' if swa else ''}": {"base": base, "local": local, "swa": swa}
        for base in BASES
        for local in LOCALS
        for swa in (False, True)
    }
    if scale != "paper":
        return crosses
    plain = {"local": None, "swa": False, "momentum": 0.0, "lr": fedbabu.size_of(scale).lr}
    return crosses | {name: {"base": name, **plain} for name in FOLLOW_UPS}


def crossing(scale: ScaleName) -> Table:
    """Accuracy, personalized accuracy, largest eigenvalue, trace, and flatness against gain, of every cross."""
    size, tuning, top = fedbabu.size_of(scale), fedbabu.tuning(scale), top_eigenvalues(SAMPLES)
    columns = {
        "accuracy": score(),
        "loss": holdout_loss(),
        "after 1 tuning epoch": personalized(tuning, 1),
        "personalized": personalized(tuning),
        "gain": gain(tuning),
        "λ₁": eigenvalue(top),
        "trace": trace(SAMPLES),
        "clients' λ₁ and gain, rank correlation": flatness_correlation(flatness(scale)),
    }
    cells = crossed(rows(scale), columns, partial(experiment, scale=scale), size.seeds, levels(scale))
    title = f"The crossing: {{FedAvg, FedBABU}} x {{SGD, SAM, ASAM}} x {{last, SWA}}, {size.dataset or 'cifar10'}"
    if scale != "paper":
        leaves_out = f"{size.leaves_out}; the follow-ups {', '.join(FOLLOW_UPS)}"
        return Table("crossing.table", title, scale, tuple(cells), protocol(scale), leaves_out)
    done = f"{protocol(scale)}; follow-ups with constants of their own, SGD {size.lr:g} without momentum"
    return Table("crossing.table", title, scale, tuple(cells), done, size.leaves_out)


def parts(scale: ScaleName) -> Table:
    """The largest eigenvalue of the whole network, of its body and of its head: FedBABU never trains the head."""
    size = fedbabu.size_of(scale)
    columns = {"loss": holdout_loss(), "λ₁": eigenvalue(top_eigenvalues(SAMPLES))}
    columns |= {f"λ₁ of the {part}": eigenvalue(part_eigenvalue(part)) for part in ("body", "head")}
    chosen = {
        row: setting
        for row, setting in rows(scale).items()
        if row.endswith(("SGD", "SAM + SWA")) and setting["base"] in BASES
    }
    cells = crossed(chosen, columns, partial(experiment, scale=scale), size.seeds, levels(scale))
    title = "Where curvature lies: in the body, or in the head that FedBABU leaves as it was drawn"
    return Table("crossing.parts", title, scale, tuple(cells), protocol(scale), size.leaves_out)


def part_eigenvalue(part: str) -> Measurement:
    """The largest eigenvalue of the Hessian's block of a part."""
    return top_eigenvalues(SAMPLES, k=1, part=part)


def flatness(scale: ScaleName) -> Measurement:
    """Per client, sharpness against what fine-tuning gains, on every fifth client."""
    size = fedbabu.size_of(scale)
    settings = {
        "clients": list(range(0, size.clients, 5)),
        "limit": 200,
        "tuning": {"epochs": 5, "lr": size.tuning_lr},
    }
    return Measurement(kind="flatness", settings=settings)


def figure(scale: ScaleName) -> Figure:
    """Accuracy along the rounds, of the six crosses of each base that end in SWA or do not."""
    level = next(iter(levels(scale).values()))
    series = {
        row: tuple(experiment(seed=seed, scale=scale, **setting, **level) for seed in fedbabu.size_of(scale).seeds)
        for row, setting in rows(scale).items()
        if setting["base"] in BASES
    }
    title = "The crossing: accuracy along the rounds"
    leaves_out = fedbabu.size_of(scale).leaves_out
    return Figure("crossing.curves", title, scale, "curves", series, protocol(scale), leaves_out)


def protocol(scale: ScaleName) -> str:
    """What was done, in words."""
    size = fedbabu.size_of(scale)
    return (
        f"{size.clients} clients, f = 0.1 (quick: 0.2), {EPOCHS} local epochs, K tau = {size.passes}, SGD"
        f" {size.lr / 2:g} constant, momentum 0.9, batches of 50 (quick: 10); SAM rho 0.05, ASAM rho 0.5 (quick: 0.02,"
        f" 0.1), eta 0.2; SWA from 75 % on, cycles of {CYCLE} rounds down to the rate"
        f" {size.lr / 20:g}; tuning: 5 epochs of SGD {size.tuning_lr:g}; Hessian on {SAMPLES} holdout samples"
    )


TABLES: dict[str, Callable[[ScaleName], Item]] = {
    "crossing.table": crossing,
    "crossing.parts": parts,
    "crossing.curves": figure,
}
