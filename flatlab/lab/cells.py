"""Which cell of a notebook made a panel: when that cell runs again, what it had made is nobody's any more."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ..training.progress import kernel

if TYPE_CHECKING:
    from .panel import Panel

_made: dict[str, tuple[str, list[weakref.ref[Panel]]]] = {}  # by cell: its execution, and the panels made in it


def take_over(panel: Panel) -> None:
    """Close what an earlier execution of the cell that now makes a panel has made; outside of notebooks nothing."""
    cell, execution = _here()
    if not cell:
        return
    before, panels = _made.get(cell, ("", []))
    if before != execution:
        for former in panels:
            if (old := former()) is not None:
                old.close()
        panels = []
    _made[cell] = execution, [*panels, weakref.ref(panel)]


def _here() -> tuple[str, str]:
    """The cell that is being executed, and its execution; empty where nobody names cells."""
    if (running := kernel()) is None:
        return "", ""
    parent = running.get_parent()
    return parent.get("metadata", {}).get("cellId") or "", parent.get("header", {}).get("msg_id") or ""
