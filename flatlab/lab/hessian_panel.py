"""The Hessian of runs: density of the spectrum, largest eigenvalues, trace, and sharpness along the rounds.

panel = Spectrum([babu, asam])
panel.measure("top")
panel.settle()
panel.results["FedBABU"].frame, panel.figure(), panel.code()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import ipywidgets as widgets

from .. import figures, geometry
from ..arguments import Count, Settings, Several
from ..declare import SettingError, setting
from ..geometry import HessianSettings
from ..geometry.inputs import named
from ..geometry.kept_results import remember
from ..later import pd
from ..personalization.finetune import as_runs
from ..results import Result
from ..training import Run
from .clipboard import CopyCode
from .code import call, code_for
from .controls import Controls
from .jobs import Job
from .panel import Panel, Picture
from .rounds import client_picker, data_picker, offer_clients, offer_rounds, round_slider, whose
from .table import html_table

Quantity = Literal["spectrum", "top", "trace", "along"]
BUTTONS: dict[Quantity, tuple[str, str]] = {
    "spectrum": ("Spectrum", "Measure the density of all eigenvalues"),
    "top": ("Top k", "Measure the k largest eigenvalues, with error bounds"),
    "trace": ("Trace", "Measure the sum of all eigenvalues, with its 99 % interval"),
    "along": ("Along rounds", "Measure the k largest eigenvalues at each checkpoint"),
}
FIRST = ("method", "part", "limit")
APART = ("round", "client", "source", "loss", "one_class")  # chosen below, or for a script only
ASKED: dict[Quantity, tuple[str, ...]] = {
    "spectrum": ("steps",),
    "top": ("k", "subsets"),
    "trace": ("subsets",),
    "along": ("every", "k", "subsets"),
}


class Amounts(Settings):
    """How much of a Hessian is measured: the arguments of `top`, `trace`, `spectrum` and `along`."""

    k: Count = setting(5, "how many of the largest eigenvalues", span=(1, 20))
    steps: Several = setting(50, "Lanczos steps of the spectrum, one product each")
    every: Count = setting(1, "along rounds: only checkpoints of rounds that are multiples of this, and the last")
    subsets: Several | None = setting(None, "also the sampling error, from so many groups of the samples")


class Request(NamedTuple):
    """What to measure: of which samples, how, and how much of it."""

    what: Quantity
    data: str
    settings: HessianSettings
    more: dict[str, Any]  # arguments of the method that is named like the quantity

    def options(self, run: Run) -> dict[str, Any]:
        """Of `fl.hessian` for this run: its global model, if it has one, on samples that belong to no client."""
        shared = not run.kept and self.data == "holdout"
        options = {"data": self.data, **self.settings.changed()}
        return {name: value for name, value in options.items() if not (shared and name == "client")}

    def measure(self, run: Run, job: Job) -> Result:
        """What is asked for, of a run."""
        more = {"progress": job.report} if self.what == "along" else {}
        watched = geometry.hessian(run, **self.options(run), watch=lambda products: job.report(*job.progress))
        result: Result = getattr(watched, self.what)(**self.more, **more)
        return result


class Spectrum(Panel):
    """What the Hessian at the runs' models looks like. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples.

    Attributes:
        settings: the controls of the settings of `hessian`.
        amounts: those of what is asked of it; see `Amounts`.
        data, round, client: the samples, and whose model of when.
        results: what is shown, by the name of the run; empty before the first measurement.
    """

    name = "Hessian"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self.results: dict[str, Result] = {}
        self._known: dict[str, dict[str, Result]] = {}
        self._request: Request | None = None  # the settings behind the results
        self.settings = Controls(HessianSettings(limit=500), first={HessianSettings: FIRST}, hide=APART, across=True)
        self.amounts = Controls(Amounts, across=True)
        self.data = data_picker()
        self.round, self.client = round_slider(), client_picker()
        self.buttons = {
            what: widgets.Button(description=name, tooltip=help, button_style="primary", icon="play")
            for what, (name, help) in BUTTONS.items()
        }
        for what, button in self.buttons.items():
            button.on_click(lambda _, what=what: self.guarded(lambda: self.measure(what)))
        self.picture = Picture(690, 330)
        self.table = widgets.HTML(
            layout=widgets.Layout(width="400px", max_width="100%", height="330px", overflow="auto")
        )
        self.copy_code = CopyCode(lambda: f"{code_for(self.runs)}\n{self.code()}\n", self.blame)
        wrap = widgets.Layout(flex_flow="row wrap", width="100%", align_items="center", grid_gap="0 14px")
        asked = [self.data, self.round, self.client]
        self.fill(
            self.settings,
            self.amounts,
            widgets.HBox([*asked, *self.buttons.values()], layout=wrap),
            widgets.HBox([self.picture, self.table], layout=widgets.Layout(flex_flow="row wrap", width="100%")),
            self.copy_code,
        )
        self.show(runs)
        for control in asked:
            control.observe(self._changed, "value")
        for controls in (self.settings, self.amounts):
            controls.observe(self._changed, "changed")

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
            SettingError: if it is something else, or a setting is wrong.
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
                        found[name] = request.measure(run, job)
                        remember(run, found[name], request.settings.round)
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
        """What the controls ask for.

        Raises:
            SettingError: if a setting is wrong.
        """
        settings, amounts = self.settings.value, self.amounts.value
        at = self.round.value
        rounds = {run.round if at == "latest" else int(at) for run in self.runs}
        chosen: dict[str, Any] = whose(self.client)
        if len(rounds) == 1 and what != "along":
            chosen["round"] = rounds.pop()
        more = {name: value for name in ASKED[what] if (value := getattr(amounts, name)) is not None}
        if what == "spectrum":  # power iteration has none
            more["method"] = "lanczos" if settings.method == "lanczos" else "pyhessian"
        return Request(what, self.data.value, settings.replace(**chosen), more)

    def state(self) -> dict[str, Any]:
        """What is shown, or would be: the quantity and the settings of its measurement."""
        request = self._request or self.request("spectrum")
        return {"quantity": request.what, "data": request.data, **request.settings.changed(), **request.more}

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs.

        Before the first measurement, what the controls ask for, as a spectrum.
        """
        request = self._request or self.request("spectrum")
        what, names = request.what, named(self.runs)
        calls = {
            name: call(f"{call('fl.hessian', f'run{place}', **request.options(run))}.{what}", **request.more)
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
        if self._request is None or not (self.settings.valid and self.amounts.valid):
            return
        if self._request != self.request(self._request.what):
            self.say("The settings differ from what is shown: measure again.")


def _table(results: dict[str, Result]) -> str:
    """The numbers of all runs."""
    parts = [result.summary().assign(run=name) for name, result in results.items()]
    if not parts:
        return ""
    table = pd.concat(parts, ignore_index=True)
    table = table[["run", *(column for column in table if column not in ("run", "products"))]]
    return html_table(table.rename(columns={"standard_error": "s.e."}))
