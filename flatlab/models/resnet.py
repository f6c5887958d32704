"""Residual networks for 32x32 images (He et al., CVPR 2016): ResNet18 with a CIFAR stem, and ResNet20.

Each function returns a body and the number of its features.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import block
from .registry import network
from .spec import ModelSpec


class Pad(nn.Module):
    """Shortcut option A, without parameters: every second pixel if strided, new channels zero on both sides."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """[batch, before, H, W] to [batch, after, ceil(H / stride), ceil(W / stride)]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


class Residual(nn.Module):
    """relu(conv-norm-relu-conv-norm (x) + shortcut(x))."""

    def __init__(self, spec: ModelSpec, before: int, after: int, stride: int, project: bool) -> None:
        super().__init__()
        self.block1 = block(spec, before, after, stride=stride)
        self.block2 = block(spec, after, after, relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = (
                block(spec, before, after, kernel=1, stride=stride, padding=0, relu=False)
                if project
                else Pad(before, after, stride)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, before, H, W] to [batch, after, ceil(H / stride), ceil(W / stride)]."""
        return F.relu(self.block2(self.block1(x)) + self.shortcut(x))


@network("resnet18")
def resnet18(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    """Four stages of two residual blocks, 64 to 512 channels; stem conv 3x3, no pool; 1x1 conv shortcuts."""
    return _resnet(spec, shape, stages=(64, 128, 256, 512), depth=2, project=True)


@network("resnet20")
def resnet20(spec: ModelSpec, shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    """Three stages of three residual blocks, 16 to 64 channels; shortcuts without parameters (option A)."""
    return _resnet(spec, shape, stages=(16, 32, 64), depth=3, project=False)


def _resnet(
    spec: ModelSpec, shape: tuple[int, int, int], stages: tuple[int, ...], depth: int, project: bool
) -> tuple[nn.Sequential, int]:
    before = spec.channels(stages[0])
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=block(spec, shape[0], before))
    for stage, base in enumerate(stages, 1):
        after = spec.channels(base)
        for number in range(1, depth + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            layers[f"stage{stage}_{number}"] = Residual(spec, before, after, stride, project)
            before = after
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers), before
