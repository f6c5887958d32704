"""Files of a run: written whole or not at all, checked when read, held by one process at a time. No pickle.

What cannot be read is left alone; what was read and is wrong is set aside, by who holds the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..declare import tell
from ..files import (
    FORMAT,
    Damaged,
    acquire,
    parse_json,
    printable,
    refuse_later,
    set_aside,
    sync_files,
    write_atomically,
)
from .history import History

KEPT = 2  # latest states kept besides the checkpoints: if one is damaged, the one before takes over
T = TypeVar("T")


class RunBusy(RuntimeError):
    """Another process trains this run."""


class BadCheckpoint(RuntimeError):
    """A checkpoint is missing, cannot be read, is damaged, or of another run."""


class DamagedCheckpoint(BadCheckpoint):
    """It was read, and is not the state that belongs there."""


class Store:
    """The directory of one run, which bears its id."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.run = self.directory.name
        self.history = History(self.directory, self.run)
        self._lock = filelock.FileLock(self.directory / ".lock")
        self._said: set[str] = set()

    @contextlib.contextmanager
    def held(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            RunBusy: if another process (or thread) still holds it after `wait` seconds.
            SettingError: if the file system cannot lock files.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            acquire(self._lock, wait)
        except filelock.Timeout:
            raise RunBusy(
                f"run {self.run} is being trained by {self._owner()}; wait for it (wait=seconds), or use another store"
            ) from None
        try:
            with contextlib.suppress(OSError):  # only a hint for the message above
                if self._lock.lock_counter == 1:
                    (self.directory / ".owner").write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            self._lock.release()

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            return printable((self.directory / ".owner").read_text(errors="replace")[:100]) or "another process"
        return "another process"

    def say(self, text: str) -> None:
        """Warn of something, once."""
        if text not in self._said:
            self._said.add(text)
            tell(printable(text))

    def write_json(self, name: str, value: Any) -> None:
        """Write a small readable file."""
        write_atomically(self.directory / name, json.dumps(value, indent=1, sort_keys=True).encode())

    def checkpoint(self, round: int) -> Path:
        """Where the state after `round` lies."""
        return self.directory / "checkpoints" / f"round-{round:06d}.safetensors"

    def checkpoints(self) -> list[int]:
        """Rounds whose state is stored, ascending; copies under other names are none."""
        names = (path.name for path in self.directory.glob("checkpoints/round-*.safetensors"))
        matches = (re.fullmatch(r"round-(\d{6}|[1-9]\d{6,})\.safetensors", name, re.ASCII) for name in names)
        return sorted(int(match[1]) for match in matches if match)

    def save_state(self, round: int, tensors: dict[str, Tensor], about: dict[str, Any], keep: set[int]) -> None:
        """Write the state after `round`; older states go unless they are in `keep` or among the latest.

        Where a file stands that cannot be read, it stays: it may be whole.
        """
        if self.checkpoint(round).exists() and not _readable(self.checkpoint(round)):
            self.say(f"{self.checkpoint(round)}: cannot be read, so nothing takes its place; this state is not kept")
            return
        # Copies: an untrained head may be one tensor in the model and in its average, and safetensors takes no aliases.
        tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        meta = {"about": json.dumps({**about, "format": FORMAT, "run": self.run, "round": round}, sort_keys=True)}
        meta["digest"] = _digest(tensors, meta["about"])
        write_atomically(self.checkpoint(round), save(tensors, meta))
        for old in self.checkpoints()[:-KEPT]:
            if old not in keep:
                self.checkpoint(old).unlink(missing_ok=True)

    def load_state(self, round: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the state after `round` and check it.

        Raises:
            BadCheckpoint: if it is missing or cannot be read.
            DamagedCheckpoint: if it is torn or altered, or the state after another round or of another run.
        """
        path = self.checkpoint(round)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise BadCheckpoint(f"{path}: no such checkpoint; stored: {self.checkpoints()}") from None
        except OSError as error:
            raise BadCheckpoint(f"{path}: cannot be read ({error.strerror or error}), and was left as it is") from None
        try:
            meta, tensors = _header(content), load(content)
            about = parse_json(meta.get("about", ""), "about")
            run, stored, number = about.get("run", self.run), about.get("round"), about.get("format")
            whole = _digest(tensors, meta["about"]) == meta.get("digest")
        except (SafetensorError, Damaged, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise DamagedCheckpoint(f"{path}: cannot be understood ({error})") from None
        if not whole:
            raise DamagedCheckpoint(f"{path}: checksum does not match; the file was altered")
        refuse_later(number, path)
        if (run, stored) != (self.run, round):  # states from before the run was noted are judged by their contents
            raise DamagedCheckpoint(f"{path}: is the state of {run} after round {stored}")
        return tensors, about

    def latest_state(self, check: Callable[[dict[str, Tensor], dict[str, Any]], T], beyond: int = -1) -> T | None:
        """The newest state after more than `beyond` rounds that is whole and passes `check`, as `check` gives it.

        A warning names each one that is passed over; while the run is held, one that is damaged is set aside.
        """
        for _ in range(10):
            rounds, vanished = [round for round in self.checkpoints() if round > beyond], False
            for round in reversed(rounds):
                try:
                    return check(*self.load_state(round))
                except BadCheckpoint as error:
                    vanished |= not self.checkpoint(round).exists()  # a trainer went on, and tidied up
                    if self.checkpoint(round).exists():
                        self.say(f"{error}; going on from the one before")
                    if isinstance(error, DamagedCheckpoint) and self._lock.is_locked:
                        with contextlib.suppress(OSError):
                            set_aside(self.checkpoint(round))
            if not vanished:
                break
        return None

    def abouts(self) -> Iterator[dict[str, Any]]:
        """What the states say of themselves, newest first, unchecked: for values that have a checksum of their own."""
        for round in reversed(self.checkpoints()):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                about = parse_json(_header(self.checkpoint(round).read_bytes()).get("about", ""), "about")
                if isinstance(about, dict):
                    yield about

    def sync(self) -> None:
        """Have the disk take the files that tell how far the run is."""
        newest = [self.checkpoint(round) for round in self.checkpoints()[-KEPT:]]
        names = ("experiment.json", "versions.json", "history.log", "timings.jsonl", "checkpoints", "")
        sync_files([*newest, *(self.directory / name for name in names), self.directory.parent])

    def remove_parts(self) -> None:
        """Remove what processes killed while writing left behind; to be called while the run is held."""
        for folder in (self.directory, self.directory / "checkpoints"):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def _header(content: bytes) -> dict[str, str]:
    """The notes in a safetensors file: eight bytes of length, then JSON (github.com/huggingface/safetensors)."""
    size = int.from_bytes(content[:8], "little")
    return parse_json(content[8 : 8 + size], "header").get("__metadata__") or {}


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    digest = hashlib.blake2b(about.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
