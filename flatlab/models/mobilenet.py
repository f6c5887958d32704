"""MobileNet v1 for 32x32 images, FedBABU's main network: depthwise convolutions, then pointwise ones."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .layers import block
from .registry import network
from .spec import ModelSpec

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


@network("mobilenet")
def mobilenet(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    """Conv 3x3 to 32 channels, 13 depthwise separable blocks up to 1,024 channels, global average.

    Returns the body and the number of its features. The stride is on the depthwise convolution; a norm and ReLU follow
    each convolution. The global average is the published 2x2 pool when the image is 32x32.
    """
    before = spec.channels(32)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=block(spec, shape[0], before))
    for number, (base, stride) in enumerate(_BLOCKS, 1):
        after = spec.channels(base)
        depthwise = block(spec, before, before, stride=stride, groups=before)
        pointwise = block(spec, before, after, kernel=1, padding=0)
        layers[f"block{number}"] = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
        before = after
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers), before
