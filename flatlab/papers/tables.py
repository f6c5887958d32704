"""Tables as data: rows, columns, and for each cell the experiments (one a seed), what is read of them, and the paper's
number with where it comes from. Nothing here trains or draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from ..algorithms import Algorithm
from ..declare import SettingError
from ..training import Experiment
from .measurements import Measurement
from .quantities import Quantity

ScaleName = Literal["quick", "short", "paper"]
SCALES: tuple[ScaleName, ...] = ("quick", "short", "paper")

RECALLED = "recalled, unverified"


def checked_scale(scale: str) -> ScaleName:
    """The scale of that name.

    Raises:
        SettingError: if there is none.
    """
    if scale not in SCALES:
        raise SettingError("scale", scale, f"must be {', '.join(SCALES)}")
    return scale


@dataclass(frozen=True)
class Published:
    """A number that somebody printed: a target to compare with, never a test oracle."""

    printed: str  # with all its digits, "65.00" or "28.18±4.83"; accuracies in percent
    source: str = RECALLED

    @property
    def value(self) -> float:
        """The number."""
        return float(self.printed.partition("±")[0])

    def __str__(self) -> str:
        return self.printed.replace("±", " ± ")


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    row: str
    column: str
    quantity: Quantity
    experiments: tuple[Experiment, ...]  # one a seed
    published: tuple[Published, ...] = ()
    parents: tuple[Experiment, ...] = ()  # runs that these are forked from
    against: str = ""  # the row whose number it is compared with; "": the column's first. Its own: with none


@dataclass(frozen=True)
class Table:
    """A table of a paper at one scale.

    Attributes:
        id: e.g. "fedbabu.table1".
        title: what it shows.
        scale: "quick", "short" or "paper".
        cells: its numbers.
        protocol: what was done, in words.
        leaves_out: what this scale does not do that the paper does.
    """

    id: str
    title: str
    scale: ScaleName
    cells: tuple[Cell, ...]
    protocol: str
    leaves_out: str

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def experiments(self) -> dict[str, Experiment]:
        """All runs that it needs, by id, parents before their forks."""
        needed: dict[str, Experiment] = {}
        for cell in self.cells:
            needed |= {experiment.id: experiment for experiment in (*cell.parents, *cell.experiments)}
        return needed

    def measurements(self) -> Iterator[tuple[Measurement, tuple[Experiment, ...]]]:
        """Each measurement that it needs, with the runs that it is of, once."""
        seen: set[tuple[str, str]] = set()
        for cell in self.cells:
            if cell.quantity.needs is None:
                continue
            for experiment in cell.experiments:
                key = (cell.quantity.needs.key, experiment.id)
                if key not in seen:
                    seen.add(key)
                    yield cell.quantity.needs, (experiment,)

    def only(self, row: str | None = None, column: str | None = None) -> Table:
        """The table with only the cells of a row, a column, or both.

        Raises:
            SettingError: if there is no such cell.
        """
        cells = tuple(c for c in self.cells if row in (None, c.row) and column in (None, c.column))
        if not cells:
            raise SettingError(
                "cell", [row, column], f"{self.id} has the rows {self.rows} and the columns {self.columns}"
            )
        return replace(self, cells=cells)

    def kept_by(self, keeps: Callable[[Experiment], bool]) -> Table:
        """The table with only those experiments, and so seeds, that `keeps` is true of."""
        cells = []
        for cell in self.cells:
            runs = tuple(filter(keeps, cell.experiments))
            parents = tuple(run for run in cell.parents if run.seed in {run.seed for run in runs})
            cells.append(replace(cell, experiments=runs, parents=parents))
        return replace(self, cells=tuple(cells))


@dataclass(frozen=True)
class Figure:
    """A figure of a paper at one scale.

    Attributes:
        kind: "curves" (a quantity of histories against rounds), "clients" (each client's accuracy against rounds),
            "tuning" (accuracy against fine-tuning epochs), or a kind of measurement, drawn as its result is.
        series: experiments, one a seed, by the name that the legend gives them.
        measurement: of each run of the first seed, of every seed's (`every_seed`), or of the first seed's runs
            together (`together`).
        protocol: as of a `Table`.
        leaves_out: as of a `Table`.
        split: of the history, for "curves": "holdout" or "test".
    """

    id: str
    title: str
    scale: ScaleName
    kind: str
    series: Mapping[str, tuple[Experiment, ...]]
    protocol: str
    leaves_out: str
    measurement: Measurement | None = None
    together: bool = False
    every_seed: bool = False
    split: str = "holdout"

    def experiments(self) -> dict[str, Experiment]:
        """All runs that it needs, by id."""
        return {experiment.id: experiment for group in self.shown().values() for experiment in group}

    def shown(self) -> dict[str, tuple[Experiment, ...]]:
        """The runs that are drawn, by the name of their series."""
        every = self.measurement is None or self.every_seed
        return {name: group if every else group[:1] for name, group in self.series.items()}

    def measurements(self) -> Iterator[tuple[Measurement, tuple[Experiment, ...]]]:
        """Each measurement that it needs, with the runs that it is of."""
        if self.measurement is None:
            return
        shown = [experiment for group in self.shown().values() for experiment in group]
        if self.together:
            yield self.measurement, tuple(shown)
        else:
            yield from ((self.measurement, (experiment,)) for experiment in shown)


Item = Table | Figure


def trained_on(item: Item) -> str:
    """The data sets of a table's or figure's runs."""
    return ", ".join(dict.fromkeys(run.data.name for run in item.experiments().values()))


class Maker(Protocol):
    """Makes the experiment of a seed."""

    def __call__(self, *, seed: int) -> Experiment: ...


def method(kind: str, settings: Mapping[str, Any]) -> Algorithm:
    """An algorithm by the name of its kind, with those of `settings` that it has.

    Settings are those that every algorithm has, or constants of the kind's own, which other readings may name
    otherwise: what the kind does not have, it is not given.

    Raises:
        SettingError: if there is no such kind.
    """
    chosen = Algorithm.members().get(kind)
    if chosen is None:
        raise SettingError("algorithm", kind, f"no such kind; known: {', '.join(sorted(Algorithm.members()))}")
    return chosen(**{name: value for name, value in settings.items() if name in chosen.model_fields})


def cell(
    row: str,
    column: str,
    quantity: Quantity,
    make: Maker,
    seeds: Sequence[int],
    published: tuple[Published, ...] = (),
    parent: Maker | None = None,
    against: str = "",
) -> Cell:
    """A cell whose experiments are made from seeds."""
    experiments = tuple(make(seed=seed) for seed in seeds)
    parents = tuple(parent(seed=seed) for seed in seeds) if parent else ()
    return Cell(row, column, quantity, experiments, published, parents, against)


def crossed(
    rows: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, Quantity],
    make: Maker,
    seeds: Sequence[int],
    levels: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Cell]:
    """Cells of every row and column, at each of some levels: what is measured of the runs that both settings make."""
    return [
        cell(row, f"{level}, {column}" if level else column, quantity, partial(make, **setting, **skew), seeds)
        for row, setting in rows.items()
        for level, skew in ({"": {}} if levels is None else levels).items()
        for column, quantity in columns.items()
    ]
