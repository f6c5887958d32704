"""Networks that only tables need, named as anybody's own: `ModelSpec(name="flatlab.papers.networks:cnn4_wide")`."""

from __future__ import annotations

from torch import nn

from ..models import ModelSpec
from ..models.layers import block

CHANNELS = 256  # of the last block; 2x2 maps of 32x32 images then give 1,024 features, as many as MobileNet's head has


def cnn4_wide(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """The first three blocks of `cnn4`, and a fourth to 256 channels at any width: many features for little time."""
    before, height, width = shape
    blocks = []
    for channels in (*3 * (spec.channels(64),), CHANNELS):
        pool = 2 if min(height, width) >= 2 else 0
        blocks.append(block(spec, before, channels, bias=True, pool=pool))
        before, height, width = channels, height // (pool or 1), width // (pool or 1)
    return nn.Sequential(*blocks, nn.Flatten()), before * height * width
