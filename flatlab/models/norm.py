"""Batch normalisation without memory: a pure function of the batch, which can be told that samples are padding.

Statistics are those of the batch at hand in training and in evaluation alike (`track_running_stats=False` in FedBABU's
code), so accuracy depends on how test images are batched, and there is nothing but parameters to average.

    with sample_weight(torch.tensor([1.0, 1.0, 0.0])):  # the third sample only fills the batch
        logits = model(images)
"""

from __future__ import annotations

import contextlib
import inspect
import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..declare import SettingError


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


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [channels] of a batch [batch, channels, height, ...], on a CPU.

    torch carries the sums of plain maps in float64, but its batch norm adds up channels-last ones number by number in
    float32: of 500,000 numbers the sum loses 3 of 7 digits. `sum` adds up in cascades, so here it takes the mean, and
    then the variance about that mean.
    """
    if x.is_contiguous():
        return torch.batch_norm_update_stats(x, None, None, 0.0)
    pixels = x.movedim(1, -1).flatten(0, -2)
    mean = pixels.mean(0)
    return mean, (pixels - mean).square_().mean(0)


class _Normalised(torch.autograd.Function):
    """torch's batch norm on a CPU with the statistics of `batch_statistics`; also returns mean and 1 / sqrt(var + eps).

    The backward pass is torch's own, which can be differentiated again.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = batch_statistics(x)
        return F.batch_norm(x, mean, variance, weight, bias, False, eps=eps), mean, (variance + eps).rsqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, ctx.eps = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, weight, mean, scale)

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], weight is not None, weight is not None)
        slopes = torch.ops.aten.native_batch_norm_backward(
            slope, x, weight, None, None, mean, scale, True, ctx.eps, wanted
        )
        return (*slopes, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        """Copies of a network side by side are more channels."""
        x, weight, bias, eps = inputs
        n = info.batch_size

        def spread(value: Tensor | None, axis: int | None) -> Tensor | None:  # [copies x channels]
            if value is None:
                return None
            return value.expand(n, -1).flatten() if axis is None else value.movedim(axis, 0).flatten()

        images = x.unsqueeze(1).expand(-1, n, *x.shape[1:]) if in_dims[0] is None else x.movedim(in_dims[0], 1)
        weight, bias = spread(weight, in_dims[1]), spread(bias, in_dims[2])
        y, mean, scale = _Normalised.apply(images.flatten(1, 2), weight, bias, eps)
        return (y.unflatten(1, (n, -1)), mean.unflatten(0, (n, -1)), scale.unflatten(0, (n, -1))), (1, 0, 0)


# `apply` asks for the signature at each call: made once, a call costs a quarter less.
_Normalised.forward.__signature__ = inspect.signature(_Normalised.forward)  # type: ignore[attr-defined]


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
            if x.device.type == "cpu" and x.dim() > 2:
                return _Normalised.apply(x, self.weight, self.bias, self.eps)[0]
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        kept = x.new_ones(len(x)) if weights is None else weights.to(x.dtype)
        if kept.shape != x.shape[:1]:
            raise SettingError("sample_weight", tuple(kept.shape), f"needs the shape [{len(x)}], one for each sample")

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
