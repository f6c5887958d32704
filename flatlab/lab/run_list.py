"""The runs of a store as a table: search, order, filters, groups over seeds; checked to be shown, renamed, deleted.

What fits a search, what differs and what a group's mean is, the browser finds (js/rows.js); here are the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from .. import figures
from ..declare import SettingError
from ..files import json_cell, printable, user_folder
from ..geometry.kept_results import StoreTable
from ..jobs import Job, submit
from ..pages.scripts import BUNDLE, MISSING
from ..training import Run, annotate
from ..training.store_scan import discard, remove, restore
from .chart import ChartView
from .fields import free
from .session import at_work


class Told(traitlets.HasTraits):
    """What a table of runs is told, and tells.

    Attributes:
        rows: the runs, each with what it has in every column; problems: directories that cannot be read, and why.
        shown: ids of the runs that are checked; own: that of the bench's run; looks: how the curves of these look.
        grouped: runs that differ in seeds alone are one line. view: search, filters, order.
        undo: what was deleted last, in words.
        heard: called with what a person asks for.
    """

    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    problems = traitlets.Dict().tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    own = traitlets.Unicode().tag(sync=True)
    looks = traitlets.Dict().tag(sync=True)
    grouped = traitlets.Bool(True).tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    undo = traitlets.Unicode().tag(sync=True)
    heard: Callable[[dict[str, Any]], object] = staticmethod(lambda _: None)


class RunTable(Told, ChartView):
    """The table in the browser; its chart is the small curves."""

    if not MISSING:
        _esm = BUNDLE / "runs.js"

    def _asked(self, _: Any, content: dict[str, Any], buffers: list[bytes]) -> None:
        super()._asked(_, content, buffers)
        self.heard(content)


class StillTable(Told, ipywidgets.HBox):
    """A plain list of the runs and buttons, where there is no bundle."""

    def __init__(self) -> None:
        self.list = ipywidgets.SelectMultiple(description="runs", rows=3, layout={"flex": "1 1 420px"})
        acts = {"Take up": "open", "Delete": "delete", "Undo": "undo", "Look again": "look"}
        buttons = [ipywidgets.Button(description=name, tooltip=f"{name}: the selected runs") for name in acts]
        for button in buttons:
            button.layout.width = "100px"
            button.on_click(lambda button: self._click(acts[button.description]))
        super().__init__([self.list, *buttons], layout={"width": "100%", "flex_flow": "row wrap"})
        self.list.observe(lambda change: setattr(self, "shown", list(change["new"])), "value")
        self.observe(lambda _: self._fill(), ["rows", "shown", "problems"])

    def show(self, chart: figures.Chart) -> None:
        """A list has no small curves."""

    def _click(self, kind: str) -> None:
        self.heard({"kind": kind, "runs": list(self.shown), **({"run": self.shown[0]} if self.shown else {})})

    def _fill(self) -> None:
        told = "".join(f"\n{name}: {why}" for name, why in self.problems.items())
        self.list.tooltip = "Those selected are shown beside the present one (Ctrl for several)" + told
        options = [(f"{row['name']} · {row['id']}", row["id"]) for row in self.rows]
        chosen = tuple(id for _, id in options if id in self.shown)
        with self.list.hold_trait_notifications():
            if options != list(self.list.options):
                self.list.options = options
            self.list.value = chosen


class Shelf(ipywidgets.VBox):
    """The runs of a store, and what can be done to them.

    Args:
        store: their folder.
        failed: hears of what went wrong.

    Attributes:
        table: what is seen.
        shown: ids of the runs that are overlaid; grouped: whether seeds are one line.
        take_up: called with the id of a run that is to be taken up; renamed: called after labels have changed.
    """

    shown = traitlets.List(traitlets.Unicode())
    grouped = traitlets.Bool(True)

    def __init__(self, store: str | Path, failed: Callable[[BaseException], object]) -> None:
        self._store, self._failed = user_folder(store, "store"), failed
        self._held = StoreTable(self._store)
        self._known = figures.Histories()
        self._trash: list[
            tuple[str, list[Path], list[str]]
        ] = []  # deleted: in words, where it lies, what was shown of it
        self.take_up: Callable[[str], object] = lambda _: None
        self.renamed: Callable[[], object] = lambda: None
        self.table: RunTable | StillTable = StillTable() if MISSING else RunTable()
        self.table.heard = self._heard
        super().__init__([self.table], layout=ipywidgets.Layout(width="100%"))
        for name in ("shown", "grouped"):
            traitlets.link((self, name), (self.table, name))
        self.refresh()

    def refresh(self) -> None:
        """Look into the store."""
        table = self._held.look()
        runs = self._held.runs
        groups = {place: group[0] for group in self._known.groups(runs) for place in group}
        rows = [
            {"id": id, "group": groups[place], **{name: json_cell(value) for name, value in row.items()}}
            for place, (id, row) in enumerate(table.iterrows())
        ]
        self.table.show(figures.small_curves(runs, self._known))
        with self.table.hold_trait_notifications():
            self.table.problems = self._held.standing.unreadable
            self.table.rows = rows
            self.shown = [id for id in self.shown if id in table.index]

    def mark(self, runs: list[Run]) -> str | None:
        """Say what the views show: the bench's run first, whose colour is returned."""
        self.table.own = runs[0].id if runs else ""
        self.table.looks = looks = figures.run_looks(runs, self.grouped, self._known)
        return looks[runs[0].id]["color"] if runs else None

    def directory(self, run: str) -> Path:
        """Where a run lies."""
        return self._store / run

    def delete(self, runs: Iterable[str]) -> Job:
        """Move runs out of the store, until `undo`, or for good when the lab is closed. Views show them no more.

        Raises:
            SettingError: if a session of this process trains one, or a bench has it. RunBusy, by the job: if another
                process trains it.
        """
        runs = list(runs)
        for id in runs:
            if id == self.table.own or at_work(self.directory(id)):
                raise SettingError("run", id, "is open in a lab: take up another run there first")
        names = {row["id"]: row["name"] for row in self.table.rows}
        seen = [id for id in self.shown if id in runs]
        self.shown = [id for id in self.shown if id not in runs]

        def work(_: Job) -> None:  # behind what still reads them
            aside: list[Path] = []
            try:
                for id in runs:
                    aside.append(discard(self.directory(id)))
            finally:
                if aside:
                    told = names.get(runs[0], runs[0]) if len(aside) == 1 else f"{len(aside)} runs"
                    self._trash.append((printable(told), aside, seen))
                self._told()

        return submit(work, self._follow)

    def undo(self) -> Job:
        """Bring back what was deleted last."""

        def work(_: Job) -> None:
            _name, deleted, seen = self._trash.pop() if self._trash else ("", [], [])
            for aside in deleted:
                restore(aside)
            self._told()
            self.shown = [*self.shown, *(id for id in seen if self.directory(id).exists())]

        return submit(work, self._follow)

    def close(self) -> None:
        """Remove for good what was deleted, and free the widgets."""
        for _, deleted, _ in self._trash:
            for aside in deleted:
                remove(aside)
        if self.comm is not None:
            free(self)

    def _told(self) -> None:
        self.table.undo = self._trash[-1][0] if self._trash else ""
        self.refresh()

    def _follow(self, job: Job) -> None:
        if job.error is not None:
            self._failed(job.error)

    def _heard(self, said: dict[str, Any]) -> None:
        kind, run = said.get("kind"), said.get("run", "")
        try:
            if kind == "open" and run:
                self.take_up(run)
            elif kind == "delete":
                self.delete(said["runs"])
            elif kind == "undo":
                self.undo()
            elif kind == "look":
                self.refresh()
            elif kind == "annotate":
                annotate(self.directory(run), label=said.get("label"), note=said.get("note"))
                self.refresh()
                self.renamed()
        except Exception as error:  # an error in a callback is shown nowhere that a person looks
            self._failed(error)
