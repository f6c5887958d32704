"""What the lab shows: settings on the left, views of the run on the right, and a slider that takes the view back.

The buttons that make and move runs are `Lab`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from .. import figures, pages
from ..data import FederatedDataset, Source
from ..files import user_folder
from ..jobs import Job, enqueue, named, on_compute_thread, submit, watch
from ..training import Experiment, Run
from ..training.network import describe
from .curves import Curves
from .experiment_form import Setup, same
from .line import measuring
from .panel import Panel
from .run_list import Shelf
from .session import Session
from .shown_runs import ShownRuns
from .transport import BUSY, Transport
from .views import VIEWS, WHOLE, Views
from .what_if import WhatIf

LIVE = 0.1  # seconds between two looks of a view that is drawn in the browser, at least
FRAME = 1 / 3  # of one that is drawn here
LISTED = 2.0  # of the table of runs
SHARE = 0.04  # of the time, at most, goes to drawing here while a run trains


class Bench(Panel):
    """Controls of an experiment, and every view of the run in a session, which it follows.

    Args:
        data, store, root, settings: as of `Lab`.
        options: of `Run`.
    """

    def __init__(
        self,
        data: FederatedDataset | Source | None,
        store: str | Path,
        root: str | Path,
        options: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        own, spec = describe(settings.pop("model", "cnn4"))
        setup = Setup(
            data, root, lambda path: self.guarded(lambda: self.attempt(path)), model=spec, **settings
        )  # first: what it refuses leaves no widgets behind
        super().__init__()
        folders = {"store": user_folder(store, "store"), "root": user_folder(root, "root")}
        self._shown = ShownRuns(setup.dataset, own, **folders, **options)
        self.session: Session | None = None
        self._looking: Job | None = None
        self._unraised: BaseException | None = None  # what went wrong when runs were looked at; `settle` raises it
        self._lock, self._showing = threading.RLock(), threading.RLock()
        self._following: int | None = None  # the thread that moves the slider, which is no person's doing
        self._next_frame = self._next_list = 0.0
        self._blamed: BaseException | None = None  # the session's error that is shown
        self._trouble: Exception | None = None  # what a view raised when it was last drawn

        self.setup = setup
        setup.run = lambda: self.run
        self.transport = Transport()
        self.shelf = Shelf(store, self.blame)
        self.tabs = Views(self._join)
        self.children = self._arranged()

        self.shelf.observe(lambda _: self.guarded(self._look), "shown")
        self.shelf.observe(lambda _: self._mark(), "grouped")
        self.shelf.renamed = lambda: submit(lambda _: self._changed_runs())
        self.transport.slider.observe(lambda change: self.guarded(lambda: self._slid(change["new"])), "value")
        self.transport.slider.formats = [*figures.formats(), "html"]
        self.transport.slider.on_msg(lambda _, said, __: self.guarded(lambda: self._save_film(said)))
        # A tab that comes to the front waits for no measurement.
        self.tabs.observe(lambda _: self.guarded(lambda: self._draw_in_turn(measuring())), "selected_index")
        self.setup.controls.observe(lambda _: self.guarded(self._refit), ["changed", "valid"])
        self.setup.observe(lambda _: self._refit(), "ready")
        watch(self._show_work)
        self._refit()

    @property
    def experiment(self) -> Experiment:
        """The settings on the left as they stand.

        Raises:
            SettingError: if something is wrong with them.
        """
        return self.setup.experiment

    @experiment.setter
    def experiment(self, experiment: Experiment) -> None:
        self.setup.experiment = experiment

    @property
    def run(self) -> Run | None:
        """The run, once there is one."""
        return None if self.session is None else self.session.run

    def panel(self, name: str) -> Any:
        """A view by the title of its tab, made if nobody has looked at it yet.

        Raises:
            SettingError: if there is no such tab.
            RuntimeError: before there is a run.
        """
        if not self.runs:
            raise RuntimeError(f"panel({name!r}): there is no run yet; step() or start() makes one")
        return self.tabs.panel(name, self._shown.runs(self.run, name in WHOLE))

    @property
    def runs(self) -> list[Run]:
        """What the views show: the run, as of the slider's round, and those selected in the list."""
        return self._shown.runs(self.run)

    def attempt(self, setting: str) -> None:
        """Open "What if" with the setting of that dotted name chosen, on the settings on the left."""
        self.panel("What if").ask(setting)
        self.tabs.selected_index = list(VIEWS).index("What if")

    def figure(self) -> figures.Drawing:
        """The picture of the view in front; before there is a run, of who holds what."""
        return self.setup.figure() if self.session is None else self.panel(self.tabs.front).figure()

    def stand_in(self) -> figures.Drawing:
        """What its views show, the first three; before there is a run, who holds what."""
        parts = pages.shown(self.tabs)[:3] if self.runs else []
        return figures.stacked([part.figure() for part in parts]) if parts else self.figure()

    def settle(self, seconds: float | None = None) -> Any:
        """Wait until nothing is computed for the bench or the view in front; raises what went wrong there.

        A run in training is not waited for; that is `ensure`.
        """
        settled = super().settle(seconds)
        self.setup.settle(seconds)
        for _ in range(2):  # rewound and looked at; then what these queued for drawing is drawn
            submit(lambda _: None).wait(seconds)
        if self._unraised is not None:
            error, self._unraised = self._unraised, None  # once: the bench goes on
            raise error
        if self.tabs.front in self.tabs.panels:
            self.tabs.panels[self.tabs.front].settle(seconds)
        return settled

    def close(self) -> None:
        """Free every widget, those of the views, too."""
        if self._looking is not None:
            self._looking.cancel()
        super().close()

    def _arranged(self) -> tuple[ipywidgets.Widget, ...]:
        """Settings beside the views, below each other where there is no room; lab.css says how large each is."""
        left, right = ipywidgets.VBox([self.setup]), ipywidgets.VBox([self.transport, self.tabs, self.shelf])
        flow = ipywidgets.HBox([right, left])
        parts = {"flow": flow, "right": right, "settings": left, "transport": self.transport, "lab": self}
        for name, part in parts.items():
            part.add_class(f"flatlab-{name}")
        # What goes on is said in one place.
        self.transport.line.children += (self.work, self.note, self.tabs.notes)
        turned = ("remove_class", "add_class")
        self.transport.fold.observe(lambda change: getattr(flow, turned[change["new"]])("flatlab-turned"), "value")
        return (flow,)

    def _show_work(self, queue: Sequence[Job] = ()) -> None:
        with self._showing:  # whoever shows last has looked last: a job may end before its beginning is shown
            self.work.show(named())

    def _heard(self, session: Session) -> None:
        """A round was done, or the state changed; called from any thread."""
        if session is not self.session:
            return
        self._refit()
        if session.error is not self._blamed:
            self._blamed = session.error
            self.say("") if session.error is None else self.blame(session.error)
        resting = session.state not in BUSY
        if resting or time.monotonic() >= self._next_list:
            begun = time.monotonic()
            self.shelf.refresh()
            self._next_list = time.monotonic() + max(LISTED, (time.monotonic() - begun) / SHARE)
        if resting or time.monotonic() >= self._next_frame:
            self._next_frame = time.monotonic() + FRAME  # so that what is queued now is not queued twice
            self._draw_in_turn(at_once=on_compute_thread())

    def _refit(self) -> None:
        """Fit buttons, progress and slider to where things stand."""
        with self._lock:
            session, ready = self.session, self.setup.ready and self.setup.controls.valid
            hint = ""
            if not ready:
                hint = "the settings marked ⚠ do not make an experiment"
            elif session is not None and not same(session.run.experiment, self.experiment):
                hint = "settings changed: Run begins a new run, Fork here goes on from this one"
            self.transport.show(session, ready, hint)
            self._show_work()
            if session is not None:
                self._following = threading.get_ident()
                try:
                    self.transport.fit(session.run, self._shown.round)
                finally:
                    self._following = None

    def _slid(self, round: int) -> None:
        if self._following == threading.get_ident() or self.run is None:
            return
        self._shown.round = None if round == self.run.round else round
        self._look()

    def _save_film(self, said: dict[str, Any]) -> None:
        """Send the browser a film of the view in front, or the page of all, for the person's downloads."""
        kind, panel = said["format"], self.panel(self.tabs.front)
        pictures, pace = ([], 0) if kind == "html" else figures.pictures_of(**panel.filmed())
        count = max(len(pictures), 1)

        def work(job: Job) -> None:
            if kind == "html":
                data = pages.of_panel(self).html().encode()
            else:
                drawn = (picture() for done, picture in enumerate(pictures) if job.report(done, count))
                data = figures.film(drawn, kind, said["speed"] * pace, said["loop"])
            if job.report(count, count):
                self.transport.slider.send({"kind": "file", "format": kind}, [data])

        self._saving = enqueue(Job(work, self._tell_looking, f"the {kind.upper()}"))

    def _look(self) -> None:
        """Show the runs as of the slider's round and the list's selection."""

        def look(_: Job) -> None:
            # As things stand now: the slider may have moved again, or the run was taken back, since this was queued.
            try:
                self._shown.look(self.run, [self.shelf.directory(run) for run in self.shelf.shown])
            except FileNotFoundError:
                self.shelf.refresh()  # which drops it
                raise
            self._changed_runs()

        if self._looking is not None:
            self._looking.cancel()
        self._looking = enqueue(Job(look, self._tell_looking, "the view"))

    def _tell_looking(self, job: Job) -> None:
        if job.error is not None:
            self._unraised = job.error
            self.blame(job.error)

    def _changed_runs(self) -> None:
        self.tabs.outdate()
        self._mark()
        self._refit()
        self._draw()

    def _mark(self) -> None:
        self.transport.color = self.shelf.mark(self.runs)

    def _join(self, name: str, panel: Panel) -> None:
        """A view was made: what it has in common with the rest of the bench."""
        panel.measured = self.shelf.refresh
        if isinstance(panel, Curves):
            self._grouping = traitlets.link((self.shelf, "grouped"), (panel.bands, "value"))
        elif isinstance(panel, WhatIf):
            panel.form, panel.load, panel.make = lambda: self.experiment, self.setup.dataset, self._shown.made

    def _draw_in_turn(self, at_once: bool) -> None:
        if self.session is not None:
            self._draw() if at_once else submit(lambda _: self._draw())

    def _draw(self) -> None:
        """Bring the view in front up to date; on the compute thread."""
        begun, spent, trouble = time.monotonic(), time.thread_time(), None
        try:
            if not self.runs:
                return
            resting = self.session is not None and self.session.state not in BUSY
            rewound, whole = self._shown.rewound, self.tabs.front in WHOLE
            at = None if rewound is None else rewound.round
            self.tabs.draw(self._shown.runs(self.run, whole), at, grown=at is None or whole, resting=resting)
        except Exception as error:  # a view that cannot be drawn must not end the training
            trouble = error
            self.blame(error)
        if self._trouble is not None and trouble is None:
            self.say("")
        self._trouble = trouble
        now = time.monotonic()
        view = self.tabs.panels.get(self.tabs.front)
        if view is not None and view.live:
            self._next_frame = max(begun + LIVE, now + (time.thread_time() - spent) / SHARE)
        else:
            self._next_frame = now + max(FRAME, (now - begun) / SHARE)
