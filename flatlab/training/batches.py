"""Who trains on which samples, and which of them a step sees, augmented how: drawn on the CPU, prepared on the device.

Every draw comes from one stream per (seed, purpose, round, client), so neither chunking nor engine can change it.
Clients of different sizes share one rectangular plan: places without a sample have weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm, FedAvg
from ..algorithms.schedules import floored
from ..data import FederatedDataset
from ..declare import SettingError
from ..streams import some_of, stream

SAMPLES_AT_ONCE = 2048  # samples augmented together: large enough to hide the call, small enough for the cache


class Batch(NamedTuple):
    """One step's samples, for one client or with a leading client axis."""

    images: Tensor  # [..., batch, C, H, W]
    labels: Tensor  # [..., batch], or masks [..., batch, H, W]
    weight: Tensor | None  # [..., batch] 1 for a sample, 0 for padding; None if nothing is padded
    partner: Tensor | None  # [..., batch] Mixup: the sample to mix with
    share: Tensor | None  # [...] Mixup: share of the sample itself


@dataclass(frozen=True)
class Plan:
    """The batches of several clients over all their epochs: arrays [clients, epochs, steps, batch]."""

    index: np.ndarray
    weight: np.ndarray
    draws: dict[str, np.ndarray]
    partner: np.ndarray | None
    share: np.ndarray | None  # [clients, epochs, steps]
    runs_on: bool = False  # it holds so many steps of a client's endless sequence of epochs, in place of whole ones

    @property
    def epochs(self) -> int:
        """Local epochs planned."""
        return self.index.shape[1]


def plan(
    data: FederatedDataset,
    indices: Sequence[Tensor],
    names: Sequence[tuple[str | int, ...]],
    seed: int | Sequence[int],
    epochs: int,
    batch_size: int,
    local_steps: int | None = None,
) -> Plan:
    """Draw batch order and augmentation for clients that hold `indices`, each from its own named stream and seed.

    With `local_steps` a plan has so many steps in place of epochs. `names` then have the round in second place, as in
    ("train", round, client): rounds take their steps one after another from the client's endless sequence of epochs,
    in which epoch e is that of round e if rounds were epochs.
    """
    longest = max(len(index) for index in indices)
    batch_size = min(batch_size, longest)
    shape = (len(indices), epochs, local_steps or math.ceil(longest / batch_size))
    seeds = [seed] * len(indices) if isinstance(seed, int) else seed
    arrays: dict[str, np.ndarray] = {}
    for c, (index, name) in enumerate(zip(indices, names, strict=True)):
        held = index.cpu().numpy()
        if local_steps is None:
            rng = stream(seeds[c], *name)
            drawn = [_epoch(data, held, rng, batch_size) for _ in range(epochs)]
        else:
            drawn = [_window(data, held, seeds[c], name, batch_size, local_steps)]
        for e, values in enumerate(drawn):
            for key, value in values.items():
                if key not in arrays:
                    arrays[key] = np.zeros((*shape, *value.shape[1:]), value.dtype)
                arrays[key][c, e, : len(value)] = value
    rest = {key: arrays.pop(key, None) for key in ("partner", "share")}
    return Plan(arrays.pop("index"), arrays.pop("weight"), arrays, **rest, runs_on=local_steps is not None)


def _epoch(data: FederatedDataset, held: np.ndarray, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """The batches of an epoch of one client, [steps, size] each, and Mixup's shares [steps]."""
    count, mixup = len(held), data.augmentation.mixup
    flat = {"index": held[rng.permutation(count)], "weight": np.ones(count, np.float32)}
    flat |= data.augmentation.draw(rng, count)
    shares = []
    if mixup:
        flat["partner"] = np.zeros(count, np.int64)
        for start in range(0, count, size):
            stop = min(start + size, count)
            shares.append(rng.beta(mixup, mixup))
            flat["partner"][start:stop] = rng.permutation(stop - start)
    empty = -count % size
    steps = {key: np.pad(value, (0, empty)).reshape(-1, size) for key, value in flat.items()}
    return steps | ({"share": np.array(shares, np.float32)} if mixup else {})


def _window(
    data: FederatedDataset, held: np.ndarray, seed: int, name: tuple[str | int, ...], size: int, steps: int
) -> dict[str, np.ndarray]:
    """The steps of a round of one client, from as many of its epochs as they touch."""
    purpose, round, *who = name
    first, each = int(round) * steps, math.ceil(len(held) / size)
    begun = first // each
    ended = (first + steps - 1) // each
    epochs = [_epoch(data, held, stream(seed, purpose, e, *who), size) for e in range(begun, ended + 1)]
    here = slice(first - begun * each, first - begun * each + steps)
    return {key: np.concatenate([epoch[key] for epoch in epochs])[here] for key in epochs[0]}


def samples_a_step(algorithm: Algorithm) -> int:
    """The most samples that a local step takes."""
    return algorithm.batch_size * algorithm.batches_per_step


def step_counts(algorithm: Algorithm, indices: Sequence[Tensor]) -> list[int]:
    """How many steps each client takes in a round.

    Raises:
        SettingError: if they are too many to be counted.
    """
    size = samples_a_step(algorithm)
    counts = [algorithm.local_steps or algorithm.epochs * math.ceil(len(index) / size) for index in indices]
    if max(counts, default=0) > torch.iinfo(torch.int64).max:
        raise SettingError("epochs", algorithm.epochs, "more steps than can be counted")
    return counts


def passes(algorithm: Algorithm, held: int, round: int) -> int:
    """Sample passes in `round` (from 0) of a client that holds so many samples."""
    if algorithm.local_steps is None:
        return algorithm.epochs * held
    size = samples_a_step(algorithm)
    ends = (divmod(number * algorithm.local_steps, math.ceil(held / size)) for number in (round, round + 1))
    before, after = (epochs * held + min(steps * size, held) for epochs, steps in ends)
    return after - before


def batches(data: FederatedDataset, plan: Plan, epoch: int) -> Iterator[Batch]:
    """The stacked batches of one epoch, [clients, batch, ...], in order.

    A batch in which no client is padded has weight None; a last batch that every client ends alike is cut instead.
    """
    device = data.images.device
    clients, _, steps, size = plan.index.shape
    span = max(1, SAMPLES_AT_ONCE // (clients * size))
    for start in range(0, steps, span):
        part = (slice(None), epoch, slice(start, start + span))
        index = torch.from_numpy(plan.index[part]).to(device)
        draws = {key: torch.from_numpy(value[part]).to(device) for key, value in plan.draws.items()}
        images = data.prepared(index, draws)
        labels = data.targets(index, draws)
        for s in range(index.shape[1]):
            weight = plan.weight[:, epoch, start + s]
            kept = int(weight.any(axis=0).sum())  # places that no client fills are cut
            full = bool(weight[:, :kept].all())
            yield Batch(
                images[:, s, :kept],
                labels[:, s, :kept],
                None if full else torch.from_numpy(weight[:, :kept]).to(device),
                None if plan.partner is None else torch.from_numpy(plan.partner[:, epoch, start + s, :kept]).to(device),
                None if plan.share is None else torch.from_numpy(plan.share[:, epoch, start + s]).to(device),
            )


def at_server(algorithm: Algorithm, train: Sequence[Tensor], seed: int) -> Tensor:
    """The training samples that the server holds; they stay with their clients, too."""
    pool = torch.cat(list(train))
    if algorithm.server_data is None:
        return pool[:0]
    size = max(1, floored(algorithm.server_data.share, len(pool)))
    return some_of(pool, size, stream(seed, "server data"))


def holders(algorithm: Algorithm, train: Sequence[Tensor], public: Tensor) -> tuple[Tensor, ...]:
    """What each client trains on: with pooled data there is one."""
    if algorithm.pooled:
        return (torch.cat(list(train)),)
    if algorithm.server_data is None or not algorithm.server_data.clients:
        return tuple(train)
    return tuple(torch.cat([part, public]).unique() for part in train)


def servers_own(algorithm: Algorithm) -> Algorithm:
    """How the server trains for an epoch: only what its steps need, no client's memory, no words to clients."""
    settings = {name: getattr(algorithm, name) for name in Algorithm.model_fields if name != "kind"}
    changes = {"epochs": 1, "mu": 0.0, "keep_momentum": False, "local_steps": None}
    return cast(Algorithm, FedAvg.from_dict(settings | changes))
