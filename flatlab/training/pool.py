"""Processes of this machine that train the runs of a sweep, and end with the program that started them.

New processes are spawned: a fork of a process whose torch has threads can hang. Each imports the program's script
first, so one that starts them without `if __name__ == "__main__":` would start them without end. What is certain from
the script's own text is refused before any process starts; the rest when a new process comes to the call, by its exit
status.
"""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ..declare import SettingError

NAME = "flatlab-sweep"  # of the workers, as a respawned script sees it
RESPAWNED = 97  # exit status of a worker that came to `sweep` while it imported the script
GUARD = (
    "starts new processes, and each imports this script first: put what the script does, this call included,"
    ' under `if __name__ == "__main__":`'
)
PARENT_SECONDS = 1.0  # how often a worker looks whether its parent lives

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_SPAWN = multiprocessing.get_context("spawn")


def cores_allowed() -> int:
    """How many of the machine's cores affinity (SLURM, taskset) and a container's quota leave to this process."""
    import joblib  # half a second, and only sweeps need it

    count: int = joblib.cpu_count()
    return count


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
                yield executor, max(1, cores_allowed() // count), workers
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

    def check(self, called: str = "sweep") -> None:
        """Say why processes ended, if they could not even start; `called` is what started them.

        Raises:
            SettingError: if the script, which each of them imports, is to blame.
        """
        codes = {worker.exitcode for worker in self._started}
        if RESPAWNED in codes:
            raise SettingError(called, allowed=GUARD)
        if 1 in codes:  # an exception outside a job, whose exceptions are handed back
            raise SettingError(
                called,
                allowed="a worker ended with an error, printed above, while it imported this script: put what the"
                ' script does, this call included, under `if __name__ == "__main__":`',
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


def refuse_respawn(called: str = "sweep") -> None:
    """End a new process that is still importing the script and has come to a call that starts others.

    Raises:
        SystemExit: in a worker of a sweep, whose parent then says what is wrong, once.
        SettingError: in any other process.
    """
    for frame in _frames():
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            # Python has not yet noted its parent, but it has its name.
            if multiprocessing.current_process().name.startswith(NAME):
                raise SystemExit(RESPAWNED)
            raise SettingError(called, allowed=GUARD)


def refuse_unguarded(called: str = "sweep") -> None:
    """Refuse to start processes that would come to this very call, or could not import the script.

    Raises:
        SettingError: if the program is in no file (read from standard input), or its call is under no condition.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:  # a notebook or a console: nothing is imported
        return
    if getattr(main, "__spec__", None) is None and not Path(file).exists():
        raise SettingError(
            called,
            allowed=f"starts new processes, which import the script, and {file} is no file: save the script and run"
            " that",
        )
    ways: list[FrameType] = []
    for frame in _frames():
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            ways.insert(0, frame)
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            if ways[:1] == [frame] and not any(map(_may_differ, ways)):
                raise SettingError(called, allowed=GUARD)
            return


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _may_differ(frame: FrameType) -> bool:
    """Whether a new process may take another way through this file than this one: a condition decides, or none knows.

    At the top of a script an exit on another way ends the new process, so that a call after it cannot work either;
    a function may have returned.
    """
    line, code = frame.f_lineno, frame.f_code
    try:
        tree = ast.parse(Path(code.co_filename).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return True
    first = 0 if code.co_name == "<module>" else code.co_firstlineno
    for node in ast.walk(tree):
        begin, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if isinstance(node, ast.Return) and 0 < first <= begin < line:
            return True
        if begin <= line <= end and (
            isinstance(node, (ast.If, ast.While, ast.Match))
            or (isinstance(node, (ast.BoolOp, ast.IfExp)) and "__name__" in ast.dump(node))
        ):
            return True
    return False
