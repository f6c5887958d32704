"""`Session`: a `Run` that a person, a cell or a script can start, step, pause, stop, rewind and fork. No widgets here.

Rounds are trained on the lab's one compute thread, a job each, so that measurements take turns with them and no two
threads ever work on one run. Everybody else only changes how many rounds may still be trained.

    session = Session(experiment, data)
    session.step()
    run = session.ensure()      # what a notebook calls: trains what clicks have left, raises what went wrong
"""

from __future__ import annotations

import asyncio
import math
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..arguments import Count, Whole, checked
from ..declare import SettingError
from ..jobs import Job, call, on_compute_thread, submit
from ..training import Experiment, Run, RunDone
from ..training.progress import Meter

State = Literal["idle", "running", "pausing", "paused", "stopping", "stopped", "failed", "done"]
Listener = Callable[["Session"], None]

_trainers: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
_registry = threading.Lock()


def at_work(directory: Path) -> bool:
    """Whether a session has the run in a directory, and has not been stopped."""
    session = _trainers.get(str(directory.resolve()))
    return session is not None and session.state != "stopped" and session._had


class Session:
    """A run and what is to happen to it. Making one stops the session that trained the same run before.

    Args:
        run: a run, or the experiment to make one of, with `data`, `model` and `options` as for `Run`.

    Attributes:
        run: the run. Read it from anywhere; only the session trains or rewinds it.
        state: "idle", "running", "pausing" (the round in flight still ends), "paused", "stopping", "stopped" (for
            good), "failed" (see `error`; `start` tries again from the last good round) or "done".
        error: what the last round raised, if it failed.
        listener_error: what a listener raised last, if one did: that never ends the training.
        meter: speed and time left, over the rounds of this session.
    """

    @checked
    def __init__(self, run: Run | Experiment, data: Any = None, model: Any = None, **options: Any) -> None:
        if isinstance(run, Experiment):
            experiment = run
            run = call(lambda: Run(experiment, data, model, **options))
        elif data is not None or model is not None or options:
            raise SettingError("run", allowed="a Run has its data; give model and options with an Experiment only")
        self.run = run
        self.state: State = "done" if run.done else "idle"
        self.error: BaseException | None = None
        self.listener_error: Exception | None = None
        self.meter = Meter()
        self._listeners: list[Listener] = []
        self._steps, self._goal = 0, 0.0  # rounds that may still begin, however far the run has come; and up to which
        self._in_round = self._queued = self._telling = False  # telling: the listeners hear of the round that ended
        self._rewinds, self._had = 0, True  # that wait for their turn; whether somebody has the session
        self._announced = run.round  # rounds of which the listeners have heard
        self._changed = threading.Condition()
        with _registry:
            place = str(run.directory.resolve())  # its name is the run's id; another store's run is another run
            before = _trainers.get(place)
            _trainers[place] = self
        if before is not None:
            before.stop()

    @checked
    def listen(self, callback: Listener) -> None:
        """Have `callback(session)` called after each round and change of state, from any thread."""
        self._listeners.append(callback)

    @property
    def progress(self) -> str:
        """One line: how far, how fast, how long still."""
        far = f"round {self.run.round} of {self.run.rounds}"
        return f"{far}, {self.meter.text(self.run.rounds - self.run.round)}" if self.meter.count else far

    def start(self) -> None:
        """Train to the end. Nothing happens if the session is done or stopped."""
        self._allow(goal=math.inf)

    @checked
    def step(self, n: Count = 1) -> None:
        """Train `n` rounds more than are asked for already."""
        self._allow(steps=n)

    def pause(self) -> None:
        """Train no further round; the one in flight ends, with its evaluation."""
        with self._changed:
            self._steps, self._goal = 0, 0
            if self.state == "running":
                self._become("pausing" if self._in_round else "paused")
        self._tell()

    def stop(self) -> None:
        """End this session for good after the round in flight; the run stays as it is, and can have another."""
        with self._changed:
            self._steps, self._goal = 0, 0
            if self.state not in ("stopped", "done"):
                self._become("stopping" if self._in_round else "stopped")
            self._had = self.state != "done"  # nobody has it any more: it may be deleted
        self._tell()

    @checked
    def rewind(self, round: Whole) -> Job:
        """Pause, and go back to the state after `round` once the round in flight has ended.

        Returns at once; wait for the job that it returns where the run is needed.

        Raises:
            RuntimeError: if the session was stopped. SettingError, by the job: if there is no such round on record.
        """
        self._refuse_stopped("rewind")
        self.pause()
        with self._changed:
            self._rewinds += 1
        return submit(lambda _: self._rewind(round), name="Rewind")

    @checked
    def fork(self, round: Whole | None = None, **changes: Any) -> Session:
        """Pause, and make a session of a new run that begins here after `round` (default: now) under `changes`.

        Raises:
            SettingError: as `Run.fork`.
        """
        self.pause()
        return Session(call(lambda: self.run.fork(round, **changes)))

    @checked
    def ensure(self, rounds: Whole | None = None) -> Run:
        """The run, trained until it has `rounds` rounds (all if None); at once if it has them.

        An interrupt pauses the training after the round in flight. Where buttons work meanwhile, Pause makes this wait.

        Raises:
            SettingError: if the experiment has not so many rounds.
            RuntimeError: if the session is stopped before they are done.
            KeyboardInterrupt: after the round in flight.
            BaseException: what a round raised.
        """
        if on_compute_thread():
            raise RuntimeError("ensure: called from the compute thread, which would wait for itself")
        target = self._request(rounds)
        try:
            while not self._reached(target):
                with self._changed:
                    self._changed.wait(0.2)  # in slices, so that an interrupt gets through on every platform
        except KeyboardInterrupt:
            self.pause()
            raise
        return self.run

    async def aensure(self, rounds: int | None = None) -> Run:
        """As `ensure`, for `await`: other cells' coroutines go on, and buttons work."""
        target = self._request(rounds)
        try:
            while not self._reached(target):
                await asyncio.sleep(0.05)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.pause()
            raise
        return self.run

    # Inside

    def _request(self, rounds: int | None) -> int:
        target = self.run.rounds if rounds is None else rounds
        if not isinstance(target, int) or not 0 <= target <= self.run.rounds:
            raise SettingError("rounds", rounds, f"must be between 0 and the experiment's {self.run.rounds} rounds")
        with self._changed:
            short = self.run.round < target or self._rewinds > 0
            tried = self.state == "failed" and not self._rewinds
        if short and not tried:  # an old failure is raised, not tried again unasked
            self._allow(goal=target)
        return target

    def _reached(self, target: int) -> bool:
        with self._changed:
            if not (self._queued or self._in_round or self._telling):
                self._announced = self.run.round  # others may have moved the run: nobody will tell of that
            if self._rewinds:
                return False
            if self._announced >= target:
                return True
            if self._telling:  # whoever waits sees what the panels show
                return False
            if self.error is not None and self.state in ("failed", "stopped"):
                raise self.error
            if self.state == "stopped":
                self._refuse_stopped(f"ensure({target})")
            return False

    def _refuse_stopped(self, what: str) -> None:
        if self.state in ("stopping", "stopped"):
            far = f"round {self.run.round} of {self.run.rounds}"
            raise RuntimeError(f"{what}: {self.run.id} was stopped after {far}; press Run to go on")

    def _allow(self, steps: int = 0, goal: float = 0) -> None:
        with self._changed:
            if self.state in ("stopping", "stopped"):
                return
            queue = False
            if self.run.done and not (self._in_round or self._queued or self._rewinds):
                self._become("done")
            else:
                if self._goal > self.run.round:
                    self._goal += steps
                else:
                    self._steps += steps
                self._goal = max(self._goal, goal)
                self.error = None
                self._become("running")
                queue, self._queued = not self._queued, True
        if queue:
            submit(lambda _: self._round(), name=self._called)
        self._tell()

    def _wanted(self) -> bool:
        """Whether one more round was asked for."""
        return not self.run.done and (self._steps > 0 or self.run.round < self._goal)

    def _called(self) -> str:
        """What the round that waits or runs was asked for by; nothing where that was taken back."""
        wanted = self._in_round or (self.state == "running" and self._wanted())
        return ("Run" if self._goal > self.run.round else "Step") if wanted else ""

    def _round(self) -> None:
        """One round, on the compute thread; queues the next behind what else waits there."""
        with self._changed:
            self._queued = False
            if self.state != "running":  # paused or stopped since
                return
            self._in_round = self._wanted()
            self._steps = max(self._steps - 1, 0)
        error: BaseException | None = None
        try:
            if self._in_round:
                self.meter.add(self.run.step())
        except RunDone:  # by another process, meanwhile
            pass
        except BaseException as raised:  # a thread's exception is shown nowhere: it is kept for `ensure` and the panels
            error = raised
        with self._changed:
            self._in_round, self._telling = False, True
            if error is not None or self.run.done:
                self._steps, self._goal, self.error = 0, 0, error
            again = self._wanted() and not self._queued
            if self.state == "stopping":  # type: ignore[comparison-overlap]  # another thread may have asked for it
                self._become("stopped")
            elif error is not None:
                self._become("failed")
            elif self.run.done:
                self._become("done")
            elif not self._wanted():
                self._become("paused")
            self._queued = self._queued or again
        self._tell()
        with self._changed:
            self._announced, self._telling = self.run.round, False
            self._changed.notify_all()
        if again:
            submit(lambda _: self._round(), name=self._called)

    def _rewind(self, round: int) -> None:
        try:
            self._refuse_stopped("rewind")  # it may have been, while this waited
            self.run.rewind(round)
        finally:
            with self._changed:
                self._rewinds -= 1
        with self._changed:
            self.error = None
            self._announced = round
            if self.state in ("failed", "done", "idle"):
                self._become("done" if self.run.done else "paused")
        self._tell()

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.notify_all()

    def _tell(self) -> None:
        for callback in list(self._listeners):
            try:
                callback(self)
            except Exception as error:
                self.listener_error = error
