"""Averages of the global model that the server keeps, scores in its place, and never feeds back: SWA and WiMA."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import model_serializer, model_validator

from ..declare import Family, SettingError, setting
from .local import Params
from .schedules import Cyclical, floored


class Averaging(Family):
    """A kind of averaging. Your own: subclass it, give it a `kind`, define `after`, and `before` if it needs one.

    A state keeps the average, or the models [models, ...] of which it is the plain mean.

    >>> fl.Averaging.from_dict({"kind": "SWA", "cycle": 2})
    SWA(cycle=2)
    """

    start: float = setting(0.0, "fraction of the rounds done when averaging starts", ge=0, lt=1)

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, value: Any, handler: Any) -> Any:
        """What was written before there were kinds is SWA's."""
        return handler({"kind": "SWA", **value} if cls.abstract and isinstance(value, dict) else value)

    def first(self, rounds: int) -> int:
        """The round before which the average is set up."""
        return floored(self.start, rounds)

    def check(self, rounds: int, lr: float = math.inf) -> None:
        """Refuse a run in which nothing is averaged, or at other rates than the clients' `lr` allows.

        Raises:
            SettingError: naming the setting.
        """

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The clients' rate."""
        return base

    def before(self, round: int, rounds: int, params: Params, mean: Params, count: int) -> tuple[Params, int]:
        """The average and its number of models, from those before `round`, which begins with `params`."""
        return mean, count

    def after(self, round: int, rounds: int, params: Params, mean: Params, count: int) -> tuple[Params, int]:
        """The same after `round`, which ended with `params`."""
        raise NotImplementedError


class SWA(Averaging):
    """From `start` on the clients' rate cycles down to `low`, and one global model a cycle joins the average.

    The corrected variant starts the average with the model at `start` and adds the model at the end of each cycle,
    where the rate is lowest. `variant="official"` does what the official code does: it collects the model after the
    first round of a cycle, when the rate has just restarted, and its first collected model replaces the one at `start`.
    Parameters are averaged; flatlab's networks have no running statistics to refresh.

    Source: Caldarola et al. (2203.11834, section 4.3) and their official code, after Izmailov et al. (1803.05407).

    >>> swa = fl.SWA(start=0.75, cycle=5)
    >>> [round + 1 for round in range(40) if swa.collects(round, rounds=40)]
    [35, 40]
    """

    kind: Literal["SWA"] = "SWA"
    start: float = setting(0.75, "fraction of the rounds done when averaging starts", ge=0, lt=1)
    cycle: int = setting(10, "rounds between two collected models; 1 keeps the scheduled rate", ge=1, unit="rounds")
    low: float = setting(
        1e-4, "client learning rate at the end of a cycle, unless the schedule's is lower", gt=0, log=True
    )
    variant: Literal["corrected", "official"] = setting("corrected", "when to collect, and whether the start is kept")

    def check(self, rounds: int, lr: float = math.inf) -> None:
        """Refuse a run in which no cycle ends, and a cycle that ends above the clients' rate.

        Raises:
            SettingError: if the cycle is longer than the rounds after `start`, or `low` exceeds `lr`.
        """
        left = rounds - self.first(rounds)
        if self.cycle > left - (self.variant == "official"):
            raise SettingError(
                "swa.cycle",
                self.cycle,
                f"must fit into the {left} rounds that follow start = {self.start} of"
                f" {rounds} rounds; shorten the cycle, start earlier, or train longer",
            )
        if self.low > lr:
            raise SettingError("swa.low", self.low, f"must not exceed lr = {lr:g}")

    def lr(self, base: float, round: int, rounds: int) -> float:
        """The clients' rate: the base before `start`, cyclical after it."""
        if round < self.first(rounds):
            return base
        # The official code counts cycles from round 0, the corrected form from `start`.
        phase = round if self.variant == "official" else round - self.first(rounds)
        return Cyclical(cycle=self.cycle, low=min(self.low, base)).lr(base, phase, rounds)

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

    @model_serializer(mode="wrap")
    def _without_kind(self, write: Any) -> Any:
        """As before there were others: ids stay."""
        return {name: value for name, value in write(self).items() if name != "kind"}


class WiMA(Averaging):
    """The mean of the last `window` global models (Caldarola et al., 2310.01366); of all there are, before that.

    Training is what it is without. The models stay with the state: files grow by `window` times the network.

    >>> averaged = fl.train(fl.FedAvg(swa=fl.WiMA(window=2)), data, "lenet", rounds=3)
    >>> (second, third), mean = (averaged.model(number, which="global") for number in (2, 3)), averaged.model()
    >>> torch.allclose(mean.head.bias, (second.head.bias + third.head.bias) / 2)
    True
    """

    kind: Literal["WiMA"] = "WiMA"
    window: int = setting(10, "models in the mean", ge=1, unit="rounds")

    def after(self, round: int, rounds: int, params: Params, mean: Params, count: int) -> tuple[Params, int]:
        """Add the model after `round`, and let go of the oldest."""
        if round < self.first(rounds):
            return mean, count
        models = {k: torch.cat([mean[k], v[None]] if mean else [v[None]])[-self.window :] for k, v in params.items()}
        return models, min(count + 1, self.window)
