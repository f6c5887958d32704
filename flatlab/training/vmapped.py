"""Local training of many clients as one batch: one client's step under `torch.func.vmap`, for all of them at once."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, Params
from ..data import FederatedDataset
from ..models import Model, foreign, plain_attention, plain_recurrence
from ..tasks import Task
from .batches import Batch, batches
from .hooks import stepped
from .objective import OneBatch, batch_loss, logits, mappable
from .work import Epochs, Work, counted, mapped

log = logging.getLogger("flatlab")

Step = Callable[[Carry, Params, Tensor, Batch], tuple[Carry, Tensor]]


def stacked_step(model: Model, algorithm: Algorithm, task: Task, scale: tuple[Tensor, Tensor]) -> Step:
    """`step(carry, frozen, lr, batch) -> (carry, losses)`; every tensor has a leading client axis.

    `scale` are mean and std of the images' normalisation.
    """

    def client_step(carry: Carry, frozen: Params, lr: Tensor, batch: Batch) -> tuple[Carry, Tensor]:
        taken = OneBatch(model, frozen, batch, task, _gradient).attacked(algorithm.adversarial, carry.params, scale)
        moved, value = stepped(algorithm, carry, taken, lr)
        moved = counted(carry, moved)
        if batch.weight is None:
            return moved, value
        # A client whose samples are used up waits for the others.
        active = batch.weight.sum() > 0
        return mapped(lambda old, new: torch.where(active, new, old), carry, moved), value

    def step(carry: Carry, frozen: Params, lr: Tensor, batch: Batch) -> tuple[Carry, Tensor]:
        with plain_attention(), contextlib.nullcontext() if whole else _one_by_one(model):
            return torch.func.vmap(client_step, in_dims=(0, 0, 0, stacked(batch)))(carry, frozen, lr, batch)

    whole = mappable(model)
    return step


@contextlib.contextmanager
def _one_by_one(model: Model) -> Iterator[None]:
    """Inside the block torch does not say that it has no rule for an LSTM of many clients, and computes one by one."""
    with plain_recurrence(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")
        yield


def _gradient(objective: Callable[[Params], Tensor], params: Params) -> tuple[Params, Tensor]:
    """Inside `torch.func.vmap`."""
    grads, value = torch.func.grad_and_value(objective)(params)
    return grads, value


def unstackable(
    model: Model, task: Task, data: FederatedDataset, precise: contextlib.AbstractContextManager[None]
) -> str | None:
    """Why two clients cannot be trained and scored as one batch, in torch's words; None if they can.

    Torch's layers and flatlab's can. The code of a network or task of one's own may look at a value or write in place
    (`F.one_hot` does both), which `torch.func.vmap` has no rule for: it is tried, inside `precise`, on two images each.

    Raises:
        OutOfMemoryError: torch's, which says nothing of rules.
    """
    if not foreign(*model.modules(), task):
        return None

    def both(params: Params, images: Tensor, labels: Tensor) -> Any:
        batch = Batch(images, labels, None, None, None)
        gradient = _gradient(lambda at: batch_loss(model, at, batch, task), params)
        return gradient, task.counts(logits(model, params, images), labels) if whole else {}

    whole = mappable(model)
    device = data.images.device
    params = {name: value.detach().to(device).expand(2, *value.shape) for name, value in model.named_parameters()}
    index = torch.zeros(2, 2, dtype=torch.int64, device=device)
    try:
        with precise, plain_attention(), contextlib.nullcontext() if whole else _one_by_one(model):
            torch.func.vmap(both)(params, data.prepared(index), data.targets(index))
    except torch.OutOfMemoryError:  # a RuntimeError as well
        raise
    except (RuntimeError, ValueError) as error:
        return str(error).partition("\n")[0]
    return None


def eager(step: Step, data: FederatedDataset, carry: Carry, work: Work) -> Epochs:
    """After each epoch: its number from 1, the carry, and each client's mean loss so far."""
    total, seen = (torch.zeros_like(work.lr) for _ in range(2))
    for epoch in range(work.drawn.epochs):
        for batch in batches(data, work.drawn, epoch):
            samples = batch.images.shape[1] if batch.weight is None else batch.weight.sum(-1)
            carry, value = step(carry, work.frozen, work.lr, batch)
            total, seen = total + value.detach() * samples, seen + samples
        yield epoch + 1, carry, total / seen


def stacked(batch: Batch) -> Batch:
    """`in_dims` of a batch with a leading client axis: fields that are None have none."""
    axes: Any = (None if value is None else 0 for value in batch)
    return Batch(*axes)
