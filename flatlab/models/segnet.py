"""A small network that gives each pixel a class: maps shrink to an eighth, and grow back beside what they were.

The head is linear in each pixel: a 1x1 convolution to logits, interpolated to the image's size. So body and head are
parts as in any other network, and templates of classes are means over pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import block
from .registry import network
from .spec import ModelSpec


class Resize(nn.Module):
    """Bilinear interpolation of maps [batch, channels, h, w] to another size, as `F.interpolate` has it.

    Two matrix products, R x C^T with constants R [H, h] and C [W, w]: torch's own has a gradient that adds up in any
    order on CUDA.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.same = tuple(before) == tuple(after)
        for name, old, new in zip(("rows", "columns"), before, after, strict=True):
            matrix = F.interpolate(torch.eye(old)[None], size=new, mode="linear")[0].T.contiguous()
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the other size."""
        return x if self.same else self.get_buffer("rows") @ x @ self.get_buffer("columns").T


class SegNet(nn.Module):
    """A stem and two stages, each halving the map, then two steps back up; features at half the image's size."""

    def __init__(self, spec: ModelSpec, shape: tuple[int, int, int]) -> None:
        super().__init__()
        w, w2, w4 = (spec.channels(base) for base in (8, 16, 32))
        half, quarter, eighth = ([-(-side // part) for side in shape[1:]] for part in (2, 4, 8))

        def blocks(before: int, after: int, count: int) -> nn.Sequential:
            sizes = [(before, 2), *[(after, 1)] * (count - 1)]
            return nn.Sequential(*(block(spec, size, after, stride=stride, bias=True) for size, stride in sizes))

        self.stem, self.stage1, self.stage2 = blocks(shape[0], w, 1), blocks(w, w2, 2), blocks(w2, w4, 3)
        self.up1, self.up2 = Resize(eighth, quarter), Resize(quarter, half)
        self.join1, self.join2 = block(spec, w4 + w2, w2, bias=True), block(spec, w2 + w, w2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, C, H, W] to [batch, features, ceil(H / 2), ceil(W / 2)]."""
        fine = self.stem(x)
        middle = self.stage1(fine)
        x = self.join1(torch.cat([self.up1(self.stage2(middle)), middle], 1))
        return self.join2(torch.cat([self.up2(x), fine], 1))


@network("segnet", dense=True)
def segnet(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """Convolutions 3x3: 8 channels at half the size, twice 16 at a quarter, three times 32 at an eighth; and back."""
    return SegNet(spec, shape), spec.channels(16)


def pixel_head(body: nn.Module, features: int, classes: int, shape: Sequence[int]) -> nn.Sequential:
    """The head of a dense network: a linear layer for each pixel, and its logits at the size of the image."""
    with torch.no_grad():
        size = body(torch.zeros(2, *shape)).shape[2:]
    return nn.Sequential(OrderedDict(linear=nn.Conv2d(features, classes, 1), resize=Resize(size, shape[1:])))
