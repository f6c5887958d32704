"""Curves of personalization: accuracy against fine-tuning epochs, and what comes of it run by run."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from ..arguments import checked
from ..later import pd
from ..personalization import Averages, Comparison, Headless, Personalization
from ..personalization.averages import MEASURED
from ..results import either, spread
from .gains import by_label, draw_gains, how_chosen, how_tuned, mean_curves, note_clients, over_what
from .style import COLUMN, Drawing, figure, line_styles, plain, rows, whole

BANDS = 2  # at most: more would cover each other
BESIDE = 0.3  # of an epoch: how wide the bars of all curves stand together
MARKS = dict(zip(MEASURED, "|s^vXoD", strict=True))
# Columns of a comparison that are no settings.
KNOWN = {
    "method", "seed", "scored", "round", "clients", "left_out", "run", "mean", "half", "low", "high", "n", "seeds",
    "of", *MEASURED,
} | {f"{name}{end}" for name in ("initial", "personal", "personalized") for end in ("", " std", " worst")} | {
    f"{what} to level" for what in ("rounds", "samples", "megabytes")
}  # fmt: skip


@checked
def draw_personalization(
    result: Personalization, view: Literal["curves", "gains", "histogram", "scatter", "accuracies"] = "curves"
) -> Drawing:
    """Mean accuracy over clients after each epoch; runs that differ in seeds only are one curve, their mean.

    The band is one standard deviation, over the seeds where there are several, else over the clients; more curves than
    two have bars beside each other, as bands would cover one another.

    Args:
        result: what `personalize` measured.
        view: "curves"; or of `draw_gains` "gains", "histogram", "scatter" or "accuracies".
    """
    if view != "curves":
        return draw_gains(result, view)
    fig = figure(COLUMN + 1, 2.4)
    axes = fig.subplots()
    curves = mean_curves(result)
    bands = len(curves) <= BANDS
    for place, ((label, curve), style) in enumerate(zip(curves.items(), line_styles(curves), strict=True)):
        axes.plot(curve.epochs, curve.mean, label=plain(label), **style)
        if bands:
            axes.fill_between(curve.epochs, *curve.band, alpha=0.15, color=style["color"], lw=0)
        else:
            beside = curve.epochs + BESIDE * (place - (len(curves) - 1) / 2) / len(curves)
            axes.vlines(beside, *curve.band, color=style["color"], lw=0.8)
    axes.set(xlabel="fine-tuning epoch", ylabel="mean accuracy on own test sets (%)")
    whole(axes.xaxis)
    fig.name_above()
    fig.caption = (
        f"{'Band' if bands else 'Bars'}: ± one standard deviation over {over_what(curves)}. {how_tuned(result)}"
    )
    note_clients(fig, result.about.get("lone", {}), int(result.curve()["left_out"].max()))
    return fig


def draw_table(result: Comparison) -> Drawing:
    """Holdout, initial, personal and personalized accuracy, a row for all seeds of a method and its settings.

    Bars: one standard deviation over the seeds where there are several, else over the clients.
    """
    frame = result.frame
    labels = _methods(frame)
    told = frame["run"].map(lambda run: result.about.get("labels", {}).get(run, ""))  # also of what is no setting
    labels = labels.where(told.groupby(labels).transform("nunique") == 1, told)
    groups = {label: frame.loc[rows] for label, rows in frame.groupby(labels, sort=False).groups.items()}
    fig, axes = rows([str(label) for label in groups], height=0.26)
    for shift, name, marker in ((-0.18, "initial", "o"), (0, "personal", "s"), (0.18, "personalized", "D")):
        if name not in frame or frame[name].isna().all():
            continue
        means = np.array([group[name].mean() for group in groups.values()])
        spreads = np.array([
            group[name].std() if len(group) > 1 else group[f"{name} std"].iloc[0] for group in groups.values()
        ])  # fmt: skip
        _bars_within(axes, np.arange(len(groups)) + shift, 100 * means, 100 * spreads, name, marker)
    holdout = [100 * group["holdout"].mean() for group in groups.values()]
    axes.plot(holdout, range(len(groups)), "k|", markersize=11, label="holdout")
    axes.set_xlabel("accuracy (%)")
    fig.name_above()
    over = either(
        f"{len(group)} seeds" if len(group) > 1 else f"{int(group['clients'].max())} clients"
        for group in groups.values()
    )
    fig.caption = f"Bars: ± one standard deviation over {over}. Holdout: global test set; others: own test sets."
    fig.caption += how_chosen(result.about)
    note_clients(fig, result.about.get("lone", {}), int(frame.get("left_out", pd.Series([0])).max()))
    return fig


def draw_averages(result: Averages) -> Drawing:
    """Each accuracy with its interval over seeds, a row for a method and its settings."""
    frame = result.frame
    labels = _methods(frame)
    names = list(dict.fromkeys(labels))
    kinds = [str(name) for name in dict.fromkeys(frame["of"]) if frame.loc[frame["of"] == name, "mean"].notna().any()]
    fig, axes = rows(names, height=max(0.26, 0.07 * len(kinds)))
    for number, kind in enumerate(kinds):
        rows_of = frame[frame["of"] == kind]
        shift = min(0.18, 0.8 / len(kinds)) * (number - (len(kinds) - 1) / 2)
        places = np.array([names.index(label) for label in labels[rows_of.index]]) + shift
        _bars_within(axes, places, 100 * rows_of["mean"], 100 * rows_of["half"], kind, MARKS[kind])
    axes.set_xlabel("accuracy (%)")
    fig.name_above()
    bars = f"Bars: {result.about['interval']}, over up to {int(frame['seeds'].max())} seeds."
    fig.caption = bars + how_chosen(result.about)
    return fig


def draw_headless(result: Headless) -> Drawing:
    """Template accuracy of every client, a row for all seeds of a method, with the mean."""
    groups = by_label(result.frame)
    fig, axes = rows(list(groups))
    left_out = 0
    for place, (clients, style) in enumerate(zip(groups.values(), line_styles(groups), strict=True)):
        colour = style["color"]
        axes.plot(100 * clients["accuracy"], [place] * len(clients), "o", color=colour, alpha=0.3, markersize=3)
        over = spread(clients["accuracy"])
        axes.plot([100 * over.mean] * 2, [place - 0.32, place + 0.32], color=colour)
        left_out = max(left_out, over.left_out)
    axes.set_xlabel("headless accuracy of a client (%)")
    fig.caption = "A dot for each client and seed; line: their mean."
    note_clients(fig, result.about.get("lone", {}), left_out)
    return fig


def _bars_within(axes: Axes, places: Any, means: Any, halves: Any, name: str, marker: str) -> None:
    """Means with bars that end where percents do."""
    means, halves = np.asarray(means, dtype=float), np.nan_to_num(np.asarray(halves, dtype=float))
    low, high = np.clip(means - halves, 0, 100), np.clip(means + halves, 0, 100)
    ends = np.maximum([means - low, high - means], 0)
    colour = {"holdout": "#222222", "initial": "#6a51d8", "personal": "#8a5a2b"}.get(name, "#cc3f8e")
    axes.errorbar(means, places, xerr=ends, fmt=marker, markersize=4, capsize=2, lw=1, label=name, color=colour)


def _methods(frame: pd.DataFrame) -> pd.Series:
    """A label for each row of a comparison: the method, and the settings but its seeds in which runs differ."""
    at = [place for place, name in enumerate(frame.columns) if name not in KNOWN and not str(name).endswith("seed")]
    within = frame.groupby("method")  # what the method says itself is left out
    settings = [str(name) for name in frame.columns[at] if (within[name].nunique(dropna=False) > 1).any()]
    parts = {name for name in settings if any(name.startswith(f"{other}.") for other in settings)}  # "no" is said once

    def say(name: str, value: Any) -> list[str]:
        short = name.rpartition(".")[2].replace("_", " ")
        if pd.isna(value):
            return [] if name in parts else [f"no {short}"]
        if isinstance(value, str) and value.endswith(")") and any(part.startswith(f"{name}.") for part in parts):
            return []  # a group without a kind: what it holds is said
        shown = f"{value:g}" if isinstance(value, float) else f"{value}"
        return [shown if isinstance(value, str) else f"{short} {shown}"]

    said = [
        [word for name, value in zip(settings, values, strict=True) for word in say(name, value)]
        for values in frame[settings].to_numpy(dtype=object)  # also of no columns has a row for each
    ]
    rows = [", ".join([method, *more]) for method, more in zip(frame["method"], said, strict=True)]
    labels = pd.Series(rows, index=frame.index, dtype=object)
    if "round" in frame and (frame["round"].groupby(labels).nunique() > 1).any():
        labels += ", round " + frame["round"].astype(str)
    return labels
