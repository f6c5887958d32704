"""The runs of a store: one look at its directories, which every view of several runs shares.

A directory that is damaged, foreign, or of classes that this process does not have is marked, and hides no other. Runs
that were deleted lie in the store's `.trash`, where no view looks, for as long as that can be undone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..files import file_signature, printable, user_folder
from .checkpoints import Store
from .experiment import Experiment
from .run_files import read_experiment

TRASH = ".trash"
DAYS = 7  # until what nobody emptied, as the process ended, goes with the next run that is deleted


class Held(NamedTuple):
    """A run of a store."""

    id: str
    directory: Path
    experiment: Experiment


class Scan:
    """What a store holds; see `scan`.

    Attributes:
        problems: why the other directories that look like runs cannot be shown, by their names, after `look`.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.problems: dict[str, str] = {}
        self._seen: dict[str, tuple[Any, Held | str]] = {}
        self._lock = threading.Lock()

    def look(self) -> dict[str, Held]:
        """Its runs by their ids, in the order of their directories' names; only what is new or has changed is read.

        Raises:
            OSError: if the store is there and cannot be read.
        """
        with self._lock:
            before, self._seen = self._seen, {}
            for directory in self._directories():
                signature = _signature(directory / "experiment.json")
                last = before.get(directory.name)
                held = last[1] if last is not None and last[0] == signature else _read(directory)
                if held is not None:
                    self._seen[directory.name] = signature, held
            self.problems = {name: held for name, (_, held) in self._seen.items() if isinstance(held, str)}
            runs = [held for _, held in self._seen.values() if isinstance(held, Held)]
            # A link beside its run says the same twice; the directory itself comes last, and counts.
            return {held.id: held for held in sorted(runs, key=lambda held: held.directory.is_symlink())[::-1]}

    def _directories(self) -> list[Path]:
        try:
            with os.scandir(self.store) as entries:
                return sorted(Path(entry.path) for entry in entries if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []


_scan = functools.lru_cache(maxsize=64)(Scan)


def scan(store: str | Path) -> Scan:
    """The one `Scan` of a store in this process."""
    return _scan(user_folder(store, "store").absolute())


def _signature(path: Path) -> Any:
    with contextlib.suppress(OSError):
        return file_signature(path)
    return None


def _read(directory: Path) -> Held | str | None:
    """The run in a directory, or why it cannot be shown; None if it does not look like one."""
    try:
        experiment = read_experiment(directory)
        _ = experiment.algorithm.name  # a class of the user's may fail only here
        id = experiment.id
        return Held(id, directory if directory.name == id else directory.resolve(), experiment)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever a file, or a class of the user's, comes up with
        return printable(next(iter(str(error).splitlines()), type(error).__name__))[:200]


def discard(directory: Path) -> Path:
    """Move a run out of its store; returns where it lies now.

    Raises:
        FileNotFoundError: if it is not there.
        RunBusy: if somebody trains it.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: there is no such run any more")
    trash = directory.parent / TRASH
    trash.mkdir(exist_ok=True)
    for old in trash.iterdir():
        if time.time() - _when(old) > 86_400 * DAYS:
            remove(old)
    aside = trash / f"{directory.name}~{time.time_ns()}"
    with Store(directory).held():
        if os.name != "nt":
            directory.rename(aside)
    if os.name == "nt":  # there nothing moves while a file in it is open, and the lock is one
        directory.rename(aside)
    return aside


def restore(aside: Path) -> Path:
    """Put a run back; returns its directory.

    Raises:
        FileNotFoundError: if it was removed for good.
        FileExistsError: if the same run was made again meanwhile.
    """
    directory = aside.parent.parent / aside.name.rpartition("~")[0]
    if directory.exists():
        raise FileExistsError(f"{directory}: the same run was made again meanwhile; the old one stays in {aside}")
    return aside.rename(directory)


def remove(aside: Path) -> None:
    """Remove for good what `discard` has moved."""
    if aside.is_symlink():
        aside.unlink(missing_ok=True)
    else:
        shutil.rmtree(aside, ignore_errors=True)


def _when(aside: Path) -> float:
    moment = aside.name.rpartition("~")[2]
    return int(moment) / 1e9 if moment.isdecimal() else time.time()  # nothing of ours
