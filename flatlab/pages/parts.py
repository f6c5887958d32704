"""What a page shows: charts, landscapes, clients that pull, pictures, each as JSON for the browser and as a figure."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import figures
from ..figures.chart import Array, Chart, Plot, Series
from ..figures.landscape_panels import clients_at, landscape_view
from ..geometry import Landscape, Pulls

CHART_LOOK = ("log", "smooth", "hidden", "height")
LANDSCAPE_LOOK = ("mode", "log", "shared", "value", "shown", "camera", "runs")
FIRST_LOOK: dict[str, Any] = {
    "mode": "3d",
    "log": False,
    "shared": True,
    "value": "loss",
    "shown": ["models", "trajectory", "clients", "markers"],
    "camera": [-60.0, 35.0],
}


@dataclass(frozen=True)
class ChartPart:
    """A chart, with the look that the view had: `CHART_LOOK`."""

    title: str
    chart: Chart
    look: dict[str, Any] = field(default_factory=dict)

    def told(self, every: int = 1) -> dict[str, Any]:
        """As JSON; of curves each `every`-th point and the last.

        `columns` are those of `Chart.columns`: null is NaN, text what JSON has no number for, and a whole number in
        place of a column the place of an earlier one that is the same.
        """
        chart = replace(self.chart, plots=tuple(_thinned(plot, every) for plot in self.chart.plots))
        look = {"log": chart.log, **self.look}
        return {
            "kind": "chart",
            "title": self.title,
            "about": chart.about(),
            "columns": _columns(chart.columns()),
            "look": look,
        }

    def figure(self) -> figures.Drawing:
        """As matplotlib draws it."""
        return figures.paper(self.chart.smoothed(self.look.get("smooth", 0.0)), last=True)


@dataclass(frozen=True)
class LandscapePart:
    """The planes of a landscape, with the look that the view had: `LANDSCAPE_LOOK`."""

    title: str
    result: Landscape
    look: dict[str, Any] = field(default_factory=dict)

    def told(self, every: int = 1) -> dict[str, Any]:
        """As JSON; `grids` are float32 in base64, panel by panel: loss [ny, nx], then accuracy [ny, nx]."""
        panels, packed, caption = landscape_view(self.result)
        return {
            "kind": "landscape",
            "title": self.title,
            "panels": panels,
            "grids": base64.b64encode(packed).decode(),
            "caption": caption,
            "look": FIRST_LOOK | self.look,
        }

    def figure(self) -> figures.Drawing:
        """As matplotlib draws it: contours, which show marks, unless a person looked at surfaces."""
        look = FIRST_LOOK | self.look
        options: dict[str, Any] = {"view": "surface"} if self.look.get("mode") == "3d" else {}
        return figures.draw(clients_at(self.result, None), value=look["value"], log=look["log"], **options)


@dataclass(frozen=True)
class PullsPart:
    """Clients that pull, with a play button of their own; runs side by side move together."""

    title: str
    result: Pulls

    def told(self, every: int = 1) -> dict[str, Any]:
        """As JSON: `runs`, `names` and `caption` as `figures.pull_view` gives them."""
        names, caption, runs = figures.pull_view(self.result)
        return {"kind": "pulls", "title": self.title, "runs": runs, "names": names, "caption": caption}

    def figure(self) -> figures.Drawing:
        """The rounds as small panels."""
        return figures.draw(self.result)


@dataclass(frozen=True)
class PicturePart:
    """A result that is drawn as a picture alone."""

    title: str
    drawing: figures.Drawing

    def told(self, every: int = 1) -> dict[str, Any]:
        """As JSON: nothing that a script draws."""
        return {"kind": "picture", "title": self.title}

    def figure(self) -> figures.Drawing:
        """The picture."""
        return self.drawing


Part = ChartPart | LandscapePart | PullsPart | PicturePart


def _thinned(plot: Plot, every: int) -> Plot:
    """A plot with each `every`-th point of its curves, and their last."""
    return plot if every == 1 else replace(plot, series=tuple(_sparse(series, every) for series in plot.series))


def _sparse(series: Series, every: int) -> Series:
    last = len(series.x) - 1
    kept = [place for place in range(last + 1) if place % every == 0 or place == last]
    columns = {name: getattr(series, name) for name in ("x", "y", "low", "high", "rounds")}
    less = {name: column[kept] for name, column in columns.items() if column is not None}
    members = None if series.members is None else series.members[:, kept]
    return replace(series, members=members, **less)


def _columns(columns: list[Array]) -> list[Any]:
    written: list[Any] = []
    known: dict[bytes, int] = {}
    for place, column in enumerate(columns):
        first = known.setdefault(np.asarray(column, np.float64).tobytes(), place)
        written.append(first if first < place and len(column) > 1 else [_number(value) for value in column.tolist()])
    return written


def _number(value: float) -> float | int | str | None:
    """As JSON has it: round numbers without a fraction, which takes less room."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
