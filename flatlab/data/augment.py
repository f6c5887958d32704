"""Augmentation of whole batches of uint8 images, from draws made beforehand, as torchvision does one by one.

Order: random crop of the zero-padded image, horizontal flip, normalisation, then Cutout (DeVries and Taylor 2017,
arXiv 1708.04552), which sets one square to zero. The draws come from a named stream on the CPU, so they are the same on
every device. Mixup is a setting only: one lambda serves a whole batch, so the cohort mixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..declare import Declared, SettingError, setting

VOID = 255  # in a mask: no class


class Augmentation(Declared):
    """What training does to its images; everything off by default. Evaluation never augments.

    >>> data = fl.load("digits").federate(fl.IID(), clients=4, augment=fl.Augmentation(crop=1, cutout=2))
    >>> data.augmentation
    Augmentation(crop=1, cutout=2)
    """

    crop: int = setting(0, "random crop after zero padding by so many pixels on each side", ge=0, unit="px")
    flip: bool = setting(False, "mirror left to right with probability 1/2")
    cutout: int = setting(0, "side of one square set to zero at a random centre, clipped at the edges", ge=0, unit="px")
    mixup: float = setting(0.0, "alpha of Mixup's Beta(alpha, alpha), one draw a batch; 0: off", ge=0)

    def check(self, shape: Sequence[int], masks: bool = False) -> None:
        """Refuse crops that may leave nothing of an image [C, H, W], and Mixup of images that have masks.

        Raises:
            SettingError: naming the setting.
        """
        if masks and self.mixup:
            raise SettingError("augmentation.mixup", self.mixup, "a mixed pixel has no class; set it to 0 with masks")
        side = min(shape[1:])
        if self.crop > side:
            raise SettingError("augmentation.crop", self.crop, f"must be at most {side}, the images' shorter side")

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """What `prepare` needs for `count` images, each [count]; only what is in use.

        `top`, `left` int64 in 0..2*crop; `flip` bool; `hole_y`, `hole_x` float32 in [0, 1), the centre of the hole as a
        fraction of height and width.
        """
        draws: dict[str, np.ndarray] = {}
        if self.crop:
            draws["top"], draws["left"] = rng.integers(0, 2 * self.crop + 1, (2, count))
        if self.flip:
            draws["flip"] = rng.random(count) < 0.5
        if self.cutout:
            draws["hole_y"], draws["hole_x"] = rng.random((2, count), dtype=np.float32)
        return draws


def prepare(
    images: Tensor,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    draws: Mapping[str, Tensor] | None = None,
    augmentation: Augmentation | None = None,
) -> Tensor:
    """Augmented and normalised images, float32 [M, C, H, W], on the device of `images`.

    Args:
        images: uint8 [M, C, H, W].
        mean: per channel, in 0..1.
        std: per channel, in 0..1.
        draws: what `augmentation.draw` gave, as tensors [M] on the same device; None only normalises.
        augmentation: needed with draws.
    """
    draws = {} if augmentation is None or draws is None else draws
    if "top" in draws or "flip" in draws:
        images = _crop_and_flip(images, draws, augmentation.crop if augmentation else 0)
    centre, spread = (torch.as_tensor(value, device=images.device).view(-1, 1, 1) for value in (mean, std))
    ready = images.to(torch.float32).div_(255).sub_(centre).div_(spread)
    if augmentation is not None and "hole_y" in draws:
        rows, columns = (
            _hole(draws[key], length, augmentation.cutout)
            for key, length in (("hole_y", ready.shape[2]), ("hole_x", ready.shape[3]))
        )
        ready.mul_((1 - rows[:, :, None] * columns[:, None, :])[:, None])
    return ready


def moved(masks: Tensor, draws: Mapping[str, Tensor], augmentation: Augmentation) -> Tensor:
    """Masks uint8 [M, H, W] cropped and flipped as `prepare` does with the images; what was outside is `VOID`.

    Cutout covers a part of the image, whose class stays what it was.
    """
    if not ("top" in draws or "flip" in draws):
        return masks
    return _crop_and_flip(masks[:, None], draws, augmentation.crop, VOID)[:, 0]


def _crop_and_flip(images: Tensor, draws: Mapping[str, Tensor], pad: int, outside: int = 0) -> Tensor:
    """One gather: the source row and column of every pixel of the result, in the padded image."""
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if "flip" in draws:
        columns = torch.where(draws["flip"][:, None], width - 1 - columns, columns)
    if "top" in draws:
        images = functional.pad(images, (pad, pad, pad, pad), value=outside)
        rows, columns = rows + draws["top"][:, None], columns + draws["left"][:, None]
    source = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(count, 1, -1).expand(count, channels, -1)
    return images.flatten(2).gather(2, source).view(count, channels, height, width)


def _hole(centre: Tensor, length: int, side: int) -> Tensor:
    """1 where one of `length` rows (or columns) lies in an image's hole, else 0: float32 [M, length]."""
    place, side = torch.arange(length, device=centre.device), min(side, 2 * length)
    middle = (centre * length).long()[:, None]
    return ((place >= middle - side // 2) & (place < middle + side - side // 2)).float()
