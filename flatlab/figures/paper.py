"""A `Chart` as a matplotlib figure, for PDF, PNG and SVG."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .chart import Chart, Items, Plot, Series, names_of
from .colors import NAMED
from .style import COLUMN, PAGE, Drawing, figure, paper_style, plain, whole

VALUES_IN_A_ROW = 2
# Dashes that matplotlib has no name for: lengths of line and gap, in widths of the line.
LONGER = {
    "-..": (6.0, 1.6, 1.0, 1.6, 1.0, 1.6), "--.": (4.0, 1.6, 4.0, 1.6, 1.0, 1.6), "_": (10.0, 2.0),
    "_.": (10.0, 2.0, 1.0, 2.0),
}  # fmt: skip


@paper_style()
def paper(chart: Chart, last: bool = False) -> Drawing:
    """The figure of a chart, with one legend above all plots.

    Args:
        chart: what to draw.
        last: put the curves' last values above each plot.
    """
    chart = chart.now
    across, down = min(2, len(chart.plots)), -(-len(chart.plots) // 2)
    values = -(-len(names_of(chart.plots)) // VALUES_IN_A_ROW) if last else 0
    fig = figure(PAGE if across > 1 else COLUMN + 1, down * (2.4 + 0.14 * values))
    for place, plot in enumerate(chart.plots, 1):
        axes = fig.add_subplot(down, across, place)
        draw_plot(axes, plot, chart.at)
        if plot.items is None and not plot.y.log:
            _from_tick_to_tick(axes, plot)
    fig.name_above()
    if last:
        for axes, plot in zip(fig.axes, chart.plots, strict=True):
            _last_values(axes, plot)
    if chart.title:
        fig.finish(title=chart.title)
    fig.caption = chart.bands
    return fig


def draw_plot(axes: Axes, plot: Plot, at: int | None = None) -> None:
    """Draw one plot into empty axes, with a round marked on its curves."""
    for curve in plot.series:
        if curve.role == "raw":
            axes.plot(curve.x, curve.y, alpha=0.25, lw=0.8, color=curve.color)
            continue
        label = plain(curve.name) + curve.note
        if curve.role == "values":
            reach = None if curve.low is None or curve.high is None else [curve.y - curve.low, curve.high - curve.y]
            axes.errorbar(
                curve.x,
                curve.y,
                reach,
                label=label,
                color=curve.color,
                ls=_line(curve),
                marker="o",
                ms=3,
                lw=1,
                capsize=2,
            )
            continue
        marker = "o" if len(curve.x) < 3 else None
        axes.plot(curve.x, curve.y, label=label, marker=marker, color=curve.color, linestyle=_line(curve))
        if curve.low is not None and curve.high is not None:
            edges = (
                (curve.low, curve.high) if plot.y.within is None else np.clip((curve.low, curve.high), *plot.y.within)
            )
            axes.fill_between(curve.x, *edges, alpha=0.15, color=curve.color, lw=0)
        for x, shape in _marked(curve, at):
            fill = "white" if shape == "o" else curve.color
            axes.plot(x, np.interp(x, curve.x, curve.y), marker=shape, color=curve.color, ms=5, mfc=fill)
    if plot.items is not None:
        _items(axes, plot, plot.items)
    if at is not None and plot.series and plot.x.label == "round":
        axes.axvline(at, color="0.4", lw=0.7)
    for mark in plot.marks:
        axes.axvline(mark.x, color=mark.color, lw=0.6, ls=":")
        axes.annotate(mark.text, (mark.x, 0), xycoords=("data", "axes fraction"), xytext=(2, 2),
                      textcoords="offset points", fontsize=6, color=mark.color)  # fmt: skip
    axes.set(xlabel=str(plot.x), ylabel=str(plot.y))
    if plot.x.limits is not None:
        axes.set_xlim(*plot.x.limits)
    for axis, scale in ((plot.x, axes.set_xscale), (plot.y, axes.set_yscale)):
        if axis.log:
            scale("log")
    if plot.x.whole:
        whole(axes.xaxis)


def _line(series: Series) -> Any:
    """Its dashes as matplotlib takes them."""
    return (0, LONGER[series.dash]) if series.dash in LONGER else series.dash


def _marked(series: Series, at: int | None) -> list[tuple[float, str]]:
    """Where a curve left its parent's, and where it is at the round that is looked at; with the shape of the mark."""
    marks = [] if series.forked is None or not len(series.x) else [(series.forked, "o")]
    place = None if at is None else series.at(at)
    return marks + ([] if place is None else [(place[0], "D")])


def _last_values(axes: Axes, plot: Plot) -> None:
    """Above a plot: not in a corner of it, which would change while a run trains."""
    shown = [curve for curve in plot.series if curve.role != "raw"]
    handles = [
        Line2D([], [], color=curve.color, marker="o" if curve.role == "values" else None, ms=3) for curve in shown
    ]
    for handle, curve in zip(handles, shown, strict=True):
        handle.set(linestyle=_line(curve))
    legend = axes.legend(
        handles, [curve.last for curve in shown], loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1,
        ncols=VALUES_IN_A_ROW, columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip
    legend.set_in_layout(True)


def _items(axes: Axes, plot: Plot, items: Items) -> None:
    colors = [items.colors[int(place)] for place in items.color]
    if items.wide is None or items.high is None:
        axes.scatter(items.x, items.y, c=colors, s=14)
    else:
        corners = zip(items.x - items.wide / 2, items.y - items.high / 2, items.wide, items.high, strict=True)
        boxes = [Rectangle((x, y), wide, high) for x, y, wide, high in corners]
        axes.add_collection(PatchCollection(boxes, facecolors=colors, linewidths=0))
        axes.autoscale_view()
    for name, color in zip(items.named if len(items.named) <= NAMED else (), items.colors, strict=False):
        axes.plot([], [], "s", color=color, label=plain(name))
    if plot.diagonal:
        axes.axline((0, 0), slope=1, color="0.6", lw=0.6)
    if plot.y.limits is not None:
        axes.set_ylim(*plot.y.limits)
    for axis, ticks in ((plot.x, axes.set_xticks), (plot.y, axes.set_yticks)):
        if axis.names:
            every = -(-len(axis.names) // 20)
            ticks(range(0, len(axis.names), every), [plain(name) for name in axis.names[::every]])


def _from_tick_to_tick(axes: Axes, plot: Plot) -> None:
    """Round limits of the y axis: they seldom move while a run trains."""
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ymargin(0)
    axes.autoscale(axis="y")
    ticks = axes.yaxis.get_major_locator().tick_values(*axes.get_ylim())
    low, high = plot.y.within or (-np.inf, np.inf)
    axes.set_ylim(max(ticks[0], low), min(ticks[-1], high))
