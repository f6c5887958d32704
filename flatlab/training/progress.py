"""Progress: of a run, by a bar, a widget in a notebook or a few log lines; of all of a sweep; of a measurement."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TextIO, TypeVar

import pandas as pd
from tqdm import tqdm

from ..declare import tell
from ..files import printable
from .status import Standing, notes
from .terminal import Lines

if TYPE_CHECKING:
    import ipywidgets

    from .round import Round
    from .run import Listener, Run

LOG_SECONDS = 30.0
BARS = 12  # runs up to which each has a bar in a terminal
ALL = "all runs"
Progress = Callable[[int, int], object]  # told how much is done, of how much; False stops
Row = TypeVar("Row")


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
        yield _listener(_widget(run), 0.25)
    elif sys.stderr.isatty():
        with tqdm(total=run.rounds, initial=run.round, desc=printable(run.name), unit="round") as bar:
            yield _listener(_bar(bar), 0)
    else:
        yield _listener(_log(run), LOG_SECONDS)


def counter(standing: Standing, progress: bool | Callable[[int, int], object]) -> Callable[[], object]:
    """A function that looks how far the runs of a sweep have come and shows it, or tells `progress(done, total)`."""
    if callable(progress):
        return lambda: _tell(standing.table(), progress)
    if progress and _in_notebook():
        show = _all_widgets()
    elif progress and sys.stderr.isatty():
        show = _all_bars(sys.stderr)
    else:  # nothing where nobody looks: a file would get a line each time
        return lambda: None
    return lambda: show(standing.table())


@contextlib.contextmanager
def watched(progress: Progress | None, total: int, what: str) -> Iterator[Callable[[int], bool]]:
    """A function to be told how much of `total` is done; its answer is whether to go on.

    It passes the numbers to `progress`, which stops by returning False; without one it moves a bar in a terminal.
    """
    if progress is not None:
        yield lambda done: progress(done, total) is not False
        return
    with tqdm(total=total, desc=what, leave=False, disable=None) as bar:

        def show(done: int) -> bool:
            bar.update(done - bar.n)
            return True

        yield show


def gather(
    parts: Iterable[list[Row]],
    total: int,
    what: str,
    progress: Progress | None,
    size: Callable[[list[Row]], int] = lambda part: 1,
    kept: str = "",
) -> tuple[list[Row], bool]:
    """What a measurement yields, part by part, and whether that is all; a stop or Ctrl-C keeps what is there.

    Args:
        parts: some rows each.
        total: how much is to be done.
        what: is measured.
        progress: as for `watched`.
        size: how much of `total` a part is; fewer may do, if the parts come to an end.
        kept: what an interrupted person is told besides.
    """
    rows: list[Row] = []
    done, ended = 0, False
    try:
        with watched(progress, total, what) as proceed:
            for part in parts:
                rows += part
                done += size(part)
                if not proceed(done):
                    break
            else:
                ended = True
    except KeyboardInterrupt:
        if not rows:
            raise
        tell(f"{what} interrupted: what was measured is returned" + f"; {kept}" * bool(kept))
    return rows, ended or done == total


def _listener(show: Callable[[int, str], object], seconds: float) -> Listener:
    """Tells `show` the rounds done and what to say, at most once in so many seconds, and at the end."""
    meter, last = Meter(), time.monotonic()

    def listen(run: Run, report: Round) -> None:
        nonlocal last
        meter.add(report)
        if time.monotonic() - last >= seconds or report.number == run.rounds:
            last = time.monotonic()
            show(report.number, meter.text(run.rounds - report.number))

    return listen


def _bar(bar: tqdm) -> Callable[[int, str], object]:
    def show(done: int, said: str) -> None:
        bar.set_postfix_str(said, refresh=False)
        bar.update(done - bar.n)

    return show


def _log(run: Run) -> Callable[[int, str], object]:
    def show(done: int, said: str) -> None:
        line = f"{run.name}: round {done} of {run.rounds}, {said}"
        print(printable(line), file=sys.stderr, flush=True)

    return show


def _widget(run: Run) -> Callable[[int, str], object]:
    from IPython.display import display

    row = _row()
    _move(row, run.round, run.rounds, f"{run.name}: round {run.round} of {run.rounds}")
    display(row)
    return lambda done, said: _move(row, done, run.rounds, f"{run.name}: round {done} of {run.rounds}, {said}")


def _row() -> ipywidgets.HBox:
    """A bar and a note. Only traits change later: that reaches the front end from any thread, printing does not."""
    import ipywidgets

    layout = ipywidgets.Layout(flex="0 0 auto")
    return ipywidgets.HBox([ipywidgets.IntProgress(), ipywidgets.Label()], layout=layout)


def _move(row: ipywidgets.HBox, done: int, total: int, said: str) -> None:
    bar, note = row.children
    bar.max, bar.value, note.value = total, done, said
    bar.bar_style = "success" if done == total else ""


def _tell(table: pd.DataFrame, progress: Callable[[int, int], object]) -> None:
    progress(int(table["round"].sum()), int(table["rounds"].sum()))


def _all_bars(stream: TextIO) -> Callable[[pd.DataFrame], object]:
    lines = Lines(stream)
    plain = "utf" not in (stream.encoding or "").lower()

    def bar(label: str, done: int, total: int, said: str) -> str:
        form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}" + (f" [{said}]" if said else "")
        return tqdm.format_meter(done, total, 0, lines.width, label, plain, bar_format=form)

    def show(table: pd.DataFrame) -> None:
        wide, rows = len(ALL), []
        if len(table) <= BARS:
            wide = max(wide, min(table["name"].str.len().max(), lines.width // 3))
            for row, said in zip(table.itertuples(), notes(table), strict=True):
                label = row.name[-wide:].ljust(wide)  # what tells runs apart is at the end
                rows.append(bar(label, row.round, row.rounds, said))
        lines.write([*rows, bar(ALL.ljust(wide), table["round"].sum(), table["rounds"].sum(), _runs_done(table))])

    return show


def _all_widgets() -> Callable[[pd.DataFrame], object]:
    import ipywidgets
    from IPython.display import display

    rows, whole = ipywidgets.VBox(layout=ipywidgets.Layout(max_height="340px", overflow="auto")), _row()
    display(ipywidgets.VBox([rows, whole]))

    def show(table: pd.DataFrame) -> None:
        if not rows.children:
            rows.children = [_row() for _ in range(len(table))]
        for meter, row, said in zip(rows.children, table.itertuples(), notes(table), strict=True):
            text = f"{row.name}: {row.round} of {row.rounds}"
            _move(meter, row.round, row.rounds, f"{text}, {said}" if said else text)
        done, total = int(table["round"].sum()), int(table["rounds"].sum())
        _move(whole, done, total, f"{ALL}: {done} of {total}, {_runs_done(table)}")

    return show


def _runs_done(table: pd.DataFrame) -> str:
    return f"{(table['round'] == table['rounds']).sum()} of {len(table)} runs done"


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    active = shell.get_ipython() if shell is not None else None
    return active is not None and hasattr(active, "kernel")
