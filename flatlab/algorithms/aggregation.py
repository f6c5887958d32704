"""How the clients' updates become one: sums, and rules that resist clients who lie.

A rule sees the updates D_k of a round's n clients and gives sum_k a_k D_k, or works coordinate by coordinate. Robust
rules ignore how many samples a client says it has, unless they say otherwise. f, the number of bad clients that a rule
stands, is a share of the round: floor(share x n).

Your own: subclass `Aggregation`, give it a `kind`, define `combine`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_serializer
from torch import Tensor

from ..declare import Family, SettingError, setting
from .local import Params
from .schedules import floored


class Aggregation(Family):
    """A kind of aggregation; `linear` kinds are sums whose weights are known before the round."""

    linear: ClassVar[bool] = False

    def check(self, clients: int) -> None:
        """Refuse rounds of so few clients that the rule says nothing.

        Raises:
            SettingError: naming the setting.
        """

    def weights(self, sizes: list[int]) -> list[float]:
        """Of a linear kind: how much each client counts, up to a common factor, from its number of samples."""
        raise NotImplementedError

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, Tensor | None]:
        """The aggregate of `updates` [n, ...], and the weight [n] that each client was given, where there is one.

        Args:
            updates: of the clients in ascending order.
            sizes: [n] their numbers of samples.
        """
        raise NotImplementedError

    @model_serializer(mode="wrap")
    def _short(self, write: Any) -> Any:
        """Its kind's name alone where nothing else is set, as before it had settings: ids stay."""
        plain = all(getattr(self, name) == field.default for name, field in type(self).model_fields.items())
        return self.kind if plain else write(self)


class Weighted(Aggregation):
    """Mean of the clients by their numbers of samples (McMahan et al., 1602.05629).

    >>> fl.Weighted().weights([10, 30])
    [10.0, 30.0]
    """

    kind: Literal["weighted"] = "weighted"
    linear: ClassVar[bool] = True

    def weights(self, sizes: list[int]) -> list[float]:
        """Their samples."""
        return [float(size) for size in sizes]


class Uniform(Aggregation):
    """Plain mean of the clients (FedBABU's official code).

    >>> fl.FedBABU(aggregation="uniform").aggregation.weights([10, 30])
    [1.0, 1.0]
    """

    kind: Literal["uniform"] = "uniform"
    linear: ClassVar[bool] = True

    def weights(self, sizes: list[int]) -> list[float]:
        """All alike."""
        return [1.0] * len(sizes)


class Median(Aggregation):
    """Median of each coordinate; of an even number of clients the mean of the middle two (Yin et al., 1803.01498).

    >>> updates = {"w": torch.tensor([[1.0], [2.0], [3.0], [4.0], [90.0]])}  # of five clients
    >>> fl.aggregation.Median().combine(updates, sizes=torch.full((5,), 50))[0]["w"]
    tensor([3.])
    """

    kind: Literal["median"] = "median"

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, None]:
        """By sorting."""
        middle = (len(sizes) - 1) // 2
        return {name: _between(value, middle, len(sizes) - middle) for name, value in updates.items()}, None


class Trimmed(Aggregation):
    """Mean of each coordinate without its f largest and f smallest values (Yin et al., 1803.01498).

    >>> updates = {"w": torch.tensor([[1.0], [2.0], [3.0], [4.0], [90.0]])}  # of five clients
    >>> fl.aggregation.Trimmed(share=0.2).combine(updates, sizes=torch.full((5,), 50))[0]["w"]
    tensor([3.])
    """

    kind: Literal["trimmed"] = "trimmed"
    share: float = setting(0.2, "share of a round's clients cut at either end", ge=0, lt=0.5)

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, None]:
        """By sorting."""
        cut = floored(self.share, len(sizes))
        return {name: _between(value, cut, len(sizes) - cut) for name, value in updates.items()}, None


class Krum(Aggregation):
    """The update nearest to its n - f - 2 nearest others, in summed squared distances (Blanchard et al., 1703.02757).

    `chosen` > 1 is Multi-Krum: the mean of so many updates of the lowest scores.

    >>> updates = {"w": torch.tensor([[1.0], [2.0], [3.0], [4.0], [90.0]])}  # of five clients
    >>> fl.aggregation.Krum(share=0.2).combine(updates, sizes=torch.full((5,), 50))[0]["w"]
    tensor([2.])
    """

    kind: Literal["krum"] = "krum"
    share: float = setting(0.2, "share of a round's clients that may be bad", ge=0, lt=0.5)
    chosen: int = setting(1, "updates of the lowest scores whose mean is taken", ge=1)

    def check(self, clients: int) -> None:
        """Needs n >= 2 f + 3 clients in a round."""
        bad = floored(self.share, clients)
        if clients < 2 * bad + 3:
            raise SettingError(
                "aggregation.share",
                self.share,
                f"krum needs at least 2 f + 3 = {2 * bad + 3} clients in a round,"
                f" this has {clients}; lower the share, or let more clients take part",
            )
        if self.chosen > clients - bad:
            raise SettingError("aggregation.chosen", self.chosen, f"at most {clients - bad} of {clients} clients")

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, Tensor]:
        """A one-hot weight, or equal weights of the best."""
        distances = squared_distances(updates)
        count = len(distances)
        nearest = distances.fill_diagonal_(math.inf).sort(dim=1).values[:, : count - floored(self.share, count) - 2]
        best = nearest.sum(1).argsort(stable=True)[: self.chosen]
        weights = torch.zeros_like(distances[0]).index_fill_(0, best, 1 / self.chosen)
        return _weighed(updates, weights), weights


class Geometric(Aggregation):
    """Geometric median: the point of the least summed distance, weighed by samples (RFA; Pillutla et al., 1912.13445).

    Weiszfeld's iteration from the weighted mean; all distances follow from those between the clients. Towards a median
    that is a client's own update it slows down: out of steps, it takes the nearest update if that is the median, which
    its neighbours' pull tells (Vardi & Zhang 2000); else what it has come to, without a word.

    >>> updates = {"w": torch.tensor([[1.0], [2.0], [3.0], [4.0], [90.0]])}  # of five clients
    >>> fl.aggregation.Geometric().combine(updates, sizes=torch.full((5,), 50))[0]["w"].round(decimals=2)
    tensor([3.])
    """

    kind: Literal["geometric"] = "geometric"
    steps: int = setting(100, "iterations at most", ge=1)
    tolerance: float = setting(1e-10, "stops where no weight moves by more", gt=0)
    smoothing: float = setting(1e-6, "least distance to a client, in units of the mean one between clients", gt=0)

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, Tensor]:
        """Weights a_k proportional to n_k / distance_k."""
        squares = squared_distances(updates)
        mass = sizes.to(squares) / sizes.sum()
        least = self.smoothing * squares.sqrt().mean().clamp(min=1e-300)
        weights = mass
        for _ in range(self.steps):
            to_point = squares @ weights
            distance = (to_point - weights @ to_point / 2).clamp(min=0).sqrt().clamp(min=least)
            near = mass / distance
            before, weights = weights, near / near.sum()
            if bool((weights - before).abs().max() < self.tolerance):
                break
        else:
            nearest = int(distance.argmin())
            there = squares[nearest] <= least**2
            pulls = torch.where(there, 0, mass / squares[nearest].sqrt())
            pull = pulls.sum() * (pulls @ squares[nearest]) - pulls @ squares @ pulls / 2  # its square
            if bool(pull <= mass[there].sum() ** 2):
                weights = torch.where(there, mass, 0) / mass[there].sum()
        return _weighed(updates, weights), weights


class Clipped(Aggregation):
    """Mean of updates cut to a length of at most tau: centred clipping from 0 (Karimireddy et al., 2012.10333).

    >>> updates = {"w": torch.tensor([[1.0], [2.0], [3.0], [4.0], [90.0]])}  # of five clients
    >>> fl.aggregation.Clipped(tau=2.0).combine(updates, sizes=torch.full((5,), 50))[0]["w"]
    tensor([1.8000])
    """

    kind: Literal["clipped"] = "clipped"
    tau: float = setting(1.0, "largest Euclidean length of an update; must be of an update's size", gt=0, log=True)

    def combine(self, updates: Params, sizes: Tensor) -> tuple[Params, Tensor]:
        """a_k = min(1, tau / ||D_k||) / n."""
        squares = [flat(value.double()).square().sum(1) for value in updates.values()]
        lengths = torch.stack(squares).sum(0).sqrt()
        weights = (self.tau / lengths.clamp(min=1e-300)).clamp(max=1) / len(lengths)
        return _weighed(updates, weights), weights


def _between(values: Tensor, first: int, last: int) -> Tensor:
    """Mean of each coordinate's sorted values from `first` up to but without `last`."""
    return values.sort(dim=0).values[first:last].double().mean(0).to(values.dtype)


def flat(values: Tensor) -> Tensor:
    """[n, ...] as [n, numbers], of a scalar parameter [n] one each."""
    return values.reshape(len(values), -1)


def squared_distances(updates: Params) -> Tensor:
    """[n, n] in float64, of centred updates: their inner products cancel less."""
    like = next(iter(updates.values()))
    inner = like.new_zeros(len(like), len(like), dtype=torch.float64)
    for value in updates.values():
        rows = flat(value.double())
        rows = rows - rows.mean(0)
        inner = inner + rows @ rows.T
    squares = inner.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * inner).clamp(min=0)


def _weighed(updates: Params, weights: Tensor) -> Params:
    return {name: torch.tensordot(weights.to(value.dtype), value, 1) for name, value in updates.items()}
