"""What `flatlab demo` shows: the claim of each paper on real digits, in the setting where it can be seen in a minute.

The settings are those of scale `quick`: 50 clients with two shards of one class each for personalization, 20 clients of
a Dirichlet(0.5) partition for flatness. They were found by a search over networks, partitions, rounds and rates with
seeds 0 to 4; the radius of ASAM was chosen after seeds 1 to 8 had been seen as well, so no seed among those is a clean
confirmation of the claim on flatness. The demo trains a few and says what its own numbers say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .. import figures
from ..later import pd
from ..training import Experiment
from ..training.device import pick_device
from ..training.pool import cores_allowed
from . import fedasam, fedbabu, pictures, processes
from .archive import Archive
from .filled import fill
from .judging import Claim, Part, Side, judge, side
from .measurements import Measurement
from .planning import plan
from .quantities import Quantity, eigenvalue, holdout_loss, initial, personalized, score, top_eigenvalues
from .reproduce import Workshop
from .tables import Figure, Table, cell

TUNING = fedbabu.tuning("quick")
TOP = eigenvalue(top_eigenvalues(360))
ALONG = {"dimensions": 1, "directions": "own-eigen", "points": 21, "limit": 360}
PERSONAL = "50 clients of 2 classes"
FLAT = "20 mixed clients"
SAME_LOSS = 0.2  # losses at which curvatures may be compared
WORKERS = 4  # at most: each takes half a gigabyte
SEEDS = {PERSONAL: (0, 1, 2), FLAT: (0, 1, 2, 3, 4)}  # eigenvalues scatter more than accuracies
ROWS = {PERSONAL: ("FedAvg", "FedBABU"), FLAT: ("FedAvg", "FedASAM + SWA")}

LEGEND = """
mean over seeds (three and five) ± half width of the 95 % t interval. initial, 1 epoch, 5 epochs: accuracy of a client
on its own test set before and after tuning on its own images. λ₁: largest eigenvalue of the Hessian on the holdout.
Compare it where losses are alike: a model that has hardly learned is flat, too.
"""


def experiment(setting: str, method: str, seed: int) -> Experiment:
    """One run of a setting."""
    if setting == PERSONAL:
        return fedbabu.experiment(method, shards=10, epochs=5, scale="quick", seed=seed)
    return fedasam.experiment(method, alpha=0.5, scale="quick", seed=seed)


def table() -> Table:
    """Accuracy on the holdout, on clients' own test sets before and after tuning, loss and largest eigenvalue."""
    columns: dict[str, Quantity] = {
        "holdout %": score(), "loss": holdout_loss(), "initial %": initial(), "1 epoch %": personalized(TUNING, 1),
        "5 epochs %": personalized(TUNING), "λ₁": TOP,
    }  # fmt: skip
    cells = [
        cell(f"{setting}: {method}", column, quantity, partial(experiment, setting, method), SEEDS[setting])
        for setting, methods in ROWS.items()
        for method in methods
        for column, quantity in columns.items()
    ]
    return Table("demo", "Two papers on digits", "quick", tuple(cells), "", "")


def curves() -> tuple[Figure, Figure]:
    """Accuracy against tuning epochs, and the loss along the Hessian's first eigenvector."""
    along = Measurement(kind="landscape", settings=ALONG)
    pair = []
    for setting, kind, measurement in ((PERSONAL, "tuning", TUNING), (FLAT, "landscape", along)):
        series = {name: tuple(experiment(setting, name, seed) for seed in SEEDS[setting]) for name in ROWS[setting]}
        pair.append(Figure("demo", setting, "quick", kind, series, "", "", measurement, every_seed=True))
    return pair[0], pair[1]


def claim() -> Claim:
    """What the demo can say of the papers."""

    def of(setting: str, method: str, quantity: Quantity) -> Side:
        return side(method, quantity, partial(experiment, setting, method), SEEDS[setting])

    loss = holdout_loss()
    soon, fast = personalized(TUNING, 1), "accuracy after one tuning epoch"
    parts = (
        Part(f"{PERSONAL}, {fast}", of(PERSONAL, "FedBABU", soon), of(PERSONAL, "FedAvg", soon), "+"),
        Part(f"{FLAT}, largest Hessian eigenvalue", of(FLAT, "FedASAM + SWA", TOP), of(FLAT, "FedAvg", TOP), "-"),
        Part(f"{FLAT}, holdout loss", of(FLAT, "FedASAM + SWA", loss), of(FLAT, "FedAvg", loss), "=", SAME_LOSS),
    )
    return Claim("demo", "", parts, "quick")


def demo(store: Path, root: Path, device: str, say: Callable[[str], object], progress: Callable[[str], object]) -> None:
    """Train and measure what is not there yet, print the table and what it says, and draw the figure.

    Args:
        store: folder of the runs; what is kept of them goes to `demo/` in it.
        root: folder of the data sets.
        device: as of `Run`.
        say: told the results.
        progress: told what is being done.
    """
    archive, wanted, (tuned, lines) = Archive(store / "demo"), table(), curves()
    on_cpu = pick_device(device).type == "cpu"
    work = Workshop(archive, store, root, device, progress, engine="batch" if on_cpu else "auto")
    todo = plan([wanted, tuned, lines], archive, has_weights=work.has_weights)
    processes.do(work, todo, min(WORKERS, cores_allowed()) if on_cpu else 1)
    say(fill(wanted, archive).printed().to_string(index=False))
    say(LEGEND)
    for judged in judge(claim(), archive):
        say(judged.sentence().replace("**", ""))
    drawing = figures.draw_demo(
        pictures.tuning(tuned, archive), _along(lines, archive), f"{PERSONAL} (mean, 95 % t)", f"{FLAT} (a line a seed)"
    )
    with figures.paper_style():
        written = figures.save(drawing, store / "demo.png")
    say(f"figure: {written[0].resolve()}")


def _along(figure: Figure, archive: Archive) -> pd.DataFrame:
    """The loss along each run's first eigenvector: series, seed, x, value."""
    parts = []
    for name, group in figure.series.items():
        for run in group:
            result = archive.measured(figure.measurement, [run]) if figure.measurement else None
            if result is not None:
                rows = result.frame[result.frame["series"] == "surface"]
                part = {"series": name, "seed": run.seed, "x": rows["x"], "value": rows["loss"]}
                parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)
