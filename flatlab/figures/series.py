"""Curves of tidy frames: a series a method, with a band over seeds, clients or whatever is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_hex

from ..later import pd
from .chart import Axis, Chart, Plot, Series
from .paper import paper
from .style import PAGE, Drawing, figure, line_style, line_styles, paper_style, whole

WHOLE = ("round", "tuning epoch", "fine-tuning epoch")  # axes without fractions


def draw_series(frame: pd.DataFrame, x: str, y: str, title: str = "", caption: str = "") -> Drawing:
    """What `chart_series` tells, on paper."""
    return paper(chart_series(frame, x, y, title, caption))


def chart_series(frame: pd.DataFrame, x: str, y: str, title: str = "", caption: str = "") -> Chart:
    """The mean of each series against x, with a band where an interval is known.

    Args:
        frame: columns series, x, mean, low and high (NaN: no band), in the order of the legend.
        x: label of the axis.
        y: label of the axis.
        title: above it.
        caption: what the band is, and what is missing.
    """
    parts = dict(list(frame.groupby("series", sort=False)))
    series = []
    for (name, part), style in zip(parts.items(), line_styles(parts), strict=True):
        at, mean, low, high = part.sort_values("x")[["x", "mean", "low", "high"]].to_numpy(np.float64).T
        series.append(Series(str(name), to_hex(style["color"]), at, mean, low, high, dash=style["linestyle"]))
    return Chart((Plot(tuple(series), _axis(x), _axis(y)),), title, caption)


def _axis(label: str) -> Axis:
    """An axis by its label; rounds and epochs have no fractions."""
    name, _, unit = label.partition(" (%)")
    return Axis(name, "%", whole=False) if " (%)" in label and not unit else Axis(label, whole=label in WHOLE)


@paper_style()
def draw_bundles(frame: pd.DataFrame, x: str, y: str, title: str = "", caption: str = "") -> Drawing:
    """A panel a series, on one scale: a thin line for each client and their mean.

    Args:
        frame: columns series, client, x, value.
        x: label of the axis.
        y: label of the axis.
        title: above it.
        caption: below it.
    """
    names: Sequence[str] = list(dict.fromkeys(frame["series"]))
    fig = figure(PAGE, 2.6)
    panels = fig.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=False):
        rows, colour = frame[frame["series"] == name], line_style(name, [])["color"]
        for _, own in rows.groupby("client"):
            axes.plot(own["x"], own["value"], color=colour, alpha=0.15, lw=0.5)
        mean = rows.groupby("x")["value"].mean()
        axes.plot(mean.index, mean, color="k", lw=1)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel(x)
        if x in WHOLE:
            whole(axes.xaxis)
    panels[0].set_ylabel(y)
    fig.caption = caption
    return fig.finish(title=title)


@paper_style()
def draw_demo(tuned: pd.DataFrame, along: pd.DataFrame, left: str, right: str) -> Drawing:
    """Both papers in one figure: accuracy against tuning epochs, and the loss along the Hessian's first eigenvector.

    Args:
        tuned: columns series, x, mean, low, high, in percent.
        along: columns series, seed, x, value: a line a seed.
        left: title of that panel.
        right: title of that panel.
    """
    fig = figure(PAGE, 2.6)
    accuracy, loss = fig.subplots(1, 2)
    curves, lines = (dict(list(frame.groupby("series", sort=False))) for frame in (tuned, along))
    for (name, rows), style in zip(curves.items(), line_styles(curves), strict=True):
        accuracy.plot(rows["x"], rows["mean"], label=str(name), marker="o", ms=3, **style)
        low, high = rows["low"].clip(lower=0), rows["high"].clip(upper=100)
        accuracy.fill_between(rows["x"], low, high, color=style["color"], alpha=0.15, lw=0)
    for (name, rows), style in zip(lines.items(), line_styles(lines), strict=True):
        for number, (_, line) in enumerate(rows.groupby("seed")):
            label = str(name) if number == 0 else None
            loss.plot(line["x"], line["value"], color=style["color"], lw=1, label=label)
    accuracy.set(xlabel="tuning epoch", ylabel="accuracy on own test set (%)")
    whole(accuracy.xaxis)
    loss.set(xlabel="distance along the first Hessian eigenvector", ylabel="holdout loss", ylim=(0, None))
    for axes, title, place in ((accuracy, left, "lower right"), (loss, right, "upper center")):
        axes.set_title(title, fontsize=8)
        axes.legend(loc=place)
    return fig
