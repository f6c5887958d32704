"""Progress of a run: a bar in a terminal, a widget in a notebook, a few log lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tqdm import tqdm
from tqdm.auto import tqdm as fitting_tqdm

if TYPE_CHECKING:
    from .federation import Round
    from .run import Listener, Run

LOG_SECONDS = 30.0


class Meter:
    """Speed and time left, over the rounds of this sitting."""

    def __init__(self) -> None:
        self.seconds = self.samples = 0.0
        self.count = 0
        self.accuracy = ""

    def add(self, report: Round) -> None:
        """Take a round in."""
        self.seconds += report.seconds + report.evaluation_seconds
        self.samples += report.samples
        self.count += 1
        if report.holdout is not None:
            self.accuracy = f"holdout accuracy {float(report.holdout.accuracy):.3f}, "

    def text(self, rounds_left: int) -> str:
        """One line: accuracy, training loss aside, samples a second, time left."""
        speed = self.samples / max(self.seconds, 1e-9)
        left = tqdm.format_interval(int(rounds_left * self.seconds / max(self.count, 1)))
        return f"{self.accuracy}{speed:,.0f} samples/s, {left} left"


@contextlib.contextmanager
def reporter(run: Run, show: bool = True) -> Iterator[Listener | None]:
    """A listener for `Run.to` that fits where it runs; None if there is nothing to show."""
    if not show or run.done:
        yield None
    elif _in_notebook():
        yield _widget(run)
    elif sys.stderr.isatty():
        with tqdm(total=run.rounds, initial=run.round, desc=run.name, unit="round") as bar:
            yield _bar(bar)
    else:
        yield _log()


@contextlib.contextmanager
def counter(total: int, progress: bool | Callable[[int, int], object]) -> Iterator[Callable[[int], object]]:
    """A function to be told how many of `total` rounds are done: it moves a bar (terminal, notebook), or tells you."""
    if callable(progress):
        yield lambda done: progress(done, total)
        return
    # Nothing where nobody looks: a file would get a line each time.
    with fitting_tqdm(total=total, unit="round", disable=None if progress else True) as bar:
        yield lambda done: bar.update(done - bar.n)


def _bar(bar: tqdm) -> Listener:
    meter = Meter()

    def listen(run: Run, report: Round) -> None:
        meter.add(report)
        bar.set_postfix_str(meter.text(run.rounds - report.number), refresh=False)
        bar.update(report.number - bar.n)

    return listen


def _log() -> Listener:
    meter, last = Meter(), time.monotonic()

    def listen(run: Run, report: Round) -> None:
        nonlocal last
        meter.add(report)
        if time.monotonic() - last > LOG_SECONDS or report.number == run.rounds:
            last = time.monotonic()
            line = f"{run.name}: round {report.number} of {run.rounds}, {meter.text(run.rounds - report.number)}"
            print(line, file=sys.stderr, flush=True)

    return listen


def _widget(run: Run) -> Listener:
    import ipywidgets
    from IPython.display import display

    # Only traits change later: that reaches the front end from any thread, where printing does not.
    bar = ipywidgets.IntProgress(value=run.round, max=run.rounds, description=run.name)
    bar.style.description_width = "initial"
    note = ipywidgets.Label(f"round {run.round} of {run.rounds}")
    display(ipywidgets.HBox([bar, note]))
    meter, drawn = Meter(), 0.0

    def listen(run: Run, report: Round) -> None:
        nonlocal drawn
        meter.add(report)
        if time.monotonic() - drawn > 0.25 or report.number == run.rounds:
            drawn = time.monotonic()
            bar.value = report.number
            note.value = f"round {report.number} of {run.rounds}, {meter.text(run.rounds - report.number)}"

    return listen


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    active = shell.get_ipython() if shell is not None else None
    return active is not None and hasattr(active, "kernel")
