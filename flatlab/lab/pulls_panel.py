"""Clients that pull: the last rounds of runs side by side, trained again when asked, played in the browser."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import anywidget
import ipywidgets
import traitlets

from .. import figures, geometry
from ..geometry import PullSettings
from ..jobs import Job
from ..pages.scripts import LANDSCAPE_CSS, view_module
from ..training import Run
from ..training.as_code import call, run_names
from ..training.run_names import labels
from .controls import Controls
from .fields import wrapping
from .measured import Measured

HIDDEN = ("round", "client", "source", "loss", "one_class", "part")


class PullsView(anywidget.AnyWidget):
    """What `fl.pulls` measured, a panel a run, with one play button.

    Attributes:
        result: what is shown; runs, names, caption: as `figures.pull_view` gives them.
    """

    _esm = view_module("pulls")
    _css = LANDSCAPE_CSS
    result: geometry.Pulls | None = None
    runs: Any = traitlets.List().tag(sync=True)
    names: Any = traitlets.List().tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)

    def show(self, result: geometry.Pulls | None) -> None:
        """Show a result, or nothing."""
        self.result = result
        with self.hold_sync():
            self.names, self.caption, self.runs = ([], "", []) if result is None else figures.pull_view(result)


class PullsPanel(Measured):
    """The last rounds of runs on a plane through them. Nothing is trained again before somebody asks for it.

    Attributes:
        settings: the controls of the settings of `pulls`.
        view: what plays.
        cost: says how many rounds are to be trained again, and about how long that takes.
    """

    name = "Pulls"
    moves = True

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        super().__init__(runs)
        options: dict[str, Any] = {"first": {PullSettings: ("rounds", "limit")}, "across": True}
        self.settings = Controls(PullSettings(), hide=HIDDEN, **options)
        self.view, self.cost = PullsView(), ipywidgets.HTML()
        self._asked: dict[str, Any] | None = None  # the arguments behind the result
        self.measure_button = self.button("Measure", "play", "Train these rounds again", self.measure, "primary")
        head = wrapping(self.measure_button, self.data, self.round, self.cost)
        self.fill(head, self.view, self.settings, self.copy_code)
        self.refresh()
        for control in (self.round, self.data):
            control.observe(lambda _: self._price(), "value")
        self.settings.observe(lambda _: self._price(), "changed")

    @property
    def result(self) -> geometry.Pulls | None:
        """What is shown, None before the first."""
        return self.view.result

    def clear(self) -> None:
        """Show nothing."""
        self._asked = None
        self.view.show(None)

    def refresh(self) -> None:
        """Offer the rounds that there are by now, and say what they cost."""
        super().refresh()
        self._price()

    def measure(self) -> Job:
        """Train the rounds again and measure their models, in the background; what is known is shown at once."""
        options, runs = self.state(), self.runs
        named = dict(zip(labels(runs), runs, strict=True))
        key = repr((options, self.ends()))

        def work(job: Job) -> geometry.Pulls:
            return self.known.get(key) or geometry.pulls(named, **options, progress=job.report)

        def then(result: geometry.Pulls) -> None:
            if result.about["complete"]:
                self.known[key] = result
            self._asked = options
            self.view.show(result)

        return self.ask(work, then, "the pulls")

    def state(self) -> dict[str, Any]:
        """The arguments of `pulls`."""
        round = {} if self.round.value == "latest" else {"round": int(self.round.value)}
        return {"data": self.data.value, **self.settings.value.changed(), **round}

    def figure(self) -> figures.Drawing:
        """The rounds as small panels; empty before the first measurement."""
        return figures.draw_missing("nothing measured yet") if self.result is None else self.result.plot()

    def filmed(self) -> dict[str, Any]:
        """Arrows that fan out and snap into their mean."""
        return super().filmed() if self.result is None else {"thing": self.result}

    def code(self) -> str:
        """The Python that makes what is shown."""
        return f"{call('fl.pulls', run_names(len(self.runs)), **(self._asked or self.state()))}.plot()"

    def _price(self) -> None:
        if not self.settings.valid:
            return
        counts, seconds = list[int](), 0.0
        for run, last in zip(self.runs, self.rounds(), strict=True):
            first = max(run.span[0] + 1, last - self.settings.value.rounds + 1)
            count, time = run.retraining(first, last) if first <= last else (0, 0.0)
            counts, seconds = [*counts, count], seconds + (0.0 if math.isnan(time) else time)
        if self._asked not in (None, self.state()):
            self.say("The settings differ from what is shown: press Measure.")
        self.cost.value = f"trains {' + '.join(map(str, counts))} rounds again, about {seconds:.2g} s"
