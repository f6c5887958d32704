"""The loss of a network on a batch as a pure function of its parameters, with padding and Mixup."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..algorithms import Params
from ..models import sample_weight
from .batches import Batch


def logits(model: nn.Module, params: Params, images: Tensor, weight: Tensor | None = None) -> Tensor:
    """The network's outputs [batch, classes] at `params`; samples of weight 0 do not enter batch statistics."""
    with sample_weight(weight):
        return functional_call(model, params, (images,))


def loss(model: nn.Module, params: Params, batch: Batch) -> Tensor:
    """Mean cross-entropy over the samples of a batch; 0 for a batch without any."""
    images, partner, share = batch.images, batch.partner, batch.share
    if partner is not None and share is not None:
        images = share * images + (1 - share) * images[partner]
    outputs = logits(model, params, images, batch.weight)
    each = F.cross_entropy(outputs, batch.labels, reduction="none")
    if partner is not None and share is not None:
        mixed = F.cross_entropy(outputs, batch.labels[partner], reduction="none")
        each = share * each + (1 - share) * mixed
    if batch.weight is None:
        return each.mean()
    # where, not only times: an overflow on a padded sample must not become 0 * inf
    kept = torch.where(batch.weight > 0, each, torch.zeros_like(each))
    return kept.sum() / batch.weight.sum().clamp(min=1)
