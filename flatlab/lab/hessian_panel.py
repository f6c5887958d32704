"""The Hessian of runs: density of the spectrum, largest eigenvalues, trace, and sharpness along the rounds.

panel = Spectrum([babu, asam])
panel.measure("top")
panel.settle()
panel.results["FedBABU"].frame, panel.figure(), panel.code()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import ipywidgets as widgets

from .. import figures, geometry
from ..arguments import Count, Settings, Several
from ..declare import SettingError, setting
from ..figures.html_tables import html_table
from ..geometry import HessianSettings
from ..geometry.inputs import named
from ..geometry.kept_results import remember
from ..jobs import Job
from ..later import pd
from ..results import Result
from ..training import Run
from ..training.as_code import call
from .chart import chart_view
from .controls import Controls
from .fields import wrapping
from .measured import APART, Measured

Quantity = Literal["spectrum", "top", "trace", "along"]
BUTTONS: dict[Quantity, tuple[str, str]] = {
    "spectrum": ("Spectrum", "Measure the density of all eigenvalues"),
    "top": ("Top k", "Measure the k largest eigenvalues, with error bounds"),
    "trace": ("Trace", "Measure the sum of all eigenvalues, with its 99 % interval"),
    "along": ("Along rounds", "Measure the k largest eigenvalues at each checkpoint"),
}
ROUNDS = 10  # about so many are proposed along a run
FIRST = ("method", "part", "limit")
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
        several = job.progress[1] > 1 or more
        watch = lambda products: job.report(*(job.progress if several else (products, 0)))  # noqa: E731
        watched = geometry.hessian(run, **self.options(run), watch=watch)
        result: Result = getattr(watched, self.what)(**self.more, **more)
        return result


class Spectrum(Measured):
    """What the Hessian at the runs' models looks like. Nothing is measured before somebody asks for it.

    Args:
        runs: a run or several; compared ones share samples.

    Attributes:
        settings: the controls of the settings of `hessian`.
        amounts: those of what is asked of it; see `Amounts`.
        results: what is shown, by the name of the run; empty before the first measurement.
        chart: what draws it, with what was measured of other rounds in the same way.
        table: the numbers.
    """

    name = "Hessian"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        super().__init__(runs)
        self._request: Request | None = None  # the settings behind the results
        self.settings = Controls(HessianSettings(limit=500), first={HessianSettings: FIRST}, hide=APART, across=True)
        self.amounts = Controls(Amounts, across=True)
        self._proposed = 1  # the `every` that nobody has changed since
        self.buttons = {
            what: self.button(name, "play", told, partial(self.measure, what), "primary")
            for what, (name, told) in BUTTONS.items()
        }
        self.chart = chart_view(260)
        self.table = widgets.HTML(layout=widgets.Layout(max_width="100%"))
        asked = [self.data, self.round, self.client]
        first = wrapping(*self.buttons.values(), *asked)
        self.fill(first, self.chart, self.table, self.settings, self.amounts, self.copy_code)
        self.clear()
        self.refresh()
        for control in asked:
            control.observe(self._changed, "value")
        for controls in (self.settings, self.amounts):
            controls.observe(self._changed, "changed")

    def clear(self) -> None:
        """Show that nothing is measured."""
        self.results: dict[str, Result] = {}
        self._request = None
        self.table.value = ""
        self.hint()

    def hint(self) -> None:
        """Of an empty picture."""
        if not self.results:
            self.chart.show(figures.Chart((), self.hinted("nothing measured yet")))

    def refresh(self) -> None:
        """Offer the rounds and clients that there are by now, and propose about ten rounds to look at."""
        super().refresh()
        stored = sorted(self.runs[0].checkpoints)
        every = (stored[1] - stored[0]) * -(-(len(stored) - 1) // ROUNDS) if len(stored) > 1 else 1
        if self.amounts.valid and self.amounts.value.every == self._proposed != every:
            self._proposed = every
            self.amounts.change(every=every)

    def measure(self, what: Quantity) -> Job:
        """Measure "spectrum", "top", "trace" or "along" in the background; what is known already is shown at once.

        Raises:
            SettingError: if it is something else, or a setting is wrong.
        """
        if what not in BUTTONS:
            raise SettingError("what", what, f"must be {', '.join(BUTTONS)}")
        request, key = self.request(what), self._key(what)
        subjects = named(self.runs)

        def work(job: Job) -> dict[str, Result]:
            results = dict(self.known.get(key, {}))
            for done, (name, run) in enumerate(subjects.items()):
                if name not in results and job.report(done, len(subjects)):
                    with contextlib.suppress(geometry.Interrupted):  # by Cancel; the runs before keep theirs
                        results[name] = request.measure(run, job)
                        remember(run, results[name], request.settings.round)
            return results

        def then(results: dict[str, Result]) -> None:
            self.known.pop(key, None)  # what was asked for last stands last
            self.known[key] = {n: result for n, result in results.items() if result.about.get("complete", True)}
            self.results, self._request = results, request
            self._draw(key)

        return self.ask(work, then, "the Hessian")

    def _key(self, what: Quantity) -> tuple[str, tuple[int, ...]]:
        """What is the same of all rounds of a measurement, and the rounds."""
        alike = self.request(what)._replace(settings=self.settings.value.replace(**self.whose()))
        rounds = tuple(run.round for run in self.runs) if what == "along" else self.rounds()
        return repr((alike, [run.id for run in self.runs])), rounds

    def request(self, what: Quantity) -> Request:
        """What the controls ask for.

        Raises:
            SettingError: if a setting is wrong.
        """
        settings, amounts = self.settings.value, self.amounts.value
        rounds = set(self.rounds())
        chosen: dict[str, Any] = self.whose()
        if len(rounds) == 1 and what != "along":
            chosen["round"] = rounds.pop()
        more = {name: value for name in ASKED[what] if (value := getattr(amounts, name)) is not None}
        if what == "spectrum":  # power iteration has none
            more["method"] = "lanczos" if settings.method == "lanczos" else "pyhessian"
        return Request(what, self.data.value, settings.replace(**chosen), more)

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
        rows = "".join(f"    {name!r}: {call},\n" for name, call in calls.items())
        return f"{what} = {{\n{rows}}}\nfl.plot({what})"

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown; empty before the first measurement."""
        if not self.results:
            return figures.draw_missing("nothing measured yet")
        return figures.draw(self.results if len(self.results) > 1 else next(iter(self.results.values())))

    def _draw(self, key: Any) -> None:
        """Show the results, and those of other rounds that were measured in the same way."""
        (alike, at), names = key, list(named(self.runs))
        measured: dict[str, dict[int, Result]] = {name: {} for name in self.results}
        before = self.known.items() if self._request and self._request.what in ("top", "trace") else ()
        for rounds, known in [(rounds, known) for (same, rounds), known in before if same == alike]:
            for name, round in zip(names, rounds, strict=True):
                if name in measured and name in known:
                    measured[name][round] = known[name]
        for name, round in zip(names, at, strict=True):
            if name in measured:
                measured[name].pop(round, None)
                measured[name][round] = self.results[name]
        colors = dict(zip(names, self.colors().values(), strict=True))
        self.chart.show(figures.chart_hessian(measured, colors))
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
