"""Progress: of a run or all of a sweep, by bars, widgets in a notebook or a few log lines; and of a measurement."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeVar

from tqdm import tqdm

from ..declare import tell
from ..files import printable
from ..results import curve_colors
from .status import Standing, notes

if TYPE_CHECKING:
    import ipywidgets

    from .run import Listener, Run
    from .state import Round

VIEW_SECONDS, LOG_SECONDS = 0.25, 30.0  # between two looks
BARS = 12  # runs up to which each has a bar in a terminal
ALL = "all runs"
Progress = bool | Callable[[int, int], object]  # whether to show it; or told how much is done, of how much: False stops
Part = TypeVar("Part")


class Row(NamedTuple):
    """A bar with a note."""

    label: str
    done: int
    total: int
    note: str = ""


class Meter:
    """Speed and time left, over the rounds of this sitting."""

    def __init__(self) -> None:
        self.seconds = self.samples = 0.0
        self.count = 0
        self.score = ""

    def add(self, report: Round) -> None:
        """Take a round in."""
        self.seconds += report.seconds + report.evaluation_seconds
        self.samples += report.samples
        self.count += 1
        if report.holdout is not None:
            name, value = next(iter({**report.holdout.scores, "loss": report.holdout.loss}.items()))
            self.score = f"holdout {name} {float(value):.3f}, "

    def text(self, rounds_left: int) -> str:
        """One line: time left first, which must be seen where the line is cut; accuracy, samples a second."""
        speed = self.samples / max(self.seconds, 1e-9)
        left = tqdm.format_interval(int(rounds_left * self.seconds / max(self.count, 1)))
        return f"{left} left, " * (rounds_left > 0) + f"{self.score}{speed:,.0f} samples/s"


def reporter(run: Run, show: bool = True) -> Listener | None:
    """A listener for `Run.to` that fits where it runs; None if there is nothing to show."""
    if not show or run.done:
        return None
    meter, view, last = Meter(), _view(), time.monotonic()
    seconds = LOG_SECONDS if view is None else VIEW_SECONDS
    if view is not None:
        view([Row(run.name, run.round, run.rounds)])

    def listen(run: Run, report: Round) -> None:
        nonlocal last
        meter.add(report)
        if time.monotonic() - last < seconds and report.number < run.rounds:
            return
        last, note = time.monotonic(), meter.text(run.rounds - report.number)
        if view is not None:
            view([Row(run.name, report.number, run.rounds, note)])
        else:
            line = f"{run.name}: round {report.number} of {run.rounds}, {note}"
            print(printable(line), file=sys.stderr, flush=True)

    return listen


def counter(standing: Standing, progress: bool | Callable[[int, int], object]) -> Callable[[], object]:
    """A function that looks how far the runs of a sweep have come and shows it, or tells `progress(done, total)`."""
    view = _view() if progress is True else None
    if view is None and not callable(progress):  # nothing where nobody looks: a file would get a line each time
        return lambda: None

    def look() -> None:
        table = standing.table()
        done, total = int(table["round"].sum()), int(table["rounds"].sum())
        if callable(progress):
            progress(done, total)
        elif view is not None:
            runs = zip(table.itertuples(), notes(table), strict=True)
            finished = f"{(table['round'] == table['rounds']).sum()} of {len(table)} runs done"
            view([*(Row(run.name, run.round, run.rounds, note) for run, note in runs), Row(ALL, done, total, finished)])

    return look


@contextlib.contextmanager
def watched(progress: Progress | None, total: int, what: str) -> Iterator[Callable[[int], bool]]:
    """A function to be told how much of `total` is done; its answer is whether to go on.

    It passes the numbers to `progress`, which stops by returning False; without one it moves a bar in a terminal, but
    for False.
    """
    if callable(progress):
        yield lambda done: progress(done, total) is not False
        return
    with tqdm(total=total, desc=what, leave=False, disable=True if progress is False else None) as bar:

        def show(done: int) -> bool:
            bar.update(done - bar.n)
            return True

        yield show


def gather(
    parts: Iterable[list[Part]],
    total: int,
    what: str,
    progress: Progress | None,
    size: Callable[[list[Part]], int] = lambda part: 1,
    kept: str = "",
) -> tuple[list[Part], bool]:
    """What a measurement yields, part by part, and whether that is all; a stop or Ctrl-C keeps what is there.

    Args:
        parts: some rows each.
        total: how much is to be done.
        what: is measured.
        progress: as for `watched`.
        size: how much of `total` a part is; fewer may do, if the parts come to an end.
        kept: what an interrupted person is told besides.

    Raises:
        KeyboardInterrupt: where nothing has been measured yet.
    """
    rows: list[Part] = []
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


def _view() -> Callable[[Sequence[Row]], object] | None:
    """What shows some rows, those of all runs in the last one, where this runs; None where nobody looks."""
    if kernel() is not None:
        return _widgets()
    return _bars(sys.stderr) if sys.stderr.isatty() else None


def _bars(stream: TextIO) -> Callable[[Sequence[Row]], object]:
    lines = Lines(stream)
    plain = "utf" not in (stream.encoding or "").lower()

    def show(rows: Sequence[Row]) -> None:
        shown, bars = rows if len(rows) <= BARS + 1 else rows[-1:], []
        wide = min(max(len(row.label) for row in shown), max(lines.width // 3, len(ALL)))
        for row in shown:
            form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}" + (f" [{row.note}]" if row.note else "")
            label = row.label[-wide:].ljust(wide)  # what tells runs apart is at the end
            bars.append(tqdm.format_meter(row.done, row.total, 0, lines.width, label, plain, bar_format=form))
        lines.write(bars)

    return show


def _widgets() -> Callable[[Sequence[Row]], object]:
    """Only traits change later: that reaches the front end from any thread, printing does not."""
    import ipywidgets
    from IPython.display import display

    def line() -> ipywidgets.HBox:
        return ipywidgets.HBox([ipywidgets.IntProgress(), ipywidgets.Label()], layout={"flex": "0 0 auto"})

    runs, whole = ipywidgets.VBox(layout={"max_height": "340px", "overflow": "auto"}), line()
    display(ipywidgets.VBox([runs, whole]))
    colors: list[str] = []

    def show(rows: Sequence[Row]) -> None:
        if not colors:
            runs.children = [line() for _ in rows[:-1]]
            colors.extend(curve_colors([row.label for row in rows[:-1] or rows]))
            for place, color in zip(runs.children or [whole], colors, strict=True):
                place.children[0].style.bar_color = color
        for place, row in zip([*runs.children, whole], rows, strict=True):
            bar, note = place.children
            bar.max, bar.value, bar.bar_style = row.total, row.done, "success" if row.done == row.total else ""
            note.value = ", ".join(filter(None, [f"{row.label}: {row.done} of {row.total}", row.note]))

    return show


def kernel() -> Any:
    """IPython's kernel, in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython.get_ipython(), "kernel", None) if ipython is not None else None


class Lines:
    """Lines in a terminal that are written again in place.

    The cursor rests below them, so that what others print follows; each frame is one write, so that an interrupt leaves
    a whole one. A caller who stops has nothing to tidy up.

    Args:
        stream: to the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: list[str] = []

    def write(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the last ones; the last line stays where not all fit into the window."""
        high = max(self._size().lines, 4)
        shown = [printable(line) for line in lines]
        if len(shown) >= high:
            shown[high - 3 : -1] = [f"… {len(shown) - high + 2} more"]
        shown = [line[: self.width] for line in shown]  # a line that wraps would be two
        if shown == self._shown:
            return
        up = f"\x1b[{len(self._shown)}A" if self._shown else ""
        text = f"\r{up}" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J"
        self._shown = shown
        self._stream.write(text)
        self._stream.flush()

    @property
    def width(self) -> int:
        """Characters that fit into a line."""
        return self._size().columns - 1

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()
        return size if all(size) else os.terminal_size((80, 24))  # some terminals do not know their size
