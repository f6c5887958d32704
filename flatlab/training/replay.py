"""Rounds that are done again: up to a state that was not stored, or for rows that were lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from .checkpoints import Store
from .recording import Record
from .round import Federation
from .state import State


def replayed(record: Record, federation: Federation, round: int, state: State | None = None) -> State | None:
    """The state after `round`, trained from the newest whole one on record; None if there is none so early.

    Args:
        record: of the run.
        federation: of the run.
        round: rounds done.
        state: begun from if it is as near as those on record.
    """
    state = record.nearest(round, state)
    if state is None and record.experiment.from_scratch:
        state = federation.start()
    while state is not None and state.round < round:
        state, _ = federation.advance(state)
    return state


def remade_rows(record: Record, federation: Federation, rounds: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each of some rounds: a parent's from its record, others by training; none where neither can be."""
    state = None
    ranks, federation.ranks = federation.ranks, None  # the other processes know nothing of this
    try:
        for round in rounds:
            rows = _parents_rows(record, round)
            if rows is None:
                rows, state = [], replayed(record, federation, round - 1, state)
                if state is not None:
                    state, report = federation.round(state)
                    rows = report.rows()
            yield rows
    finally:
        federation.ranks = ranks


def _parents_rows(record: Record, round: int) -> list[dict[str, Any]] | None:
    """The rows of a round that the parent of a fork did, as far as they are there; None if it did not do it."""
    parent = record.experiment.parent
    if parent is None or round > parent.round:
        return None
    with contextlib.suppress(OSError):
        rows = Store(record.store.directory.parent / parent.run).history.read()
        return rows[rows["round"] == round].to_dict("records")
    return []
