"""Arrays from an npz file that nobody vouches for: what it claims is checked before memory is taken for it."""

from __future__ import annotations

import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..declare import SettingError

LARGE, MOST = 2**30, 100  # more than a GiB of arrays must take at least a hundredth of that in the file
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What zipfile, its decompressors and numpy raise on bytes that are no archive of arrays.
_WRONG = (
    OSError, ValueError, KeyError, EOFError, TypeError, SyntaxError, RuntimeError, RecursionError, MemoryError,
    OverflowError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def read_arrays(path: Path, *layouts: tuple[Sequence[str], Sequence[str]]) -> dict[str, Any]:
    """The arrays of the first layout whose first array is there, else of the last; an optional one may be missing.

    Args:
        path: of the file.
        layouts: the names of the arrays that a layout requires, and of its optional ones.

    Raises:
        SettingError: naming file and key, if one is missing, damaged, an object, larger than what the file can hold
            (a header that claims too much), or than this machine's memory. Real images shrink to a fifth at best, so
            more than 1 GiB that takes less than a hundredth of it in the file is refused, too.
    """  # noqa: DOC501  a ValueError inside becomes one of these
    key = "the archive"
    try:
        with zipfile.ZipFile(path) as archive:
            held = {}
            there = {member.removesuffix(".npy") for member in archive.namelist()}
            required, optional = next((layout for layout in layouts if layout[0][0] in there), layouts[-1])
            for member in archive.namelist():  # also those not asked for: one altered letter would hide an optional one
                key = member.removesuffix(".npy")
                if key in held:
                    raise ValueError("stands in it twice")
                held[key] = _claimed(archive, member, checked=key in (*required, *optional))
            wanted = [key for key in (*required, *optional) if key in required or key in held]
            total, most = 0, _memory()
            for key in wanted:
                total += held[key]
                if total > LARGE and total > MOST * path.stat().st_size:
                    raise ValueError(f"claims {held[key]:,} bytes, which a file of {path.stat().st_size:,} cannot hold")
                if total > most:
                    raise ValueError(f"needs {total:,} bytes with those before it; this machine has {most:,}")
            arrays = {}
            for key in wanted:
                with archive.open(f"{key}.npy") as file:
                    arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except _WRONG as error:
        said = "there is none" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise SettingError(
            f"{path}: {key}", allowed=f"cannot be read as a plain array ({said}); see data/README.md"
        ) from error


def _claimed(archive: zipfile.ZipFile, member: str, checked: bool) -> int:
    """The bytes of one array, by its header; opening it compares the two names that the archive has for it."""
    with archive.open(member) as file:
        if not checked:
            return 0
        version = np.lib.format.read_magic(file)
        if version not in _READERS:  # (3, 0) is for fields with foreign names only
            raise ValueError(f"its header has version {version}")
        shape, _, kind = _READERS[version](file)
        if kind.hasobject or kind.names:
            raise ValueError(f"holds {kind}, which are no plain numbers or names")
        size = math.prod(shape) * kind.itemsize
        claimed = archive.getinfo(member).file_size - file.tell()
        if min(shape, default=0) < 0 or size != claimed:
            raise ValueError(
                f"its header claims shape {shape} of {kind}, {size:,} bytes, where the file has {claimed:,}"
            )
        return size


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such question here
        return math.inf
