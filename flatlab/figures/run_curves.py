"""Curves of runs against rounds, samples, seconds or megabytes: as a chart for the screen, as a figure for paper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Annotated, Any, Literal

import numpy as np
from matplotlib.colors import to_hex
from pydantic import Field

from ..arguments import Whole, checked
from ..declare import SettingError
from ..later import pd
from ..results import counted, either
from ..training import Run
from ..training.finding import as_runs
from ..training.run_names import seedless_label
from ..training.single_samples import by_batch
from ..training.status import Watched
from .chart import Array, Axis, Chart, Mark, Plot, Series
from .colors import tint
from .histories import Curve, Histories, Metric
from .paper import paper
from .style import Drawing, line_styles

METRICS = {
    "accuracy": Metric("holdout", "accuracy", Axis("holdout accuracy", "%"), 100.0),
    "loss": Metric("holdout", "loss", Axis("holdout loss")),
    "initial": Metric("test", "accuracy", Axis("mean initial accuracy on own test sets", "%"), 100.0),
    "training loss": Metric("train", "loss", Axis("mean training loss of the cohort")),
    "drift": Metric("train", "drift", Axis("mean drift of the cohort (L2 distance moved)")),
    "attack success": Metric("attack", "success", Axis("attack success on triggered images", "%"), 100.0),
    "unseen": Metric("unseen", "accuracy", Axis("mean accuracy on unseen domains", "%"), 100.0),
    "miou": Metric("holdout", "miou", Axis("holdout mIoU", "%"), 100.0),
    "unseen miou": Metric("unseen", "miou", Axis("mean mIoU on unseen domains", "%"), 100.0),
}
DASHES = ("-", "--", ":", "-.")  # of several forks of one run
X = Literal["round", "samples", "seconds", "megabytes"]
XS: dict[str, str] = {
    "round": "round",
    "samples": "samples trained on",
    "seconds": "seconds of training",
    "megabytes": "megabytes sent",
}


@checked
def draw_runs(
    runs: Run | Sequence[Run],
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    smooth: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    bands: bool = True,
    final: bool = False,
    until: Whole | None = None,
    at: Whole | None = None,
) -> Drawing:
    """Holdout accuracy and loss, or other metrics, against rounds, samples, seconds or megabytes sent.

    Args:
        runs: a run or several.
        metrics: some of `METRICS`, a panel each, two in a row.
        x: "round"; "samples", the sample passes so far; "seconds" of training so far; or "megabytes" sent so far. Of a
            fork only its own count, from 0 where it left its parent.
        smooth: weight of the past in an exponential moving average, from 0 (none) to below 1; raw values stay, faintly.
        bands: draw runs that differ only in seeds, and have come equally far, as their mean with a band of one standard
            deviation.
        final: put the curves' last values above each plot.
        until: show rounds up to this one; the axis keeps its range.
        at: a round to be marked on the curves.

    A fork begins where it left its parent, if that is shown too, with a ring there and in a tint of its colour.

    Raises:
        SettingError: naming the option that is impossible.
    """
    chart = chart_runs(as_runs(runs), metrics, x, bands, until, at)
    return paper(chart.smoothed(smooth), last=final)


def chart_runs(
    runs: Run | Sequence[Run | Watched],
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    bands: bool = True,
    until: int | None = None,
    at: int | None = None,
    known: Histories | None = None,
) -> Chart:
    """What `draw_runs` draws, before it is smoothed.

    Args:
        runs: a run or several; of those watched, only rounds and the holdout are known.
        metrics: some of `METRICS`, a plot each.
        x: one of `XS`.
        bands: runs that differ only in seeds as their mean with a band.
        until: rounds up to this one.
        at: the round that is looked at.
        known: what earlier calls have read, so that a round that is new costs its own rows only.

    Raises:
        SettingError: if there is no such metric.
    """
    several: list[Run | Watched] = [runs] if isinstance(runs, Run) else list(runs)
    known = known or Histories()
    strange = [name for name in metrics if name not in METRICS]
    if strange or not metrics:
        raise SettingError("metrics", list(metrics), f"some of {', '.join(METRICS)}")
    groups = _grouped(several, bands, known)
    passed = {run.id: known.passed(run, x) for run in several} if x != "round" else {}
    end = max(_expected(run, passed.get(run.id)) for run in several)
    forked = " (a fork's: its own)" if passed and any(run.experiment.parent for run in several) else ""
    across = Axis(XS[x] + forked, limits=(0.0, float(end)), whole=x == "round")
    looks = _looks(groups, known.names([group[0] for group in groups]), costs=not passed)
    forks = [_parents_round(group[0], several) for group in groups]
    personal: list[str] = []

    def plot(metric: Metric) -> Plot:
        series, axis = [], metric.axis
        read = [[known.curve(run, metric, until) for run in group] for group in groups]
        own = [any(curve.own for curve in curves) for curves in read]
        if all(own):
            axis = replace(axis, label=f"mean {metric.metric} of the clients' own models")
        for group, look, forked, curves, personally in zip(groups, looks, forks, read, own, strict=True):
            if personally and not all(own):  # what clients score on their own sets is no holdout score
                personal.append(look["name"])
                continue
            begun = [curve if forked is None else curve.since(forked) for curve in curves]
            rounds, xs, members = _common(begun, [passed[run.id] for run in group if passed])
            look = look | {"note": _note(curves, metric, known.alone(group[0]))}
            look |= {"rounds": rounds if passed else None, "forked": _left(group[0], xs, rounds)}
            series.append(Series.of(x=xs, members=members, **look))
        return Plot(tuple(series), across, axis, () if passed else marks)

    marks = _averaging(groups, looks)
    plots = tuple(plot(METRICS[name]) for name in metrics)
    said = ["Band: ± one standard deviation over seeds."] if any(len(group) > 1 for group in groups) else []
    if personal:
        names = ", ".join(dict.fromkeys(personal))
        said.append(f"{names}: no global model, so no holdout score; metrics=['initial'] has the clients' own.")
    local = any(isinstance(run, Run) and by_batch(run.cohort.model) for run in several)
    if local and any(METRICS[name].split == "unseen" or METRICS[name].metric == "miou" for name in metrics):
        said.append("Batch statistics are those of the images at hand, unseen ones too: local, as SiloBN has them.")
    return Chart(plots, bands=" ".join(said), at=at)


def run_looks(runs: Sequence[Run], bands: bool, known: Histories) -> dict[str, dict[str, str]]:
    """Colour and dashes of each run's curve in `chart_runs` of these, by its id."""
    groups = _grouped(runs, bands, known)
    looks = _looks(groups, [""] * len(groups), costs=False)
    return {id: {"color": look["color"], "dash": look["dash"]} for look in looks for id in look["run"].split()}


def small_curves(runs: Sequence[Run | Watched], known: Histories) -> Chart:
    """The accuracy of each run by round, and nothing else: for the lines of a table."""
    curves = [(run.id, known.curve(run, METRICS["accuracy"])) for run in runs]
    series = [Series(id, "#808080", curve.rounds.astype(np.float64), curve.means, run=id) for id, curve in curves]
    return Chart((Plot(tuple(series), Axis("round"), METRICS["accuracy"].axis),))


def _grouped(runs: Sequence[Run | Watched], bands: bool, known: Histories) -> list[list[Run | Watched]]:
    """The runs of each curve: for bands, those together that differ in seeds alone."""
    return [[runs[place] for place in group] for group in known.groups(runs)] if bands else [[run] for run in runs]


def _looks(groups: Sequence[Sequence[Run | Watched]], names: list[str], costs: bool) -> list[dict[str, Any]]:
    """Name, with what a step `costs` if asked, colour, dashes and run of each curve, the same in all plots."""
    looks: list[dict[str, Any]] = []
    shared = [seedless_label(name) if len(group) > 1 else name for group, name in zip(groups, names, strict=True)]
    for (first, *others), name, style in zip(groups, shared, _styles(groups), strict=True):
        name += f", round {first.round}" if shared.count(name) > 1 else ""
        name += f", n = {len(others) + 1}" if others else ""
        if costs and (cost := first.experiment.algorithm.cost):  # else a round of it looks as dear as another's
            name += f" ({cost})"
        ids = " ".join(run.id for run in (first, *others))
        looks.append({"name": name, "color": to_hex(style["color"]), "dash": style["linestyle"], "run": ids})
    return looks


def _styles(groups: Sequence[Sequence[Run | Watched]]) -> list[dict[str, Any]]:
    """Colour and dashes of each curve: a fork whose parent is among the runs has a tint of its colour."""
    several = [run for group in groups for run in group]
    left = [group for group in groups if _parents_round(group[0], several) is not None]
    plain = [group for group in groups if group not in left]
    styles: dict[str, dict[str, Any]] = {}
    names = [group[0].experiment.algorithm.name for group in plain]  # not its label: a rename leaves the colour
    for group, style in zip(plain, line_styles(names), strict=True):
        styles |= dict.fromkeys((run.id for run in group), style)
    children = Counter[str]()
    while left:  # a fork of a fork has its tint after it
        group = next(waiting for waiting in left if _parent(waiting[0]) in styles)
        parent = _parent(group[0])
        left.remove(group)
        children[parent] += 1
        color, dash = (
            tint(to_hex(styles[parent]["color"]), children[parent]),
            ("-", "--", ":", "-.")[(children[parent] - 1) % 4],
        )
        style = {"color": color, "linestyle": dash}
        styles |= dict.fromkeys((run.id for run in group), style)
    return [styles[group[0].id] for group in groups]


def _parent(run: Run | Watched) -> str:
    """The id of the run that it was forked from; empty if it was not."""
    return "" if run.experiment.parent is None else run.experiment.parent.run


def _parents_round(run: Run | Watched, several: Sequence[Run | Watched]) -> int | None:
    """The round at which a run forked from one of several; None if it did not."""
    parent = run.experiment.parent
    return parent.round if parent is not None and any(other.id == parent.run for other in several) else None


def _left(run: Run | Watched, xs: Array, rounds: Array) -> float | None:
    """Where on the x axis a fork left its parent; None if it is none, or has no point yet."""
    parent = run.experiment.parent
    return None if parent is None or not len(xs) else float(np.interp(parent.round, rounds, xs))


def _note(curves: list[Curve], metric: Metric, alone: int) -> str:
    own, left_out = any(curve.own for curve in curves), max(curve.left_out for curve in curves)
    note = f" ({left_out} clients left out: no finite value)" if left_out else ""
    gaps = len({round for curve in curves for round in curve.rounds[np.isnan(curve.means)].tolist()})
    note += f" ({counted(gaps, 'round')} without a finite value)" if gaps else ""
    note += " (not scored yet)" if metric.split == "holdout" and not any(len(curve.rounds) for curve in curves) else ""
    return note + (f" ({alone} on one image)" if alone and (own or metric.split == "test") else "")


def _common(curves: list[Curve], passed: list[pd.Series]) -> tuple[Array, Array, Array]:
    """Rounds in which all runs have a value, where these lie on the x axis, which shows `passed` by round, and the
    values [runs, n].
    """
    rounds = reduce(np.intersect1d, [curve.rounds for curve in curves])
    members = np.stack([curve.means[np.isin(curve.rounds, rounds)] for curve in curves])
    if not passed:
        return rounds.astype(np.float64), rounds.astype(np.float64), members
    xs = np.stack([seconds.reindex(rounds).to_numpy(np.float64) for seconds in passed])
    known = ~np.isnan(xs).any(axis=0)  # a fork does not count what its parent took
    return rounds[known].astype(np.float64), xs[:, known].mean(axis=0), members[:, known]


def _expected(run: Run | Watched, passed: pd.Series | None) -> float:
    """What the axis has to hold at the end of a run that goes on as it began."""
    if passed is None:
        return run.rounds
    told = passed.dropna()  # from 0, where it began
    return _round_up(told.iloc[-1] / (len(told) - 1) * (run.rounds - passed.index[0])) if len(told) > 1 else 1.0


def _round_up(value: float) -> float:
    """To one of few numbers, so that an axis rarely moves while its end is still being estimated."""
    unit = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-9))


def _averaging(groups: Sequence[Sequence[Run | Watched]], looks: list[dict[str, Any]]) -> tuple[Mark, ...]:
    """Where the average of rounds begins, of those that have one."""
    begun: dict[int, list[tuple[str, str]]] = {}
    for (run, *_), look in zip(groups, looks, strict=True):
        if (swa := run.experiment.algorithm.swa) is not None:
            begun.setdefault(swa.first(run.rounds), []).append((swa.kind, look["color"]))
    return tuple(
        Mark(at, either(name for name, _ in own), own[0][1] if len(own) == 1 else "#808080")
        for at, own in sorted(begun.items())
    )
