"""A data set before it is federated, made of arrays that are checked; `load` makes it of files."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import Count, Seed, Whole, checked
from ..declare import SettingError
from ..files import user_path, write_atomically
from ..models import frame
from .arrays import checked_arrays, checked_constants, checked_masks, halves, statistics, videos
from .augment import Augmentation
from .dealing import federate
from .federated import FederatedDataset
from .partitions import Partition
from .sealing import written
from .spec import DataSpec

# FedSAM's constants. Its CIFAR-10 std is the mean of the images' own stds; that of all pixels is (.247, .243, .262).
_CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is federated; make one with `load` or `Source.from_arrays`."""

    name: str
    images: Tensor = field(repr=False)  # uint8 [N, C, H, W], train then test
    labels: Tensor = field(repr=False)  # int64 [N]
    n_train: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, in 0..1
    std: tuple[float, ...]
    groups: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)  # number or name of each image's
    masks: Tensor | None = field(default=None, repr=False)  # uint8 [N, H, W]; labels are then the images' groups
    label_names: tuple[str, ...] = ()  # of these groups

    @property
    def train_images(self) -> Tensor:
        """uint8 [n_train, C, H, W]."""
        return self.images[: self.n_train]

    @property
    def train_labels(self) -> Tensor:
        """int64 [n_train]."""
        return self.labels[: self.n_train]

    @property
    def test_images(self) -> Tensor:
        """uint8 [n_test, C, H, W]."""
        return self.images[self.n_train :]

    @property
    def test_labels(self) -> Tensor:
        """int64 [n_test]."""
        return self.labels[self.n_train :]

    @property
    def fingerprint(self) -> str:
        """Stands for all of it, as it is now."""
        now = written((self.images, self.labels, self.masks))
        if now not in self._known:
            self._known[now] = self._digest()
        return self._known[now]

    @cached_property
    def _known(self) -> dict[tuple[int, ...], str]:
        return {}  # by what was written into the tensors

    def _digest(self) -> str:
        """Of the checksums of each MiB, which is quicker than one of every byte."""
        about = (self.images.shape, self.n_train, self.class_names, self.mean, self.std)
        digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
        masks = () if self.masks is None else (self.masks.numpy(),)
        for array in (self.images.numpy(), self.labels.numpy(), *masks, *(self.groups or ())):
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, len(flat), 2**20):
                digest.update(zlib.crc32(flat[start : start + 2**20].data).to_bytes(4, "little"))
        return digest.hexdigest()

    @checked
    def federate(
        self,
        partition: Partition | str = "iid",
        clients: Count | None = None,
        seed: Seed = 0,
        *,
        augment: Augmentation | None = None,
        normalise: Literal["default", "fedbabu"] = "default",
        shrink: Count = 1,
        leak: Whole = 0,
    ) -> FederatedDataset:
        """Give the images to clients.

        Args:
            partition: a `Partition`, or the kind of one that needs no settings.
            clients: how many; may be left out where the partition says it (`Groups`, `Fixed`).
            seed: of the partition and of the clients' test sets.
            augment: of train images; by default crop 4 and flip for CIFAR, else nothing.
            normalise: the data set's constants, or "fedbabu" for those of that paper (CIFAR only).
            shrink: images are means of so many pixels squared, masks each one of them (3: 240x180 becomes 80x60);
                normalised as `shrunk` says.
            leak: test images that take the places of train images of their classes, to see what such a fault does.

        Raises:
            SettingError: if the partition cannot be made.

        >>> fl.load("digits").federate(fl.Shards(per_client=2), clients=50, seed=0).clients
        50
        """
        given: dict[str, Any] = {"partition": partition, "augmentation": augment, "shrink": shrink, "leak": leak}
        return federate(self, DataSpec(name=self.name, clients=clients, seed=seed, normalise=normalise, **given))

    @classmethod
    @frame()
    def from_arrays(
        cls,
        name: str,
        train_images: np.ndarray,
        train_labels: np.ndarray | None,
        test_images: np.ndarray,
        test_labels: np.ndarray | None,
        class_names: Sequence[str] | np.ndarray,
        *,
        train_groups: np.ndarray | None = None,
        test_groups: np.ndarray | None = None,
        group_names: Sequence[str] | np.ndarray | None = None,
        train_masks: np.ndarray | None = None,
        test_masks: np.ndarray | None = None,
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
        where: str = "",
    ) -> Source:
        """A data set from arrays in the layout of the npz files (data/README.md), checked.

        Args:
            name: of the data set.
            train_images: uint8 [N, H, W, C] with 1 to 4 channels, or [N, H, W].
            train_labels: integers [N] in 0..classes-1; None with masks: the label is then the image's group (video).
            test_images: as the train images.
            test_labels: as the train labels.
            class_names: one for each class; with masks a last one called "void" is none.
            train_groups: the natural group of each image: names, or numbers that index `group_names`.
            test_groups: the same of the test images.
            group_names: names of the groups, where they are given by numbers.
            train_masks: the class of each pixel, uint8 [N, H, W]; one value beyond the classes may stand for none.
            test_masks: the same of the test images.
            mean: for normalisation, per channel in 0..1; else a known constant, or the train images' own.
            std: likewise.
            where: put before an error's message, e.g. the file.

        Raises:
            SettingError: naming the array that does not fit.

        >>> import numpy as np
        >>> images, labels = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), np.array([0, 1, 0, 1, 0, 1])
        >>> own = fl.Source.from_arrays("mine", images, labels, images[:4], labels[:4], ["cat", "dog"])
        >>> [len(images) for images in own.federate(fl.IID(), clients=2).train]
        [3, 3]
        """
        where = where or f"{name}: "
        names = tuple(str(label) for label in np.asarray(class_names).reshape(-1))
        if not names or len(set(names)) < len(names):
            raise SettingError(f"{where}class_names", allowed="needs different names, one for each class")
        kinds: tuple[str, ...] = ()
        if train_masks is not None or test_masks is not None:
            names, counts = names[:-1] if names[-1] == "void" else names, (len(train_images), len(test_images))
            train_labels, test_labels, kinds = videos((train_groups, test_groups), counts, group_names, where)
        train, test = (train_images, train_labels, train_groups), (test_images, test_labels, test_groups)
        images, labels, groups = checked_arrays(train, test, group_names, len(kinds or names), where)
        halved = images[: len(train_images)], images[len(train_images) :]
        masks = checked_masks((train_masks, test_masks), halved, len(names), where) if kinds else None
        if (mean is None) != (std is None):
            raise SettingError(f"{where}mean, std", [mean, std], "give both, or neither")
        if mean is None or std is None:
            mean, std = _CONSTANTS.get(name) or statistics(images[: len(train_images)])
        centre, spread = (
            checked_constants(values, images.shape[1], low, f"{where}{key}")
            for key, values, low in (("mean", mean, 0.0), ("std", std, 1e-6))
        )
        return cls(name, images, labels, len(train_images), names, centre, spread, groups, masks, kinds)

    @classmethod
    @frame()
    def from_pool(
        cls,
        name: str,
        images: np.ndarray,
        labels: np.ndarray | None,
        class_names: Sequence[str] | np.ndarray,
        *,
        groups: np.ndarray | None = None,
        group_names: Sequence[str] | np.ndarray | None = None,
        masks: np.ndarray | None = None,
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
        where: str = "",
    ) -> Source:
        """A data set from arrays that nobody has split: a fixed fifth of each group and class is its test set.

        Args are those of `from_arrays`, for all images; `Domains(test=...)` draws other test sets. With masks it is the
        last fifth of each group: these may be frames of videos.

        >>> import numpy as np
        >>> images, labels = np.arange(10 * 64, dtype=np.uint16).astype(np.uint8).reshape(10, 8, 8), np.arange(10) % 2
        >>> fl.Source.from_pool("mine", images, labels, ["cat", "dog"]).n_train
        8
        """
        where = where or f"{name}: "
        labels = labels if masks is None else None
        train, test, tested = halves(images, labels, groups, group_names, np.asarray(class_names).size, where)
        grouped = {} if groups is None else {"train_groups": train[2], "test_groups": test[2]}
        if masks is not None:
            grouped |= {"train_masks": masks[~tested], "test_masks": masks[tested]}
        parts = (*train[:2], *test[:2])
        return cls.from_arrays(name, *parts, class_names, mean=mean, std=std, where=where, **grouped)

    @checked
    def split(self, test: np.ndarray) -> Source:
        """The same images with other test images, bool [N]; mean and std stay those of the former train images.

        Raises:
            SettingError: if it is no bool for each image, or would leave no train or no test images.
        """
        if test.dtype != bool or test.shape != (len(self.labels),):
            needs = f"needs bool, one for each of {len(self.labels)} images"
            raise SettingError("test", allowed=f"is {test.dtype} {test.shape}; {needs}")
        if test.all() or not test.any():
            raise SettingError("test", allowed=f"has {int(test.sum())} of {len(test)} images; needs some, not all")
        order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
        count = int((~test).sum())
        groups = None
        if self.groups:
            every = np.concatenate(self.groups)[order]
            groups = every[:count], every[count:]
        masks = None if self.masks is None else self.masks[order]
        labels = self.labels[order]
        return replace(self, images=self.images[order], labels=labels, masks=masks, n_train=count, groups=groups)

    @checked
    def shrunk(self, by: Count) -> Source:
        """Smaller images: each pixel the mean of `by` x `by`, masks the middle one of them; what is left over is cut.

        Mean and std stay those of the images as they were: of smaller ones the std is less (`Domains` measures anew).

        Raises:
            SettingError: if nothing would be left.
        """
        if by == 1:
            return self
        height, width = (side // by * by for side in self.images.shape[2:])
        if not height or not width:
            sides = " x ".join(map(str, self.images.shape[2:]))
            raise SettingError("shrink", by, f"must be at most the shorter side of the images, {sides} pixels")
        means = [F.avg_pool2d(part[..., :height, :width].float(), by).round_() for part in self.images.split(256)]
        masks, middle = self.masks, (by - 1) // 2
        if masks is not None:
            masks = masks[:, middle:height:by, middle:width:by].contiguous()
        return replace(self, images=torch.cat(means).to(torch.uint8), masks=masks)

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the npz file that `load` reads, whole or not at all."""
        path = user_path(path)
        arrays: dict[str, Any] = {
            "train_images": self.train_images.permute(0, 2, 3, 1).numpy(),
            "test_images": self.test_images.permute(0, 2, 3, 1).numpy(),
            "class_names": np.array(self.class_names),
            "mean": np.array(self.mean),
            "std": np.array(self.std),
        }
        if self.masks is None:
            arrays["train_labels"], arrays["test_labels"] = self.train_labels.numpy(), self.test_labels.numpy()
        else:
            arrays["train_masks"], arrays["test_masks"] = np.split(self.masks.numpy(), [self.n_train])
        if self.groups:
            arrays["train_groups"], arrays["test_groups"] = self.groups
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path, content.getbuffer())
        return path
