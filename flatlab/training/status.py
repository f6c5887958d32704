"""How far runs have come, read from their directories while any processes, on any machines, train them.

    standing = Standing("runs")
    standing.table()    # a row for each run; as often as you like: only runs with a new state are read again

It only reads, and takes no lock: a trainer never notices. `readable`, `notes` and `summary` say in words what a table
holds; every view of several runs (terminal, notebook, panel, figure) shows these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from ..arguments import checked
from ..declare import SettingError
from ..files import printable, user_folder
from ..later import pd
from .checkpoints import Store
from .experiment import Experiment
from .history import History, timings
from .run_names import experiment_labels
from .store_scan import scan

if TYPE_CHECKING:
    from .run import Run

COLUMNS = ("run", "name", "seed", "round", "rounds", "accuracy", "seconds", "left", "idle")
KINDS = {"round": "int64", "rounds": "int64", "accuracy": "float64", "seconds": "float64"}
TIMED = 20  # latest rounds, over which a round's seconds are averaged: not every round is evaluated
SILENT_ROUNDS, SILENT_SECONDS = 5, 60.0  # a run is silent if it wrote nothing for both of these
SILENT_AT_FIRST = 600.0  # seconds, while nobody knows how long a round takes
CHANCE = 0.02  # this much above chance is still no better than guessing, on a holdout of some hundred images
NONE = "–"


class Standing:
    """How far the runs of a store have come.

    Args:
        store: folder that holds the directories of runs.
        experiments: what to look for, begun or not; None: whatever runs the store holds at each look, but for those
            that this process cannot read (damaged, or of classes of the user's that are not defined here), which
            `unreadable` lists.

    Raises:
        SettingError: if an experiment does not say which data it was federated from, so that its run has no name yet.
    """

    @checked
    def __init__(self, store: str | Path, experiments: Sequence[Experiment] | None = None) -> None:
        self.store = user_folder(store, "store").absolute()
        self._scan = scan(self.store)
        self._all = experiments is None
        self._places: dict[str, Path] = {}  # of runs whose directory is not called after them: a link leads there
        for experiment in experiments or ():
            if experiment.data.fingerprint is None:
                raise SettingError(
                    "data.fingerprint",
                    None,
                    "a run is found by its data, too; federate them and take data.spec, or a"
                    " run's own experiment, run.experiment",
                )
        self._experiments = {experiment.id: experiment for experiment in experiments or ()}
        self._seen: dict[str, _Seen] = {}
        self._troubles: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._stores: dict[Path, Store] = {}

    def table(self) -> pd.DataFrame:
        """A row for each run.

        Returns:
            run: its id; name: a label unlike the others'; seed; round: done so far, as stored; rounds: wanted;
            accuracy: the last on the holdout (nan: none yet); seconds: of a round, over the latest ones (nan: none
            yet); left: seconds until it is done, as far as can be told (else nan); idle: seconds since a state was
            written (nan: not begun, or done).
        """
        if self._all:
            held = sorted(
                self._scan.look().values(), key=lambda run: (run.experiment.algorithm.name, run.experiment.seed)
            )
            self._experiments = {run.id: run.experiment for run in held}
            self._places = {run.id: run.directory for run in held}
        seen = {run: self._look(run) for run in self._experiments}
        if self._all:  # without a state it is half removed
            seen = {run: last for run, last in seen.items() if last.begun}
        experiments = [self._experiments[run] for run in seen]
        if list(seen) != list(self._names):
            self._names = dict(zip(seen, experiment_labels(experiments), strict=True))
        rows = [
            (run, self._names[run], experiment.seed, last.round, experiment.rounds, last.accuracy, last.seconds)
            for (run, last), experiment in zip(seen.items(), experiments, strict=True)
        ]
        table = pd.DataFrame(rows, columns=list(COLUMNS[:-2])).astype(KINDS)
        missing = table["rounds"] - table["round"]
        gap = pd.Series([last.gap for last in seen.values()], dtype=float)
        # Runs trained in one batch share out its time in their timings, so their states lie further apart than these
        # say. A pause between two states looks the same; but no batch is larger than all runs that are not done.
        slowest = table["seconds"] * max(int((missing > 0).sum()), 1)
        pace = np.fmax(table["seconds"], np.fmin(gap.fillna(table["seconds"]), slowest))
        table["left"] = (missing * pace).where(missing > 0, 0.0)
        written = pd.Series([last.written for last in seen.values()], dtype=float)
        table["idle"] = (time.time() - written).clip(lower=0).where(missing > 0)  # clocks of machines differ
        return table

    def watched(self) -> list[Watched]:
        """The runs that had begun at the last look, as far as curves need them."""
        runs = []
        for run, seen in self._seen.items():
            if run in self._names and seen.begun:
                store = self._store(run)
                runs.append(Watched(self._experiments[run], store.directory, seen.round, store.history))
        return runs

    @property
    def unreadable(self) -> dict[str, str]:
        """Directories of the store, by name, that look like runs and could not be read at the last look, and why."""
        return {**(self._scan.problems if self._all else {}), **self._troubles}

    def _store(self, run: str) -> Store:
        directory = self._places.get(run, self.store / run)
        if directory not in self._stores:  # it holds what was read of its history
            self._stores[directory] = Store(directory)
        return self._stores[directory]

    def _look(self, run: str) -> _Seen:
        store = self._store(run)
        self._troubles.pop(run, None)
        try:
            stored = store.checkpoints()
            if not stored:
                self._seen.pop(run, None)
            elif run not in self._seen or stored[-1] != self._seen[run].round:
                self._seen[run] = _read(store, stored)
        except FileNotFoundError:
            pass  # files come and go; the next look sees them whole
        except (OSError, ValueError) as error:
            self._troubles[run] = printable(error)
        return self._seen.get(run, _Seen())


@dataclass(frozen=True)
class Watched:
    """A run as its directory tells of it, with no data or network; what it has is called as in `Run`."""

    experiment: Experiment
    directory: Path
    round: int
    rows: History

    @property
    def id(self) -> str:
        """Of the run."""
        return self.rows.run

    @property
    def name(self) -> str:
        """Of its algorithm."""
        return self.experiment.algorithm.name

    @property
    def rounds(self) -> int:
        """How many it will have."""
        return self.experiment.rounds

    @property
    def history(self) -> pd.DataFrame:
        """The rows of the rounds up to its newest state."""
        return self.rows.since(0, self.round)


def no_better_than_guessing(run: Run) -> str:
    """What is wrong with a run's last round on the holdout, in words; empty if nothing is, or it was not scored."""
    rows = run.history_since(max(run.round - 1, 0))
    scores = rows[rows["split"] == "holdout"].set_index("metric")["value"]
    if not np.isfinite(scores).all():
        return "the holdout loss is no number any more: it diverged; try a lower lr"
    chance = 1 / run.data.classes
    if scores.get("accuracy", 1.0) <= chance + CHANCE:
        share = f"{100 * scores['accuracy']:.1f} %"
        return (
            f"{share} is no better than guessing among {run.data.classes} classes: it diverged, or learned nothing yet"
        )
    return ""


def silent(table: pd.DataFrame) -> pd.Series:
    """Which runs have written nothing for much longer than their rounds take: their trainers wait, or are gone."""
    pace = table["left"] / (table["rounds"] - table["round"])
    return table["idle"] > (SILENT_ROUNDS * pace).clip(lower=SILENT_SECONDS).fillna(SILENT_AT_FIRST)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table in words: name, seed, rounds, accuracy, a round, left, idle."""
    quiet = silent(table)
    rows = []
    for row, still in zip(table.itertuples(), quiet, strict=True):
        done = row.round >= row.rounds
        idle = NONE if math.isnan(row.idle) else tqdm.format_interval(row.idle)
        rows.append(
            {
                "name": str(row.name).replace(f", seed {row.seed}", ""),  # which has a column
                "seed": row.seed,
                "rounds": f"{row.round} of {row.rounds}",
                "accuracy": NONE if math.isnan(row.accuracy) else f"{100 * row.accuracy:.1f} %",
                "a round": NONE if math.isnan(row.seconds) else f"{row.seconds:.3g} s",
                "left": "done" if done else NONE if math.isnan(row.left) else tqdm.format_interval(row.left),
                "idle": f"silent {idle}" if still else idle,
            }
        )
    return pd.DataFrame(rows, columns=["name", "seed", "rounds", "accuracy", "a round", "left", "idle"])


def notes(table: pd.DataFrame) -> list[str]:
    """For each run what a bar does not show: accuracy, and time left or silence, as far as they are known."""
    said = []
    for row, still in zip(readable(table).itertuples(), silent(table), strict=True):
        left = str(row.idle if still else row.left if row.left in ("done", NONE) else f"{row.left} left")
        said.append(", ".join(part for part in (str(row.accuracy), left) if part != NONE))
    return said


def summary(table: pd.DataFrame) -> str:
    """One line on all runs."""
    open_ones = table[table["round"] < table["rounds"]]
    said = [
        f"{table['round'].sum()} of {table['rounds'].sum()} rounds",
        f"{len(table) - len(open_ones)} of {len(table)} runs done",
    ]
    quiet = int(silent(table).sum())
    if quiet:
        said.append(f"{quiet} silent")
    longest = open_ones["left"].max(skipna=False)  # of runs that wait for a worker nobody can tell
    if not quiet and longest > 0:
        said.append(f"{tqdm.format_interval(longest)} left")
    return ", ".join(said)


class _Seen(NamedTuple):
    """What a run's files said when its newest state was found."""

    round: int = 0
    accuracy: float = math.nan
    seconds: float = math.nan
    gap: float = math.nan  # between the last two states, per round
    written: float = math.nan

    @property
    def begun(self) -> bool:
        return not math.isnan(self.written)


def _read(store: Store, stored: list[int]) -> _Seen:
    *_, before, newest = [-1, *stored]
    written, gap = store.checkpoint(newest).stat().st_mtime, math.nan
    if before >= 0:
        gap = (written - store.checkpoint(before).stat().st_mtime) / (newest - before)
    rows = islice(timings(store.directory, store.run, newest_first=True), TIMED)
    times = [row["seconds"] + row["evaluation_seconds"] for row in rows]
    seconds = float(np.mean(times)) if times else math.nan
    return _Seen(newest, store.history.latest("holdout", "accuracy", newest), seconds, gap, written)
