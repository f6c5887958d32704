"""Files: paths as people write them, contents written whole or not at all, and checked when they are read.

What was read and is not what was written is `Damaged`; what cannot be read is an `OSError`, and says nothing about the
bytes on the disk. Only the first may be set aside.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from .declare import SettingError
from .later import pa, pd, pq

FORMAT = 1  # of the files of runs and measurements; those from before it have no number
LONGEST_NAME = 255  # on the usual file systems
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)  # by another
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
_MARK = b"flatlab-digest:"


class Damaged(ValueError):
    """The bytes were read, and are not what was written there."""


def user_path(given: str | os.PathLike[str], name: str = "path") -> Path:
    """A path that a user gives, with `~` and `~name` expanded.

    Raises:
        SettingError: if it is no path, or there is no such home directory.
    """
    try:
        path = Path(given).expanduser()
    except (TypeError, RuntimeError) as error:
        raise SettingError(name, given, f"{error}") from None
    if "\0" in str(path):
        raise SettingError(name, given, "a path has no NUL characters")
    if max(map(len, path.parts), default=0) > LONGEST_NAME:
        raise SettingError(name, given, f"a file's name has at most {LONGEST_NAME} characters")
    return path


def user_folder(given: str | os.PathLike[str], name: str) -> Path:
    """A folder that a user gives, which need not be there yet.

    Raises:
        SettingError: as `user_path`, or if a file is in its place.
    """
    path = user_path(given, name)
    file = next((place for place in (path, *path.parents) if os.path.isfile(place)), None)
    if file is not None:
        raise SettingError(name, str(given), f"{file} is a file; name a folder")
    return path


def printable(text: object) -> str:
    """Text for a terminal: what is no letter, sign or space (escape sequences, lone surrogates) is spelled out."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in str(text)
    )


def json_cell(value: Any) -> Any:
    """A table's cell as JSON takes it, which knows no NaN."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (bool, int, float)) else printable(value)


def digest(content: bytes | memoryview) -> str:
    """32 hexadecimal digits that stand for some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_signature(path: Path) -> tuple[int, ...]:
    """What is another once a file was written anew."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def write_atomically(path: Path, content: bytes | memoryview, *, sync: bool = False) -> None:
    """Put `content` at `path`, or leave what was there; with `sync` a power cut cannot tear it either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sync_files(paths: Iterator[Path] | list[Path]) -> None:
    """Have the disk take what was written to files or folders; those that are gone are passed over."""
    for path in paths:
        with contextlib.suppress(OSError):  # gone; or a folder, on systems that cannot open one
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that another can take its place and a person can look at it."""
    number, aside = 1, path.with_suffix(".damaged")
    while aside.exists():
        number += 1
        aside = path.with_suffix(f".damaged-{number}")
    path.rename(aside)
    return aside


def parse_json(content: bytes | str, where: object) -> Any:
    """The value of a JSON text, with or without a byte-order mark.

    Raises:
        Damaged: if it is not JSON, in one sentence that begins with `where`.
    """
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except RecursionError:
        raise Damaged(f"{where}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise Damaged(f"{where}: not valid JSON: {error}") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError, OSError: if it cannot be read.
        Damaged: if what was read is not JSON.
    """
    return parse_json(path.read_bytes(), path)


def sealed(value: dict[str, Any], owner: str) -> dict[str, Any]:
    """A JSON object with the format's number and a checksum, in which the id of its owner counts, too."""
    value = {**value, "format": FORMAT}
    return {**value, "check": _seal(value, owner)}


def unsealed(value: Any, owner: str, where: object) -> dict[str, Any]:
    """The inverse of `sealed`; an object without a seal, from before there were any, as it is.

    Raises:
        Damaged: if it is no object, or its seal is broken or another's.
        SettingError: if a later version wrote it.
    """
    if not isinstance(value, dict):
        raise Damaged(f"{where}: holds no object")
    if "check" not in value and "format" not in value:
        return value
    plain = {key: inner for key, inner in value.items() if key != "check"}
    if value.get("check") != _seal(plain, owner):
        raise Damaged(f"{where}: checksum does not match; the file was altered, or is another run's")
    refuse_later(plain["format"], where)
    return {key: inner for key, inner in plain.items() if key != "format"}


def refuse_later(number: Any, where: object) -> None:
    """Refuse a whole file of a format that a later version made.

    Raises:
        SettingError: if `number` is larger than this version's.
    """
    if isinstance(number, int) and number > FORMAT:
        raise SettingError(
            f"{where}", allowed=f"written by a later flatlab (format {number}, here {FORMAT}); update this one"
        )


def _seal(value: dict[str, Any], owner: str) -> str:
    return digest(f"{owner} {json.dumps(value, sort_keys=True)}".encode())


def table_bytes(table: pa.Table, about: dict[str, Any]) -> bytes:
    """A parquet file with `about` in it, and a checksum of all its bytes, its own digits taken as zeros."""
    zeros = b"0" * 32
    notes = {**(table.schema.metadata or {}), b"flatlab": json.dumps(about).encode(), b"flatlab-check": _MARK + zeros}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(notes), sink)
    content = sink.getvalue().to_pybytes()
    before, mark, after = content.rpartition(_MARK + zeros)
    return before + _MARK + digest(content).encode() + after if mark else content


def read_table(content: bytes, where: object) -> tuple[pa.Table, dict[str, Any]]:
    """The inverse of `table_bytes`; a file from before there were checksums counts if it can be parsed.

    Raises:
        Damaged: if it is another's, torn or altered.
    """
    before, mark, after = content.rpartition(_MARK)
    if mark and digest(before + mark + b"0" * 32 + after[32:]) != after[:32].decode("latin-1"):
        raise Damaged(f"{where}: checksum does not match; the file is torn or was altered")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)  # most are small
        about = json.loads((table.schema.metadata or {}).get(b"flatlab", b"{}"))
    except (pa.ArrowException, OSError, ValueError, MemoryError, RecursionError) as error:
        raise Damaged(f"{where}: not a whole parquet file ({_first_line(error)})") from None
    return table, about if isinstance(about, dict) else {}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def acquire(lock: filelock.BaseFileLock, wait: float) -> None:
    """Take a lock; `wait` in seconds, negative: for ever.

    Raises:
        filelock.Timeout: if another holds it.
        OSError: if its file cannot be opened.
        SettingError: if the file system has no locks: a lock that nobody can take would look like one held by another.
    """
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _probe(lock.lock_file)
            lock.acquire(timeout=wait)
    except filelock.Timeout:  # an OSError, too
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS and error.filename is not None:
            raise  # the file cannot be opened
        folder = os.path.dirname(lock.lock_file)
        raise SettingError(
            folder, allowed=f"its file system cannot lock files ({error}); use a folder on another file system"
        ) from None


def _probe(path: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
    finally:
        os.close(handle)
