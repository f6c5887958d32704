"""One thread for all that is computed in the background: rounds and measurements take turns on it.

Two threads inside torch slow each other down on a CPU (each brings its own pool), so panels never compute where their
buttons' callbacks run. A job's listener hears of it on this thread; only widget traits may be changed there.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeVar

T = TypeVar("T")
State = Literal["waiting", "running", "done", "failed", "cancelled"]
PATIENCE = 30.0  # seconds that a round in flight has to end when Python goes away
LAST_PATIENCE = 10.0  # seconds for what was interrupted


class Cancelled(RuntimeError):
    """The job was cancelled, so it has no result."""


class Job:
    """One piece of work in the background.

    Args:
        work: called with the job; what it returns is the result. It may call `report`, which is what measurements take
            as `progress`.
        changed: called with the job after each change of its state and each report.
        name: what a person calls it, or what says so at the moment; "" for what passes unnoticed.

    Attributes:
        begun: when it began, as `time.monotonic` has it; 0 before.
        give_up: what a person's Cancel does; `cancel` unless its owner has more to do.
        state: "waiting", "running", "done", "failed" or "cancelled".
        progress: what `report` was last called with: how much is done, of how much.
        result: of `work`, once done. A job that was cancelled while running keeps what the measurement returned.
        error: the exception that ended it, if one did.
        listener_error: what `changed` raised last, if it did: that does not end the work.
    """

    def __init__(
        self,
        work: Callable[[Job], Any],
        changed: Callable[[Job], None] | None = None,
        name: str | Callable[[], str] = "",
    ) -> None:
        self.state: State = "waiting"
        self.begun = 0.0
        self.give_up: Callable[[], None] = self.cancel
        self._name = name
        self.progress = (0, 0)
        self.result: Any = None
        self.error: BaseException | None = None
        self.listener_error: Exception | None = None
        self._work, self._changed = work, changed
        self._stop, self._over = threading.Event(), threading.Event()

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self._name if isinstance(self._name, str) else self._name()

    def report(self, done: int, total: int) -> bool:
        """Tell how much is done; the answer is whether to go on."""
        self.progress = (done, total)
        self._tell()
        return not self._stop.is_set()

    def cancel(self) -> None:
        """Ask the job to end: at once if it still waits, else at its next report."""
        self._stop.set()

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._over.is_set()

    def wait(self, seconds: float | None = None) -> Any:
        """The result, once there is one.

        Raises:
            TimeoutError: if it takes longer than `seconds`.
            Cancelled: if the job was cancelled before it began.
            BaseException: whatever the work raised.
        """
        left = float("inf") if seconds is None else seconds
        while not self._over.wait(min(left, 0.2)):  # in slices, so that an interrupt gets through on every platform
            left -= 0.2
            if left <= 0:
                raise TimeoutError(f"the job is still {self.state} after {seconds} s")
        if self.error is not None:
            raise self.error
        if self.state == "cancelled" and self.result is None:
            raise Cancelled("the job was cancelled")
        return self.result

    def _run(self) -> None:
        if not self._stop.is_set():
            self.state, self.begun = "running", time.monotonic()
            self._tell()
            try:
                self.result = self._work(self)
            except BaseException as error:  # a thread's exception is shown nowhere: it is kept for whoever waits
                self.error = error
        self.state = "failed" if self.error else "cancelled" if self._stop.is_set() else "done"
        self._tell()
        self._over.set()

    def _tell(self) -> None:
        if self._changed is not None:
            try:
                self._changed(self)
            except Exception as error:  # a listener that fails to draw must not end the work
                self.listener_error = error
        _tell_watchers()


_jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
_order: list[Job] = []  # those that are not over
_watchers: list[weakref.WeakMethod[Callable[[], None]]] = []

_lock = threading.Lock()
_thread: threading.Thread | None = None


def submit(
    work: Callable[[Job], Any],
    changed: Callable[[Job], None] | None = None,
    name: str | Callable[[], str] = "",
) -> Job:
    """Queue a piece of work; returns at once."""
    return enqueue(Job(work, changed, name))


def enqueue(job: Job) -> Job:
    """Queue a job that was made before, so that whoever made it could note it before it begins."""
    global _thread
    with _lock:
        _order.append(job)
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="flatlab-compute", daemon=True)
            _thread.start()
        _jobs.put(job)
    _tell_watchers()
    return job


def named() -> list[Job]:
    """The jobs that have a name and are not over: the one that runs, if it has one, and those that wait, in order."""
    with _lock:
        return [job for job in _order if job.name and not (job.state == "waiting" and job._stop.is_set())]


def watch(callback: Callable[[], None]) -> None:
    """Have a method called, on any thread, when a job's state or progress changes, for as long as its object lives."""
    _watchers.append(weakref.WeakMethod(callback))


def _tell_watchers() -> None:
    for reference in list(_watchers):
        if (callback := reference()) is None:
            _watchers.remove(reference)
        else:
            with contextlib.suppress(Exception):  # as for a job's own listener
                callback()


def call(work: Callable[[], T]) -> T:
    """Do a piece of work on the compute thread and wait for its result; at once if this is that thread."""
    return work() if on_compute_thread() else submit(lambda _: work()).wait()


def on_compute_thread() -> bool:
    """Whether the caller is a job: it must not wait for another."""
    return threading.current_thread() is _thread


def _serve() -> None:
    while (job := _jobs.get()) is not None:
        job._run()
        with _lock:
            _order.remove(job)
        if job.name:
            _tell_watchers()


def _in_child() -> None:
    """A forked process has no thread of its parent's, and must not wait for the locks that this one held."""
    global _jobs, _lock, _thread
    _jobs, _lock, _thread = queue.SimpleQueue(), threading.Lock(), None
    _order.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)


@atexit.register
def _finish() -> None:
    """End the thread before Python goes away: inside torch it would abort the process (exit status 134)."""
    for job in list(_order):
        job.cancel()
    if _thread is None:
        return
    _jobs.put(None)
    if _ended(PATIENCE):
        return
    # What does not ask whether to go on is interrupted between two lines of Python; files are written atomically.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(_thread.ident or 0), ctypes.py_object(SystemExit))
    if _ended(LAST_PATIENCE):
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(1 if getattr(sys, "last_value", None) is not None else 0)  # the status of `sys.exit` is not to be had here


def _ended(seconds: float) -> bool:
    """Whether the thread ends within so many seconds; an interrupt makes the wait short."""
    assert _thread is not None
    end = time.monotonic() + seconds
    try:
        while _thread.is_alive() and time.monotonic() < end:
            _thread.join(0.1)
    except KeyboardInterrupt:
        pass
    return not _thread.is_alive()
