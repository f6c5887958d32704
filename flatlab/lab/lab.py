"""`Lab`: the whole bench on one screen. Choose, run, step, rewind, fork; look at the run from all sides; compare.

    lab = Lab(data)
    lab                         # in a cell
    run = lab.ensure(20)        # in the next: what clicks have left is trained, what went wrong is raised

Left the experiment, right what is to be seen of the run, below what moves it. The slider takes the VIEW back: panels
show the run as it was then. The button Rewind takes the run itself back.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ipywidgets

from .. import figures
from ..data import FederatedDataset, Source
from ..declare import SettingError
from ..training import Experiment, Run
from ..training.network import describe
from .compute import Cancelled, Job, enqueue, on_compute_thread, submit
from .panel import Panel
from .session import Session
from .setup import WIDTH, Setup, bare, same
from .shelf import Shelf
from .transport import BUSY, Transport
from .views import Views

OPTIONS = {"device", "engine", "chunk", "channels_last", "checkpoint_every"}  # of `Run`
FORKED = ("algorithm", "rounds", "participation", "sampling", "evaluation", "seed")  # what a fork may change
FRAME = 1 / 3  # seconds between two drawings of a live panel, at least
SHARE = 0.04  # of the time, at most, goes to drawing while a run trains
HEIGHT = 520  # pixels of a view: the whole bench fits on a laptop's screen


class Lab(Panel):
    """Controls of an experiment, the run they make, and every view of it.

    Args:
        data: a data set to start from, shared out or not; else handwritten digits.
        store: folder of the runs.
        root: folder of the data sets.
        settings: to start from, as for `Experiment`: algorithm, model (your own `Model`, too), rounds, participation,
            seed, sampling, evaluation; and options of `Run`: device, engine, chunk, channels_last, checkpoint_every.

    Attributes:
        setup: the controls of the experiment.
        transport: buttons, slider and progress.
        shelf: the list of the store's runs.
        tabs: the views; `panel(name)` is one of them.
        session: what trains the run; None before the first Run or Step.
    """

    name = "Lab"

    def __init__(
        self,
        data: FederatedDataset | Source | None = None,
        *,
        store: str | Path = "runs",
        root: str | Path = "data",
        **settings: Any,
    ) -> None:
        super().__init__()
        known = set(Experiment.model_fields) - {"data", "parent"}
        wrong = sorted(settings.keys() - known - OPTIONS)
        if wrong:
            raise SettingError(f"{', '.join(wrong)}: no such setting; known: {', '.join(sorted(known | OPTIONS))}")
        self._own, spec = describe(settings.pop("model", "cnn4"))
        self._store, self._root = Path(store), root
        self._options = {name: settings.pop(name) for name in OPTIONS & settings.keys()}
        self.session: Session | None = None
        self._round: int | None = None  # the round that is looked at; None: the run's latest
        self._view: Run | None = None
        self._overlaid: list[Run] = []
        self._looking: Job | None = None
        self._rewinding: Job | None = None
        self._unraised: BaseException | None = None  # what went wrong when runs were looked at; `settle` raises it
        self._waiting: tuple[Experiment, list[Callable[[Session], None]]] | None = None
        self._lock = threading.RLock()
        self._following: int | None = None  # the thread that moves the slider, which is no person's doing
        self._next_frame = 0.0
        self._blamed: BaseException | None = None  # the session's error that is shown
        self._trouble: Exception | None = None  # what a view raised when it was last drawn

        self.setup = Setup(data, root, model=spec, **settings)
        self.transport = Transport()
        self.shelf = Shelf(store)
        self.tabs = Views(HEIGHT)
        left = ipywidgets.VBox(
            [self.setup],
            layout=ipywidgets.Layout(
                display="block",
                width=f"{WIDTH}px",
                flex=f"1 1 {WIDTH}px",
                max_width="100%",
                height=f"{HEIGHT + 58}px",
                overflow="hidden auto",
            ),
        )
        bench = ipywidgets.HBox(
            [left, self.tabs], layout=ipywidgets.Layout(width="100%", flex_flow="row wrap", align_items="flex-start")
        )
        self.fill(bench, self.transport, self.shelf)

        buttons = self.transport.buttons
        for name, act in (
            ("run", self.start),
            ("step", self.step),
            ("pause", self.pause),
            ("stop", self.stop),
            ("rewind", self.rewind),
            ("fork", self.fork),
        ):
            buttons[name].on_click(lambda _, act=act: self._guarded(act))
        self.shelf.open_button.on_click(lambda _: self._guarded(self.take_up))
        self.shelf.list.observe(lambda _: self._guarded(self._look), "value")
        self.transport.slider.observe(lambda change: self._guarded(lambda: self._slid(change["new"])), "value")
        self.tabs.observe(lambda _: self._guarded(self._show), "selected_index")
        self.setup.controls.observe(lambda _: self._guarded(self._refit), ["changed", "valid"])
        self.setup.observe(lambda _: self._refit(), "ready")
        self._refit()

    # What it is

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
            SettingError: if there is no such tab. RuntimeError: before there is a run.
        """
        if not self.runs:
            raise RuntimeError(f"panel({name!r}): there is no run yet; step() or start() makes one")
        return self.tabs.panel(name, self.runs)

    @property
    def runs(self) -> list[Run]:
        """What the views show: the run, as of the slider's round, and those selected in the list."""
        run = self._view or self.run
        return [] if run is None else [run, *(other for other in self._overlaid if other.id != run.id)]

    def figure(self) -> figures.Drawing:
        """The picture of the view in front; before there is a run, of who holds what."""
        return self.setup.figure() if self.session is None else self.panel(self.tabs.front).figure()

    # What buttons do

    def start(self) -> None:
        """Train to the end: the present run, or a new one if the settings have changed."""
        self._with_session(Session.start)

    def step(self, n: int = 1) -> None:
        """Train `n` rounds."""
        self._with_session(lambda session: session.step(n))

    def pause(self) -> None:
        """Wait after the round in flight."""
        if self.session is not None:
            self.session.pause()

    def stop(self) -> None:
        """End the session after the round in flight; Run makes another that goes on."""
        if self.session is not None:
            self.session.stop()

    def rewind(self, round: int | None = None) -> None:
        """Take the run back to a round (default: the slider's); rounds on record are replayed from there.

        Nothing happens while it is being taken back already. A round that is not on record is `settle`'s to raise.
        """
        session = self._needed("rewind")
        if self._rewinding is not None and not self._rewinding.over:
            return
        at = self.transport.slider.value if round is None else round
        if session.state == "stopped":
            session = Session(session.run)
            self._adopt(session)
        self._round = at  # the slider stays there meanwhile
        job = session.rewind(at)
        self._rewinding = enqueue(Job(lambda _: self._rewound(job, at)))

    def fork(self, round: int | None = None, **changes: Any) -> None:
        """Begin a new run at a round (default: the slider's) with the settings on the left, and `changes`.

        Raises:
            SettingError: if nothing is changed, or something that a fork keeps.
        """
        session = self._needed("fork")
        old, new = session.run.experiment, self.experiment
        if not same(new, new.replace(data=old.data, model=old.model)):
            raise SettingError("data, model: a fork keeps its parent's; press Run for a run of its own")
        changed = {name: getattr(new, name) for name in FORKED if getattr(new, name) != getattr(old, name)} | changes
        if not changed:
            raise SettingError("fork: change the algorithm, participation, rounds or seed first; else it would repeat")
        at = self.transport.slider.value if round is None else round
        rounds = changed.get("rounds", old.rounds)
        if rounds <= at:
            message = f"rounds = {rounds}: must exceed {at}, the round at which the fork begins"
            self.setup.controls.control("rounds").mark(message)
            raise SettingError(message)
        self.compute(lambda _: session.fork(at, **changed), self._adopt, f"forking at round {at}")

    def take_up(self, run: str | None = None) -> None:
        """Take up a run of the store: the one of this id (default: the one selected in the list)."""
        chosen = self.shelf.list.value[0] if run is None and self.shelf.list.value else run
        if chosen is None:
            raise SettingError("run = None: select one in the list, or give its id")
        directory = self.shelf.directory(chosen)
        self.compute(lambda _: Session(self._opened(directory)), self._adopt, f"taking up {chosen}")

    def ensure(self, rounds: int | None = None) -> Run:
        """The run that the settings on the left ask for, trained until it has `rounds` rounds (all if None).

        It is made as Run makes it if they were changed since; at once returned if it has its rounds. A run that is
        being made, forked or taken up is waited for.

        Raises:
            SettingError: if the settings are wrong.
            Cancelled: if the making of the run was cancelled.
            BaseException: what a round raised; see `Session.ensure`.
        """
        return self._made().ensure(rounds)

    async def aensure(self, rounds: int | None = None) -> Run:
        """As `ensure`, for `await`."""
        return await self._made().aensure(rounds)

    def settle(self, seconds: float | None = None) -> Any:
        """Wait until nothing is computed for the bench or the view in front; raises what went wrong there.

        A run in training is not waited for; that is `ensure`.
        """
        found = super().settle(seconds)
        self.setup.settle(seconds)
        for _ in range(2):  # rewound and looked at; then what these queued for drawing is drawn
            submit(lambda _: None).wait(seconds)
        if self._unraised is not None:
            error, self._unraised = self._unraised, None  # once: the bench goes on
            raise error
        if self.tabs.front in self.tabs.panels:
            self.tabs.panels[self.tabs.front].settle(seconds)
        return found

    def cancel(self) -> None:
        """End the work in the background; a run that was being made is not begun."""
        with self._lock:
            self._waiting = None
        super().cancel()

    def close(self) -> None:
        """End the session after the round in flight, and free every widget of the bench and of its views."""
        self.cancel()
        self.stop()
        if self._looking is not None:
            self._looking.cancel()
        super().close()

    # Making a run

    def _with_session(self, act: Callable[[Session], None]) -> None:
        experiment, session = self.experiment, self.session
        lost = session is not None and isinstance(session.error, FileNotFoundError)  # it must be made again
        if session is not None and same(session.run.experiment, experiment) and not lost:
            if session.state == "stopped":
                session = Session(session.run)
                self._adopt(session)
            act(session)
            return
        with self._lock:
            if self._waiting is not None and self._waiting[0] == experiment:
                self._waiting[1].append(act)  # a second click, before the run is made
                return
            acts = [act]
            self.compute(lambda _: self._new(experiment, acts), lambda made: self._begin(made, acts), "making the run")
            self._waiting = (experiment, acts)

    def _new(self, experiment: Experiment, acts: list[Callable[[Session], None]]) -> Session:
        try:
            data = self.setup.dataset(experiment.data)
            return Session(self._trained(experiment.replace(data=data.spec), data))
        except BaseException as error:
            if isinstance(error, SettingError):
                self.setup.controls.complain(str(error))
            self._awaited(acts)
            raise

    def _begin(self, session: Session, acts: list[Callable[[Session], None]]) -> None:
        if not self._awaited(acts):  # cancelled meanwhile
            return
        self._adopt(session)
        for act in acts:
            act(session)

    def _awaited(self, acts: list[Callable[[Session], None]]) -> bool:
        """Whether these clicks still wait for their run; from now on they do not."""
        with self._lock:
            awaited = self._waiting is not None and self._waiting[1] is acts
            if awaited:
                self._waiting = None
            return awaited

    def _made(self) -> Session:
        if on_compute_thread():
            raise RuntimeError("ensure: called from the compute thread, which would wait for itself")
        made = False
        while True:
            session, job = self.session, self.job
            if job is not None and not job.over:
                with suppress(Cancelled):  # a newer click may have taken its place
                    job.wait()
                if job is self.job and job.state == "cancelled":
                    raise Cancelled("ensure: the making of the run was cancelled")
            elif session is not None and (made or same(session.run.experiment, self.experiment)):
                return session
            else:
                self._with_session(lambda _: None)
                made = True

    def _needed(self, what: str) -> Session:
        if self.session is None:
            raise RuntimeError(f"{what}: there is no run yet; press Run or Step")
        return self.session

    def _opened(self, directory: Path) -> Run:
        experiment = Experiment.from_json((directory / "experiment.json").read_text())
        data = self.setup.dataset(bare(experiment).data)
        known = data if experiment.data in (data.spec, data.spec.replace(fingerprint=None)) else None
        return self._trained(experiment, known)

    def _trained(self, experiment: Experiment, data: FederatedDataset | None) -> Run:
        own = self._own if experiment.model.name == "custom" else None
        return Run(experiment, data, own, store=self._store, root=self._root, **self._options)

    def _adopt(self, session: Session) -> None:
        """Make a session the one of this bench."""
        if not same(self.experiment if self.setup.controls.valid else session.run.experiment, session.run.experiment):
            self.setup.experiment = session.run.experiment  # first what may fail
        before, self.session = self.session, session
        self._round = self._view = None
        self.tabs.outdate()
        if before is not None and before is not session:
            before.pause()
        session.listen(self._heard)
        self.shelf.refresh()
        self._heard(session)

    # Showing it

    def _heard(self, session: Session) -> None:
        """A round was done, or the state changed; called from any thread."""
        if session is not self.session:
            return
        self._refit()
        if session.error is not self._blamed:
            self._blamed = session.error
            self.say("") if session.error is None else self.blame(session.error)
        resting = session.state not in BUSY
        if resting or time.monotonic() >= self._next_frame:
            if resting:
                self.shelf.refresh()
            self._next_frame = time.monotonic() + FRAME  # so that what is queued now is not queued twice
            if on_compute_thread():
                self._draw()
            else:
                submit(lambda _: self._draw())

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
            if session is not None:
                self._fit_slider(session.run)

    def _fit_slider(self, run: Run) -> None:
        slider, stored = self.transport.slider, run.checkpoints
        first = run.experiment.parent.round if run.experiment.parent is not None else 0
        last = max([run.round, *stored[-1:]])
        self._following = threading.get_ident()
        try:
            with slider.hold_sync():
                slider.min = min(first, slider.min)
                slider.max = max(last, slider.min + 1)
                slider.min = first
                slider.value = run.round if self._round is None else self._round
                slider.disabled = last <= first
        finally:
            self._following = None

    def _slid(self, round: int) -> None:
        if self._following == threading.get_ident() or self.run is None:
            return
        self._round = None if round == self.run.round else round
        self._look()

    def _look(self) -> None:
        """Show the runs as of the slider's round and the list's selection."""

        def look(_: Job) -> None:
            # As things stand now: the slider may have moved again, or the run was taken back, since this was queued.
            session, at, ids = self.session, self._round, self.shelf.list.value
            # A shallow copy shares what is on disk and in memory, and has a present of its own.
            self._view = None if session is None or at is None else copy.copy(session.run).rewind(at)
            known = {run.id: run for run in self._overlaid}
            try:
                self._overlaid = [known.get(run) or self._opened(self.shelf.directory(run)) for run in ids]
            except FileNotFoundError:
                self.shelf.refresh()  # which drops it
                raise
            self._changed_runs()

        if self._looking is not None:
            self._looking.cancel()
        self._looking = enqueue(Job(look, self._tell_looking))

    def _tell_looking(self, job: Job) -> None:
        if job.error is not None:
            self._unraised = job.error
            self.blame(job.error)

    def _rewound(self, job: Job, at: int) -> None:
        if self._round == at:  # the slider was not moved meanwhile
            self._round = self._view = None
        self._changed_runs()
        self._tell_looking(job)

    def _changed_runs(self) -> None:
        self.tabs.outdate()
        self._refit()
        self._draw()

    def _show(self) -> None:
        """A tab came to the front."""
        if self.session is not None:
            submit(lambda _: self._draw())

    def _draw(self) -> None:
        """Bring the view in front up to date; on the compute thread."""
        begun, trouble = time.monotonic(), None
        try:
            if not self.runs:
                return
            self.tabs.draw(self.runs, grown=self._view is None)
        except Exception as error:  # a view that cannot be drawn must not end the training
            trouble = error
            self.blame(error)
        if self._trouble is not None and trouble is None:
            self.say("")
        self._trouble = trouble
        now = time.monotonic()
        self._next_frame = now + max(FRAME, (now - begun) / SHARE)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do what a button asks: an exception in a callback would be shown nowhere."""
        try:
            act()
        except Exception as error:
            self.blame(error)
