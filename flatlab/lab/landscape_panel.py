"""Loss landscapes of runs: what to measure is chosen here, measured in the background and shown in `LandscapeView`.

panel = Landscape([babu, asam])
panel.settings.change(directions="eigen", points=21)
panel.measure()
panel.settle()
panel.result, panel.figure(), panel.code()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import ipywidgets as widgets
from torch import nn

from .. import figures, geometry
from ..arguments import checked
from ..geometry import LandscapeSettings
from ..geometry.inputs import refuse_misfits
from ..geometry.landscape_request import Request, corners, sampled, stored
from ..geometry.settings import Kind
from ..jobs import Job
from ..personalization import Tuning
from ..training import Run
from ..training.as_code import call
from .chart import chart_view
from .controls import Controls
from .fields import wrapping
from .landscape_widget import LandscapeView
from .measured import APART, Measured
from .rounds import fitted, offer

FIRST = {
    LandscapeSettings: ("directions", "dimensions", "points", "limit", "repeats", "span", "refine", "trajectory"),
    Tuning: ("epochs", "lr"),
}
TUNED = 3  # at most so many clients of a run are fine-tuned
FOLLOWED = 12  # at most so many rounds' clients are marked


class Landscape(Measured):
    """Loss and accuracy on planes or lines through the models of runs. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples, draws and range.
        markers: more models to mark, or to lay a plane through, by name.

    Attributes:
        settings: the controls of the settings of `landscape`.
        auto: whether it is measured by itself whenever the run rests.
        clients, fine_tuned: whether clients of that round are marked, as they came back or fine-tuned with `tuning`.
        every: of all stored rounds, so that they follow the time line.
        corners: the three models that a plane goes through.
        view: the `LandscapeView` of planes; its traits say how the result is looked at.
        lines: the chart of lines, in its place.
        result: the `Landscape` that is shown, None before the first.
    """

    name = "Landscape"
    moves = True

    @checked
    def __init__(self, runs: Run | Iterable[Run], markers: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__(runs)
        self.markers = dict(markers or {})
        self.view = LandscapeView()
        self.result: geometry.Landscape | None = None
        self._request: Request | None = None  # the settings behind the result
        options: dict[str, Any] = {"first": FIRST, "hide": APART, "across": True}
        quick = LandscapeSettings(points=25, limit=500)  # a first look: 7 points on an axis at once, then 13 and 25
        self.settings = Controls(quick, choices={"directions": get_args(Kind)}, **options)
        self.tuning = Controls(Tuning, **options)
        self.auto = _tick("When paused", "Measure by itself whenever the run rests and this view is in front")
        self._tried = ""  # what was measured by itself last
        self.clients = _tick(
            "With clients", "Mark the models of the clients sampled in this round, after their local training"
        )
        self.every = _tick("", "Train the clients of stored rounds again, so that their marks follow the time line")
        self.fine_tuned = _tick(
            "With fine-tuned", f"Mark at most {TUNED} of these clients' models, fine-tuned from the global one"
        )
        self.lines = chart_view(280)
        self.corners = [
            widgets.Dropdown(description=f"Model {k + 1}", tooltip="The plane goes through this model", **fitted(245))
            for k in range(3)
        ]
        self.measure_button = self.button("Measure", "play", "Measure it", self.measure, "primary")
        self._three = wrapping(*self.corners)
        asked = [self.data, self.round, self.client, self.clients, self.every, self.fine_tuned]
        # What a person looks at comes first, below what is asked for most.
        first, marked = wrapping(self.measure_button, *asked[:3], self.auto), wrapping(*asked[3:])
        self.fill(first, self._three, self.view, self.lines, marked, self.tuning, self.settings, self.copy_code)
        self.clear()
        self.refresh()
        for control in (*asked, *self.corners):
            control.observe(self._changed, "value")
        for controls in (self.settings, self.tuning):
            controls.observe(self._changed, "changed")
        self._changed()

    def clear(self) -> None:
        """Show nothing: no other run's picture, and none of other settings than those that failed."""
        self._request = None
        self._display(None)

    def hint(self) -> None:
        """Of an empty picture."""
        self.view.hint = self.hinted("nothing measured yet")

    def seek(self, round: int | None) -> None:
        """Move the stars along the runs' ways; say so where what is shown is another round's."""
        if round != self.view.at:
            self.view.at = round
            if self.result is not None and self.result.about["directions"] != "pca":
                self._changed()

    def refresh(self) -> None:
        """Offer the rounds and models that there are by now; nothing is measured."""
        super().refresh()
        self.view.runs = [run.id for run in self.runs]
        self._allow_clients()
        self._offer_corners()

    def rest(self) -> None:
        """The run rests: measure, if that was asked for and is not known."""
        if self.auto.value and self.settings.valid and self._key() not in (self._tried, *self.known):
            self._tried = self._key()
            self.guarded(self.measure)

    def request(self) -> Request:
        """What the controls ask for.

        Raises:
            SettingError: if a setting is wrong.
        """
        settings, rounds = self.settings.value, self.rounds()
        plane = settings.directions == "plane"
        chosen: dict[str, Any] = {}
        if not plane and len(set(rounds)) == 1:
            chosen["round"] = rounds[0]
        if not plane or self.data.value != "holdout":  # there, models that are given belong to nobody
            chosen |= self.whose()
        marked = stored(self.runs, FOLLOWED)[0] if self.every.value else (min(rounds),)
        return Request(
            settings=settings.replace(**chosen),
            data=self.data.value,
            rounds=rounds,
            clients=marked if self.clients.value and not self.clients.disabled else (),
            corners=tuple(control.value for control in self.corners) if plane else (),
            tuned=tuple(tuple(self._to_tune(k)) for k in range(len(self.runs))) if self.fine_tuned.value else (),
            tuning=self.tuning.value,
            markers=bool(self.markers),
        )

    def measure(self) -> Job:
        """Measure what the controls ask for, in the background; what is known already is shown at once.

        Raises:
            SettingError: if a setting is wrong.
        """
        request, key = self.request(), self._key()
        runs, markers = self.runs, dict(self.markers)

        def work(job: Job) -> geometry.Landscape:
            refuse_misfits(runs)

            def sketch(coarse: geometry.Landscape) -> None:
                if job is self.job and runs is self.runs:
                    self._display(coarse)

            return self.known.get(key) or request.measure(runs, markers, job.report, sketch)

        def then(result: geometry.Landscape) -> None:
            if result.about["complete"]:
                self.known[key] = result
            self._present(request, result)

        return self.ask(work, then, "the landscape")

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs, `markers` the models given.

        Before the first measurement, what the controls ask for.
        """
        request = self._request or self.request()
        line = request.settings.dimensions == 1
        drawn = call("landscape.plot", **(self._line_options() if line else self.view.plot_options()))
        return f"landscape = {request.code()}\n{drawn}"

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown; empty before the first measurement."""
        if self.result is not None and self.view.result is None:
            return self.result.plot(**self._line_options())
        return self.view.figure()

    def filmed(self) -> dict[str, Any]:
        """Its ways, that grow."""
        return super().filmed() if self.view.result is None else {"thing": self.result, **self.view.plot_options()}

    def _line_options(self) -> dict[str, Any]:
        scales = getattr(self.lines, "log", "")  # where nothing moves, that is the widget's logger
        return {"log": True} if isinstance(scales, str) and "y" in scales else {}

    def _changed(self, _: Any = None) -> None:
        self.tuning.layout.display = "" if self.fine_tuned.value or self._plane() else "none"
        self._three.layout.display = "flex" if self._plane() else "none"
        self._offer_corners()
        self._allow_clients()
        if not (self.settings.valid and self.tuning.valid):
            return
        known = self.known.get(self._key())
        if known is not None and known is not self.result:
            self._present(self.request(), known)
        elif self._request is not None and self._request != self.request():
            self.say("The settings differ from what is shown: press Measure.")

    def _plane(self) -> bool:
        """Whether three models are to be chosen."""
        return bool(self.settings.control("directions").read() == "plane")

    def _allow_clients(self) -> None:
        """At round 0 nobody was sampled whose model could be marked."""
        rounds, seconds = stored(self.runs, FOLLOWED)
        self.clients.disabled = self._plane() or not (min(self.rounds()) or (self.every.value and rounds))
        self.every.description = f"of {len(rounds)} stored rounds" + (f", {seconds:.2g} s" if seconds > 0 else "")
        self.every.layout.display = "" if self.clients.value and len(rounds) > 1 else "none"

    def _present(self, request: Request, result: geometry.Landscape) -> None:
        self._request = request
        self._display(result)

    def _display(self, result: geometry.Landscape | None) -> None:
        """Planes are shown in the view, lines as a chart in its place."""
        self.result = result
        line = result is not None and result.about["dimensions"] == 1
        self.view.show(None if line else result)
        self.lines.show(figures.chart_lines(result) if result is not None and line else figures.Chart(()))
        self.view.layout.display, self.lines.layout.display = ("none", "") if line else ("", "none")

    def _key(self) -> str:
        return repr((self.request(), self.ends()))

    def _offer_corners(self) -> None:
        if not self._plane():
            return
        tuned = [self._to_tune(k) for k in range(len(self.runs))]
        known = corners(self.runs, self.rounds(), self.client.value, tuned, self.markers)
        offered = [(corner.label(len(self.runs)), corner) for corner in known]
        for k, control in enumerate(self.corners):
            offer(control, offered, known[min(k, len(known) - 1)])

    def _to_tune(self, run: int) -> list[int]:
        """Some of them; before the first round, and where no client trains, the first of all."""
        return (sampled(self.runs[run], self.rounds()[run]) or list(range(self.runs[run].data.clients)))[:TUNED]


def _tick(description: str, tooltip: str) -> widgets.Checkbox:
    layout = widgets.Layout(width="auto")
    return widgets.Checkbox(False, description=description, tooltip=tooltip, indent=False, layout=layout)
