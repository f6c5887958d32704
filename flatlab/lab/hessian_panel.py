"""The Hessian of runs: density of the spectrum, largest eigenvalues, trace, and sharpness along the rounds.

panel = Spectrum([babu, asam])
panel.measure("top")
panel.settle()
panel.results["FedBABU"].frame, panel.figure(), panel.code()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Literal

import ipywidgets as widgets
import pandas as pd

from .. import figures, geometry
from ..declare import SettingError
from ..geometry.inputs import named
from ..personalization.finetune import as_runs
from ..results import Result
from ..training import Run
from .clipboard import CopyCode
from .code import call, code_for
from .jobs import Job
from .panel import Panel, Picture
from .rounds import client_picker, fitted, offer_clients, offer_rounds, round_slider, whose
from .table import html_table

Quantity = Literal["spectrum", "top", "trace", "along"]
BUTTONS: dict[Quantity, tuple[str, str]] = {
    "spectrum": ("Spectrum", "Measure the density of all eigenvalues"),
    "top": ("Top k", "Measure the k largest eigenvalues, with error bounds"),
    "trace": ("Trace", "Measure the sum of all eigenvalues, with its 99 % interval"),
    "along": ("Along rounds", "Measure the k largest eigenvalues at each checkpoint"),
}
Request = tuple[Quantity, dict[str, Any], dict[str, Any]]  # what, options of `fl.hessian`, options of its method


class Spectrum(Panel):
    """What the Hessian at the runs' models looks like. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples.

    Attributes:
        results: what is shown, by the name of the run; empty before the first measurement.
    """

    name = "Hessian"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self.results: dict[str, Result] = {}
        self._known: dict[str, dict[str, Result]] = {}
        self._request: Request | None = None  # the settings behind the results
        self.data = widgets.Dropdown(
            options=["holdout", "train", "test"], description="Data", **fitted(125),
            tooltip="Samples whose loss is measured: global test set, or all clients' own training or test sets",
        )  # fmt: skip
        self.limit = widgets.BoundedIntText(
            500, 1, 1_000_000, description="Samples", tooltip="At most so many, drawn with the seed", **fitted(140)
        )
        self.part = widgets.Dropdown(
            options=["all", "body", "head"], description="Part", tooltip="Which parameters vary", **fitted(115)
        )
        self.k = widgets.BoundedIntText(
            5, 1, 100, description="k", tooltip="How many of the largest eigenvalues", **fitted(85)
        )
        self.method = widgets.Dropdown(
            options=["lanczos", "pyhessian", "power"], description="Method", **fitted(165),
            tooltip="Who finds the eigenvalues; 'power' is FedASAM's protocol, without trace and spectrum",
        )  # fmt: skip
        self.steps = widgets.BoundedIntText(
            50, 2, 1000, description="Steps", tooltip="Lanczos steps of the spectrum, one product each", **fitted(110)
        )
        self.every = widgets.BoundedIntText(
            1, 1, 100_000, description="Every", **fitted(110),
            tooltip="Along rounds: only checkpoints of rounds that are multiples of this, and the last",
        )  # fmt: skip
        self.seed = widgets.BoundedIntText(
            0, 0, 2**31 - 1, description="Seed", tooltip="Of samples and start vectors", **fitted(105)
        )
        self.round, self.client = round_slider(), client_picker()
        self.buttons = {
            what: widgets.Button(description=name, tooltip=help, button_style="primary", icon="play")
            for what, (name, help) in BUTTONS.items()
        }
        for what, button in self.buttons.items():
            button.on_click(lambda _, what=what: self.measure(what))
        self.picture = Picture(690, 330)
        self.table = widgets.HTML(
            layout=widgets.Layout(width="400px", max_width="100%", height="330px", overflow="auto")
        )
        self.copy_code = CopyCode(lambda: f"{code_for(self.runs)}\n{self.code()}\n", self.blame)
        wrap = widgets.Layout(flex_flow="row wrap", width="100%", align_items="center", grid_gap="0 14px")
        asked = [self.data, self.limit, self.part, self.k, self.method, self.steps, self.every, self.seed, self.round]
        asked.append(self.client)
        self.fill(
            widgets.HBox(asked, layout=wrap),
            widgets.HBox(list(self.buttons.values()), layout=widgets.Layout(flex_flow="row wrap")),
            widgets.HBox([self.picture, self.table], layout=widgets.Layout(flex_flow="row wrap", width="100%")),
            self.copy_code,
        )
        self.show(runs)
        for control in asked:
            control.observe(self._changed, "value")

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Look at other runs; what was measured of the old ones goes away."""
        self.cancel()
        self.runs = as_runs(runs)
        self.results, self._known, self._request = {}, {}, None
        self.refresh()
        self._draw()

    def refresh(self) -> None:
        """Offer the rounds and clients that there are by now; nothing is measured."""
        offer_rounds(self.round, self.runs)
        offer_clients(self.client, self.runs)

    def measure(self, what: Quantity) -> Job:
        """Measure "spectrum", "top", "trace" or "along" in the background; what is known already is shown at once.

        Raises:
            SettingError: if it is something else.
        """
        if what not in BUTTONS:
            raise SettingError("what", what, f"must be {', '.join(BUTTONS)}")
        request = self.request(what)
        key = repr((request, [run.round for run in self.runs]))
        runs, subjects = self.runs, named(self.runs)

        def work(job: Job) -> dict[str, Result]:
            found = dict(self._known.get(key, {}))
            for done, (name, run) in enumerate(subjects.items()):
                if name not in found and job.report(done, len(subjects)):
                    with contextlib.suppress(geometry.Interrupted):  # by Cancel; the runs before keep theirs
                        found[name] = _measured(run, request, job)
            return found

        def then(found: dict[str, Result]) -> None:
            if runs is not self.runs:  # others are shown meanwhile
                return
            whole = {name: result for name, result in found.items() if result.about.get("complete", True)}
            self._known[key] = whole
            self.results, self._request = found, request
            self._draw()

        return self.compute(work, then, f"Measuring: {BUTTONS[what][0].lower()}")

    def request(self, what: Quantity) -> Request:
        """What the controls ask for: the quantity, and the options of `fl.hessian` and of its method."""
        options: dict[str, Any] = {"data": self.data.value, "limit": self.limit.value}
        if self.part.value != "all":
            options["part"] = self.part.value
        if self.method.value != "lanczos":
            options["method"] = self.method.value
        options["seed"] = self.seed.value
        rounds = {run.round if self.round.value == "latest" else int(self.round.value) for run in self.runs}
        if len(rounds) == 1 and what != "along":
            options["round"] = rounds.pop()
        options |= whose(self.client)
        quadrature = "lanczos" if self.method.value == "lanczos" else "pyhessian"  # power iteration has none
        more: dict[Quantity, dict[str, Any]] = {
            "spectrum": {"steps": self.steps.value, "method": quadrature},
            "top": {"k": self.k.value},
            "trace": {},
            "along": {"every": self.every.value, "k": self.k.value},
        }  # fmt: skip
        return what, options, more[what]

    def state(self) -> dict[str, Any]:
        """What is shown, or would be: the quantity and the settings of its measurement."""
        what, options, more = self._request or self.request("spectrum")
        return {"quantity": what, **options, **more}

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs.

        Before the first measurement, what the controls ask for, as a spectrum.
        """
        what, options, more = self._request or self.request("spectrum")
        names = named(self.runs)
        calls = {
            name: call(f"{call('fl.hessian', f'run{place}', **_options_for(run, options))}.{what}", **more)
            for place, (name, run) in enumerate(names.items(), 1)
            if not self.results or name in self.results
        }
        if len(calls) == 1:
            return f"{what} = {next(iter(calls.values()))}\n{what}.plot()"
        rows = "".join(f"    {name!r}: {one},\n" for name, one in calls.items())
        return f"{what} = {{\n{rows}}}\nfl.plot({what})"

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown; empty before the first measurement."""
        if not self.results:
            return figures.draw_missing("nothing measured yet")
        return figures.draw(self.results if len(self.results) > 1 else next(iter(self.results.values())))

    def _draw(self) -> None:
        self.picture.draw(self.figure())
        self.table.value = _table(self.results)

    def _changed(self, _: Any) -> None:
        if self._request is not None and self._request != self.request(self._request[0]):
            self.say("The settings differ from what is shown: measure again.")


def _measured(run: Run, request: Request, job: Job) -> Result:
    what, options, more = request
    if what == "along":
        more = {**more, "progress": job.report}
    options = _options_for(run, options)
    watched = geometry.hessian(run, **options, watch=lambda products: job.report(*job.progress))
    result: Result = getattr(watched, what)(**more)
    return result


def _options_for(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """The options as this run takes them: beside a run without a global model, its global one on the same samples."""
    shared = not run.kept and options["data"] == "holdout"
    return {name: value for name, value in options.items() if not (shared and name == "client")}


def _table(results: dict[str, Result]) -> str:
    """The numbers of all runs."""
    parts = [result.summary().assign(run=name) for name, result in results.items()]
    if not parts:
        return ""
    table = pd.concat(parts, ignore_index=True)
    table = table[["run", *(column for column in table if column not in ("run", "products"))]]
    return html_table(table.rename(columns={"standard_error": "s.e."}))
