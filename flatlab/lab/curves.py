"""Curves of runs while they train: any metrics against rounds, samples or seconds, smoothed, over seeds, overlaid."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import ipywidgets

from .. import figures
from ..files import printable
from ..personalization.finetune import as_runs
from ..training import Run
from ..training.run_files import read_experiment
from ..training.run_names import experiment_labels
from ..training.store_scan import scan
from .chart import MISSING, ChartView, StillChart, chart_view
from .clipboard import CopyCode
from .code import call, code_for, run_names
from .panel import Panel

HEIGHT = 270  # of the plots, in pixels
LISTED = 2.0  # seconds between two looks into the store while a run grows
DEFAULTS: dict[str, Any] = {"metrics": ["accuracy", "loss"], "x": "round", "smooth": 0.0, "bands": True}


class Curves(Panel):
    """Accuracy, loss and more against rounds, samples or seconds.

    Args:
        runs: a run or several.

    Attributes:
        x, metrics, smooth, bands, until: what is drawn, and how; `until` at its right end follows the run.
        overlay: other runs of the same store, by their ids, to be drawn too.
        chart: what draws it, in the browser, where curves can be hidden, zoomed and read off.
    """

    name = "Curves"
    live = not MISSING

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self._lock = threading.RLock()
        self._known = figures.Histories()
        self._seen: Any = None  # how far the runs had come when the store was last listed, and when that was
        self._opened: dict[str, Run] = {}
        self.runs = runs
        self.x = ipywidgets.ToggleButtons(
            options=list(figures.XS), description="against", tooltips=list(figures.XS.values())
        )
        self.x.style.button_width, self.x.layout.width = "80px", "auto"
        self.metrics = ipywidgets.SelectMultiple(
            options=list(figures.METRICS),
            value=("accuracy", "loss"),
            rows=5,
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
        self.overlay = ipywidgets.SelectMultiple(
            rows=5,
            description="overlay",
            tooltip="Other runs of this store, drawn too; hold Ctrl to choose several",
            layout=ipywidgets.Layout(width="360px"),
        )
        self.chart = chart_view(HEIGHT)
        if isinstance(self.chart, ChartView):
            # The browser smooths: at once, also while the kernel is busy.
            self._link = ipywidgets.jsdlink((self.smooth, "value"), (self.chart, "smooth"))
        self.copy_code = CopyCode(lambda: code_for(self.shown) + "\n" + self.code() + "\n", self.blame)
        for control in (self.x, self.metrics, self.smooth, self.bands, self.until):
            control.observe(lambda _: self._safely(), "value")
        self.overlay.observe(lambda _: self._open(), "value")
        sliders = ipywidgets.VBox([self.x, self.smooth, self.until, self.bands])
        wrap = ipywidgets.Layout(flex_flow="row wrap", width="100%")
        controls = ipywidgets.HBox([sliders, self.metrics, self.overlay], layout=wrap)
        self.fill(self.chart, controls, self.copy_code)  # what a person watches comes first
        self.refresh()

    @property
    def shown(self) -> list[Run]:
        """The runs, and those laid over them."""
        own = {run.id for run in self.runs}
        laid = [self._opened[id] for id in self.overlay.value if id in self._opened and id not in own]
        return self.runs + laid

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Show other runs."""
        with self._lock:
            self.runs = as_runs(runs)
            follows = self.until.value == self.until.max
            self.until.max = max(run.rounds for run in self.runs)
            self.until.value = self.until.max if follows else min(self.until.value, self.until.max)
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs again: draw what is new, list what else the store holds."""
        with self._lock:
            rounds, now = [(run.id, run.round) for run in self.runs], time.monotonic()
            if self._seen is None or rounds == self._seen[0] or now - self._seen[1] > LISTED:
                self._list_store()
                self._seen = rounds, now
            self._redraw()

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
        }

    def figure(self) -> figures.Drawing:
        """The curves."""
        return figures.draw(self.shown, **self.state())

    def code(self) -> str:
        """The line that draws what is shown; `run1` is the first run, those laid over come last."""
        changed = {name: value for name, value in self.state().items() if DEFAULTS.get(name) != value}
        return call("fl.plot", run_names(len(self.shown)), **changed)

    def _safely(self) -> None:
        # An error in a callback is shown nowhere that a person looks.
        try:
            with self._lock:
                self._redraw()
        except Exception as error:
            self.blame(error)

    def _redraw(self) -> None:
        options = {name: value for name, value in self.state().items() if name not in ("smooth", "final")}
        if isinstance(self.chart, StillChart):  # else the browser's doing: what comes from here would come late
            self.chart.smooth = self.smooth.value
        self.chart.show(figures.chart_runs(self.shown, known=self._known, **options))

    def _list_store(self) -> None:
        own = {run.id for run in self.runs}
        held = scan(self.runs[0].directory.parent)
        experiments = {id: one.experiment for id, one in held.look().items()}
        names = zip(experiments, experiment_labels(list(experiments.values())), strict=True)
        options = [(printable(f"{label} · {id}"), id) for id, label in names if id not in own]
        options += [(f"⚠ {printable(name)}: cannot be read here", name) for name in held.problems]
        if options != list(self.overlay.options):
            chosen = tuple(id for _, id in options if id in self.overlay.value)
            with self.overlay.hold_trait_notifications():
                self.overlay.options = options
                self.overlay.value = chosen

    def _open(self) -> None:
        store, data = self.runs[0].directory.parent, {run.data.spec.to_json(): run.data for run in self.runs}
        problems = scan(store).problems
        for id in self.overlay.value:
            if id in problems:
                self.say(f"{printable(id)}: {problems[id]}")
        missing = [id for id in self.overlay.value if id not in self._opened and id not in problems]
        if not missing:
            self._safely()
            return

        def work(job: Any) -> list[Run]:
            found = []
            for done, id in enumerate(missing, 1):
                found.append(Run.open(store / id, data.get(read_experiment(store / id).data.to_json())))
                if not job.report(done, len(missing)):
                    break
            return found

        def then(found: list[Run]) -> None:
            self._opened |= {run.id: run for run in found}
            self._safely()

        self.compute(work, then, "opening runs")
