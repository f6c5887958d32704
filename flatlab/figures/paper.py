"""A `Chart` as a matplotlib figure, for PDF, PNG and SVG."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .chart import Chart, Plot, names_of
from .style import COLUMN, PAGE, Drawing, figure, paper_style, plain

_LEGENDS: dict[str, dict[str, Any]] = {
    "inside": {},
    # Values need room of their own, above: "best" would jump from corner to corner while a run trains.
    "above": {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1},
    "beside": {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)},
}


@paper_style()
def paper(chart: Chart, legend: Literal["inside", "above", "beside"] = "inside") -> Drawing:
    """The figure of a chart.

    Args:
        chart: what to draw.
        legend: "inside" the first plot; "above" each, with last values; or "beside" the last.
    """
    across, down = min(2, len(chart.plots)), -(-len(chart.plots) // 2)
    if legend == "beside":
        fig = figure(COLUMN * across + 1.5, 2.8 * down)
    else:
        fig = figure(PAGE, down * (2.4 + (0.14 * len(names_of(chart.plots)) if legend == "above" else 0)))
    for place, plot in enumerate(chart.plots, 1):
        axes = fig.add_subplot(down, across, place)
        draw_plot(axes, plot, last=legend == "above")
        if legend != "beside" and not plot.y.log:
            _from_tick_to_tick(axes)
    for axes in {"inside": fig.axes[:1], "above": fig.axes, "beside": fig.axes[-1:]}[legend]:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**_LEGENDS[legend])
    if chart.title:
        fig.axes[0].set_title(chart.title, fontsize=8)
    if legend == "beside":  # of a figure that stands alone
        fig.supxlabel(chart.bands, fontsize=6, color="0.4")
    return fig


def draw_plot(axes: Axes, plot: Plot, last: bool = False) -> None:
    """Draw one plot into axes.

    Args:
        axes: empty ones.
        plot: what to draw.
        last: put each curve's last value behind its name.
    """
    for one in plot.series:
        if one.role == "raw":
            axes.plot(one.x, one.y, alpha=0.25, lw=0.8, color=one.color)
            continue
        label = plain(one.name) + one.note + (f": {one.last}" if last and one.last else "")
        if one.role == "values":
            reach = None if one.low is None or one.high is None else [one.y - one.low, one.high - one.y]
            axes.errorbar(
                one.x, one.y, reach, label=label, color=one.color, ls=one.dash, marker="o", ms=3, lw=1, capsize=2
            )
            continue
        marker = "o" if len(one.x) < 3 else None
        axes.plot(one.x, one.y, label=label, marker=marker, color=one.color, linestyle=one.dash)
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, alpha=0.15, color=one.color, lw=0)
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


def _from_tick_to_tick(axes: Axes) -> None:
    """Round limits of the y axis: they seldom move while a run trains."""
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ymargin(0)
    axes.autoscale(axis="y")
    ticks = axes.yaxis.get_major_locator().tick_values(*axes.get_ylim())
    axes.set_ylim(ticks[0], ticks[-1])
