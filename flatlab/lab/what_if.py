"""What if a setting had other values: a run of each, side by side, then the setting against accuracy, gain and λ₁."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets

import flatlab as fl

from .. import figures
from ..geometry.kept_results import remember
from ..training import Experiment, Run
from ..training.finding import as_runs
from ..training.network import identified
from ..training.what_if import read_values, settings_to_try, values_to_try, with_setting
from .chart import chart_view
from .jobs import Job
from .panel import Panel
from .session import Session


class WhatIf(Panel):
    """Runs that differ from a run in one setting, trained a round of each in turn.

    Args:
        runs: a run (the first, if several are given).

    Attributes:
        setting, values: which, and its values, with commas between; four are proposed.
        sessions: what trains the runs.
        multiples, against: their curves, a plot each; the setting against what came of it.
    """

    name = "What if"
    live = True

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self.run, self.sessions, self._known = runs[0], list[Session](), figures.Histories()
        self._tried: tuple[str, list[Any]] = ("", [])
        style = {"description_width": "initial"}
        self.setting = ipywidgets.Dropdown(description="What if", style=style, tooltip="The setting to be changed")
        self.values = ipywidgets.Text(description="were", style=style, tooltip="Values to try, with commas between")
        buttons = {
            "Try": ("A run with each of these values, in the background", self.start),
            "Stop": ("Train these runs no further; what is done is kept", self.stop),
            "Measure gain and λ₁": ("Fine-tune every client of each run, measure its top eigenvalue", self.measure),
        }
        self.buttons = {}
        for name, (tooltip, act) in buttons.items():
            self.buttons[name] = ipywidgets.Button(description=name, tooltip=tooltip, layout={"width": "auto"})
            self.buttons[name].on_click(lambda _, act=act: self.guarded(act))
        self.multiples, self.against = chart_view(250), chart_view(230)
        row = ipywidgets.HBox([self.setting, self.values, *self.buttons.values()], layout={"flex_flow": "row wrap"})
        self.fill(row, self.multiples, self.against)
        self.setting.observe(lambda _: self.guarded(self._propose), "value")
        self.show(runs)

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Ask of another run; what is being tried goes on."""
        self.run, chosen = as_runs(runs)[0], self.setting.value or "algorithm.lr"
        self.setting.options = offered = settings_to_try(self.run.experiment)
        self.setting.value = chosen if chosen in offered else offered[0]
        self._propose()
        self.refresh()

    def start(self) -> Job:
        """Make and train a run with each of the values."""
        path, run = self.setting.value, self.run
        values = read_values(self.values.value)
        experiments = [with_setting(run.experiment.replace(parent=None), path, value) for value in values]

        def begin(sessions: list[Session]) -> None:
            self.stop()
            self._tried, self.sessions = (path.rpartition(".")[2], values), sessions
            for session in sessions:
                session.listen(lambda _: self.guarded(self.refresh))
                session.start()
            self.refresh()

        return self.compute(lambda _: [Session(self._made(one, run)) for one in experiments], begin, "making the runs")

    def stop(self) -> None:
        """Train no further."""
        for session in self.sessions:
            session.stop()

    def measure(self) -> Job:
        """Measure gain and top eigenvalue of each run, in the background."""

        def work(job: Job) -> None:
            for run in (session.run for session in self.sessions):
                if not run.kept:
                    remember(run, fl.hessian(run, limit=500).top(k=1))
                remember(run, fl.personalize(run, progress=job.report))

        return self.compute(work, lambda _: self.refresh(), "gain and λ₁")

    def refresh(self) -> None:
        """Draw what has come."""
        asked = (*self._tried, [session.run for session in self.sessions], self._known)
        over = all(session.state in ("done", "stopped", "failed") for session in self.sessions)
        self.buttons["Stop"].disabled, self.buttons["Measure gain and λ₁"].disabled = over, not (self.sessions and over)
        hint = figures.Chart((), "Choose a setting and values, and press Try.")
        self.multiples.show(figures.chart_multiples(*asked) if self.sessions else hint)
        self.against.show(figures.chart_against(*asked) if self.sessions and over else figures.Chart(()))
        if over and self.sessions:
            self.measured()

    def figure(self) -> figures.Drawing:
        """The curves."""
        shown = self.multiples.chart
        return figures.paper(shown) if shown.plots else figures.draw_missing(shown.title)

    def close(self) -> None:
        """End the runs after their rounds in flight, and free the widgets."""
        self.stop()
        super().close()

    def _propose(self) -> None:
        self.values.value = ", ".join(map(str, values_to_try(self.run.experiment, self.setting.value)))

    def _made(self, experiment: Experiment, run: Run) -> Run:
        same = experiment.data == run.experiment.data
        data = run.data if same else experiment.data.replace(fingerprint=None).load(run.root)
        experiment = experiment if same else identified(experiment.replace(data=data.spec), data)
        return Run(experiment, data, store=run.directory.parent, root=run.root, device=str(run.device))
