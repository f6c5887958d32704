"""Local training of one client by plain autograd, in the memory format that is fastest on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, Params
from ..data import FederatedDataset
from ..models import Model
from .batches import Batch, Plan, batches
from .objective import loss

Epochs = Iterator[tuple[int, Carry, Tensor]]  # epochs done, the carry, mean losses so far; a leading client axis


class Work(NamedTuple):
    """What some clients start from and are to do; every tensor has a leading client axis."""

    trained: Params
    frozen: Params
    velocity: Params
    drawn: Plan
    settings: Params  # "lr", and settings of the algorithm that differ between clients


def loop(model: Model, data: FederatedDataset, algorithm: Algorithm, work: Work, channels_last: bool) -> Epochs:
    """Train the one client of `work`; yields after each epoch.

    Args:
        model: the architecture; parameters are put into it for the time of a step.
        data: on the device to compute on.
        algorithm: whose `init` and `step` apply.
        work: of a single client.
        channels_last: memory format of images and convolutions.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    first = {
        key: {name: _laid_out(value[0], layout) for name, value in part.items()}
        for key, part in (("trained", work.trained), ("frozen", work.frozen), ("velocity", work.velocity))
    }
    settings = {name: float(value) for name, value in work.settings.items()}
    lr = settings.pop("lr")
    if settings:
        algorithm = algorithm.varied(settings)
    carry = algorithm.init(first["trained"], first["velocity"])
    total: Tensor | float = 0.0
    seen: Tensor | float = 0.0
    for epoch in range(work.drawn.epochs):
        for alone in batches(data, work.drawn, epoch):
            parts: Any = (None if value is None else value[0] for value in alone)
            batch = Batch(*parts)
            batch = batch._replace(images=batch.images.contiguous(memory_format=layout))

            def gradient(params: Params, batch: Batch = batch) -> tuple[Params, Tensor]:
                leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
                with torch.enable_grad():
                    value = loss(model, {**first["frozen"], **leaves}, batch)
                grads = torch.autograd.grad(value, tuple(leaves.values()))
                return dict(zip(leaves, grads, strict=True)), value.detach()

            with torch.no_grad():
                carry, value = algorithm.step(carry, gradient, lr)
            total, seen = total + value * len(batch.labels), seen + len(batch.labels)
        stacked_carry = Carry(*({name: value.unsqueeze(0) for name, value in part.items()} for part in carry))
        yield epoch + 1, stacked_carry, torch.as_tensor(total / seen).reshape(1)


def _laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value
