"""What a chart shows, said once: matplotlib draws it for paper (`paper`), the browser for the screen (`flatlab.lab`).

A `Chart` is numbers and words, no drawing: plots beside each other, each with series, axes, bands and marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..later import pd

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
Role = Literal["curve", "raw", "values"]


@dataclass(frozen=True, eq=False)
class Series:
    """A curve, with a band around it if `low` and `high` are there.

    Args:
        name: in the legend; series of one name in several plots are one entry there.
        color: "#rrggbb".
        x, y: the points [n]; x rises, y may be NaN.
        low, high: edges of the band [n].
        members: what y is the mean and the band the standard deviation of [members, n], as far as that is known.
        dash: as matplotlib writes it: "-", "--", ":", "-." or "none"; or of `paper.LONGER`.
        run: ids of the runs that it shows, separated by blanks.
        role: "curve"; "raw": what a smoothed curve was made of, drawn faintly and not named; or "values": each point is
            seen, with an error bar from `low` to `high`.
        note: said of it behind its name in this plot alone.
        forked: x where it left its parent's curve; None: it is no fork's.
        rounds: of the points [n], where x is something else; None: x is them, or there are none.
    """

    name: str
    color: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    members: Array | None = None
    dash: str = "-"
    run: str = ""
    role: Role = "curve"
    note: str = ""
    forked: float | None = None
    rounds: Array | None = None

    @classmethod
    def of(cls, name: str, color: str, x: Array, members: Array, **more: Any) -> Series:
        """The mean of `members` [members, n], with a band of one standard deviation if there are several."""
        return cls(name, color, x, members=members, **_mean_and_band(members), **more)

    @property
    def last(self) -> str:
        """The last value, before any smoothing, with its standard deviation; empty without points."""
        every = self.y[None] if self.members is None else self.members
        if not len(self.x):
            return ""
        return f"{every[:, -1].mean():.3g}" + (f" ± {every[:, -1].std(ddof=1):.2g}" if len(every) > 1 else "")

    def smoothed(self, weight: float) -> Series:
        """Its exponential moving average; weights are normalised, so that the first values are not drawn to zero."""
        every = self.y[None] if self.members is None else self.members
        smooth = pd.DataFrame(every.T).ewm(alpha=1 - weight, ignore_na=True).mean().to_numpy().T
        return replace(self, **_mean_and_band(np.where(np.isnan(every), np.nan, smooth)))  # gaps stay

    def columns(self) -> list[Array]:
        """Its numbers, in an order that `about` tells: x, then members, or y and the band's edges; then rounds."""
        shown = [self.y, *(edge for edge in (self.low, self.high) if edge is not None)]
        rounds = [] if self.rounds is None else [self.rounds]
        return [self.x, *(shown if self.members is None else self.members), *rounds]

    def at(self, round: int) -> tuple[float, float] | None:
        """Its point after a round, or the last one before it; None if there is none."""
        count = int(np.searchsorted(self.x if self.rounds is None else self.rounds, round, side="right"))
        return (float(self.x[count - 1]), float(self.y[count - 1])) if count else None

    def about(self) -> dict[str, Any]:
        """Everything else, as JSON takes it."""
        members = 0 if self.members is None else len(self.members)
        told: dict[str, Any] = {name: getattr(self, name) for name in ("name", "color", "dash", "run", "note")}
        told |= {"role": self.role} if self.role == "values" else {}
        told |= {} if self.forked is None else {"forked": self.forked}
        told |= {} if self.rounds is None else {"rounds": True}
        return told | {"columns": len(self.columns()), "members": members}


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Args:
        label: what it shows.
        unit: of its numbers.
        limits: where it begins and ends, whatever the data; downwards if the first is larger.
        log: whether it is logarithmic at first.
        whole: it has no fractions: rounds, epochs, clients.
        names: what stands at 0, 1, ..., in place of numbers.
    """

    label: str
    unit: str = ""
    limits: tuple[float, float] | None = None
    log: bool = False
    whole: bool = False
    names: tuple[str, ...] = ()

    @property
    def within(self) -> tuple[float, float] | None:
        """What its numbers, and so the bands around them, cannot leave."""
        return (0.0, 100.0) if self.unit == "%" else None

    def __str__(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Mark:
    """A place on the x axis with a name, in the colour of what it belongs to."""

    x: float
    text: str
    color: str


@dataclass(frozen=True, eq=False)
class Items:
    """Boxes or dots, each of them a client's: what is one client's lights up together, in all charts of a population.

    Args:
        client, x, y: whose each is, and its centre [n].
        value: what the pointer is told [n].
        color: its place among `colors` [n].
        colors: "#rrggbb".
        wide, high: of the boxes [n]; None: dots.
        named: what the colours mean; none if they go from little to much.
        population: tells clients of one data set from those of another.
        round: of which round each is [n]: those of one are seen at a time, a row a client; None: all are.
    """

    client: Numbers
    x: Numbers
    y: Numbers
    value: Numbers
    color: Numbers
    colors: tuple[str, ...]
    wide: Numbers | None = None
    high: Numbers | None = None
    named: tuple[str, ...] = ()
    population: str = ""
    round: Numbers | None = None

    def columns(self) -> list[Array]:
        """Its numbers: client, x, y, value, color, of boxes width and height, and round."""
        columns = (self.client, self.x, self.y, self.value, self.color, self.wide, self.high, self.round)
        return [np.asarray(column, np.float64) for column in columns if column is not None]

    def at(self, round: int | None) -> Items:
        """Those of a round alone."""
        if self.round is None:
            return self
        here = self.round == round
        kept = {name: value[here] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **kept | {"round": None})

    def about(self) -> dict[str, Any]:
        """Everything else, as JSON takes it."""
        told = {"colors": self.colors, "named": self.named, "population": self.population}
        return told | {"columns": len(self.columns())} | ({} if self.round is None else {"rounds": True})


@dataclass(frozen=True, eq=False)
class Plot:
    """One pair of axes.

    Args:
        series: what is drawn, in the order of the legend.
        x, y: the axes.
        marks: places on the x axis.
        items: drawn in place of series.
        what: the value of an item, in words.
        share: of the width, where items stand beside each other.
        diagonal: a line where x is y.
    """

    series: tuple[Series, ...]
    x: Axis
    y: Axis
    marks: tuple[Mark, ...] = ()
    items: Items | None = None
    what: str = ""
    share: float = 1.0
    diagonal: bool = False

    def columns(self) -> list[Array]:
        """Its numbers."""
        own = [column for series in self.series for column in series.columns()]
        return own + ([] if self.items is None else self.items.columns())

    def about(self) -> dict[str, Any]:
        """Everything but the numbers of the series."""
        told: dict[str, Any] = {
            "x": {"label": str(self.x), "limits": self.x.limits, "whole": self.x.whole},
            "y": {"label": str(self.y), "limits": self.y.limits, "within": self.y.within},
            "marks": [vars(mark) for mark in self.marks],
            "series": [series.about() for series in self.series],
        }
        if self.items is None:
            return told
        told["x"]["names"], told["y"]["names"] = self.x.names, self.y.names
        more = {"what": self.what, "share": self.share, "diagonal": self.diagonal}
        return told | more | {"items": self.items.about()}


@dataclass(frozen=True, eq=False)
class Chart:
    """Plots side by side, two in a row.

    Args:
        plots: from left to right, top to bottom.
        title: above them; "{round}" stands for the round that is looked at.
        bands: what the bands are; empty if there are none.
        at: the round that is looked at: marked on curves, whose items are shown; None: the latest, not marked.
        run: ids of the runs whose time line moves it, if its series do not say.
    """

    plots: tuple[Plot, ...]
    title: str = ""
    bands: str = ""
    at: int | None = None
    run: str = ""

    def about(self) -> dict[str, Any]:
        """Everything but the numbers of the series, and the round that is looked at."""
        told = {"title": self.title, "bands": self.bands, "plots": [plot.about() for plot in self.plots]}
        return told | ({"run": self.run} if self.run else {})

    @property
    def now(self) -> Chart:
        """What is seen of it at this round: other rounds' items are left out, and rows have their clients' names."""
        return replace(self, plots=tuple(_now(plot, self.at) for plot in self.plots), title=self.titled)

    @property
    def titled(self) -> str:
        """Its title, with the round."""
        return self.title.replace("{round}", str(self.at))

    def columns(self) -> list[Array]:
        """The numbers, plot by plot."""
        return [column for plot in self.plots for column in plot.columns()]

    @property
    def log(self) -> str:
        """The axes that are logarithmic at first: "", "x", "y" or "xy"."""
        return "".join(name for name in ("x", "y") if any(getattr(plot, name).log for plot in self.plots))

    def smoothed(self, weight: float) -> Chart:
        """Each curve as an exponential moving average, above what it was made of.

        Args:
            weight: of the past, from 0 (nothing changes) to below 1.
        """
        return self if weight == 0 else replace(self, plots=tuple(_smoothed(plot, weight) for plot in self.plots))


def _smoothed(plot: Plot, weight: float) -> Plot:
    both = ((replace(series, low=None, high=None, role="raw"), series.smoothed(weight)) for series in plot.series)
    return replace(plot, series=tuple(series for pair in both for series in pair))


def _now(plot: Plot, at: int | None) -> Plot:
    if plot.items is None or plot.items.round is None:
        return plot
    items = plot.items.at(at)
    rows = dict(zip(items.y.tolist(), items.client.tolist(), strict=True))
    names = tuple(str(int(rows[row])) for row in sorted(rows))
    across = plot.x if names else replace(plot.x, label="not scored", unit="")
    return replace(plot, items=items, x=across, y=replace(plot.y, names=names))


def _mean_and_band(members: Array) -> dict[str, Any]:
    mean = members.mean(axis=0)
    if len(members) < 2:
        return {"y": mean}
    std = members.std(axis=0, ddof=1)
    return {"y": mean, "low": mean - std, "high": mean + std}


def names_of(plots: Sequence[Plot]) -> list[str]:
    """The entries of the legend."""
    return list(dict.fromkeys(series.name for plot in plots for series in plot.series if series.role != "raw"))
