"""Learning rates of the clients, round by round. Rounds count from 0."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import field_validator

from ..declare import Family, setting


def floored(share: float, count: int) -> int:
    """floor(share x count) of the share as written: .29 of 100 are 29, though their product is 28.999999999999996."""
    return math.floor(share * count + 1e-9)


class Schedule(Family):
    """A kind of schedule. Your own: subclass it, give it a `kind`, define `lr`."""

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The clients' learning rate in `round` of `rounds`."""
        raise NotImplementedError


class Constant(Schedule):
    """The same rate in every round.

    >>> fl.FedAvg(lr=0.1, schedule=fl.Constant()).rate(round=5, rounds=10)
    0.1
    """

    kind: Literal["constant"] = "constant"

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The base rate."""
        return base


class Steps(Schedule):
    """Times `factor` after each of the rounds floor(share x K): FedBABU's schedule (official code: K//2 and 3K//4).

    As in the official loop, which asks after each round whether it is one of these, two shares that come to one round
    make one drop, and a share above 0 that comes to no round makes none: one round is all at the base rate, of two the
    second at a tenth.

    >>> [round(fl.Steps().lr(0.1, number, rounds=8), 4) for number in range(8)]
    [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """

    kind: Literal["steps"] = "steps"
    at: tuple[float, ...] = setting((0.5, 0.75), "fractions of the rounds after which the rate drops")
    factor: float = setting(0.1, "what the rate is multiplied with at each drop", gt=0, le=1)

    @field_validator("at")
    @classmethod
    def _fractions(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= share <= 1 for share in at):
            raise ValueError("must be fractions of the rounds, from 0 to 1")
        return at

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The base rate times `factor` to the number of drops so far."""
        drops = {floored(share, rounds) for share in self.at}
        if 0 not in self.at:
            drops.discard(0)
        return base * self.factor ** sum(round >= drop for drop in drops)


class Cyclical(Schedule):
    """Falls linearly from the base rate to `low` within each cycle, then restarts (official FedSAM code, SWA phase).

    >>> [round(fl.Cyclical(cycle=2, low=0.01).lr(0.1, number, rounds=4), 3) for number in range(4)]
    [0.055, 0.01, 0.055, 0.01]
    """

    kind: Literal["cyclical"] = "cyclical"
    cycle: int = setting(10, "length of a cycle", ge=1, unit="rounds")
    low: float = setting(1e-4, "rate in the last round of a cycle", gt=0, log=True)

    def lr(self, base: float, round: int, rounds: int) -> float:
        """(1 - u) base + u low with u = (round mod cycle + 1) / cycle; the base rate if cycle is 1."""
        if self.cycle == 1:
            return base
        u = (round % self.cycle + 1) / self.cycle
        return (1 - u) * base + u * self.low


class Exponential(Schedule):
    """Times `decay` after every round.

    >>> [round(fl.Exponential(decay=0.5).lr(0.1, number, rounds=3), 3) for number in range(3)]
    [0.1, 0.05, 0.025]
    """

    kind: Literal["exponential"] = "exponential"
    decay: float = setting(0.998, "what the rate is multiplied with after each round", gt=0, le=1)

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The base rate times decay to the power of the rounds done."""
        return base * self.decay**round
