"""Loss landscapes of runs: what to measure is chosen here, measured in the background and shown in `LandscapeView`.

panel = Landscape([babu, asam])
panel.plane.value = "eigen"
panel.measure()
panel.settle()
panel.result, panel.figure(), panel.code()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ipywidgets as widgets
import torch
from torch import nn
from traitlets import link

from .. import figures, geometry
from ..arguments import checked
from ..declare import SettingError
from ..personalization.finetune import as_runs
from ..training import Run
from .clipboard import CopyCode
from .code import call, code_for
from .jobs import Job
from .landscape_widget import LandscapeView
from .panel import Panel, Picture
from .request import Corner, Place, Request, Tuning
from .rounds import client_picker, fitted, offer_clients, offer_rounds, round_slider, whose

PLANES = [
    ("random directions", "random"),
    ("Hessian eigenvectors", "eigen"),
    ("trajectory (PCA)", "pca"),
    ("through three models", "plane"),
]
POINTS = {2: 11, 1: 41}  # on an axis, by dimensions
TUNED = 3  # at most so many clients of a run are fine-tuned


def _tick(description: str, tooltip: str) -> widgets.Checkbox:
    layout = widgets.Layout(width="auto")
    return widgets.Checkbox(False, description=description, tooltip=tooltip, indent=False, layout=layout)


class Landscape(Panel):
    """Loss and accuracy on planes or lines through the models of runs. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples, draws and range.
        markers: more models to mark, or to lay a plane through, by name.

    Attributes:
        view: the `LandscapeView` of planes; its traits say how the result is looked at.
        lines: the picture of lines, in its place.
        result: the `Landscape` that is shown, None before the first.
    """

    name = "Landscape"

    @checked
    def __init__(self, runs: Run | Iterable[Run], markers: Mapping[str, nn.Module] | None = None) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self.markers = dict(markers or {})
        self.view = LandscapeView()
        self._known: dict[str, geometry.Landscape] = {}
        self.result: geometry.Landscape | None = None
        self._request: Request | None = None  # the settings behind the result
        self.plane = widgets.Dropdown(
            options=PLANES, description="Plane", tooltip="Which directions of weight space to look along", **fitted(215)
        )
        self.data = widgets.Dropdown(
            options=["holdout", "train", "test"], description="Data", **fitted(125),
            tooltip="Samples whose loss is measured: global test set, or all clients' own training or test sets",
        )  # fmt: skip
        self.limit = widgets.BoundedIntText(
            500, 1, 1_000_000, description="Samples", tooltip="At most so many, drawn with the seed", **fitted(130)
        )
        self.points = widgets.BoundedIntText(
            POINTS[2], 3, 201, step=2, description="Points", tooltip="On each axis, an odd number", **fitted(115)
        )
        self.span = widgets.FloatText(
            0.0, description="Span", step=0.1, **fitted(105),
            tooltip="The axes reach from -span to span; 0 takes 1 for random directions, .5 for eigenvectors",
        )  # fmt: skip
        self.seed = widgets.BoundedIntText(
            0, 0, 2**31 - 1, description="Seed", tooltip="Of samples and directions", **fitted(105)
        )
        self.round, self.client = round_slider(), client_picker()
        self.refine = _tick("Refine", "Measure fewer points where a spline is good enough; from 21 points on")
        self.trajectory = _tick("With trajectory", "Mark each run's checkpoints")
        self.clients = _tick(
            "With clients", "Mark the models of the clients sampled in this round, after their local training"
        )
        self.fine_tuned = _tick(
            "With fine-tuned", f"Mark at most {TUNED} of these clients' models, fine-tuned from the global one"
        )
        self.epochs = widgets.BoundedIntText(
            5, 1, 1000, description="Epochs", tooltip="Of fine-tuning a client", **fitted(100)
        )
        self.lr = widgets.BoundedFloatText(
            0.001, min=1e-6, max=10, description="lr", step=0.001, tooltip="Learning rate of fine-tuning", **fitted(90)
        )
        self.dimensions = widgets.Dropdown(
            options=[("planes", 2), ("lines", 1)], description="Show", **fitted(130),
            tooltip="The loss on a plane, or along a line (not through three models)",
        )  # fmt: skip
        self.repeats = widgets.BoundedIntText(
            1, 1, 100, description="Repeats", tooltip="How many random lines: their mean and spread", **fitted(115)
        )
        self.log_scale = _tick("log", "Logarithmic scale")
        link((self.view, "log"), (self.log_scale, "value"))
        self.lines = Picture(820, 360)
        self._flat = widgets.VBox([self.log_scale, self.lines])
        self.corners = [
            widgets.Dropdown(description=f"Model {k + 1}", tooltip="The plane goes through this model", **fitted(245))
            for k in range(3)
        ]
        self.measure_button = widgets.Button(
            description="Measure",
            button_style="primary",
            icon="play",
            tooltip="Measure the landscape, in the background",
        )
        self.measure_button.on_click(lambda _: self.measure())
        self.copy_code = CopyCode(lambda: f"{code_for(self.runs)}\n{self.code()}\n", self.blame)
        wrap = widgets.Layout(flex_flow="row wrap", width="100%", align_items="center", grid_gap="0 10px")
        self._three = widgets.HBox(self.corners, layout=widgets.Layout(flex_flow="row wrap", width="100%"))
        asked = [self.plane, self.dimensions, self.repeats, self.data, self.limit, self.points, self.span, self.seed]
        asked += [self.round, self.client]
        marked = [self.refine, self.trajectory, self.clients, self.fine_tuned, self.epochs, self.lr]
        row = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0 14px")
        self.fill(
            widgets.HBox(asked, layout=wrap),
            self._three,
            widgets.HBox([*marked, self.measure_button], layout=row),
            self.view,
            self._flat,
            self.copy_code,
        )
        self.show(runs)
        for control in (*asked, *marked, *self.corners):
            control.observe(self._changed, "value")
        self.dimensions.observe(self._points_for, "value")
        self.log_scale.observe(lambda _: self._draw_lines(), "value")
        self._changed()

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Look at other runs; what was measured of the old ones goes away."""
        self.cancel()
        self.runs = as_runs(runs)
        self._known, self._request = {}, None
        self._display(None)
        self.refresh()

    def refresh(self) -> None:
        """Offer the rounds and models that there are by now; nothing is measured."""
        offer_rounds(self.round, self.runs)
        offer_clients(self.client, self.runs)
        self._allow_clients()
        if self.plane.value == "plane":
            self._offer_corners()

    def request(self) -> Request:
        """What the controls ask for."""
        plane, round = self.plane.value, self._round()
        options = {
            "data": self.data.value, "directions": plane, "points": self.points.value, "limit": self.limit.value,
            "seed": self.seed.value,
        }  # fmt: skip
        if self.span.value:
            options["span"] = self.span.value
        if self.refine.value and not self.refine.disabled:
            options["refine"] = True
        corners: tuple[Place, ...] = ()
        if plane != "plane" or self.data.value != "holdout":  # there, models that are given belong to nobody
            options |= whose(self.client)
        if plane == "plane":
            chosen = [control.value for control in self.corners]
            corners = tuple(Place(one, self._round_of(one.run), *self._tuning()) for one in chosen)
        else:
            if self.dimensions.value == 1:
                options["dimensions"] = 1
                if self.repeats.value > 1 and plane == "random":
                    options["repeats"] = self.repeats.value
            if round is not None:
                options["round"] = round
            if self.trajectory.value and plane != "pca":
                options["trajectory"] = True
            if self.clients.value and not self.clients.disabled:
                options["clients"] = min(self._round_of(k) for k in range(len(self.runs)))
        tunings = [
            Tuning(k, tuple(self._to_tune(k)), self._round_of(k), *self._tuning())
            for k in range(len(self.runs) if self.fine_tuned.value else 0)
        ]
        return Request(options, corners, tuple(tunings), bool(self.markers))

    def measure(self) -> Job:
        """Measure what the controls ask for, in the background; what is known already is shown at once."""
        request, key = self.request(), self._key()
        runs, markers = self.runs, dict(self.markers)

        def work(job: Job) -> geometry.Landscape:
            _refuse_misfits(runs)
            return self._known.get(key) or request.measure(runs, markers, job.report)

        def then(result: geometry.Landscape) -> None:
            if runs is not self.runs:  # others are shown meanwhile
                return
            if result.about["complete"]:
                self._known[key] = result
            self._present(request, result)

        return self.compute(work, then, "Measuring the landscape")

    def state(self) -> dict[str, Any]:
        """What is shown and how: the settings of the measurement, and the view's."""
        view = {name: getattr(self.view, name) for name in ("value", "mode", "log", "shared", "shown", "camera")}
        request = self._request or self.request()
        tuned = [tuning._asdict() for tuning in request.tunings]
        return {**request.options, "models": request.names(len(self.runs)), "fine_tuned": tuned, **view}

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs, `markers` the models given.

        Before the first measurement, what the controls ask for.
        """
        request = self._request or self.request()
        line = request.options.get("dimensions") == 1
        drawn = call("landscape.plot", **(self._line_options() if line else self.view.plot_options()))
        return f"landscape = {request.code(len(self.runs))}\n{drawn}"

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown; empty before the first measurement."""
        if self.result is not None and self.view.result is None:
            return self.result.plot(**self._line_options())
        return self.view.figure()

    def _line_options(self) -> dict[str, Any]:
        return {"log": True} if self.log_scale.value else {}

    def _changed(self, _: Any = None) -> None:
        apart = self.plane.value != "plane"
        if not apart:
            self._offer_corners()
        self._three.layout.display = "none" if apart else "flex"
        self.refine.disabled = self.points.value < 21
        self.dimensions.disabled = not apart
        self._allow_clients()
        self.repeats.disabled = self.plane.value != "random" or self.dimensions.value == 2
        self.trajectory.disabled = self.plane.value in ("plane", "pca")  # one has none, the other always
        known = self._known.get(self._key())
        if known is not None and known is not self.result:
            self._present(self.request(), known)
        elif self._request is not None and self._request != self.request():
            self.say("The settings differ from what is shown: press Measure.")

    def _allow_clients(self) -> None:
        """At round 0 nobody was sampled whose model could be marked."""
        apart = self.plane.value != "plane"
        self.clients.disabled = not apart or not min(self._round_of(k) for k in range(len(self.runs)))

    def _present(self, request: Request, result: geometry.Landscape) -> None:
        self._request = request
        self._display(result)
        self.say("")

    def _display(self, result: geometry.Landscape | None) -> None:
        """Planes are shown in the view, lines as a picture in its place."""
        self.result = result
        line = result is not None and result.about["dimensions"] == 1
        self.view.show(None if line else result)
        self._draw_lines()
        self.view.layout.display, self._flat.layout.display = ("none", "") if line else ("", "none")

    def _draw_lines(self) -> None:
        if self.result is not None and self.view.result is None:
            self.lines.draw(self.figure())

    def _points_for(self, change: Any) -> None:
        """A line takes more points than a plane has on an axis, unless somebody chose how many."""
        if self.points.value == POINTS[change["old"]]:
            self.points.value = POINTS[change["new"]]

    def _key(self) -> str:
        return repr((self.request(), [run.round for run in self.runs]))

    def _round(self) -> int | None:
        """The round of all models; None if each run's latest is meant and they differ."""
        rounds = {self._round_of(k) for k in range(len(self.runs))}
        return rounds.pop() if len(rounds) == 1 else None

    def _round_of(self, run: int) -> int:
        return self.runs[run].round if self.round.value == "latest" else int(self.round.value)

    def _tuning(self) -> tuple[int, float]:
        return self.epochs.value, float(f"{self.lr.value:.6g}")

    def _offer_corners(self) -> None:
        corners = [(corner.label(len(self.runs)), corner) for corner in self._corners()]
        for k, control in enumerate(self.corners):
            if list(control.options) != corners:
                chosen = control.value
                control.options = corners
                known = [corner for _, corner in corners]
                control.value = chosen if chosen in known else known[min(k, len(known) - 1)]

    def _corners(self) -> list[Corner]:
        """The models that there are to lay a plane through, as of the round chosen."""
        found = []
        for k, run in enumerate(self.runs):
            found.append(Corner("own", k, self.client.value) if run.kept else Corner("global", k))
            if run.experiment.algorithm.swa and not run.kept:
                found.append(Corner("swa", k))
            found += [Corner("client", k, client) for client in self._sampled(k)]
            found += [Corner("tuned", k, client) for client in self._to_tune(k)]
        return found + [Corner("marker", marker=name) for name in self.markers]

    def _sampled(self, run: int) -> list[int]:
        """The clients of the round chosen."""
        history = self.runs[run].history
        sampled = history[(history["round"] == self._round_of(run)) & (history["split"] == "train")]
        return sorted(set(sampled["client"]) - {-1})

    def _to_tune(self, run: int) -> list[int]:
        """Some of them; before the first round, and where no client trains, the first of all."""
        return (self._sampled(run) or list(range(self.runs[run].data.clients)))[:TUNED]


def _refuse_misfits(runs: list[Run]) -> None:
    """Explain which runs have no landscape in common: their planes lie in one space, over the same samples.

    Raises:
        SettingError: naming them.
    """
    first, model = runs[0], runs[0].experiment.model
    for place, run in enumerate(runs[1:], 2):
        if (run.data.shape, run.data.classes) != (first.data.shape, first.data.classes):
            sizes = [f"{'x'.join(map(str, one.data.shape))} with {one.data.classes} classes" for one in (first, run)]
            what, mine, its = "images", *sizes
        elif _shapes(run) != _shapes(first):
            what, mine, its = "network", model.to_json(), run.experiment.model.to_json()
        else:
            continue
        raise SettingError(
            f"run {place} ({run.name}) does not fit run 1 ({first.name})",
            allowed=f"its {what}: {its}; that of run 1: {mine}; choose runs with images and network of the same shape",
        )


def _shapes(run: Run) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in run.state().params.items()}
