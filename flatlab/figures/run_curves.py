"""Curves of runs against rounds, samples or seconds: as a chart for the screen, as a figure for paper."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from pydantic import Field

from ..arguments import Whole, checked
from ..declare import SettingError
from ..later import pd
from ..personalization.finetune import as_runs
from ..training import Run
from ..training.run_names import labels
from ..training.single_samples import by_batch, lone_tests
from ..training.status import Watched
from .chart import Array, Axis, Chart, Mark, Plot, Series
from .paper import paper
from .style import Drawing, line_style


class Metric(NamedTuple):
    """Which rows of a history a curve shows; those of several clients are averaged."""

    split: str
    metric: str
    axis: Axis
    factor: float = 1.0


METRICS = {
    "accuracy": Metric("holdout", "accuracy", Axis("holdout accuracy", "%"), 100.0),
    "loss": Metric("holdout", "loss", Axis("holdout loss")),
    "initial": Metric("test", "accuracy", Axis("mean initial accuracy", "%"), 100.0),
    "training loss": Metric("train", "loss", Axis("mean training loss of the cohort")),
    "drift": Metric("train", "drift", Axis("mean drift of the cohort")),
}
X = Literal["round", "samples", "seconds"]
XS: dict[str, str] = {"round": "round", "samples": "samples trained on", "seconds": "seconds of training"}


@checked
def draw_runs(
    runs: Run | Sequence[Run],
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    smooth: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    bands: bool = True,
    final: bool = False,
    until: Whole | None = None,
) -> Drawing:
    """Holdout accuracy and loss, or other metrics, against rounds, samples or seconds.

    Args:
        runs: a run or several.
        metrics: some of `METRICS`, a panel each, two in a row.
        x: "round"; "samples", the sample passes so far; or "seconds" of training so far. Of a fork only its own count.
        smooth: weight of the past in an exponential moving average, from 0 (none) to below 1; raw values stay, faintly.
        bands: draw runs that differ only in seeds, and have come equally far, as their mean with a band of one standard
            deviation.
        final: put each curve's last value into the legend.
        until: show rounds up to this one; the axis keeps its range.

    Raises:
        SettingError: naming the option that is impossible.
    """
    chart = chart_runs(as_runs(runs), metrics, x, bands, until)
    return paper(chart.smoothed(smooth), "above" if final else "inside")


def chart_runs(
    runs: Run | Sequence[Run | Watched],
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    bands: bool = True,
    until: int | None = None,
    known: Histories | None = None,
) -> Chart:
    """What `draw_runs` draws, before it is smoothed.

    Args:
        runs: a run or several; of those watched, only rounds and the holdout are known.
        metrics: some of `METRICS`, a plot each.
        x: one of `XS`.
        bands: runs that differ only in seeds as their mean with a band.
        until: rounds up to this one.
        known: what earlier calls have read, so that a round that is new costs its own rows only.

    Raises:
        SettingError: if there is no such metric.
    """
    several: list[Run | Watched] = [runs] if isinstance(runs, Run) else list(runs)
    known = known or Histories()
    strange = [name for name in metrics if name not in METRICS]
    if strange or not metrics:
        raise SettingError("metrics", list(metrics), f"some of {', '.join(METRICS)}")
    places = known.groups(several) if bands else [[place] for place in range(len(several))]
    groups = [[several[place] for place in group] for group in places]
    passed = {run.id: known.passed(run, x) for run in several} if x != "round" else {}
    end = max(_expected(run, passed.get(run.id)) for run in several)
    forked = " (a fork's: its own)" if passed and any(run.experiment.parent for run in several) else ""
    across = Axis(XS[x] + forked, limits=(0.0, float(end)))
    looks = _looks(groups, known.names([group[0] for group in groups]), costs=not passed)

    def plot(metric: Metric) -> Plot:
        series = []
        for group, look in zip(groups, looks, strict=True):
            curves = [known.curve(run, metric, until) for run in group]
            xs, members = _common(curves, [passed[run.id] for run in group if passed])
            series.append(Series.of(x=xs, members=members, note=_note(curves, metric, known.alone(group[0])), **look))
        return Plot(tuple(series), across, metric.axis, () if passed else marks)

    marks = _averaging(groups, looks)
    banded = any(len(group) > 1 for group in groups)
    title = "band: ± one standard deviation over seeds" if banded else ""
    return Chart(tuple(plot(METRICS[name]) for name in metrics), bands=title)


def _looks(groups: Sequence[Sequence[Run | Watched]], names: list[str], costs: bool) -> list[dict[str, Any]]:
    """Name, with what a step `costs` if asked, colour, dashes and run of each curve, the same in all plots."""
    looks: list[dict[str, Any]] = []
    taken: list[str] = []
    for (first, *others), name in zip(groups, names, strict=True):
        method = first.name
        style = line_style(method, taken)
        taken.append(method)
        name += f", n = {len(others) + 1}" if others else ""
        if costs and (cost := first.experiment.algorithm.cost):  # else a round of it looks as dear as another's
            name += f" ({cost})"
        run = "" if others else first.id
        looks.append({"name": name, "color": to_hex(style["color"]), "dash": style["linestyle"], "run": run})
    return looks


class Curve(NamedTuple):
    """A value by round; whether of the clients' own models, as there is no global one; clients that lack a value."""

    rounds: npt.NDArray[np.int64]
    means: npt.NDArray[np.float64]
    own: bool = False
    left_out: int = 0

    def until(self, round: int) -> Curve:
        """Its beginning."""
        count = int(np.searchsorted(self.rounds, round, side="right"))
        return self._replace(rounds=self.rounds[:count], means=self.means[:count])


NOTHING = Curve(np.zeros(0, np.int64), np.zeros(0))


class Histories:
    """What has been read of runs that grow, so that a round that is done costs its own rows only."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, str, str], tuple[int, Curve]] = {}  # with the round they were read at
        self._fresh: tuple[Any, pd.DataFrame] | None = None  # the rows that were read last, which all metrics need
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
            rows = run.history
            return _read(rows[rows["round"] <= end], metric)
        return curve.until(end)

    def _grown(self, run: Run | Watched, metric: Metric, read: int, curve: Curve) -> Curve:
        if len(curve.rounds) and not curve.left_out:
            rows = self._since(run, read)
            new = _read(rows, metric, curve.own)
            holdout_now = curve.own and bool((rows["split"] == metric.split).any())
            if not new.left_out and not holdout_now:
                rounds, means = np.append(curve.rounds, new.rounds), np.append(curve.means, new.means)
                return curve._replace(rounds=rounds, means=means)
        return _read(self._since(run, 0), metric)

    def _since(self, run: Run | Watched, round: int) -> pd.DataFrame:
        key = (str(run.directory), round, run.round)
        if self._fresh is None or self._fresh[0] != key:
            self._fresh = key, run.history_since(round)
        return self._fresh[1]

    def passed(self, run: Run | Watched, x: str) -> pd.Series:
        """Samples or seconds so far, by round."""
        read, table = self._passed.get(run.id, (-1, pd.DataFrame()))
        if read != run.round:
            if isinstance(run, Watched):
                raise ValueError(f"x = {x!r}: of runs that are watched only rounds are known")
            table = run.timings.set_index("round").sort_index().cumsum()
            self._passed[run.id] = run.round, table
        return table[x]

    def groups(self, runs: Sequence[Run | Watched]) -> list[list[int]]:
        """Places of the runs, those together that differ in nothing but seeds and have come equally far."""
        together: dict[tuple[str, int], list[int]] = {}
        for place, run in enumerate(runs):
            if run.id not in self._settings:
                self._settings[run.id] = _seedless(run)
            together.setdefault((self._settings[run.id], run.round), []).append(place)
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


def _read(rows: pd.DataFrame, metric: Metric, own: bool | None = None) -> Curve:
    """A metric's mean by round; `own`: of the clients' own models, None if that is to be found out."""
    splits, metrics = rows["split"].to_numpy(), rows["metric"].to_numpy()
    of_metric = metrics == metric.metric
    if own is None:
        own = metric.split == "holdout" and not (of_metric & (splits == metric.split)).any()
    rows = rows[of_metric & (splits == ("test" if own else metric.split))]
    clients, values, finite = rows["client"].to_numpy(), rows["value"].to_numpy(), np.isfinite(rows["value"].to_numpy())
    # All rounds of a client, lest the mean change with its members; of the global model (-1), that round.
    lacking = np.unique(clients[~finite & (clients >= 0)])
    whole = finite & ~np.isin(clients, lacking)
    rounds, places = np.unique(rows["round"].to_numpy()[whole], return_inverse=True)
    means = np.bincount(places, values[whole], len(rounds)) / np.bincount(places, minlength=len(rounds))
    return Curve(rounds, metric.factor * means, own and len(rows) > 0, len(lacking))


def _note(curves: list[Curve], metric: Metric, alone: int) -> str:
    own, left_out = any(curve.own for curve in curves), max(curve.left_out for curve in curves)
    note = " (mean of the clients' own)" if own else ""
    note += f" ({left_out} clients left out: no finite value)" if left_out else ""
    return note + (f" ({alone} on one image)" if alone and (own or metric.split == "test") else "")


def _common(curves: list[Curve], passed: list[pd.Series]) -> tuple[Array, Array]:
    """Where all runs have a value, and these values [runs, n]; `passed` is what the x axis shows by round."""
    rounds = reduce(np.intersect1d, [curve.rounds for curve in curves])
    members = np.stack([curve.means[np.isin(curve.rounds, rounds)] for curve in curves])
    if not passed:
        return rounds.astype(np.float64), members
    xs = np.stack([one.reindex(rounds).to_numpy(np.float64) for one in passed])
    known = ~np.isnan(xs).any(axis=0)  # a fork does not know how long its parent took
    return xs[:, known].mean(axis=0), members[:, known]


def _expected(run: Run | Watched, passed: pd.Series | None) -> float:
    """What the axis has to hold at the end of a run that goes on as it began."""
    if passed is None:
        return run.rounds
    first = 0 if run.experiment.parent is None else run.experiment.parent.round
    return _round_up(passed.iloc[-1] / len(passed) * (run.rounds - first)) if len(passed) else 1.0


def _round_up(value: float) -> float:
    """To one of few numbers, so that an axis rarely moves while its end is still being estimated."""
    unit = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-9))


def _averaging(groups: Sequence[Sequence[Run | Watched]], looks: list[dict[str, Any]]) -> tuple[Mark, ...]:
    """Where the average of rounds begins, of those that have one."""
    colors: dict[int, list[str]] = {}
    for (run, *_), look in zip(groups, looks, strict=True):
        if (swa := run.experiment.algorithm.swa) is not None:
            colors.setdefault(swa.first(run.rounds), []).append(look["color"])
    return tuple(Mark(at, "SWA", own[0] if len(own) == 1 else "#808080") for at, own in sorted(colors.items()))


def _seedless(run: Run | Watched) -> str:
    """A run's settings but for its seeds."""
    settings = run.experiment.to_dict()
    for seeded, names in ((settings, ("seed",)), (settings["data"], ("seed", "fingerprint"))):
        for name in names:
            del seeded[name]
    return json.dumps(settings, sort_keys=True)
