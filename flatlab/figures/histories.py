"""What curves of runs are drawn from: metrics by round, read once, so that a round that is done costs its rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..later import pd
from ..training import Run
from ..training.history import Rows
from ..training.run_names import labels, method_keys, seedless
from ..training.single_samples import by_batch, lone_tests
from ..training.status import Watched
from .chart import Axis


class Metric(NamedTuple):
    """Which rows of a history a curve shows; those of several clients are averaged."""

    split: str
    metric: str
    axis: Axis
    factor: float = 1.0


class Curve(NamedTuple):
    """A value by round, NaN where it is not finite; whether of the clients' own models, as there is no global one; and
    clients that lack a value.
    """

    rounds: npt.NDArray[np.int64]
    means: npt.NDArray[np.float64]
    own: bool = False
    left_out: int = 0

    def until(self, round: int) -> Curve:
        """Its beginning."""
        count = int(np.searchsorted(self.rounds, round, side="right"))
        return self._replace(rounds=self.rounds[:count], means=self.means[:count])

    def since(self, round: int) -> Curve:
        """What follows the last point at a round or before it, and that point."""
        first = max(int(np.searchsorted(self.rounds, round, side="right")) - 1, 0)
        return self._replace(rounds=self.rounds[first:], means=self.means[first:])


NOTHING = Curve(np.zeros(0, np.int64), np.zeros(0))


class Histories:
    """What has been read of runs that grow, so that a round that is done costs its own rows only."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, str, str], tuple[int, Curve]] = {}  # with the round they were read at
        self._fresh: tuple[Any, Rows] | None = None  # the rows that were read last, which all metrics need
        self._settings: dict[str, str] = {}
        self._names: tuple[Any, list[str]] = (None, [])
        self._passed: dict[str, tuple[int, pd.DataFrame]] = {}
        self._alone: dict[str, int] = {}

    def curve(self, run: Run | Watched, metric: Metric, until: int | None = None) -> Curve:
        """A metric of a run up to a round."""
        at, key = run.round, (str(run.directory), metric.split, metric.metric)
        read, curve = self._curves.get(key, (0, NOTHING))
        if read < at:
            curve = self._grown(run, metric, read, curve)
            self._curves[key] = read, curve = at, curve
        end = at if until is None else min(at, until)
        if end < read and curve.left_out:  # who lacks a value later may have all up to here
            return _read(run.rows.columns(0, end), metric, _no_global(run))
        return curve.until(end)

    def _grown(self, run: Run | Watched, metric: Metric, read: int, curve: Curve) -> Curve:
        if (len(curve.rounds) or metric.split != "holdout") and not curve.left_out:
            rows = self._since(run, read)
            new = _read(rows, metric, curve.own)
            holdout_now = curve.own and metric.split in rows["split"]
            if not new.left_out and not holdout_now:
                rounds, means = np.append(curve.rounds, new.rounds), np.append(curve.means, new.means)
                return curve._replace(rounds=rounds, means=means)
        return _read(self._since(run, 0), metric, _no_global(run))

    def _since(self, run: Run | Watched, round: int) -> Rows:
        key = (str(run.directory), round, run.round)
        if self._fresh is None or self._fresh[0] != key:
            self._fresh = key, run.rows.columns(round, run.round)
        return self._fresh[1]

    def passed(self, run: Run | Watched, x: str) -> pd.Series:
        """Samples, seconds or megabytes by round, from 0 where the run began: a fork at its parent's round, or a run at
        the state that it was given; NaN after a time that is lost.

        Raises:
            ValueError: of a run that is only watched.
        """
        read, table = self._passed.get(run.id, (-1, pd.DataFrame()))
        if read != run.round:
            if isinstance(run, Watched):
                raise ValueError(f"x = {x!r}: of runs that are watched only rounds are known")
            parent, federation = run.experiment.parent, run.federation
            first = run.span[0] if parent is None else parent.round
            rounds = range(first + 1, run.round + 1)
            table = run.timings.set_index("round").reindex(rounds)
            lacking = table.index[table["samples"].isna()]  # lines that were lost, and rounds taken from another run
            table.loc[lacking, "samples"] = [federation.samples(round - 1) for round in lacking]
            # Not from the history: files from before have none.
            table["megabytes"] = [federation.megabytes(round - 1) for round in rounds]
            begun = pd.DataFrame(0.0, index=[first], columns=table.columns)
            table = pd.concat([begun, table.cumsum(skipna=False)]) if len(table) else begun
            self._passed[run.id] = run.round, table
        return table[x]

    def groups(self, runs: Sequence[Run | Watched]) -> list[list[int]]:
        """Places of the runs, those together that differ in nothing but seeds and have come equally far."""
        for run in runs:
            if run.id not in self._settings:
                self._settings[run.id] = seedless(run.experiment).to_json()
        keys = method_keys([run.experiment for run in runs], [self._settings[run.id] for run in runs])
        together: dict[tuple[object, ...], list[int]] = {}
        for place, (run, key) in enumerate(zip(runs, keys, strict=True)):
            together.setdefault((key, run.name, run.round), []).append(place)
        return list(together.values())

    def names(self, runs: Sequence[Run | Watched]) -> list[str]:
        """What tells the runs apart."""
        key = [(run.id, run.name, run.round if len(runs) > 1 else 0) for run in runs]
        if self._names[0] != key:
            self._names = key, labels(runs)
        return self._names[1]

    def alone(self, run: Run | Watched) -> int:
        """How many clients' scores are of one image on its own, which a network with batch statistics cannot judge."""
        if isinstance(run, Watched):
            return 0
        if run.id not in self._alone:
            lone = lone_tests(run.data, run.experiment.evaluation) if by_batch(run.cohort.model) else ()
            self._alone[run.id] = len(lone)
        return self._alone[run.id]


def _no_global(run: Run | Watched) -> bool:
    """Whether clients keep some of the model for themselves; of a run that is watched, as its settings say."""
    if isinstance(run, Run):
        return bool(run.kept)
    return run.experiment.algorithm.share not in ("all", run.experiment.algorithm.train)


def _read(rows: Rows, metric: Metric, own: bool) -> Curve:
    """A metric's mean by round; `own`: no model is global, so clients' models stand for it where nothing else does."""
    columns = ("round", "split", "metric", "value", "client")
    rounds, splits, metrics, values, clients = (rows[name] for name in columns)
    of_metric = metrics == metric.metric
    own = own and metric.split == "holdout" and not (of_metric & (splits == metric.split)).any()
    asked = of_metric & (splits == ("test" if own else metric.split))
    rounds, clients, values = rounds[asked], clients[asked], values[asked]
    finite = np.isfinite(values)
    # All rounds of a client, lest the mean change with its members; of the global model (-1), that round, as a gap.
    lacking = np.unique(clients[~finite & (clients >= 0)])
    whole = ~np.isin(clients, lacking)
    rounds, places = np.unique(rounds[whole], return_inverse=True)
    sums = np.bincount(places, np.where(finite, values, np.nan)[whole], len(rounds))
    means = sums / np.bincount(places, minlength=len(rounds))
    return Curve(rounds, metric.factor * means, own and bool(asked.any()), len(lacking))
