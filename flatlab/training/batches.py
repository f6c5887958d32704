"""Which samples a client sees in which step, and how each is augmented: drawn on the CPU, prepared on the device.

Every draw comes from one stream per (seed, purpose, round, client), so neither chunking nor engine can change it.
Clients of different sizes share one rectangular plan: places without a sample have weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import FederatedDataset
from ..streams import stream

SAMPLES_AT_ONCE = 2048  # samples augmented together: large enough to hide the call, small enough for the cache


class Batch(NamedTuple):
    """One step's samples, for one client or with a leading client axis."""

    images: Tensor  # [..., batch, C, H, W]
    labels: Tensor  # [..., batch]
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
) -> Plan:
    """Draw batch order and augmentation for clients that hold `indices`, each from its own named stream and seed."""
    longest = max(len(index) for index in indices)
    batch_size = min(batch_size, longest)
    steps = math.ceil(longest / batch_size)
    shape = (len(indices), epochs, steps * batch_size)
    order, weight = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    mixup = data.augmentation.mixup
    partner = np.zeros(shape, np.int64) if mixup else None
    share = np.ones((len(indices), epochs, steps), np.float32) if mixup else None
    draws: dict[str, np.ndarray] = {}
    seeds = [seed] * len(indices) if isinstance(seed, int) else seed
    for c, (index, name) in enumerate(zip(indices, names, strict=True)):
        rng, held, count = stream(seeds[c], *name), index.cpu().numpy(), len(index)
        for e in range(epochs):
            order[c, e, :count] = held[rng.permutation(count)]
            weight[c, e, :count] = 1
            for key, value in data.augmentation.draw(rng, count).items():
                draws.setdefault(key, np.zeros(shape, value.dtype))[c, e, :count] = value
            if partner is not None and share is not None:
                for s, start in enumerate(range(0, count, batch_size)):
                    stop = min(start + batch_size, count)
                    share[c, e, s] = rng.beta(mixup, mixup)
                    partner[c, e, start:stop] = rng.permutation(stop - start)

    def stepwise(flat: np.ndarray) -> np.ndarray:
        return flat.reshape(len(indices), epochs, steps, batch_size)

    return Plan(
        stepwise(order),
        stepwise(weight),
        {key: stepwise(value) for key, value in draws.items()},
        None if partner is None else stepwise(partner),
        share,
    )


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
        labels = data.labels[index]
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
