"""What fine-tuning gives the clients: curves, gains, and whether flat minima gain more; settings are controls."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import ipywidgets

import flatlab as fl

from .. import figures
from .. import personalization as measures
from ..geometry import FlatnessVsGain
from ..geometry.kept_results import remember
from ..personalization import Tuning
from ..personalization.finetune import as_runs
from ..training import Run, labels
from .clipboard import CopyCode
from .code import call, code_for, run_names
from .controls import Controls
from .jobs import Job
from .panel import Panel, Picture
from .table import html_table

WIDTH, HEIGHT = 820, 380
VIEWS = {"curves": "curves", "histogram": "histogram", "scatter": "scatter", "flatness": "flatness vs gain"}
Key = tuple[Any, ...]


class Personalization(Panel):
    """Fine-tuning of runs' models for every client. Nothing is computed before it is asked for.

    Args:
        runs: a run or several.

    Attributes:
        tuning: the controls of the settings of `personalize`.
        round: whose model is tuned; round 0 stands for the latest.
        tune_button: fine-tunes with these settings, as `measure` does; settings measured before are shown at once.
        view: curves, histogram or scatter of gains, or sharpness against gain (of `of`, one run).
        table: initial and personalized accuracy, mean ± standard deviation over clients.
    """

    name = "Personalization"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self._lock = threading.RLock()
        self.runs = runs
        self._tuned: dict[Key, measures.Personalization] = {}
        self._flat: dict[Key, FlatnessVsGain] = {}
        self._drawn: Key | None = None
        self.tuning = Controls(Tuning, first={Tuning: ("epochs", "part", "lr", "momentum")}, across=True)
        self.round = ipywidgets.IntSlider(
            min=0, max=1, description="round", tooltip="Whose model is tuned, that after this round; 0: the latest"
        )
        self.tune_button = ipywidgets.Button(
            description="Fine-tune",
            icon="sliders",
            button_style="primary",
            tooltip="Fine-tune every client's copy with these settings, in the background",
        )
        self.view = ipywidgets.ToggleButtons(
            options=[(label, name) for name, label in VIEWS.items()],
            description="view",
            tooltips=["accuracy by epoch", "gains", "before and after", "needs a measurement more: press the button"],
        )
        self.view.style.button_width = self.view.layout.width = "auto"
        self.of = ipywidgets.Dropdown(description="run", tooltip="Whose flatness is measured: one run")
        self.flat_button = ipywidgets.Button(
            description="Measure flatness",
            icon="area-chart",
            tooltip="Top eigenvalue on every client's own samples, against its gain (at least 5 clients)",
        )
        self.picture = Picture(WIDTH, HEIGHT)
        self.picture.layout.object_position = "left top"
        self.table = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="90px", max_width="100%", overflow="auto"))
        self.copy_code = CopyCode(lambda: code_for(self.runs) + "\n" + self.code() + "\n", self.blame)
        self.tuning.observe(lambda _: self.guarded(self._redraw), "changed")
        for control in (self.round, self.view, self.of):
            control.observe(lambda _: self.guarded(self._redraw), "value")
        self.tune_button.on_click(lambda _: self.guarded(self.measure))
        self.flat_button.on_click(lambda _: self.guarded(self.measure_flatness))
        wrap = ipywidgets.Layout(flex_flow="row wrap", width="100%")
        self.fill(
            self.tuning,
            ipywidgets.HBox([self.round, self.tune_button], layout=wrap),
            ipywidgets.HBox([self.view, self.of, self.flat_button], layout=wrap),
            self.picture,
            self.table,
            self.copy_code,
        )
        self.refresh()

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Show other runs; what was measured of runs stays known."""
        with self._lock:
            self.runs = as_runs(runs)
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs again: there may be a later round, of which nothing is measured yet."""
        with self._lock:
            options = [(f"{place}: {label}", place - 1) for place, label in enumerate(labels(self.runs), 1)]
            if options != list(self.of.options):
                chosen = self.of.value or 0
                self.of.options = options
                self.of.value = min(chosen, len(options) - 1)
            self.round.max = max(1, *(run.round for run in self.runs))
            self._redraw()

    @property
    def result(self) -> measures.Personalization | None:
        """What was measured with the present settings, if it was."""
        return self._tuned.get(self._key()) if self.tuning.valid else None

    def measure(self) -> Job | None:
        """Fine-tune with the present settings, in the background; None if that is known already.

        Raises:
            SettingError: if a setting is wrong.
        """
        runs, settings, round = self.runs, self.tuning.value, self.round.value or None
        if self.result is not None:
            self._redraw()
            return None

        def work(job: Job) -> None:
            key = _key(runs, settings, round)  # here, as a round may have been trained since the click
            found = fl.personalize(runs, **settings.changed(), round=round, progress=job.report)
            if found.about["complete"]:
                self._tuned[key] = found
                for run in runs:
                    remember(run, found)

        return self.compute(work, lambda _: self._redraw(), "fine-tuning")

    def measure_flatness(self) -> Job | None:
        """Measure one run's sharpness on every client's samples against its gains; fine-tunes first if needed."""
        runs, run, settings, round = self.runs, self.runs[self.of.value], self.tuning.value, self.round.value or None
        if self._flat_key() in self._flat:
            self._redraw()
            return None

        def work(job: Job) -> None:
            gains, key = self._tuned.get(_key(runs, settings, round)), _key([run], settings, round)
            gains = gains or fl.personalize(run, **settings.changed(), round=round, progress=job.report)
            if not gains.about["complete"]:
                return
            found = fl.flatness_vs_gain(run, gains=gains, round=round, progress=job.report)
            if found.about["complete"]:
                self._flat[key] = found

        def then(_: None) -> None:
            self.view.value = "flatness"
            self._redraw()

        return self.compute(work, then, f"flatness of {run.name}")

    def state(self) -> dict[str, Any]:
        """The settings of fine-tuning, and the view."""
        return {**self.tuning.value.to_dict(), "round": self.round.value or None, "view": self.view.value}

    def figure(self) -> figures.Drawing:
        """The view chosen, or which settings wait for the button."""
        if self.view.value == "flatness":
            flat = self._flat.get(self._flat_key()) if self.tuning.valid else None
            return figures.draw_missing("press “Measure flatness”") if flat is None else figures.draw(flat)
        if self.result is None:
            return figures.draw_missing("not measured with these settings: press “Fine-tune”")
        return figures.draw(self.result, view=self.view.value)

    def code(self) -> str:
        """The lines that measure and draw the same; runs are `run1`, `run2`, ..."""
        at = {"round": self.round.value} if self.round.value else {}
        tuned = call("fl.personalize", run_names(len(self.runs)), **self.tuning.value.changed(), **at)
        if self.view.value == "flatness":
            run = f"run{self.of.value + 1}"
            given = ["gains=tuned", *([f"round={self.round.value}"] if self.round.value else [])]
            return f"tuned = {tuned}\n{call('fl.flatness_vs_gain', run, *given)}.plot()"
        view = "" if self.view.value == "curves" else f'view="{self.view.value}"'
        return f"{tuned}.plot({view})"

    def _key(self) -> Key:
        return _key(self.runs, self.tuning.value, self.round.value or None)

    def _flat_key(self) -> Key:
        return _key([self.runs[self.of.value]], self.tuning.value, self.round.value or None)

    def _redraw(self) -> None:
        with self._lock:
            if self.of.value is None or not self.tuning.valid:
                return
            found, view = self.result, self.view.value
            now = (self._key(), view, self.of.value, found is None, self._flat_key() in self._flat)
            if now == self._drawn:
                return
            self._drawn = now
            self.picture.sketch(self.figure())
            self.table.value = "" if found is None else html_table(fl.compare(self.runs, found).summary())


def _key(runs: list[Run], settings: Tuning, round: int | None) -> Key:
    """What a measurement depends on; the latest round by its number."""
    return (tuple((run.id, round or run.round) for run in runs), settings.to_json())
