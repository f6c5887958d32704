"""Local training of one client by plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, Params
from ..data import FederatedDataset
from ..models import Model
from ..tasks import Task
from .batches import Batch, batches
from .diverged import Step
from .hooks import stepped
from .objective import OneBatch
from .work import Epoch, Work, counted, mapped

Watch = Callable[[Step], None]
Own = Callable[[Carry, Params, float | Tensor, Batch], tuple[OneBatch, Carry, Tensor]]  # one client's


def own_step(model: Model, algorithm: Algorithm, task: Task, scale: tuple[Tensor, Tensor]) -> Own:
    """`step(carry, frozen, lr, batch) -> (batch as it was taken, what the step gave, loss)` of one client.

    `scale` are mean and std of the images' normalisation.
    """

    def step(carry: Carry, frozen: Params, lr: float | Tensor, batch: Batch) -> tuple[OneBatch, Carry, Tensor]:
        with torch.no_grad():
            taken = OneBatch(model, frozen, batch, task, _gradient)
            taken = taken.attacked(algorithm.adversarial, carry.params, scale)
            return taken, *stepped(algorithm, carry, taken, lr)

    return step


def loop(
    model: Model,
    data: FederatedDataset,
    task: Task,
    work: Work,
    channels_last: bool,
    watch: Watch | None = None,
) -> Iterator[Epoch | None]:
    """Train the one client of `work`; yields after each epoch, and None after each step.

    Args:
        model: the architecture; parameters are put into it for the time of a step.
        data: on the device to compute on.
        task: says the loss.
        work: of a single client.
        channels_last: memory format of images and convolutions.
        watch: told of each step.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def alone(value: Tensor) -> Tensor:
        return laid_out(value[0], layout)

    trained, frozen, memory, received, steps = (mapped(alone, part) for part in work[:5])
    (algorithm,), lr = work.algorithms, float(work.lr)
    carry, step = algorithm.init(trained, memory, received, steps), own_step(model, algorithm, task, data.scale)
    total, seen = torch.zeros_like(work.lr[0]), 0
    for epoch in range(work.drawn.epochs):
        for number, stacked_batch in enumerate(batches(data, work.drawn, epoch)):
            parts: Any = (None if value is None else value[0] for value in stacked_batch)
            batch = Batch(*parts)
            batch = batch._replace(images=laid_out(batch.images, layout))
            taken, moved, value = step(carry, frozen, lr, batch)
            if watch is not None:
                held = work.drawn.index[0, epoch, number][work.drawn.weight[0, epoch, number] > 0].tolist()
                watch(Step(int(carry.step), held, algorithm, carry, taken, lr, moved, value))
            carry = counted(carry, moved)
            total, seen = total + value * len(batch.labels), seen + len(batch.labels)
            yield None
        yield epoch + 1, mapped(lambda value: value.unsqueeze(0), carry), (total / seen).reshape(1)


def laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    """The tensor in a memory format, if it is one of images or of a two-dimensional convolution's weights."""
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value


def _gradient(objective: Callable[[Params], Tensor], params: Params) -> tuple[Params, Tensor]:
    """By plain autograd."""
    trained = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        value = objective(trained)
    if not value.requires_grad:  # nothing that is trained has anything to do with it
        return {name: torch.zeros_like(leaf) for name, leaf in params.items()}, value
    grads = torch.autograd.grad(value, tuple(trained.values()), materialize_grads=True)
    return dict(zip(trained, grads, strict=True)), value.detach()
