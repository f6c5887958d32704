"""The loss of a network on a batch as a pure function of its parameters, with padding and Mixup."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..algorithms import Evasion, Params
from ..models import recurrent, sample_weight
from ..tasks import Task
from .batches import Batch

PerSample = Callable[[Tensor], Tensor]  # outputs [batch, ...] -> losses [batch]


def logits(model: nn.Module, params: Params, images: Tensor, weight: Tensor | None = None) -> Tensor:
    """The network's outputs [batch, classes] at `params`; samples of weight 0 do not enter batch statistics."""
    with sample_weight(weight):
        return functional_call(model, params, (images,))


def mappable(model: nn.Module) -> bool:
    """Whether forward passes can be stacked by `torch.func.vmap`, which knows recurrent layers only in a derivative."""
    return not recurrent(model)


def batch_loss(model: nn.Module, params: Params, batch: Batch, task: Task, each: PerSample | None = None) -> Tensor:
    """Mean loss over the samples of a batch; 0 for a batch without any.

    Args:
        model: the architecture.
        params: all its parameters.
        batch: of one client.
        task: says the loss.
        each: another loss, outputs [batch, classes, ...] -> [batch, ...], in place of the task's; the mean over pixels.
    """
    outputs = mixed_logits(model, params, batch)
    if each is not None:
        losses = each(outputs)
        losses = losses.flatten(1).mean(1) if losses.dim() > 1 else losses  # of each pixel
    else:
        losses = task.losses(outputs, batch.labels)
        if batch.partner is not None and batch.share is not None:
            partners = task.losses(outputs, batch.labels[batch.partner])
            losses = batch.share * losses + (1 - batch.share) * partners
    if batch.weight is None:
        return losses.mean()
    # where, not only times: an overflow on a padded sample must not become 0 * inf
    kept = torch.where(batch.weight > 0, losses, torch.zeros_like(losses))
    return kept.sum() / batch.weight.sum().clamp(min=1)


def mixed_logits(model: nn.Module, params: Params, batch: Batch) -> Tensor:
    """The network's outputs on a batch, mixed where Mixup asks for it."""
    images, partner, share = batch.images, batch.partner, batch.share
    if partner is not None and share is not None:
        images = share * images + (1 - share) * images[partner]
    return logits(model, params, images, batch.weight)


@dataclass(frozen=True)
class OneBatch:
    """One client's batch as an algorithm's step sees it: see `flatlab.algorithms.LocalBatch`.

    Args:
        model: the architecture.
        frozen: parameters that are not trained.
        samples: the batch, without a client axis.
        task: says the loss.
        differentiate: gradients and value of a function of the trained parameters.
    """

    model: nn.Module
    frozen: Params
    samples: Batch
    task: Task
    differentiate: Callable[[Callable[[Params], Tensor], Params], tuple[Params, Tensor]]

    def attacked(self, evasion: Evasion | None, params: Params, scale: tuple[Tensor, Tensor]) -> OneBatch:
        """The batch with its images perturbed to harm `params`, once for all gradients of a step; as it is without.

        Args:
            evasion: how.
            params: the trained part.
            scale: mean and std of the images' normalisation.
        """
        if evasion is None:
            return self
        whole, batch = {**self.frozen, **params}, self.samples

        def loss(at: Params) -> Tensor:
            return batch_loss(self.model, whole, batch._replace(images=at["images"]), self.task)

        def slope(images: Tensor) -> Tensor:
            return self.differentiate(loss, {"images": images})[0]["images"]

        images = evasion.perturbed(slope, batch.images, scale)
        return dataclasses.replace(self, samples=batch._replace(images=images))

    @property
    def size(self) -> Tensor:
        """Samples in it, []."""
        labels, weight = self.samples.labels, self.samples.weight
        return torch.full((), len(labels), device=labels.device) if weight is None else weight.sum()

    def gradient(self, params: Params, loss: PerSample | None = None) -> tuple[Params, Tensor]:
        """Gradients and mean loss at `params`; `loss` maps outputs to a loss a sample."""
        return self.differentiate(
            lambda at: batch_loss(self.model, {**self.frozen, **at}, self.samples, self.task, loss), params
        )

    def outputs(self, params: Params) -> Tensor:
        """The network's outputs at `params`."""
        return mixed_logits(self.model, {**self.frozen, **params}, self.samples)

    def halves(self) -> tuple[OneBatch, OneBatch]:
        """Every second sample, and the others; a batch of a single sample is both."""
        first, second = (self._every_second(start) for start in (0, 1))
        return dataclasses.replace(self, samples=first), dataclasses.replace(self, samples=second)

    def _every_second(self, start: int) -> Batch:
        images, labels, weight, *_ = self.samples
        where = torch.arange(min(start, len(labels) - 1), len(labels), 2, device=labels.device)
        if weight is not None:
            if start:  # padding stands at the end: this half is empty only where the other has a single sample
                where = torch.where(weight[where].sum() == 0, where - 1, where).clamp(min=0)
            weight = weight[where]
        return Batch(images[where], labels[where], weight, None, None)
