"""`Lab`: the whole bench on one screen. Choose, run, step, rewind, fork; look at the run from all sides; compare.

    lab = Lab(data)
    lab                         # in a cell
    run = lab.ensure(20)        # in the next: what clicks have left is trained, what went wrong is raised

Left the experiment; right what moves the run, and below that what is to be seen of it. The slider takes the VIEW back:
panels show the run as it was then. The button Rewind takes the run itself back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..arguments import Count, Whole, check_arguments, checked
from ..data import FederatedDataset, Source
from ..declare import SettingError, near
from ..jobs import Cancelled, Job, enqueue, on_compute_thread
from ..training import Experiment, Run, identified, pick_device
from ..training.as_code import FORKED
from .cells import take_over
from .experiment_form import same
from .lab_view import Bench
from .session import Session

OPTIONS = {"device", "engine", "chunk", "channels_last", "checkpoint_every"}  # of `Run`


class Lab(Bench):
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
        shelf: the table of the store's runs: `shown` are those laid over the present one; `delete`, `undo`.
        tabs: the views; `panel(name)` is one of them.
        session: what trains the run; None before the first Run or Step.
    """

    name = "Lab"

    @checked
    def __init__(
        self,
        data: FederatedDataset | Source | None = None,
        *,
        store: str | Path = "runs",
        root: str | Path = "data",
        **settings: Any,
    ) -> None:
        known = set(Experiment.model_fields) - {"data", "parent", "initial", "code"}
        for name in sorted(settings.keys() - known - OPTIONS):
            told = f"no such setting{near(name, known | OPTIONS)}; known: {', '.join(sorted(known | OPTIONS))}"
            raise SettingError(name, allowed=told)
        options = {name: settings.pop(name) for name in OPTIONS & settings.keys()}
        check_arguments(Run.__init__, options)
        pick_device(options.get("device", "auto"))
        super().__init__(data, store, root, options, settings)
        self._rewinding: Job | None = None
        self._waiting: tuple[Experiment, list[Callable[[Session], None]]] | None = None
        acts = {"run": self.start, "step": self.step, "pause": self.pause, "stop": self.stop}
        for name, act in (acts | {"rewind": self.rewind, "fork": self.fork}).items():
            self.transport.buttons[name].on_click(lambda _, act=act: self.guarded(act))
        self.shelf.take_up = lambda run: self.guarded(lambda: self.take_up(run))
        take_over(self)

    # What buttons do

    def start(self) -> None:
        """Train to the end: the present run, or a new one if the settings have changed."""
        self._with_session(Session.start)

    @checked
    def step(self, n: Count = 1) -> None:
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

    @checked
    def rewind(self, round: Whole | None = None) -> None:
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
        self._shown.round = at  # the slider stays there meanwhile
        job = session.rewind(at)
        self._rewinding = enqueue(Job(lambda _: self._rewound(job, at)))

    @checked
    def fork(self, round: Whole | None = None, **changes: Any) -> None:
        """Begin a new run at a round (default: the slider's) with the settings on the left, and `changes`; beside it
        its parent is shown.

        Raises:
            SettingError: if nothing is changed, or something that a fork keeps.
        """
        session = self._needed("fork")
        old, new = session.run.experiment, self.experiment
        if not same(new, new.replace(data=old.data, model=old.model)):
            raise SettingError("data, model", allowed="a fork keeps its parent's; press Run for a run of its own")
        changed = {name: getattr(new, name) for name in FORKED if getattr(new, name) != getattr(old, name)} | changes
        if not changed:
            raise SettingError(
                "fork", allowed="change the algorithm, participation, rounds or seed first; else it would repeat"
            )
        at = self.transport.slider.value if round is None else round
        rounds = changed.get("rounds", old.rounds)
        if rounds <= at:
            error = SettingError("rounds", rounds, f"must exceed {at}, the round at which the fork begins")
            self.setup.controls.control("rounds").mark(str(error))
            raise error

        def begun(made: Session) -> None:
            self._adopt(made)
            self.shelf.shown = list(dict.fromkeys([*self.shelf.shown, session.run.id]))

        self.compute(lambda _: session.fork(at, **changed), begun, f"forking at round {at}")

    @checked
    def take_up(self, run: str | None = None) -> None:
        """Take up a run of the store: the one of this id (default: the first that is checked in the table)."""
        chosen = self.shelf.shown[0] if run is None and self.shelf.shown else run
        if chosen is None:
            raise SettingError("run", None, "check one in the table, or give its id")
        directory = self.shelf.directory(chosen)
        self.compute(lambda _: Session(self._shown.opened(directory)), self._adopt, f"taking up {chosen}")

    @checked
    def attempt(self, setting: str) -> None:
        """As of `Bench`; the first run is made, if there is none."""
        if self.session is None:
            self._with_session(lambda _: super(Lab, self).attempt(setting))
        else:
            super().attempt(setting)

    @checked
    def ensure(self, rounds: Whole | None = None) -> Run:
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

    def cancel(self) -> None:
        """End the work in the background; a run that was being made is not begun."""
        with self._lock:
            self._waiting = None
        super().cancel()

    def close(self) -> None:
        """End the session after the round in flight, and free every widget of the bench and of its views."""
        if self.comm is not None:
            self.cancel()
            self.stop()
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
            return Session(self._shown.made(identified(experiment, data), data))
        except BaseException as error:
            if isinstance(error, SettingError):
                self.setup.controls.complain(error)
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
        waited: Job | None = None
        made = False
        while True:
            session, job = self.session, self.job
            if job is not None and job is not waited and (made or not job.over):
                waited = job
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

    def _adopt(self, session: Session) -> None:
        """Make a session the one of this bench."""
        if not same(self.experiment if self.setup.controls.valid else session.run.experiment, session.run.experiment):
            self.setup.experiment = session.run.experiment  # first what may fail
        before, self.session = self.session, session
        self._shown.follow()
        self.tabs.outdate()
        if before is not None and before is not session:
            before.stop()  # its run can have another, and be deleted
        session.listen(self._heard)
        self._mark()
        self._heard(session)

    def _rewound(self, job: Job, at: int) -> None:
        if self._shown.round == at:  # the slider was not moved meanwhile
            self._shown.follow()
        self._changed_runs()
        self._tell_looking(job)
