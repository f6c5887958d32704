"""The papers' plain convolutional networks: FedBABU's 4convNet (`cnn4`) and FedSAM's CNN (`lenet`).

Each function returns a body and the number of its features. Layers keep their published sizes at 32x32; a map is
pooled only while both its sides are at least 2 pixels, so that 8x8 images work.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .layers import block
from .registry import network
from .spec import ModelSpec


@network("cnn4")
def cnn4(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    """Four times conv 3x3 to 64 channels, norm, ReLU, max-pool 2 (Oh et al., FedBABU, ICLR 2022)."""
    before, height, width = shape
    channels = spec.channels(64)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, 5):
        pool = 2 if min(height, width) >= 2 else 0
        layers[f"block{number}"] = block(spec, before, channels, bias=True, pool=pool)
        before = channels
        height, width = (height // pool, width // pool) if pool else (height, width)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers), channels * height * width


@network("lenet", norm="none")
def lenet(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    """Twice conv 5x5 to 64 channels, ReLU, max-pool 2; then 384 and 192 units (Caldarola et al., ECCV 2022).

    The convolutions are unpadded as published; images with a side under 16 pixels get padding 2, since nothing would
    be left of them. A norm, if asked for, follows each convolution.
    """
    before, height, width = shape
    channels = spec.channels(64)
    padding = 2 if min(height, width) < 16 else 0
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in (1, 2):
        height, width = height + 2 * padding - 4, width + 2 * padding - 4
        pool = 2 if min(height, width) >= 2 else 0
        layers[f"block{number}"] = block(spec, before, channels, kernel=5, padding=padding, bias=True, pool=pool)
        before = channels
        height, width = (height // pool, width // pool) if pool else (height, width)
    layers["flatten"] = nn.Flatten()
    features = channels * height * width
    for number, units in ((1, spec.channels(384)), (2, spec.channels(192))):
        layers[f"fc{number}"] = nn.Linear(features, units)
        layers[f"relu{number}"] = nn.ReLU()
        features = units
    return nn.Sequential(layers), features
