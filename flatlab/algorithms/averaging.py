"""Server SWA: average the global model along cycles of the learning rate, without feeding the average back.

Source: Caldarola et al. (2203.11834, section 4.3) and their official code, after Izmailov et al. (1803.05407).
"""

from __future__ import annotations

import math
from typing import Literal

from ..declare import Declared, SettingError, setting
from .local import Params
from .schedules import Cyclical


class SWA(Declared):
    """From `start` on the clients' rate cycles down to `low`, and one global model a cycle joins the average.

    The corrected variant starts the average with the model at `start` and adds the model at the end of each cycle,
    where the rate is lowest. `variant="official"` does what the official code does: it collects the model after the
    first round of a cycle, when the rate has just restarted, and its first collected model replaces the one at `start`.
    Parameters are averaged; flatlab's networks have no running statistics to refresh.

    >>> swa = fl.SWA(start=0.75, cycle=5)
    >>> [round + 1 for round in range(40) if swa.collects(round, rounds=40)]
    [35, 40]
    """

    start: float = setting(0.75, "fraction of the rounds done when averaging starts", ge=0, lt=1)
    cycle: int = setting(10, "rounds between two collected models; 1 keeps the scheduled rate", ge=1, unit="rounds")
    low: float = setting(1e-4, "client learning rate at the end of a cycle", gt=0, log=True)
    variant: Literal["corrected", "official"] = setting("corrected", "when to collect, and whether the start is kept")

    def first(self, rounds: int) -> int:
        """The round before which the average is set up."""
        return math.floor(self.start * rounds + 1e-9)

    def check(self, rounds: int) -> None:
        """Refuse a run in which no cycle ends.

        Raises:
            SettingError: if the cycle is longer than the rounds after `start`.
        """
        left = rounds - self.first(rounds)
        if self.cycle > left - (self.variant == "official"):
            raise SettingError(
                "swa.cycle",
                self.cycle,
                f"must fit into the {left} rounds that follow start = {self.start} of"
                f" {rounds} rounds; shorten the cycle, start earlier, or train longer",
            )

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The clients' rate: the base before `start`, cyclical after it."""
        if round < self.first(rounds):
            return base
        # The official code counts cycles from round 0, the corrected form from `start`.
        phase = round if self.variant == "official" else round - self.first(rounds)
        return Cyclical(cycle=self.cycle, low=self.low).lr(base, phase, rounds)

    def collects(self, round: int, rounds: int) -> bool:
        """Whether the model after `round` joins the average."""
        done = round - self.first(rounds)
        if self.variant == "official":
            return done > 0 and done % self.cycle == 0
        return done >= 0 and (done + 1) % self.cycle == 0

    def before(self, round: int, rounds: int, params: Params, mean: Params, count: int) -> tuple[Params, int]:
        """Set the average up with the model at `start`, or with the first one after it that there is (in a fork)."""
        if mean or round < self.first(rounds):
            return mean, count
        return dict(params), int(self.variant == "corrected")

    def after(self, round: int, rounds: int, params: Params, mean: Params, count: int) -> tuple[Params, int]:
        """Add the model after `round`, if it is one to collect."""
        if not self.collects(round, rounds):
            return mean, count
        return {name: value + (params[name] - value) / (count + 1) for name, value in mean.items()}, count + 1
