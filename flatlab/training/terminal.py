"""Lines in a terminal that are written again in place.

The cursor rests below them, so that what others print follows; each frame is one write, so that an interrupt leaves a
whole one. A caller who stops has nothing to tidy up.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from ..files import printable


def kernel() -> Any:
    """IPython's kernel, in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython.get_ipython(), "kernel", None) if ipython is not None else None


class Lines:
    """Some lines of a terminal.

    Args:
        stream: to the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: list[str] = []

    def write(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the last ones; the last line stays where not all fit into the window."""
        high = max(self._size().lines, 4)
        shown = [printable(line) for line in lines]
        if len(shown) >= high:
            shown[high - 3 : -1] = [f"… {len(shown) - high + 2} more"]
        shown = [line[: self.width] for line in shown]  # a line that wraps would be two
        if shown == self._shown:
            return
        up = f"\x1b[{len(self._shown)}A" if self._shown else ""
        text = f"\r{up}" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J"
        self._shown = shown
        self._stream.write(text)
        self._stream.flush()

    @property
    def width(self) -> int:
        """Characters that fit into a line."""
        return self._size().columns - 1

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()
        return size if all(size) else os.terminal_size((80, 24))  # some terminals do not know their size
