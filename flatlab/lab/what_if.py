"""What if a setting had other values: a run of each, side by side, then the setting against accuracy, gain and λ₁."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ipywidgets
from tqdm import tqdm

import flatlab as fl

from .. import figures
from ..data import DataSpec, FederatedDataset
from ..declare import SettingError
from ..geometry.kept_results import remember
from ..jobs import Job
from ..training import Experiment, Run
from ..training.finding import as_runs
from ..training.network import identified
from ..training.what_if import read_values, settings_to_try, values_to_try, with_setting
from .chart import chart_view
from .experiment_form import bare
from .fields import wrapping
from .panel import Panel
from .session import Session


class WhatIf(Panel):
    """Runs that differ from a run in one setting, trained a round of each in turn.

    Args:
        runs: a run (the first, if several are given).

    Attributes:
        form: gives the settings of which one is changed: the run's, in a bench those on its left; load, make: give a
            data set, and a run on it.
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
        self.form: Callable[[], Experiment] = lambda: self.run.experiment
        self.load: Callable[[DataSpec], FederatedDataset] = lambda spec: spec.load(self.run.root)
        self.make: Callable[[Experiment, FederatedDataset], Run] = lambda experiment, data: Run(
            experiment, data, store=self.run.directory.parent, root=self.run.root, device=str(self.run.device)
        )
        self._tried: tuple[str, list[Any]] = ("", [])
        self._told: tuple[str, BaseException | None] = ("", None)
        style = {"description_width": "initial"}
        self.setting = ipywidgets.Dropdown(description="What if", style=style, tooltip="The setting to be changed")
        self.values = ipywidgets.Text(description="were", style=style, tooltip="Values to try, with commas between")
        buttons = {
            "Try": ("A run with each of these values, in the background", self.start),
            "Stop": ("Train these runs no further; what is done is kept", self.stop),
            "Measure gain and λ₁": ("Fine-tune every client of each run, measure its top eigenvalue", self.measure),
        }
        self.buttons = {name: self.button(name, "", tooltip, act) for name, (tooltip, act) in buttons.items()}
        self.multiples, self.against = chart_view(250), chart_view(230)
        row = wrapping(self.setting, self.values, *self.buttons.values())
        self.fill(row, self.against, self.multiples)  # what came of it is seen first
        self.setting.observe(lambda _: self.guarded(self._propose), "value")
        self.show(runs)

    def ask(self, setting: str) -> None:
        """Propose values of a setting.

        Raises:
            SettingError: if it has no others to try, or the form's settings are wrong.
        """
        values_to_try(self.form(), setting)
        self._offer()
        self.setting.value = setting

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Ask of another run; what is being tried goes on."""
        self.run = as_runs(runs)[0]
        with suppress(SettingError):  # of a form that is being changed
            self._offer()
        self.refresh()

    def start(self) -> Job:
        """Make and train a run with each of the values."""
        path, run, start = self.setting.value, self.run, self.form().replace(parent=None)
        values = list(dict.fromkeys(read_values(self.values.value)))
        if not values:
            raise SettingError("were", self.values.value, "at least one value, with commas between")
        experiments = [with_setting(start, path, value) for value in values]

        def begin(sessions: list[Session]) -> None:
            self.stop()
            self._tried, self.sessions = (path.rpartition(".")[2], values), sessions
            for session in sessions:
                session.listen(lambda _: self.guarded(self.refresh))
                session.start()
            self.refresh()

        return self.compute(lambda _: [Session(self._made(new, run)) for new in experiments], begin, "making the runs")

    def stop(self) -> None:
        """Train no further."""
        for session in self.sessions:
            session.stop()

    def measure(self) -> Job:
        """Measure gain and top eigenvalue of each run, in the background."""

        def work(job: Job) -> None:
            for place, run in enumerate(session.run for session in self.sessions):
                if not job.report(place, len(self.sessions)):
                    return
                if not run.kept:
                    remember(run, fl.hessian(run, limit=500).top(k=1))
                remember(run, fl.personalize(run, progress=job.report))

        return self.compute(work, lambda _: self.refresh(), "gain and λ₁")

    def refresh(self) -> None:
        """Draw what has come."""
        asked = (*self._tried, [session.run for session in self.sessions], self._known)
        over = all(session.state in ("done", "stopped", "failed") for session in self.sessions)
        self.buttons["Stop"].disabled, self.buttons["Measure gain and λ₁"].disabled = over, not (self.sessions and over)
        empty = figures.Chart((), self.hinted("Choose a setting and values, and press Try."))
        self.multiples.show(figures.chart_multiples(*asked) if self.sessions else empty)
        self.against.show(figures.chart_against(*asked) if self.sessions and over else figures.Chart(()))
        self.against.layout.display = "" if self.against.chart.plots else "none"
        if over and self.sessions:
            self.measured()
        self._tell(over)

    hint = refresh

    def figure(self) -> figures.Drawing:
        """The curves."""
        shown = self.multiples.chart
        return figures.paper(shown) if shown.plots else figures.draw_missing(shown.title)

    def close(self) -> None:
        """End the runs after their rounds in flight, and free the widgets."""
        self.stop()
        super().close()

    def _offer(self) -> None:
        chosen = self.setting.value or "algorithm.lr"
        self.setting.options = offered = settings_to_try(self.form())
        self.setting.value = chosen if chosen in offered else offered[0]
        self._propose()

    def _propose(self) -> None:
        self.values.value = ", ".join(map(str, values_to_try(self.form(), self.setting.value)))

    def _tell(self, over: bool) -> None:
        """How far the runs have come, or what went wrong with one; once, so that other words stay."""
        runs = [session.run for session in self.sessions]
        done, total = sum(run.round for run in runs), sum(run.rounds for run in runs)
        meters = [(run.rounds - run.round, session.meter) for run, session in zip(runs, self.sessions, strict=True)]
        seconds = sum(rounds * meter.seconds / max(meter.count, 1) for rounds, meter in meters)
        far = f"{len(runs)} runs: {done} of {total} rounds ({100 * done // max(total, 1)} %)"
        anew = (
            f"{self.run.name} is a fork; these runs begin at round 1. " if runs and self.run.experiment.parent else ""
        )
        text = anew + ("" if over else f"{far}, {tqdm.format_interval(math.ceil(seconds))} left")
        error = next((session.error for session in self.sessions if session.error is not None), None)
        if (text, error) != self._told:
            self._told = text, error
            self.say(text) if error is None else self.blame(error)

    def _made(self, experiment: Experiment, run: Run) -> Run:
        spec = bare(experiment).data
        data = run.data if spec == bare(run.experiment).data else self.load(spec)
        return self.make(identified(experiment.replace(data=data.spec), data), data)
