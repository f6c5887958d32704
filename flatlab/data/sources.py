"""Where images come from: digits inside scikit-learn, torchvision's data sets, and your own files.

`load(name)` reads `ROOT/<name>.npz` (layout: data/README.md). What torchvision knows is downloaded and parsed into such
a file once; any other file of that layout is a data set of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from torch import Tensor

from flatlab.arguments import Count, Seed, checked
from flatlab.data.archive import read_arrays
from flatlab.data.arrays import checked_arrays, checked_constants, halves, statistics
from flatlab.data.augment import Augmentation
from flatlab.data.dealing import federate
from flatlab.data.federated import FederatedDataset
from flatlab.data.known import TORCHVISION, digits, torchvision
from flatlab.data.partitions import Partition
from flatlab.data.spec import DataSpec
from flatlab.declare import SettingError, near, shown
from flatlab.files import acquire, user_folder, user_path, write_atomically
from flatlab.models import frame

# FedSAM's constants. Its CIFAR-10 std is the mean of the images' own stds; that of all pixels is (.247, .243, .262).
_CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels", "class_names")
_OPTIONAL = ("train_groups", "test_groups", "group_names", "mean", "std")
_POOL = ("images", "labels", "class_names"), ("groups", "group_names", "mean", "std")  # of a file without a split


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

    @cached_property
    def fingerprint(self) -> str:
        """Stands for all of it: a digest of the checksums of each MiB, which is quicker than one of every byte."""
        about = (self.images.shape, self.n_train, self.class_names, self.mean, self.std)
        digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
        for array in (self.images.numpy(), self.labels.numpy(), *(self.groups or ())):
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
    ) -> FederatedDataset:
        """Give the images to clients.

        Args:
            partition: a `Partition`, or the kind of one that needs no settings.
            clients: how many; may be left out where the partition says it (`Groups`, `Fixed`).
            seed: of the partition and of the clients' test sets.
            augment: of train images; by default crop 4 and flip for CIFAR, else nothing.
            normalise: the data set's constants, or "fedbabu" for those of that paper (CIFAR only).

        Raises:
            SettingError: if the partition cannot be made.

        >>> fl.load("digits").federate(fl.Shards(per_client=2), clients=50, seed=0).clients
        50
        """
        given: dict[str, Any] = {"partition": partition, "augmentation": augment}
        return federate(self, DataSpec(name=self.name, clients=clients, seed=seed, normalise=normalise, **given))

    @classmethod
    @frame()
    def from_arrays(
        cls,
        name: str,
        train_images: np.ndarray,
        train_labels: np.ndarray,
        test_images: np.ndarray,
        test_labels: np.ndarray,
        class_names: Sequence[str] | np.ndarray,
        *,
        train_groups: np.ndarray | None = None,
        test_groups: np.ndarray | None = None,
        group_names: Sequence[str] | np.ndarray | None = None,
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
        where: str = "",
    ) -> Source:
        """A data set from arrays in the layout of the npz files (data/README.md), checked.

        Args:
            name: of the data set.
            train_images: uint8 [N, H, W, C] with 1 to 4 channels, or [N, H, W].
            train_labels: integers [N] in 0..classes-1.
            test_images: as the train images.
            test_labels: as the train labels.
            class_names: one for each class.
            train_groups: the natural group of each image: names, or numbers that index `group_names`.
            test_groups: the same of the test images.
            group_names: names of the groups, where they are given by numbers.
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
        train, test = (train_images, train_labels, train_groups), (test_images, test_labels, test_groups)
        images, labels, groups = checked_arrays(train, test, group_names, len(names), where)
        if (mean is None) != (std is None):
            raise SettingError(f"{where}mean, std", [mean, std], "give both, or neither")
        if mean is None or std is None:
            mean, std = _CONSTANTS.get(name) or statistics(images[: len(train_images)])
        centre, spread = (
            checked_constants(values, images.shape[1], low, f"{where}{key}")
            for key, values, low in (("mean", mean, 0.0), ("std", std, 1e-6))
        )
        return cls(name, images, labels, len(train_images), names, centre, spread, groups)

    @classmethod
    @frame()
    def from_pool(
        cls,
        name: str,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str] | np.ndarray,
        *,
        groups: np.ndarray | None = None,
        group_names: Sequence[str] | np.ndarray | None = None,
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
        where: str = "",
    ) -> Source:
        """A data set from arrays that nobody has split: a fixed fifth of each group and class is its test set.

        Args are those of `from_arrays`, for all images; `Domains(test=...)` draws other test sets.

        >>> import numpy as np
        >>> images, labels = np.arange(10 * 64, dtype=np.uint16).astype(np.uint8).reshape(10, 8, 8), np.arange(10) % 2
        >>> fl.Source.from_pool("mine", images, labels, ["cat", "dog"]).n_train
        8
        """
        where = where or f"{name}: "
        train, test = halves(images, labels, groups, group_names, np.asarray(class_names).size, where)
        grouped = {} if groups is None else {"train_groups": train[2], "test_groups": test[2]}
        parts = (*train[:2], *test[:2])
        return cls.from_arrays(name, *parts, class_names, mean=mean, std=std, where=where, **grouped)

    @checked
    def split(self, test: np.ndarray) -> Source:
        """The same images with other test images, bool [N]."""
        order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
        count = int((~test).sum())
        groups = None
        if self.groups:
            every = np.concatenate(self.groups)[order]
            groups = every[:count], every[count:]
        return replace(self, images=self.images[order], labels=self.labels[order], n_train=count, groups=groups)

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the npz file that `load` reads, whole or not at all."""
        path = user_path(path)
        arrays: dict[str, Any] = {
            "train_images": self.train_images.permute(0, 2, 3, 1).numpy(),
            "train_labels": self.train_labels.numpy(),
            "test_images": self.test_images.permute(0, 2, 3, 1).numpy(),
            "test_labels": self.test_labels.numpy(),
            "class_names": np.array(self.class_names),
            "mean": np.array(self.mean),
            "std": np.array(self.std),
        }
        if self.groups:
            arrays["train_groups"], arrays["test_groups"] = self.groups
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path, content.getbuffer())
        return path


@checked
@frame()
def load(name: str, root: str | Path = "data") -> Source:
    """The data set `name`.

    Args:
        name: "digits" (no file needed); "mnist", "fashionmnist", "emnist" (its balanced split, 47 classes), "cifar10",
            "cifar100", "svhn" (downloaded through torchvision the first time); or your own `root/<name>.npz`.
        root: the folder of data sets.

    Raises:
        SettingError: if the name is unknown or its file does not fit the layout.
        FileNotFoundError: if it cannot be downloaded; says which file to put where.

    >>> source = fl.load("digits")
    >>> source.images.shape, source.n_train, len(source.class_names)
    (torch.Size([1797, 1, 8, 8]), 1438, 10)
    """
    root = user_folder(root, "root")
    path = root / f"{name}.npz"
    if name == "digits":
        return Source.from_arrays(name, *digits())
    if not _is_there(path):
        if name not in TORCHVISION:
            own = sorted({file.stem for file in root.glob("*.npz")} - set(TORCHVISION))
            raise SettingError(
                "DataSpec.name",
                name,
                f"known are digits, {', '.join(TORCHVISION)}; in {root.resolve()}: {', '.join(own) or 'no others'}"
                f"{near(name, ['digits', *TORCHVISION, *own])}; your own goes to {shown(str(path))[1:-1]}"
                " (layout: data/README.md)",
            )
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{name}.lock")
        acquire(lock, wait=-1)
        with contextlib.ExitStack() as held:
            held.callback(lock.release)
            if not path.exists():
                Source.from_arrays(name, *torchvision(name, root)).save(path)
    return read(path)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file can have such a name
        return False


@checked
def read(path: str | Path) -> Source:
    """Read an npz file of the layout in data/README.md; its stem is the data set's name.

    Raises:
        SettingError: naming file and key, before memory is taken, if it is damaged, or claims more than it can hold.
    """
    path = user_path(path)
    arrays = read_arrays(path, _POOL, (_REQUIRED, _OPTIONAL))
    make = Source.from_pool if "images" in arrays else Source.from_arrays
    return make(path.stem, **arrays, where=f"{path}: ")
