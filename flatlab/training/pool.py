"""Processes of this machine that train the runs of a sweep, and end with the program that started them.

New processes are spawned: a fork of a process whose torch has threads can hang. Each imports the program's script
first, so one that starts them without `if __name__ == "__main__":` would start them without end: see `main_guard`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, NamedTuple

from ..declare import SettingError
from .main_guard import GUARD, NAME, RESPAWNED

PARENT_SECONDS = 1.0  # how often a worker looks whether its parent lives

_SPAWN = multiprocessing.get_context("spawn")


class Pool(NamedTuple):
    """Who works."""

    executor: Executor | None  # the user's
    workers: int  # processes to start without one
    graphics: int  # GPUs that they share out

    @contextlib.contextmanager
    def started(self, jobs: int) -> Iterator[tuple[Executor, int | None, Workers]]:
        """The executor to use, how many torch threads a worker gets (None: as it likes), and the processes started.

        If the block raises, these are killed at once.
        """
        if self.executor is not None:
            yield self.executor, None, Workers()
            return
        count, workers = min(self.workers, jobs), Workers()
        free = _SPAWN.Queue()
        for number in range(count):
            free.put(number % self.graphics if self.graphics else None)
        context: Any = workers
        with ProcessPoolExecutor(count, context, _begin, (free,)) as executor:
            try:
                yield executor, max(1, (os.cpu_count() or 1) // count), workers
            except BaseException:
                workers.kill()
                raise


class _Worker(_SPAWN.Process):  # type: ignore[name-defined, misc]
    """A process that Ctrl-C does not reach, from its first instruction on: its parent says when to end."""

    def start(self) -> None:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """A context of `multiprocessing` that spawns named processes, as an executor asks for them, and remembers them."""

    def __init__(self) -> None:
        self._started: list[_Worker] = []

    def Process(self, *arguments: Any, **options: Any) -> _Worker:
        """A process, not yet started."""
        worker = _Worker(*arguments, name=f"{NAME}-{len(self._started)}", **options)
        self._started.append(worker)
        return worker

    def __getattr__(self, name: str) -> Any:
        return getattr(_SPAWN, name)

    def kill(self) -> None:
        """End all of them, wherever they are."""
        for worker in self._started:
            if worker.pid is not None:
                worker.kill()

    def check(self) -> None:
        """Say why processes ended, if they could not even start.

        Raises:
            SettingError: if the script, which each of them imports, is to blame.
        """
        codes = {worker.exitcode for worker in self._started}
        if RESPAWNED in codes:
            raise SettingError("sweep", allowed=GUARD)
        if 1 in codes:  # an exception outside a job, whose exceptions are handed back
            raise SettingError(
                "sweep",
                allowed="a worker ended with an error, printed above, while it imported this script: put what the"
                ' script does, the call of sweep included, under `if __name__ == "__main__":`',
            )


def end_with_parent() -> None:
    """From now on this process ends at once when the one that started it has ended, in whatever way."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="flatlab-parent", daemon=True).start()


def _watch(parent: int) -> None:
    process = multiprocessing.parent_process()
    expected = parent if process is None else process.pid  # it may have ended before the first look
    while os.getppid() == expected and (process is None or process.is_alive()):
        time.sleep(PARENT_SECONDS)
    os._exit(1)  # runs are whole on disk at any time


def _begin(free: Any) -> None:
    """Runs first in a worker: it leaves Ctrl-C to its parent, ends with it, and takes one GPU, if there are any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    number = free.get()
    if number is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
