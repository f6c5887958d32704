"""Forward passes in fewer sweeps over memory, for measuring many points: max-pooling comes before the normalisation.

Convolution, batch statistics, ReLU and max-pooling read and write the same large map four times; on two cores that
costs `cnn4` more than its arithmetic. Normalising with a weight of at least 0, and ReLU, keep the order of values, so
they may as well follow the pooling, on a quarter of the map (a channel with a negative weight is convolved with its
sign turned). For the layer that sees the images the statistics need no map at all: they are a quadratic form of the
convolution's weights, with the moments of the images' patches, which no point changes. Nor do the patches: kept by
their place in a pooling window, that layer is a matrix product for each place and the largest of them, and its large
map is never written. Equal to the plain network but for rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models import BatchStatNorm
from ..models.norm import batch_statistics

MOST_PATCH = 160  # pixels of a patch; above it the quadratic form costs more than it saves
MOST_KEPT = 2**29  # bytes of patches


class Seen(NamedTuple):
    """What the first convolution sees of a batch; it never changes, so copies of a network share it."""

    mean: Tensor  # [p] of the patches
    covariance: Tensor  # [p, p]
    places: Tensor | None  # [places in a pooling window, b, h, w, p]: the patches, h and w after pooling

    def __deepcopy__(self, memo: object) -> Seen:
        return self


class PooledBlock(nn.Module):
    """A convolution, its batch statistics (or no norm), max-pooling and ReLU, in the order that costs least.

    Its parameters keep their names. Not for gradients, nor for `vmap`.

    Attributes:
        seen: what `remember` was told of, by the `id` of the batch.
    """

    def __init__(self, conv: nn.Conv2d, norm: BatchStatNorm | None, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = conv, norm, pool
        self.seen: dict[int, Seen] = {}

    def forward(self, x: Tensor) -> Tensor:
        """What the layers do one after another, within rounding."""
        weight, bias, norm, seen = self.conv.weight, self.conv.bias, self.norm, self.seen.get(id(x))
        if norm is None or norm.weight is None or norm.bias is None:
            return self._pooled(x, seen, weight, bias)
        sign = torch.where(norm.weight < 0, -1.0, 1.0).to(x.dtype)
        weight, size = weight * sign[:, None, None, None], norm.weight.abs()
        bias = norm.bias.new_zeros(()) if bias is None else bias * sign
        if seen is not None:
            rows = weight.flatten(1)
            scale = size * (((rows @ seen.covariance) * rows).sum(1) + norm.eps).rsqrt()
            shift = norm.bias - rows @ seen.mean * scale  # the convolution's own bias cancels
            return self._pooled(x, seen, weight * scale[:, None, None, None], shift)
        full = self._convolve(x, weight, bias.expand(len(size)))
        mean, variance = batch_statistics(full)
        return F.batch_norm(self.pool(full), mean, variance, size, norm.bias, False, eps=norm.eps).relu_()

    def _pooled(self, x: Tensor, seen: Seen | None, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolution, max-pooling, ReLU."""
        if seen is None or seen.places is None:
            return self.pool(self._convolve(x, weight, bias)).relu_()
        columns, rows = weight.flatten(1).T, seen.places.flatten(1, 3)
        largest = rows[0] @ columns
        for others in rows[1:]:
            torch.maximum(largest, others @ columns, out=largest)
        if bias is not None:
            largest += bias
        return largest.relu_().view(*seen.places.shape[1:4], -1).permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv = self.conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def remember(self, batches: Sequence[Tensor], layout: torch.memory_format) -> None:
        """Keep what this convolution sees of these batches, which must stay alive and unchanged; forget others."""
        conv, kept, self.seen = self.conv, 0, {}
        size = self._convolve(batches[0][:1], conv.weight, None).shape[2:]
        assert isinstance(conv.padding, tuple)  # `_parts` takes no other
        for images in batches:
            patches = F.unfold(images, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
            kept += patches.numel() * patches.element_size()
            # The product's map has its channels last, so it suits no other format.
            wanted = kept <= MOST_KEPT and layout == torch.channels_last
            places = self._by_place(patches, size) if wanted else None
            patches = patches.transpose(0, 1).flatten(1)
            mean = patches.mean(1)
            centred = patches - mean[:, None]
            self.seen[id(images)] = Seen(mean, centred @ centred.T / patches.shape[1], places)

    def _by_place(self, patches: Tensor, size: torch.Size) -> Tensor | None:
        """The patches `[b, p, positions]` of a map of this size, as in `Seen`.

        None where pooling windows overlap, are padded or spread.
        """
        pool = self.pool
        rows, columns = _pair(pool.kernel_size)
        if (rows, columns) != _pair(pool.stride) or _pair(pool.padding) != (0, 0) or _pair(pool.dilation) != (1, 1):
            return None
        height, width = size
        if pool.ceil_mode and (height % rows or width % columns):
            return None
        whole = patches.unflatten(2, (height, width))[:, :, : height // rows * rows, : width // columns * columns]
        windows = whole.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # [b, p, h, rows, w, columns]
        return windows.permute(3, 5, 0, 2, 4, 1).flatten(0, 1).contiguous()


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def fuse(model: nn.Module) -> None:
    """Put a `PooledBlock` in the place of each block of the built-in networks that pools, or that max-pooling follows.

    The model is changed; its parameters stay the same objects under the same names.
    """
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        layers = [*sequence.named_children(), ("", nn.Identity())]
        for (name, block), (after, follows) in itertools.pairwise(layers):
            conv, norm, pool = _parts(block) or (None, None, None)
            if conv and pool is None and isinstance(follows, nn.MaxPool2d) and not follows.return_indices:
                pool = follows
                setattr(sequence, after, nn.Identity())
            if conv and pool:
                setattr(sequence, name, PooledBlock(conv, norm, pool))


def remember(model: nn.Module, batches: Sequence[Tensor], layout: torch.memory_format) -> None:
    """Tell a fused model the batches of images `[b, c, h, w]`, of this layout, that it will see again and again.

    They must be passed as these very tensors, alive and unchanged; any other batch is treated as usual.
    """
    block = next((module for module in model.modules() if isinstance(module, PooledBlock)), None)
    if block is not None and batches and _sees(block.conv, batches[0]):
        block.remember(batches, layout)


def _parts(block: nn.Module) -> tuple[nn.Conv2d, BatchStatNorm | None, nn.MaxPool2d | None] | None:
    """The layers of a block of convolution, norm (or none), max-pooling (or none) and ReLU; None for other modules."""
    layers = list(block.children()) if type(block) is nn.Sequential else []
    if len(layers) < 2 or not isinstance(layers[0], nn.Conv2d) or type(layers[-1]) is not nn.ReLU:
        return None
    conv, pool = layers[0], layers[-2] if isinstance(layers[-2], nn.MaxPool2d) else None
    inner = layers[1 : -2 if pool is not None else -1]
    if len(inner) > 1:
        return None
    norm = inner[0] if inner else None
    plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    if not plain or not (norm is None or (type(norm) is BatchStatNorm and norm.weight is not None)):
        return None
    return conv, norm, pool


def _sees(conv: nn.Conv2d, images: Tensor) -> bool:
    patch = conv.weight[0].numel()
    return images.dim() == 4 and images.shape[1] == conv.in_channels and conv.groups == 1 and patch <= MOST_PATCH
