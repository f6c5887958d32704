"""Arrays of a data set as a person gives them: what they must be, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..declare import SettingError
from .consecutive import at_end
from .domains import held_out
from .given import by_group

Part = tuple[Any, Any, Any]  # images, labels, groups


def checked_arrays(
    train: Part, test: Part, group_names: Sequence[str] | np.ndarray | None, classes: int, where: str
) -> tuple[Tensor, Tensor, tuple[np.ndarray, np.ndarray] | None]:
    """Both sets as one: images uint8 [N, C, H, W], labels int64 [N], and the group of each image of either.

    Raises:
        SettingError: naming the array that does not fit, after `where`.
    """
    images, labels, groups = [], [], []
    for name, part in (("train", train), ("test", test)):
        images.append(_images(part[0], f"{where}{name}_images"))
        labels.append(_labels(part[1], len(images[-1]), classes, f"{where}{name}_labels"))
        if train[2] is not None or test[2] is not None:
            groups.append(_groups(part[2], len(images[-1]), group_names, f"{where}{name}_groups"))
    if images[0].shape[1:] != images[1].shape[1:]:
        raise SettingError(
            f"{where}test_images", allowed=f"{images[1].shape[1:]} an image, train_images {images[0].shape[1:]}"
        )
    count = len(images[0])
    height, width, channels = images[0].shape[1:]
    both = torch.empty((count + len(images[1]), channels, height, width), dtype=torch.uint8)
    both[:count], both[count:] = (torch.from_numpy(array.transpose(0, 3, 1, 2)) for array in images)
    return both, torch.from_numpy(np.concatenate(labels)), (groups[0], groups[1]) if groups else None


def checked_masks(given: tuple[Any, Any], images: tuple[Tensor, Tensor], classes: int, where: str) -> Tensor:
    """The masks of both sets as one, uint8 [N, H, W]; one value beyond the classes may stand for no class (void).

    Raises:
        SettingError: naming the array that does not fit, after `where`.
    """
    masks = []
    for name, part, fitting in zip(("train", "test"), given, images, strict=True):
        array, shape = _array(part, f"{where}{name}_masks"), (len(fitting), *fitting.shape[2:])
        if array.dtype != np.uint8 or array.shape != shape:
            told = f"is {array.dtype} {array.shape}; needs uint8 {shape}, a class for each pixel of the images"
            raise SettingError(f"{where}{name}_masks", allowed=told)
        masks.append(array)
    both = np.concatenate(masks)
    seen = np.flatnonzero(np.bincount(both.reshape(-1), minlength=256))
    if seen[0] >= classes or (seen >= classes).sum() > 1 or classes > 255:
        told = f"hold {', '.join(map(str, seen))}; need 0..{classes - 1}, and at most one other value, for no class"
        raise SettingError(f"{where}masks", allowed=told)
    return torch.from_numpy(both)


def videos(
    groups: tuple[Any, Any], counts: tuple[int, int], names: Sequence[str] | np.ndarray | None, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The labels of images that have masks, the group (video) of each, and the groups' names.

    Raises:
        SettingError: naming the array that does not fit, after `where`.
    """
    parts = [
        np.full(count, "all") if part is None else _groups(part, count, names, f"{where}{name}_groups").astype(str)
        for name, part, count in zip(("train", "test"), groups, counts, strict=True)
    ]
    kinds, labels = np.unique(np.concatenate(parts), return_inverse=True)
    return labels[: counts[0]], labels[counts[0] :], tuple(map(str, kinds))


def halves(
    images: Any, labels: Any, groups: Any, group_names: Sequence[str] | np.ndarray | None, classes: int, where: str
) -> tuple[Part, Part, np.ndarray]:
    """The arrays of a data set without a split, as a train and a test set: a fixed fifth of each group and class.

    Of images with masks in place of labels it is the last fifth of each group: they may be frames of a video.

    Returns:
        Both, and which of all images are for testing, bool.

    Raises:
        SettingError: naming the array that does not fit, after `where`.
    """
    images = _images(images, f"{where}images")
    if groups is not None:
        groups = _groups(groups, len(images), group_names, f"{where}groups")
    if labels is None:
        labels, test = np.zeros(len(images), np.int64), np.zeros(len(images), bool)
        for part in by_group(labels if groups is None else groups).values():
            test[part[len(part) - at_end(len(part), 0.2) :]] = True
    else:
        labels = _labels(labels, len(images), classes, f"{where}labels")
        test = held_out(labels, groups, 0.2, seed=0)
    if not test.any():
        told = "too few for a test set, a fifth of each group and class; give train_images and test_images"
        raise SettingError(f"{where}images", len(images), told)
    train, tested = ((images[part], labels[part], None if groups is None else groups[part]) for part in (~test, test))
    return train, tested, test


def _array(given: Any, where: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths, a tensor elsewhere
        raise SettingError(where, allowed=f"is no array: {error}") from None


def _images(array: Any, where: str) -> np.ndarray:
    """uint8 [N, H, W, C]."""
    array = _array(array, where)
    if array.dtype != np.uint8:
        nan = " with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise SettingError(where, allowed=f"is {array.dtype}{nan}; needs uint8, 0..255")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not array.size or array.shape[3] not in range(1, 5):
        raise SettingError(
            where, allowed=f"has shape {array.shape}; needs [N, H, W] or [N, H, W, C] with 1 to 4 channels last"
        )
    return array


def checked_constants(given: Any, channels: int, low: float, where: str) -> tuple[float, ...]:
    """A number a channel, from `low` to 1."""
    try:
        values = tuple(float(value) for value in np.asarray(given).reshape(-1))
    except (TypeError, ValueError):
        raise SettingError(where, given, f"needs {channels} numbers in {low}..1") from None
    if len(values) != channels or not all(low <= value <= 1 for value in values):
        raise SettingError(where, values, f"needs {channels} numbers in {low}..1")
    return values


def _labels(array: Any, count: int, classes: int, where: str) -> np.ndarray:
    """int64 [count] in 0..classes-1."""
    array = _array(array, where)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise SettingError(
            where, allowed=f"is {array.dtype} {array.shape}; needs integers, one for each of {count} images"
        )
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if len(wrong):
        raise SettingError(where, allowed=f"image {wrong[0]} has label {array[wrong[0]]}; needs 0..{classes - 1}")
    return array.astype(np.int64)


def _groups(array: Any, count: int, names: Sequence[str] | np.ndarray | None, where: str) -> np.ndarray:
    """Numbers or names [count]; numbers that index `names` as these names."""
    array = _array(array, where)
    if array.dtype == object and all(isinstance(name, str) for name in array.flat):  # as pandas keeps text
        array = array.astype(str)
    if array.dtype.kind not in "iuU" or array.shape != (count,):
        raise SettingError(
            where, allowed=f"is {array.dtype} {array.shape}; needs a number or name for each of {count} images"
        )
    if names is None or array.dtype.kind == "U":
        return array
    if array.min() < 0 or array.max() >= len(names):
        raise SettingError(where, allowed=f"needs 0..{len(names) - 1}, as there are so many group_names")
    if len(set(names := np.asarray(names).tolist())) < len(names):
        raise SettingError(where, allowed="needs different group_names, one for each group")
    return np.asarray(names)[array]


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in 0..1, to 6 places; std 1 for a channel that never changes."""
    channels, pixels = images.shape[1], images[:, 0].numel()
    total = torch.zeros(2, images[0].numel(), dtype=torch.float64)
    for part in images.split(256):  # 256 squares of bytes add up exactly in float32, in whatever order
        values, ones = part.flatten(1).to(torch.float32), torch.ones(len(part))
        total += torch.stack([ones @ values, ones @ values.square()])
    mean, square = total.view(2, channels, -1).sum(2) / pixels / torch.tensor([[255.0], [255.0**2]])
    std = (square - mean**2).clamp(min=0).sqrt()
    return tuple(round(m, 6) for m in mean.tolist()), tuple(round(s, 6) or 1.0 for s in std.tolist())
