"""The block the built-in networks are made of: convolution, normalisation, max-pooling, ReLU."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .norm import BatchStatNorm
from .spec import ModelSpec


def block(
    spec: ModelSpec,
    before: int,
    after: int,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
    bias: bool = False,
    relu: bool = True,
    pool: int = 0,
) -> nn.Sequential:
    """A convolution from `before` to `after` channels, the spec's norm, max-pooling and ReLU if wanted.

    Without a norm, whose bias would do the same, the convolution always has a bias. Papers have ReLU before the
    pooling. It keeps the order of values, so after it, on a quarter of the map, it leaves the same bits, gradients too.
    """
    kind = spec.normalisation
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=bias or kind == "none")
    if kind != "none":
        layers["norm"] = BatchStatNorm(after) if kind == "batch" else nn.GroupNorm(spec.groups, after)
    if pool:
        layers["pool"] = nn.MaxPool2d(pool)
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)
