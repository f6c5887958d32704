"""Seconds that training took, from kept runs: rounds that several of them share were computed once, and count once.

    spent([archive.about(run) for run in runs]).seconds

A run that goes on from another one's round has that one's timings up to there as its own; `run.json` says under
`versions` where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .archive import TAKEN
from .costs import hours

Training = tuple[str, str | None]  # a run's id and when it was begun: trained again for its weights it is another one


class Spent(NamedTuple):
    """Seconds, and whether each of them is known, or some in proportion to rounds."""

    seconds: float
    exact: bool

    @property
    def told(self) -> str:
        """As a person reads them."""
        return f"{self.about}{hours(self.seconds)}"

    @property
    def about(self) -> str:
        """The word before a number that is not exact."""
        return "" if self.exact else "about "


def spent(kept: Iterable[dict[str, Any]]) -> Spent:
    """What runs took in all.

    Rounds count where they were done. Those of a run that is not among the kept ones count by the run that took the
    most of them. Earlier versions did not keep what the rounds took that a run has from another: this is then in
    proportion to the rounds of that other run, or of its own.

    Args:
        kept: what each `run.json` says.
    """
    every = {_training(about): about for about in kept}
    seconds: dict[Training, float] = {}
    others: dict[Training, float] = {}
    exact = True
    for training, about in every.items():
        (_, own), *taken = _parts(about, every)
        seconds[training] = own
        for other, part in taken:
            others[other] = max(part, others.get(other, 0.0))
        exact &= not taken or (TAKEN in about and len(taken) == 1)
    return Spent(sum(seconds.values()) + sum(part for other, part in others.items() if other not in every), exact)


def _parts(about: dict[str, Any], every: dict[Training, dict[str, Any]]) -> Iterator[tuple[Training, float]]:
    """The seconds of a run by who spent them: its own first, then those of the run that it goes on from, and so on."""
    training, seconds, versions = _training(about), about["seconds"], about["versions"]
    rounds, known = about["planned"]["rounds"], about.get(TAKEN)
    while (origin := versions.get("origin")) and origin["round"] > 0:
        versions = origin["versions"] or {}
        other, taken = (origin["run"], versions.get("begun")), min(origin["round"], rounds)
        if known is None:
            a_round = _a_round(every[other]) if other in every else seconds / rounds
            known = min(seconds, a_round * taken)
        yield training, seconds - known
        training, seconds, rounds, known = other, known, taken, None
    yield training, seconds


def _a_round(about: dict[str, Any]) -> float:
    return float(about["seconds"] / about["planned"]["rounds"])


def _training(about: dict[str, Any]) -> Training:
    return about["id"], about["versions"].get("begun")
