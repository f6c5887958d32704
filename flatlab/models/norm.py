"""Batch normalisation without memory: a pure function of the batch, which can be told that samples are padding.

Statistics are those of the batch at hand in training and in evaluation alike (`track_running_stats=False` in FedBABU's
code), so accuracy depends on how test images are batched, and there is nothing but parameters to average.

    with sample_weight(torch.tensor([1.0, 1.0, 0.0])):  # the third sample only fills the batch
        logits = model(images)
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Active(threading.local):
    """The weights in force in this thread. Not a ContextVar: torch.compile cannot trace setting one."""

    def __init__(self) -> None:
        self.weights: Tensor | None = None


_ACTIVE = _Active()


@contextlib.contextmanager
def sample_weight(weights: Tensor | None) -> Iterator[None]:
    """Inside the block, every `BatchStatNorm` takes its statistics from the samples of weight 1 alone.

    Args:
        weights: [batch], 1 for a sample that counts, 0 for padding; None lets all count. It may be a tensor that
            `torch.func.vmap` batches, if the block is inside the mapped function.
    """
    before = _ACTIVE.weights
    _ACTIVE.weights = weights
    try:
        yield
    finally:
        _ACTIVE.weights = before


class BatchStatNorm(nn.Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, per channel, mean and biased variance over the batch and the map.

    No buffers. A channel with a single value (a batch of one with a 1x1 map) comes out as its bias. Under
    `sample_weight`, padded samples come out as the bias too: then they stay bounded in a deep network, and a batch of
    nothing but padding has finite gradients.

    Shape: [batch, channels, ...] to the same, in the memory format given.

    Raises:
        ValueError: if `sample_weight` holds another number of samples than the batch.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise one batch."""
        if x.dtype in (torch.bfloat16, torch.float16):  # statistics of many numbers need more digits
            return self(x.float()).to(x.dtype)
        weights = _ACTIVE.weights
        if weights is None and x.numel() > self.channels:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        kept = x.new_ones(len(x)) if weights is None else weights.to(x.dtype)
        if kept.shape != x.shape[:1]:
            raise ValueError(f"sample_weight has shape {tuple(kept.shape)}: needs [{len(x)}], one for each sample")

        pixels = math.prod(x.shape[2:])
        count = kept.sum().clamp(min=1) * pixels  # a batch of nothing but padding must not divide by zero

        def average(values: Tensor) -> Tensor:
            return kept @ values.reshape(len(x), self.channels, pixels).sum(2) / count

        def fit(per_channel: Tensor) -> Tensor:
            return per_channel.reshape(*per_channel.shape, *[1] * (x.dim() - 2))

        centred = x - fit(average(x))
        scale = (average(centred.square()) + self.eps).rsqrt()
        if self.weight is None or self.bias is None:
            return centred * fit(kept[:, None] * scale)
        return torch.addcmul(fit(self.bias), centred, fit(kept[:, None] * (scale * self.weight)))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.channels}, eps={self.eps}, affine={self.weight is not None}"
