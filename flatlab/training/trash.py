"""Runs that were deleted, for as long as that can be undone: they lie in the store's `.trash`, where no view looks."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from .checkpoints import Store

TRASH = ".trash"
DAYS = 7  # until what nobody emptied, as the process ended, goes with the next run that is deleted


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
