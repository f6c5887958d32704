"""Curves of runs while they train: any metrics against rounds, samples or seconds, smoothed, over seeds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import ipywidgets

from .. import figures
from ..pages.scripts import MISSING
from ..training import Run
from ..training.as_code import call, code_for, run_names
from ..training.finding import as_runs
from .chart import ChartView, StillChart, chart_view
from .clipboard import CopyCode
from .fields import wrapping
from .panel import Panel

HEIGHT = 270  # of the plots, in pixels
DEFAULTS: dict[str, Any] = {"metrics": ["accuracy", "loss"], "x": "round", "smooth": 0.0, "bands": True}


class Curves(Panel):
    """Accuracy, loss and more against rounds, samples or seconds.

    Args:
        runs: a run or several.

    Attributes:
        x, metrics, smooth, bands, until: what is drawn, and how; `until` at its right end follows the run.
        at: the round that is marked on the curves, if one is.
        chart: what draws it, in the browser, where curves can be hidden, zoomed and read off.
    """

    name = "Curves"
    live = not MISSING

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self._lock = threading.RLock()
        self._known = figures.Histories()
        self.at: int | None = None
        self.runs = runs
        self.x = ipywidgets.ToggleButtons(
            options=list(figures.XS), description="against", tooltips=list(figures.XS.values())
        )
        self.x.style.button_width, self.x.layout.width = "80px", "auto"
        self.metrics = ipywidgets.SelectMultiple(
            options=list(figures.METRICS),
            value=("accuracy", "loss"),
            rows=len(figures.METRICS),  # no list to be scrolled within what scrolls
            description="metrics",
            tooltip="What to draw, a panel each; hold Ctrl to choose several",
            layout=ipywidgets.Layout(width="240px"),
        )
        self.smooth = ipywidgets.FloatSlider(
            max=0.95,
            step=0.05,
            description="smoothing",
            tooltip="Weight of the past in an exponential moving average; raw values stay, faintly",
        )
        self.bands = ipywidgets.Checkbox(
            value=True,
            description="bands over seeds",
            tooltip="Runs that differ only in seeds become one line with a band of one standard deviation",
            indent=False,
        )
        self.until = ipywidgets.IntSlider(
            min=1, max=max(run.rounds for run in self.runs), description="until", tooltip="Show rounds up to this one"
        )
        self.until.value = self.until.max
        self.chart = chart_view(HEIGHT)
        if isinstance(self.chart, ChartView):
            # The browser smooths: at once, also while the kernel is busy.
            self._link = ipywidgets.jsdlink((self.smooth, "value"), (self.chart, "smooth"))
        self.copy_code = CopyCode(lambda: code_for(self.runs) + "\n" + self.code() + "\n", self.blame)
        for control in (self.x, self.metrics, self.smooth, self.bands, self.until):
            control.observe(lambda _: self.guarded(self.refresh), "value")
        sliders = ipywidgets.VBox([self.x, self.smooth, self.until, self.bands])
        self.fill(self.chart, wrapping(sliders, self.metrics), self.copy_code)  # what a person watches comes first
        self.refresh()

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Show other runs."""
        with self._lock:
            self.runs = as_runs(runs)
            follows = self.until.value == self.until.max
            self.until.max = max(run.rounds for run in self.runs)
            self.until.value = self.until.max if follows else min(self.until.value, self.until.max)
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs again: draw what is new."""
        with self._lock:
            self._redraw()

    def seek(self, round: int | None) -> None:
        """Mark another round."""
        if round != self.at:
            self.at = round
            self.refresh()

    def close(self) -> None:
        """Free all widgets of the panel."""
        if self.comm is not None and isinstance(self.chart, ChartView):
            self._link.close()
        super().close()

    def state(self) -> dict[str, Any]:
        """The options of the drawing."""
        return {
            "metrics": [name for name in figures.METRICS if name in self.metrics.value] or ["accuracy"],
            "x": self.x.value,
            "smooth": round(self.smooth.value, 2),
            "bands": self.bands.value,
            "final": True,
            "until": None if self.until.value == self.until.max else self.until.value,
            "at": self.at,
        }

    def figure(self) -> figures.Drawing:
        """The curves."""
        return figures.draw(self.runs, **self.state())

    def filmed(self) -> dict[str, Any]:
        """The curves, with a mark that moves."""
        return {"thing": self.runs, **{name: value for name, value in self.state().items() if name != "at"}}

    def code(self) -> str:
        """The line that draws what is shown; `run1` is the first run."""
        changed = {name: value for name, value in self.state().items() if DEFAULTS.get(name) != value}
        return call("fl.plot", run_names(len(self.runs)), **changed)

    def _redraw(self) -> None:
        options = {name: value for name, value in self.state().items() if name not in ("smooth", "final")}
        if isinstance(self.chart, StillChart):  # else the browser's doing: what comes from here would come late
            self.chart.smooth = self.smooth.value
        self.chart.show(figures.chart_runs(self.runs, known=self._known, **options))
