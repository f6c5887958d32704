"""A story: runs and measurements in a small record, what they are compared for, and what is shown of them.

Its sentences are the papers' machinery's: `judge` reads the record, and `Judged.sentence` says what stands there. What
was trained is said from the experiments; the words written by hand hold no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import figures
from ..data import Partition
from ..later import pd
from ..pages import ChartPart, LandscapePart, Page, Part
from ..pages.about import origins, settings_tables
from ..pages.page import Rows, time_line
from ..papers import pictures
from ..papers.archive import Archive
from ..papers.filled import FilledTable, fill
from ..papers.judging import Claim, judge
from ..papers.judging import Part as Compared
from ..papers.measurements import Measurement
from ..papers.tables import Figure, Item, Table
from ..results import either
from ..training import Experiment
from ..training.as_code import call, literal, run_names
from ..training.history import History
from ..training.run_names import experiment_labels
from ..training.status import Watched

FEW = 6  # runs of a table that are told one by one
RECORDS = Path(__file__).with_name("records")


class Record(Archive):
    """What is kept of a story: it does not change, so what describes a run is read once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._read: dict[str, dict[str, Any]] = {}

    def about(self, experiment: Experiment) -> dict[str, Any]:
        """As of `Archive`."""
        key = experiment.id
        if key not in self._read:
            self._read[key] = super().about(experiment)
        return self._read[key]


class Kept(History):
    """The rows of a run that an archive keeps."""

    def __init__(self, run: str, rows: pd.DataFrame) -> None:
        super().__init__(Path(run), run)
        self._rows = rows

    def read(self, after: int = 0) -> pd.DataFrame:
        """All rows after a round."""
        return self._rows[self._rows["round"] > after].reset_index(drop=True)

    def _logged(self, after: int) -> dict[int, list[dict[str, Any]]]:
        return {}


@dataclass(frozen=True)
class Story:
    """What is told.

    Args:
        name: short, as a folder's.
        title: as a person reads it.
        about: what it is about, in words without numbers.
        parts: what is compared, in the papers' terms.
        series: the runs whose curves are drawn, one a seed, by the name of their side; none: no curves.
        tuning: fine-tuning of these, drawn by epoch.
        planes: landscapes of the first seed's runs together, by title.
        table: a table of a paper, filled in below.
        metrics: of the curves.
    """

    name: str
    title: str
    about: str
    parts: tuple[Compared, ...]
    series: Mapping[str, tuple[Experiment, ...]]
    tuning: Measurement | None = None
    planes: Mapping[str, Measurement] | None = None
    table: Table | None = None
    metrics: tuple[str, ...] = ("accuracy", "loss")

    @cached_property
    def archive(self) -> Record:
        """Its record."""
        return Record(RECORDS / self.name)

    @property
    def claim(self) -> Claim:
        """What is compared, as one question."""
        return Claim(f"story.{self.name}", self.title, self.parts, "quick")

    def items(self) -> Iterator[Item]:
        """All that its record must hold, for plans."""
        if self.parts:
            yield self.claim.table()
        if self.table is not None:
            yield self.table
        for kind, measurement, together in self._drawn():
            title = f"story.{self.name}.{kind}"
            yield Figure(title, self.title, "quick", kind, self.series, "", "", measurement, together, not together)

    def experiments(self) -> dict[str, Experiment]:
        """Its runs, by id."""
        return {id: run for item in self.items() for id, run in item.experiments().items()}

    def sentences(self, archive: Archive | None = None) -> tuple[str, ...]:
        """What its numbers say: of a record, its own by default."""
        return tuple(part.sentence().replace("**", "") for part in judge(self.claim, archive or self.archive))

    def protocol(self) -> str:
        """What was trained, from the experiments."""
        runs = list(self.experiments().values())
        held = {run.id: f"{run.data.clients} client{'' if run.data.clients == 1 else 's'}" for run in runs}
        who = either(f"{held[run.id]} by {_dealt(run.data.partition)}" for run in runs)
        share = either(f"{100 * run.participation:g} %" for run in runs)
        rounds = either(str(run.rounds) for run in runs)
        seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
        return f"{runs[0].data.name}, {who}; {share} of them in each of {rounds} rounds; seeds {seeds}."

    def page(self) -> Page:
        """All of it as one page."""
        first = self.firsts()
        about = {name: self.archive.about(run) for name, run in first.items()}
        origin = origins({name: (run, run.rounds, _versions(about[name])) for name, run in first.items()})
        tables = (*self._rows(), *settings_tables(first), origin)
        said = (self.about, self.protocol(), *self.sentences())
        return Page(self.title, tuple(self.shown()), said, tables, self.code(), self.time())

    def shown(self) -> Iterator[Part]:
        """Curves, tuning and landscapes, as the record has them."""
        if self.series:
            yield ChartPart("Curves", figures.chart_runs(self.watched(), self.metrics))
        for kind, measurement, together in self._drawn():
            if kind == "tuning":
                figure = Figure(self.name, "", "quick", kind, self.series, "", "", measurement, every_seed=True)
                frame = pictures.tuning(figure, self.archive)
                axes = "tuning epoch", "accuracy on own test sets (%)"
                yield ChartPart("Fine-tuning", figures.chart_series(frame, *axes, caption=pictures.SEEDS))
            elif together and measurement is not None:
                planes = self.archive.measured(measurement, list(self.firsts().values()))
                title = next(title for title, shown in (self.planes or {}).items() if shown == measurement)
                yield LandscapePart(title, planes, {"runs": [run.id for run in self.firsts().values()]})  # type: ignore[arg-type]

    def time(self) -> dict[str, Any]:
        """Of its time line; empty without curves."""
        first = next(iter(self.firsts().values()))
        return time_line(first.id, 0, first.rounds) if self.series else {}

    def watched(self) -> list[Watched]:
        """Its runs, as curves need them."""
        runs = [run for group in self.series.values() for run in group]
        return [Watched(run, Path(run.id), run.rounds, Kept(run.id, self.archive.history(run))) for run in runs]

    def firsts(self) -> dict[str, Experiment]:
        """The first seed's run of each side and cell, by what tells them apart; of a large table its first column's."""
        cells = [] if self.table is None else [(cell.column, cell.experiments[0]) for cell in self.table.cells]
        if self.table is not None and len({run.id for _, run in cells}) > FEW:
            cells = [(column, run) for column, run in cells if column == self.table.columns[0]]
        every = [*(group[0] for group in self.series.values()), *(run for _, run in cells)]
        runs = list({run.id: run for run in every}.values())
        return dict(zip(experiment_labels(runs), runs, strict=True))

    def code(self) -> str:
        """Python that trains the first seed's runs."""
        runs = list(self.firsts().values())
        made = [f"run{place} = {call('fl.Run', literal(run))}.to()" for place, run in enumerate(runs, 1)]
        return "\n".join(["import flatlab as fl", "", *made, f"fl.plot({run_names(len(runs))})", ""])

    def _drawn(self) -> Iterator[tuple[str, Measurement | None, bool]]:
        """What is drawn besides curves: its kind, its measurement, and whether that is of several runs together."""
        if self.series:
            yield "curves", None, False
        if self.tuning is not None:
            yield "tuning", self.tuning, False
        for measurement in (self.planes or {}).values():
            yield "landscape", measurement, True

    @cached_property
    def filled(self) -> FilledTable | None:
        """Its table, with the record's numbers."""
        return None if self.table is None else fill(self.table, self.archive)

    def _rows(self) -> Iterator[Rows]:
        if self.filled is not None:
            printed = self.filled.printed()
            lines = [[str(cell) for cell in row] for row in printed.itertuples(index=False)]
            yield Rows(self.filled.table.title, [str(name) for name in printed.columns], lines)
            notes = [[note.replace("**", "")] for note in self.filled.notes()]
            yield Rows("What a reader must know", [""], notes, True)


def _dealt(partition: Partition) -> str:
    """A partition in words, with the settings of its own kind."""
    own = [name for name in type(partition).__annotations__ if name != "kind"]
    said = ", ".join(f"{name} {value:g}" for name in own if isinstance(value := getattr(partition, name), (int, float)))
    return type(partition).__name__ + (f" ({said})" if said else "")


def _versions(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json` says of code and machine, called as in `versions.json`."""
    said = {"processor": about["machine"]["name"], "python": about["machine"]["python"], "begun": about.get("finished")}
    return {**said, **about["versions"]}
