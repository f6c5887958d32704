"""Progress of all runs of a store, or of a sweep, that are trained elsewhere: a bar for each, renewed by itself."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from pathlib import Path

import ipywidgets

from .. import figures
from ..figures.html_tables import STYLE, html_runs
from ..files import printable
from ..training import Experiment, Standing
from .chart import chart_view
from .panel import Panel

SECONDS = 2.0  # between two looks
HEIGHT, MOST = 200, 20  # of the curves, in pixels; of runs that have one


class Progress(Panel):
    """How far runs have come, read from their directories.

    Args:
        store: folder that holds the directories of runs.
        experiments: what to watch; None: whatever the store holds, new runs appear by themselves.

    Attributes:
        standing: what reads the store.
        chart: holdout accuracy of the runs against rounds; of many, those least far.
        table: what is shown. It is renewed every two seconds until all runs are done, or the panel is closed.
        again_button: look again, and go on looking if new runs are there.
    """

    name = "Progress"

    def __init__(self, store: str | Path = "runs", experiments: Sequence[Experiment] | None = None) -> None:
        standing = Standing(store, experiments)  # what is refused leaves no widgets behind
        super().__init__()
        self.standing = standing
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._known = figures.Histories()
        self.chart = chart_view(HEIGHT)
        self.chart.layout.display = "none"  # until there is something to draw
        self.table = ipywidgets.HTML(layout=ipywidgets.Layout(width="100%", max_height="460px", overflow="auto"))
        told = "Look into the store now, and go on looking"
        self.again_button = self.button("Look again", "refresh", told, self.refresh)
        self.fill(self.chart, self.table, self.again_button)
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs now; until all are done, a thread goes on looking."""
        with self._lock:
            if self._look() and self._watcher is None and not self._closed.is_set():
                self._watcher = threading.Thread(target=self._watch, name="flatlab-progress", daemon=True)
                self._watcher.start()

    def figure(self) -> figures.Drawing:
        """The bars."""
        table = self.standing.table()
        return figures.draw_progress(table) if len(table) else figures.draw_missing(self._nothing())

    def close(self) -> None:
        """End the looking, and free all widgets of the panel."""
        self._closed.set()
        super().close()

    def _watch(self) -> None:
        more = True
        while more and not self._closed.wait(SECONDS):
            with self._lock:
                try:
                    more = self._look()
                except Exception as error:  # on a thread nobody would see it
                    self.blame(error)
                    more = False
                if not more:
                    self._watcher = None

    def _look(self) -> bool:
        """Show what there is; whether more is to come."""
        table = self.standing.table()
        shown = html_runs(table) if len(table) else f'<div style="{STYLE}">{html.escape(self._nothing())}</div>'
        for name, why in self.standing.unreadable.items():
            shown += f'<div style="{STYLE}">⚠ {html.escape(printable(f"{name}: cannot be read here: {why}"))}</div>'
        if shown != self.table.value:
            self.table.value = shown
        self._draw()
        return table.empty or bool((table["round"] < table["rounds"]).any())

    def _draw(self) -> None:
        """Show the curves, as far as files can be read at this moment."""
        every = self.standing.watched()
        chosen = sorted(range(len(every)), key=lambda place: every[place].round >= every[place].rounds)[:MOST]
        runs = [every[place] for place in sorted(chosen)]  # in the table's order, by which colours are given
        if runs:
            try:
                self.chart.show(figures.chart_runs(runs, ["accuracy"], known=self._known))
                self.chart.layout.display = ""
            except (OSError, ValueError) as error:  # the table marks what stays so
                self.say(printable(str(error)))

    def _nothing(self) -> str:
        return f"no runs in {self.standing.store} yet"
