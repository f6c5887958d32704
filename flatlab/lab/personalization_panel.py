"""What fine-tuning gives the clients: curves, gains, and whether flat minima gain more; settings are controls."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import ipywidgets

import flatlab as fl

from .. import figures
from .. import personalization as measures
from ..figures.html_tables import html_table
from ..geometry import FlatnessVsGain
from ..geometry.kept_results import remember
from ..jobs import Job
from ..personalization import Tuning
from ..training import Run, labels
from ..training.as_code import call, run_names
from .cards import deal
from .chart import chart_view
from .controls import Controls
from .fields import wrapping
from .measured import Measured
from .rounds import offer

VIEWS = {"curves": "curves", "histogram": "histogram", "scatter": "scatter", "flatness": "flatness vs gain"}
Key = tuple[Any, ...]


class Personalization(Measured):
    """Fine-tuning of runs' models for every client. Nothing is computed before it is asked for.

    Args:
        runs: a run or several.

    Attributes:
        tuning: the controls of the settings of `personalize`.
        tune_button: fine-tunes with these settings, as `measure` does; settings measured before are shown at once.
        view: curves, histogram or scatter of gains, or sharpness against gain (of `of`, one run).
        chart: what draws it.
        table: initial and personalized accuracy, mean ± standard deviation over clients.
    """

    name = "Personalization"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        super().__init__(runs)
        self._lock = threading.RLock()
        self._flat: dict[Key, FlatnessVsGain] = {}
        self._drawn: Key | None = None
        self.tuning = Controls(Tuning, first={Tuning: ("epochs", "part", "lr", "momentum")}, across=True)
        told = "Fine-tune every client's copy with these settings, in the background"
        self.tune_button = self.button("Fine-tune", "sliders", told, self.measure, "primary")
        self.view = ipywidgets.ToggleButtons(
            options=[(label, name) for name, label in VIEWS.items()],
            tooltips=["accuracy by epoch", "gains", "before and after", "needs a measurement more: press the button"],
        )
        self.view.style.button_width = self.view.layout.width = "auto"
        self.of = ipywidgets.Dropdown(
            description="run", tooltip="Whose flatness is measured: one run", layout={"width": "200px"}
        )
        told = "Top eigenvalue on every client's own samples, against its gain (at least 5 clients)"
        self.flat_button = self.button("Measure flatness", "area-chart", told, self.measure_flatness)
        self.chart = chart_view(260)
        deal(self.chart, self, lambda: (self.runs[0].data, self.runs[0], self._at()))
        self.table = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="90px", max_width="100%"))
        self.tuning.observe(lambda _: self.guarded(self._redraw), "changed")
        for control in (self.round, self.view, self.of):
            control.observe(lambda _: self.guarded(self._redraw), "value")
        first = wrapping(self.tune_button, self.round, self.view, self.of, self.flat_button)
        self.fill(first, self.chart, self.table, self.tuning, self.copy_code)
        self.refresh()

    def clear(self) -> None:
        """What is shown belongs to the settings shown, or is not there."""
        self._drawn = None

    def hint(self) -> None:
        """What an empty picture says depends on what is computed."""
        self._redraw()

    def refresh(self) -> None:
        """Look at the runs again: there may be a later round, of which nothing is measured yet."""
        with self._lock:
            options = [(f"{place}: {label}", place - 1) for place, label in enumerate(labels(self.runs), 1)]
            offer(self.of, options, 0)
            super().refresh()
            self._redraw()

    @property
    def result(self) -> measures.Personalization | None:
        """What was measured with the present settings, if it was."""
        return self.known.get(self._key()) if self.tuning.valid else None

    def measure(self) -> Job | None:
        """Fine-tune with the present settings, in the background; None if that is known already.

        Raises:
            SettingError: if a setting is wrong.
        """
        runs, settings, round = self.runs, self.tuning.value, self._at()
        if self.result is not None:
            self._redraw()
            return None

        def work(job: Job) -> None:
            key = _key(runs, settings, round)  # here, as a round may have been trained since the click
            tuned = fl.personalize(runs, **settings.changed(), round=round, progress=job.report)
            if tuned.about["complete"]:
                self.known[key] = tuned
                for run in runs:
                    remember(run, tuned)

        return self.compute(work, lambda _: self._redraw(), "fine-tuning")

    def measure_flatness(self) -> Job | None:
        """Measure one run's sharpness on every client's samples against its gains; fine-tunes first if needed."""
        runs, run, settings, round = self.runs, self.runs[self.of.value], self.tuning.value, self._at()
        if self._flat_key() in self._flat:
            self._redraw()
            return None

        def work(job: Job) -> None:
            gains, key = self.known.get(_key(runs, settings, round)), _key([run], settings, round)
            gains = gains or fl.personalize(run, **settings.changed(), round=round, progress=job.report)
            if not gains.about["complete"]:
                return
            flat = fl.flatness_vs_gain(run, gains=gains, round=round, progress=job.report)
            if flat.about["complete"]:
                self._flat[key] = flat

        def then(_: None) -> None:
            self.view.value = "flatness"
            self._redraw()

        return self.compute(work, then, f"the flatness of {run.name}")

    def figure(self) -> figures.Drawing:
        """The view chosen, or which settings wait for the button."""
        shown = self._shown()
        if shown is None:
            return figures.draw_missing(self._missing())
        return figures.draw(shown, **({} if self.view.value == "flatness" else {"view": self.view.value}))

    def code(self) -> str:
        """The lines that measure and draw the same; runs are `run1`, `run2`, ..."""
        at = {} if self._at() is None else {"round": self._at()}
        tuned = call("fl.personalize", run_names(len(self.runs)), **self.tuning.value.changed(), **at)
        if self.view.value == "flatness":
            return (
                f"tuned = {tuned}\n{call('fl.flatness_vs_gain', f'run{self.of.value + 1}', 'gains=tuned', **at)}.plot()"
            )
        view = "" if self.view.value == "curves" else f'view="{self.view.value}"'
        return f"{tuned}.plot({view})"

    def _at(self) -> int | None:
        """The round chosen; None for the latest."""
        return None if self.round.value == "latest" else int(self.round.value)

    def _key(self) -> Key:
        return _key(self.runs, self.tuning.value, self._at())

    def _flat_key(self) -> Key:
        return _key([self.runs[self.of.value]], self.tuning.value, self._at())

    def _shown(self) -> measures.Personalization | FlatnessVsGain | None:
        if self.view.value != "flatness" or not self.tuning.valid:
            return self.result
        return self._flat.get(self._flat_key())

    def _missing(self) -> str:
        button = "Measure flatness" if self.view.value == "flatness" else "Fine-tune"
        return self.hinted(f"not measured with these settings: press “{button}”")

    def _redraw(self) -> None:
        with self._lock:
            if self.of.value is None or not self.tuning.valid:
                return
            tuned, shown, view = self.result, self._shown(), self.view.value
            now = (self._key(), view, self.of.value, tuned is None, self._missing() if shown is None else "")
            if now == self._drawn:
                return
            self._drawn = now
            empty = figures.Chart((), self._missing())
            self.chart.show(
                empty if shown is None else figures.chart_personalization(shown, view, self.colors(), self.runs)
            )
            self.table.value = "" if tuned is None else html_table(fl.compare(self.runs, tuned).summary())


def _key(runs: list[Run], settings: Tuning, round: int | None) -> Key:
    """What a measurement depends on; the latest round by its number."""
    return (tuple((run.id, round or run.round) for run in runs), settings.to_json())
