"""Loss landscapes of runs: what to measure is chosen here, measured in the background and shown in `LandscapeView`.

panel = Landscape([babu, asam])
panel.plane.value = "eigen"
panel.measure()
panel.settle()
panel.result, panel.figure(), panel.code()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
from torch import nn

from .. import figures, geometry
from ..personalization.finetune import as_runs
from ..training import Run
from .clipboard import CopyCode
from .code import call, code_for, run_names
from .compute import Job
from .panel import Panel
from .view import LandscapeView

PLANES = [
    ("random directions", "random"),
    ("Hessian eigenvectors", "eigen"),
    ("trajectory (PCA)", "pca"),
    ("through three models", "plane"),
]


def fitted(width: int) -> dict[str, Any]:
    """Options of a control of fixed width whose label takes no more than it needs."""
    layout = widgets.Layout(width=f"{width}px", max_width="100%")
    return {"layout": layout, "style": {"description_width": "initial"}}


def round_slider() -> widgets.SelectionSlider:
    """Chooses among the rounds that `offer_rounds` puts into it."""
    return widgets.SelectionSlider(
        options=["latest"], description="Round", continuous_update=False, **fitted(200),
        tooltip="The model as it was after this round, of those with a checkpoint",
    )  # fmt: skip


def offer_rounds(slider: widgets.SelectionSlider, runs: Sequence[Run]) -> None:
    """The rounds of which all runs have a checkpoint by now, and each run's latest; the choice stays if it can."""
    common = [*map(str, sorted(set.intersection(*(set(run.checkpoints) for run in runs)))), "latest"]
    if list(slider.options) != common:
        chosen = slider.value
        slider.options = common
        slider.value = chosen if chosen in common else "latest"


def _tick(description: str, tooltip: str) -> widgets.Checkbox:
    layout = widgets.Layout(width="auto")
    return widgets.Checkbox(False, description=description, tooltip=tooltip, indent=False, layout=layout)


class Corner(NamedTuple):
    """One of three models that span a plane: which of the runs' ("global", "swa", "client", "marker"), and where."""

    kind: str
    run: int = 0
    client: int = -1
    marker: str = ""

    def label(self, runs: Sequence[Run]) -> str:
        """How the plane calls it."""
        if self.kind == "marker":
            return self.marker
        what = {"global": "global", "swa": "SWA", "client": f"client {self.client}"}[self.kind]
        return what if len(runs) == 1 else f"run {self.run + 1}, {what}"

    def model(self, runs: Sequence[Run], markers: Mapping[str, nn.Module], round: int) -> nn.Module:
        """The model as of a round."""
        if self.kind == "marker":
            return markers[self.marker]
        run = runs[self.run]
        return run.clients(round)[self.client] if self.kind == "client" else run.model(round, which=self.kind)

    def code(self, round: int) -> str:
        """The Python for `model`."""
        if self.kind == "marker":
            return f"markers[{self.marker!r}]"
        run = f"run{self.run + 1}"
        return (
            f"{run}.clients({round})[{self.client}]"
            if self.kind == "client"
            else f"{run}.model({round}, which={self.kind!r})"
        )


class Request(NamedTuple):
    """What to measure.

    Attributes:
        options: of `fl.landscape`, as plain values.
        corners: the three models of a plane, each with its name and round; none if the runs themselves are shown.
        markers: whether the models given as markers are shown.
    """

    options: dict[str, Any]
    corners: tuple[tuple[str, Corner, int], ...]
    markers: bool

    def measure(
        self, runs: Sequence[Run], markers: Mapping[str, nn.Module], progress: Callable[[int, int], object]
    ) -> geometry.Landscape:
        """The landscape asked for."""
        more: dict[str, Any] = {"markers": markers} if self.markers else {}
        subjects: Any = list(runs)
        if self.corners:
            subjects = {name: corner.model(runs, markers, round) for name, corner, round in self.corners}
            more["source"] = runs[0].data
        return geometry.landscape(subjects, **self.options, **more, progress=progress)

    def code(self, count: int) -> str:
        """The Python that measures the same of `run1` to `run<count>`."""
        subjects = run_names(count)
        if self.corners:
            models = [f"{name!r}: {corner.code(round)}" for name, corner, round in self.corners]
            subjects = f"{{{', '.join(models)}}}"
        more = ["source=run1.data"] * bool(self.corners) + ["markers=markers"] * self.markers
        return call("fl.landscape", subjects, *more, **self.options)


class Landscape(Panel):
    """Loss and accuracy on planes through the models of runs. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples, draws and range.
        markers: more models to show or to lay a plane through, e.g. fine-tuned ones, by name.

    Attributes:
        view: the `LandscapeView`; its traits say how the result is looked at.
        result: the `Landscape` that is shown, None before the first.
    """

    name = "Landscape"

    def __init__(self, runs: Run | Iterable[Run], markers: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.markers = dict(markers or {})
        self.view = LandscapeView()
        self._known: dict[str, geometry.Landscape] = {}
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
            11, 3, 201, step=2, description="Points", tooltip="On each axis, an odd number", **fitted(115)
        )
        self.span = widgets.FloatText(
            0.0, description="Span", step=0.1, **fitted(105),
            tooltip="The axes reach from -span to span; 0 takes 1 for random directions, .5 for eigenvectors",
        )  # fmt: skip
        self.seed = widgets.BoundedIntText(
            0, 0, 2**31 - 1, description="Seed", tooltip="Of samples and directions", **fitted(105)
        )
        self.round = round_slider()
        self.refine = _tick("Refine", "Measure fewer points where a spline is good enough; from 21 points on")
        self.trajectory = _tick("With trajectory", "Mark each run's checkpoints")
        self.clients = _tick(
            "With clients", "Mark the models of the clients sampled in this round, after their local training"
        )
        self.fine_tuned = _tick("With fine-tuned", "Mark the models given as markers=..., e.g. fine-tuned ones")
        self.fine_tuned.value, self.fine_tuned.disabled = bool(self.markers), not self.markers
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
        asked = [self.plane, self.data, self.limit, self.points, self.span, self.seed, self.round]
        marked = [self.refine, self.trajectory, self.clients, self.fine_tuned, self.measure_button]
        self.fill(
            widgets.HBox(asked, layout=wrap),
            self._three,
            widgets.HBox(marked, layout=widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0 14px")),
            self.view,
            self.copy_code,
        )
        self.show(runs)
        for control in (*asked, *marked[:-1], *self.corners):
            control.observe(self._changed, "value")
        self._changed()

    @property
    def result(self) -> geometry.Landscape | None:
        """The landscape that is shown."""
        return self.view.result

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Look at other runs; what was measured of the old ones goes away."""
        self.cancel()
        self.runs = as_runs(runs)
        self._known, self._request = {}, None
        self.view.show(None)
        self.refresh()

    def refresh(self) -> None:
        """Offer the rounds and models that there are by now; nothing is measured."""
        offer_rounds(self.round, self.runs)
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
        corners: tuple[tuple[str, Corner, int], ...] = ()
        if plane == "plane":
            chosen = [control.value for control in self.corners]
            corners = tuple((one.label(self.runs), one, self._round_of(one.run)) for one in chosen)
        else:
            if round is not None:
                options["round"] = round
            if self.trajectory.value and plane != "pca":
                options["trajectory"] = True
            if self.clients.value:
                options["clients"] = min(self._round_of(k) for k in range(len(self.runs)))
        return Request(options, corners, bool(self.markers) and self.fine_tuned.value)

    def measure(self) -> Job:
        """Measure what the controls ask for, in the background; what is known already is shown at once."""
        request, key = self.request(), self._key()
        runs, markers = self.runs, dict(self.markers)

        def work(job: Job) -> geometry.Landscape:
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
        return {**request.options, "models": [name for name, _, _ in request.corners], **view}

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs, `markers` the models given.

        Before the first measurement, what the controls ask for.
        """
        request = self._request or self.request()
        drawn = call("landscape.plot", **self.view.plot_options())
        return f"landscape = {request.code(len(self.runs))}\n{drawn}"

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown; empty before the first measurement."""
        return self.view.figure()

    def _changed(self, _: Any = None) -> None:
        apart = self.plane.value != "plane"
        if not apart:
            self._offer_corners()
        self._three.layout.display = "none" if apart else "flex"
        self.refine.disabled = self.points.value < 21
        self.clients.disabled = not apart
        self.trajectory.disabled = self.plane.value in ("plane", "pca")  # one has none, the other always
        known = self._known.get(self._key())
        if known is not None and known is not self.result:
            self._present(self.request(), known)
        elif self._request is not None and self._request != self.request():
            self.say("The settings differ from what is shown: press Measure.")

    def _present(self, request: Request, result: geometry.Landscape) -> None:
        self._request = request
        self.view.show(result)
        self.say("")

    def _key(self) -> str:
        return repr((self.request(), [run.round for run in self.runs]))

    def _round(self) -> int | None:
        """The round of all models; None if each run's latest is meant and they differ."""
        rounds = {self._round_of(k) for k in range(len(self.runs))}
        return rounds.pop() if len(rounds) == 1 else None

    def _round_of(self, run: int) -> int:
        return self.runs[run].round if self.round.value == "latest" else int(self.round.value)

    def _offer_corners(self) -> None:
        corners = [(corner.label(self.runs), corner) for corner in self._corners()]
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
            found.append(Corner("global", k))
            if run.experiment.algorithm.swa:
                found.append(Corner("swa", k))
            history = run.history
            sampled = history[(history["round"] == self._round_of(k)) & (history["split"] == "train")]
            found += [Corner("client", k, client) for client in sorted(set(sampled["client"]) - {-1})]
        return found + [Corner("marker", marker=name) for name in self.markers]
