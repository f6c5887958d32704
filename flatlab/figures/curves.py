"""Curves of runs and of personalization: accuracy against rounds, accuracy against fine-tuning epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from ..arguments import Whole, checked
from ..declare import SettingError
from ..personalization import Comparison, Headless, Personalization
from ..personalization.finetune import as_runs
from ..results import spread
from ..training import Run, labels
from ..training.single_samples import by_batch, lone_tests
from .gains import draw_gains, note_clients
from .style import COLUMN, PAGE, Drawing, figure, line_style


class Metric(NamedTuple):
    """Which rows of a history a curve shows; those of several clients are averaged."""

    split: str
    metric: str
    label: str
    factor: float = 1.0


METRICS = {
    "accuracy": Metric("holdout", "accuracy", "holdout accuracy (%)", 100.0),
    "loss": Metric("holdout", "loss", "holdout loss"),
    "initial": Metric("test", "accuracy", "mean initial accuracy (%)", 100.0),
    "training loss": Metric("train", "loss", "mean training loss of the cohort"),
    "drift": Metric("train", "drift", "mean drift of the cohort"),
}
X = Literal["round", "samples", "seconds"]
XS: dict[str, str] = {"round": "round", "samples": "samples trained on", "seconds": "seconds of training"}


@checked
def draw_runs(
    runs: Run | Sequence[Run],
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    smooth: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    bands: bool = False,
    final: bool = False,
    until: Whole | None = None,
    onto: Drawing | None = None,
) -> Drawing:
    """Holdout accuracy and loss, or other metrics, against rounds, samples or seconds.

    Args:
        runs: a run or several.
        metrics: some of `METRICS`, a panel each, two in a row.
        x: "round"; "samples", the sample passes so far; or "seconds" of training so far. Of a fork only its own count.
        smooth: weight of the past in an exponential moving average, from 0 (none) to below 1; raw values stay, faintly.
        bands: draw runs that differ only in seeds as their mean with a band of one standard deviation.
        final: put each curve's last value into the legend.
        until: show rounds up to this one; the axis keeps its range.
        onto: an earlier drawing with the same options, whose axes are kept; `Frames` shows it several times as quickly.

    Raises:
        SettingError: naming the option that is impossible.
    """
    runs = as_runs(runs)
    strange = [name for name in metrics if name not in METRICS]
    if strange or not metrics:
        raise SettingError("metrics", list(metrics), f"some of {', '.join(METRICS)}")
    passed = [_passed(run, x) for run in runs]
    if onto is None:
        across, down = min(2, len(metrics)), -(-len(metrics) // 2)
        fig = figure(PAGE, down * (2.4 + (0.14 * len(runs) if final else 0)))
        for place in range(len(metrics)):
            axes = fig.add_subplot(down, across, place + 1)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        fig = _emptied(onto)
    curves = _Shown(runs, [_until(run.history, until) for run in runs], passed, smooth, bands, final)
    end = max(_expected(run, so_far) for run, so_far in zip(runs, passed, strict=True))
    forked = " (a fork's: its own)" if x != "round" and any(run.experiment.parent for run in runs) else ""
    for axes, name in zip(fig.axes, metrics, strict=True):
        curves.draw(axes, METRICS[name])
        axes.set(xlabel=XS[x] + forked, xlim=(0, end))
        _from_tick_to_tick(axes)
    for axes in fig.axes[: None if final else 1]:
        _legend(axes, final)
    return fig


@checked
def draw_personalization(
    result: Personalization, view: Literal["curves", "gains", "histogram", "scatter"] = "curves"
) -> Drawing:
    """Mean accuracy over clients after each epoch, with a band of one standard deviation over clients.

    Args:
        result: what `personalize` measured.
        view: "curves"; or of `draw_gains` "gains", "histogram" or "scatter".
    """
    if view != "curves":
        return draw_gains(result, view)
    fig = figure(COLUMN + 0.5, 2.4)
    _epochs(fig.subplots(), result)
    note_clients(fig, result.about.get("lone", {}), _left_out(result))
    return fig


def draw_table(result: Comparison) -> Drawing:
    """Holdout, initial, personal, personalized accuracy of every run; bars: one standard deviation over clients."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    frame, places = result.frame, np.arange(len(result.frame))
    for shift, name, marker in ((-0.15, "initial", "o"), (0, "personal", "s"), (0.15, "personalized", "D")):
        if name not in frame or frame[name].isna().all():
            continue
        spread = 100 * frame[f"{name} std"]
        axes.errorbar(places + shift, 100 * frame[name], spread, fmt=marker, markersize=4, capsize=2, label=name)
    axes.plot(places, 100 * frame["holdout"], "k_", markersize=12, label="holdout")
    axes.set_xticks(places, frame["method"])
    axes.set(ylabel="accuracy (%)")
    axes.legend()
    note_clients(fig, result.about.get("lone", {}), int(frame.get("left_out", pd.Series([0])).max()))
    return fig


def draw_comparison(runs: Sequence[Run], result: Personalization) -> Drawing:
    """Both: accuracy while training, and personalization after it."""
    fig = figure(PAGE, 2.6)
    left, right = fig.subplots(1, 2)
    _Shown(list(runs), [run.history for run in runs], [None] * len(runs)).draw(left, METRICS["accuracy"])
    left.set(xlabel="round", xlim=(0, max(run.rounds for run in runs)))
    _epochs(right, result)
    left.legend(loc="lower right")
    note_clients(fig, result.about.get("lone", {}), _left_out(result))
    return fig


def draw_headless(result: Headless) -> Drawing:
    """Template accuracy of every client, a strip a run, with the mean."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    taken: list[str] = []
    left_out = 0
    for place, (_, mine) in enumerate(result.frame.groupby("run", sort=False)):
        name = mine["name"].iloc[0]
        colour = line_style(name, taken)["color"]
        axes.plot([place] * len(mine), 100 * mine["accuracy"], "o", color=colour, alpha=0.4, markersize=3)
        over = spread(mine["accuracy"])
        axes.plot([place - 0.25, place + 0.25], [100 * over.mean] * 2, color=colour)
        left_out = max(left_out, over.left_out)
        taken.append(name)
    axes.set_xticks(range(len(taken)), taken)
    axes.set(ylabel="headless accuracy of a client (%)")
    note_clients(fig, result.about.get("lone", {}), left_out)
    return fig


class _Shown(NamedTuple):
    """What the panels of `draw_runs` have in common; `passed` is what the x axis shows by round, None for rounds."""

    runs: list[Run]
    histories: list[pd.DataFrame]
    passed: list[pd.Series | None]
    smooth: float = 0.0
    bands: bool = False
    final: bool = False

    def draw(self, axes: Axes, metric: Metric) -> None:
        """The curves of one metric."""
        taken: list[str] = []
        groups = _seeds_together(self.runs) if self.bands else [[place] for place in range(len(self.runs))]
        for group, label in zip(groups, labels([self.runs[group[0]] for group in groups]), strict=True):
            run = self.runs[group[0]]
            found = [_values(self.histories[place], metric) for place in group]
            own, left_out = any(curve.own for curve in found), max(curve.left_out for curve in found)
            label += f", n = {len(group)}" if len(group) > 1 else ""
            if self.passed[group[0]] is None and (cost := run.experiment.algorithm.cost):  # else a round looks as dear
                label += f" ({cost})"
            label += " (mean of the clients' own)" if own else ""
            label += f" ({left_out} clients left out: no finite value)" if left_out else ""
            if (own or metric.split == "test") and by_batch(run.cohort.model):
                alone = len(lone_tests(run.data, run.experiment.evaluation))
                label += f" ({alone} on one image)" if alone else ""
            self._line(axes, group, [curve.mean for curve in found], label, line_style(run.name, taken))
            taken.append(run.name)
        axes.set_ylabel(metric.label)

    def _line(self, axes: Axes, group: list[int], values: list[pd.Series], label: str, style: dict[str, Any]) -> None:
        spent = [one for place in group if (one := self.passed[place]) is not None]
        table = values[0].to_frame() if len(group) == 1 else pd.concat(values, axis=1, join="inner").sort_index()
        if spent:
            xs = pd.concat([one.reindex(table.index) for one in spent], axis=1)
            known = xs.notna().all(axis=1)  # a fork does not know how long its parent took
            x, table = xs[known].mean(axis=1), table[known]
        else:
            x = table.index.to_series()
        raw = table.mean(axis=1)
        if self.final and len(raw):
            label += f": {raw.iloc[-1]:.3g}" + (f" ± {table.iloc[-1].std():.2g}" if len(group) > 1 else "")
        if self.smooth:
            axes.plot(x, raw, alpha=0.25, lw=0.8, color=style["color"])
            # Weights are normalised, so that the first values are not drawn to zero.
            table = table.ewm(alpha=1 - self.smooth).mean()
        mean = table.mean(axis=1)
        axes.plot(x, mean, label=label, marker="o" if len(raw) < 2 else None, **style)
        if len(group) > 1:
            std = table.std(axis=1)
            axes.fill_between(x, mean - std, mean + std, alpha=0.15, color=style["color"], lw=0)


def _until(history: pd.DataFrame, until: int | None) -> pd.DataFrame:
    return history if until is None else history[history["round"] <= until]


class _Curve(NamedTuple):
    """By round; whether of the clients' own models, as there is no global one; clients that lack some round's value."""

    mean: pd.Series
    own: bool
    left_out: int


def _values(history: pd.DataFrame, metric: Metric) -> _Curve:
    splits, metrics = history["split"].to_numpy(), history["metric"].to_numpy()
    mine = history[(splits == metric.split) & (metrics == metric.metric)]
    own = mine.empty and metric.split == "holdout"
    if own:
        mine = history[(splits == "test") & (metrics == metric.metric)]
    finite = np.isfinite(mine["value"])
    # All rounds of a client, lest the mean change with its members; of the global model (-1), that round.
    lacking = mine.loc[~finite & (mine["client"] >= 0), "client"].unique()
    whole = mine if finite.all() else mine[finite & ~mine["client"].isin(lacking)]
    return _Curve(metric.factor * whole.groupby("round")["value"].mean(), own and not mine.empty, len(lacking))


def _passed(run: Run, x: str) -> pd.Series | None:
    """Samples or seconds so far, by round; None if the axis shows rounds."""
    return None if x == "round" else run.timings.set_index("round")[x].sort_index().cumsum()


def _expected(run: Run, passed: pd.Series | None) -> float:
    """What the axis has to hold at the end of a run that goes on as it began."""
    if passed is None:
        return run.rounds
    first = 0 if run.experiment.parent is None else run.experiment.parent.round
    return _round_up(passed.iloc[-1] / len(passed) * (run.rounds - first)) if len(passed) else 1.0


def _round_up(value: float) -> float:
    """To one of few numbers, so that an axis rarely moves while its end is still being estimated."""
    unit = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-9))


def _emptied(fig: Drawing) -> Drawing:
    """The figure without its curves; axes and ticks stay."""
    for axes in fig.axes:
        for artist in (*axes.lines, *axes.collections):
            artist.remove()
        axes.relim()
    return fig


def _legend(axes: Axes, above: bool) -> None:
    """A legend, or new texts in the one that is there: texts alone are soon drawn."""
    handles, labels = axes.get_legend_handles_labels()
    kept = axes.get_legend()
    if kept and _markers(handles) == _markers(kept.legend_handles):
        for text, label in zip(kept.get_texts(), labels, strict=True):
            text.set_text(label)
    else:
        # Values need room of their own, above: "best" would jump from corner to corner while a run trains.
        axes.legend(**({"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1} if above else {}))


def _markers(handles: Iterable[Any]) -> list[Any]:
    return [handle.get_marker() for handle in handles]


def _from_tick_to_tick(axes: Axes) -> None:
    """Round limits of the y axis: they seldom move while a run trains, so that frames can keep the axis."""
    axes.set_ymargin(0)
    axes.autoscale(axis="y")
    ticks = axes.yaxis.get_major_locator().tick_values(*axes.get_ylim())
    axes.set_ylim(ticks[0], ticks[-1])


def _seeds_together(runs: list[Run]) -> list[list[int]]:
    """Places of the runs, those together that differ in nothing but seeds."""
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        settings = run.experiment.to_dict()
        for seeded, names in ((settings, ("seed",)), (settings["data"], ("seed", "fingerprint"))):
            for name in names:
                del seeded[name]
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(place)
    return list(groups.values())


def _left_out(result: Personalization) -> int:
    return int(result.curve()["left_out"].max())


def _epochs(axes: Axes, result: Personalization) -> None:
    curve = result.curve()
    taken: list[str] = []
    groups = curve.groupby(["run", "round"], sort=False)
    single = curve["name"].nunique() == groups.ngroups
    for (_, round), mine in groups:
        name = mine["name"].iloc[0]
        label = name if single else f"{name}, seed {mine['seed'].iloc[0]}, round {round}"
        style = line_style(name, taken)
        mean, std = 100 * mine["mean"], 100 * mine["std"]
        axes.plot(mine["epoch"], mean, label=label, **style)
        axes.fill_between(
            mine["epoch"], mean - std, (mean + std).clip(upper=100), alpha=0.15, color=style["color"], lw=0
        )
        taken.append(name)
    clients = int(curve["clients"].max())
    tuned = result.about["tuning"]
    axes.set(xlabel="fine-tuning epoch", ylabel="accuracy on own test set (%)")
    axes.set_title(
        f"mean ± std over {clients} clients; tuned: {tuned.get('part', tuned.get('train'))}, lr {tuned['lr']:g}",
        fontsize=7,
    )
    axes.legend(loc="lower right")
