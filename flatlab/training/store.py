"""Files of a run: written whole or not at all, checked when read, held by one process at a time. No pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

KEPT = 2  # latest states kept besides the checkpoints: if one is damaged, the one before takes over
COLUMNS = {"round": "int64", "split": "str", "metric": "str", "value": "float64", "client": "int64"}


class RunBusy(RuntimeError):
    """Another process trains this run."""


class BadCheckpoint(RuntimeError):
    """A checkpoint is missing, truncated, altered, or of another model."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`, or leave what was there.

    A killed process cannot tear a file. A power cut can, as nothing is flushed to the disk here (it would cost more
    than a fast round); for states the checksum notices, and the state before takes over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Store:
    """The directory of one run."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._lock = filelock.FileLock(self.directory / ".lock")

    @contextlib.contextmanager
    def held(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            RunBusy: if another process (or thread) still holds it after `wait` seconds.
        """
        owner = self.directory / ".owner"
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=wait)
        except filelock.Timeout:
            who = owner.read_text() if owner.exists() else "another process"
            raise RunBusy(
                f"run {self.directory.name} is being trained by {who}; wait for it (wait=seconds), or use another store"
            ) from None
        try:
            with contextlib.suppress(OSError):  # only a hint for the message above
                if self._lock.lock_counter == 1:
                    owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            self._lock.release()

    def write_json(self, name: str, value: Any) -> None:
        """Write a small readable file."""
        write_atomically(self.directory / name, json.dumps(value, indent=1, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        """Read it; None if it is not there."""
        path = self.directory / name
        return json.loads(path.read_text()) if path.exists() else None

    def checkpoint(self, round: int) -> Path:
        """Where the state after `round` lies."""
        return self.directory / "checkpoints" / f"round-{round:06d}.safetensors"

    def checkpoints(self) -> list[int]:
        """Rounds whose state is stored, ascending."""
        return sorted(
            int(path.stem.removeprefix("round-")) for path in self.directory.glob("checkpoints/round-*.safetensors")
        )

    def save_state(self, round: int, tensors: dict[str, Tensor], about: dict[str, Any], keep: set[int]) -> None:
        """Write the state after `round`; older states go unless they are in `keep` or among the latest."""
        # Copies: an untrained head may be one tensor in the model and in its average, and safetensors takes no aliases.
        tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        meta = {"about": json.dumps({**about, "round": round}, sort_keys=True)}
        meta["digest"] = _digest(tensors, meta["about"])
        write_atomically(self.checkpoint(round), save(tensors, meta))
        for old in self.checkpoints()[:-KEPT]:
            if old not in keep:
                self.checkpoint(old).unlink(missing_ok=True)

    def load_state(self, round: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the state after `round` and check it.

        Raises:
            BadCheckpoint: if it is missing, truncated or altered.
        """
        path = self.checkpoint(round)
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except FileNotFoundError:
            raise BadCheckpoint(f"{path}: no such checkpoint; stored: {self.checkpoints()}") from None
        except (SafetensorError, OSError) as error:
            raise BadCheckpoint(f"{path}: cannot be read ({error})") from None
        if _digest(tensors, meta.get("about", "")) != meta.get("digest"):
            raise BadCheckpoint(f"{path}: checksum does not match; the file was altered")
        return tensors, json.loads(meta["about"])

    def latest_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest state that is whole; a warning names each damaged one that is passed over."""
        for round in reversed(self.checkpoints()):
            try:
                return self.load_state(round)
            except BadCheckpoint as error:
                warnings.warn(f"{error}; going on from the one before", stacklevel=2)
                with contextlib.suppress(OSError):
                    self.checkpoint(round).rename(self.checkpoint(round).with_suffix(".damaged"))
        return None

    def append_history(self, rows: list[dict[str, Any]]) -> None:
        """Add a round's rows to the log that `history` folds into the table."""
        with open(self.directory / "history.log", "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(rows))  # the newline first: after half a line, a whole one can follow

    def history(self, until: int | None = None) -> pd.DataFrame:
        """All rows up to round `until`: the table, and what the log holds beyond it."""
        path = self.directory / "history.parquet"
        table = pd.read_parquet(path) if path.exists() else empty_history()
        known = int(table["round"].max()) if len(table) else -1
        rows = []
        for line in json_lines(self.directory / "history.log"):
            rows += [row for row in line if row["round"] > known]
        if rows:
            # A round trained again after a crash stands twice, with equal values: streams do not depend on the past.
            fresh = pd.DataFrame(rows).drop_duplicates(["round", "split", "metric", "client"], keep="last")
            table = pd.concat([table, fresh.astype(COLUMNS)], ignore_index=True)
        return table if until is None else table[table["round"] <= until].reset_index(drop=True)

    def fold_history(self, until: int) -> None:
        """Write the table anew and start an empty log."""
        table = self.history(until)
        self.write_history(table)
        write_atomically(self.directory / "history.log", b"")

    def remove_parts(self) -> None:
        """Remove what processes killed while writing left behind; to be called while the run is held."""
        for part in self.directory.rglob(".*.part"):
            part.unlink(missing_ok=True)

    def write_history(self, table: pd.DataFrame) -> None:
        """Write the table, whole or not at all."""
        write_atomically(self.directory / "history.parquet", table.to_parquet(index=False))


def json_lines(path: Path, newest_first: bool = False) -> Iterator[Any]:
    """The values of a file of JSON lines; half a line, of a process killed while writing it, is passed over."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in reversed(lines) if newest_first else lines:
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def empty_history() -> pd.DataFrame:
    """A history without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    digest = hashlib.blake2b(about.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
