"""The stories that come with flatlab."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from ..declare import SettingError, near
from ..papers import demonstration, fedasam_tables, fedbabu_tables
from ..papers.demonstration import FLAT, PERSONAL, ROWS, SEEDS, TUNING
from ..papers.measurements import Measurement
from ..papers.questions import claims
from ..papers.tables import Figure, Table
from ..training import Experiment
from .story_record import Story

SAMPLES = 360  # of the holdout, as the demo measures on
WAY = Measurement(kind="landscape", settings={"directions": "pca", "points": 21, "limit": SAMPLES})
SHARP = Measurement(kind="landscape", settings={"directions": "own-eigen", "points": 21, "limit": SAMPLES})


def _flat(name: str, title: str) -> Story:
    _, *parts = demonstration.claim().parts
    planes = {"The way of both, on the plane in which they moved most": WAY, "Both minima, on one scale": SHARP}
    about = (
        "FedAvg beside FedASAM with server averaging (SWA), on clients with mixed shares of the classes: does the model"
        " lie flatter, at a loss that is about the same?"
    )
    return Story(name, title, about, tuple(parts), _demo(FLAT), planes=planes)


def _babu(name: str, title: str) -> Story:
    personal, *_ = demonstration.claim().parts
    about = (
        "FedBABU trains the body alone and leaves the head as it was drawn; then each client tunes a copy of the model"
        " on its own images. So does each client after FedAvg. Who is there sooner?"
    )
    return Story(name, title, about, (personal,), _demo(PERSONAL), tuning=TUNING)


def _skew(name: str, title: str) -> Story:
    parts = claims("quick")["fedasam.q1"].parts
    about = "FedAvg where each client holds a single class (α = 0), beside FedAvg where all hold all classes evenly."
    sides = {part.name: part.experiments for part in (parts[0].left, parts[0].right)}
    return Story(name, title, about, parts, sides)


def _skew10(name: str, title: str) -> Story:
    accuracy, *_ = claims("short")["fedasam.q1"].parts
    about = (
        "FedAvg on photographs, where each client holds a single class (α = 0), beside FedAvg where all hold all"
        " classes evenly: the gap that the methods of both papers are made for."
    )
    sides = {part.name: part.experiments for part in (accuracy.left, accuracy.right)}
    return Story(name, title, about, (accuracy,), sides)


def _cifar10(name: str, title: str) -> Story:
    about = (
        "The main table of the FedASAM paper, in few rounds; what that leaves out stands below it. The curves are those"
        " of its first column, where each client holds a single class (α = 0)."
    )
    table = _table(fedasam_tables.TABLES["fedasam.cifar10"]("short"))
    claimed = [part for key in ("fedasam.q2", "fedasam.q3") for part in claims("short")[key].parts]
    parts = tuple(part for part in claimed if part.left.quantity.label.startswith("holdout") and part.left.less is None)
    drawn = {row: _of_cell(table, row, table.columns[0]) for row in ("FedAvg", "FedASAM + SWA")}
    return Story(name, title, about, parts, drawn, table=table)


def _table(made: Table | Figure) -> Table:
    assert isinstance(made, Table)
    return made


def _of_cell(table: Table, row: str, column: str) -> tuple[Experiment, ...]:
    return next(tuple(cell.experiments) for cell in table.cells if (cell.row, cell.column) == (row, column))


def _table1(name: str, title: str) -> Story:
    about = "What one model gives clients of few classes, and what tuning a copy of it on their own images adds."
    table = _table(fedbabu_tables.TABLES["fedbabu.table1"]("quick"))
    parts = tuple(part for part in claims("quick")["fedbabu.rq3"].parts if part.left.name.startswith("FedAvg, s="))
    return Story(name, title, about, parts, {}, table=table)


def _mixing(name: str, title: str) -> Story:
    about = (
        "Mixup and Cutout, which help a network that one machine trains: do they help FedAvg, where each client holds a"
        " single class (α = 0)?"
    )
    table = replace(_table(fedasam_tables.TABLES["fedasam.mixing"]("quick")), title="Mixup and Cutout, α=0, on digits")
    return Story(name, title, about, claims("quick")["fedasam.q5"].parts, {}, table=table)


def _head(name: str, title: str) -> Story:
    about = (
        "What FedBABU rests on: a network on one machine of which all is trained, or the body alone below a head that"
        " stays as it was drawn, or the head alone."
    )
    table = _table(fedbabu_tables.TABLES["fedbabu.centralized"]("quick"))
    parts = claims("quick")["fedbabu.rq2"].parts[:2]
    return Story(name, title, about, parts, {}, table=table)


def _demo(setting: str) -> dict[str, tuple[Experiment, ...]]:
    return {
        name: tuple(demonstration.experiment(setting, name, seed) for seed in SEEDS[setting]) for name in ROWS[setting]
    }


_MAKERS: dict[str, tuple[str, Callable[[str, str], Story]]] = {
    "flat": ("Flat and sharp: FedASAM + SWA", _flat),
    "babu": ("One epoch of tuning: FedBABU", _babu),
    "skew": ("What skew does to FedAvg", _skew),
    "skew10": ("What skew does to FedAvg, on CIFAR-10", _skew10),
    "cifar10": ("FedASAM's table on CIFAR-10", _cifar10),
    "table1": ("FedBABU's first table, on digits", _table1),
    "head": ("FedBABU's frozen head, on digits", _head),
    "mixing": ("FedASAM's Mixup and Cutout, on digits", _mixing),
}
TITLES = {name: title for name, (title, _) in _MAKERS.items()}


class _Stories(Mapping[str, Story]):
    """The stories by name, each made when it is asked for."""

    def __getitem__(self, name: str) -> Story:
        if name not in _MAKERS:
            raise KeyError(name)
        return story(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MAKERS)

    def __len__(self) -> int:
        return len(_MAKERS)


STORIES: Mapping[str, Story] = _Stories()


@cache
def story(name: str) -> Story:
    """A story by its name.

    Raises:
        SettingError: if there is none.
    """
    if name not in _MAKERS:
        raise SettingError("name", name, f"no such story{near(name, _MAKERS)}; known: {', '.join(_MAKERS)}")
    title, make = _MAKERS[name]
    return make(name, title)
