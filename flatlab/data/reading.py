"""Where images come from: digits inside scikit-learn, torchvision's data sets, and your own files.

`load(name)` reads `ROOT/<name>.npz` (layout: data/README.md). What torchvision knows is downloaded and parsed into such
a file once; any other file of that layout is a data set of its own.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from filelock import FileLock

from ..arguments import checked
from ..declare import SettingError, near, shown
from ..files import acquire, user_folder, user_path
from ..models import frame
from .archive import read_arrays
from .known import GROUPS, TORCHVISION, digits, torchvision
from .sources import Source

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels", "class_names")
_OPTIONAL = ("train_groups", "test_groups", "group_names", "mean", "std")
_POOL = ("images", "labels", "class_names"), ("groups", "group_names", "mean", "std")  # of a file without a split
_LAYOUTS = (
    (("train_masks", "train_images", "test_masks", "test_images", "class_names"), _OPTIONAL),
    (("masks", "images", "class_names"), _POOL[1]),
    _POOL,
    (_REQUIRED, _OPTIONAL),
)


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
    if not os.path.exists(path):  # `Path.exists` raises where no file can have such a name
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


@checked
def read(path: str | Path) -> Source:
    """Read an npz file of the layout in data/README.md; its stem is the data set's name.

    Raises:
        SettingError: naming file and key, before memory is taken, if it is damaged, or claims more than it can hold.
    """
    path = user_path(path)
    arrays = read_arrays(path, *_LAYOUTS)
    if "train_masks" in arrays and "train_groups" not in arrays:
        arrays |= _known_groups(path.stem, len(arrays["train_images"]), len(arrays["test_images"]))
    if not arrays.keys() & {"labels", "train_labels"}:
        arrays |= {"labels": None} if "images" in arrays else {"train_labels": None, "test_labels": None}
    make = Source.from_pool if "images" in arrays else Source.from_arrays
    return make(path.stem, **arrays, where=f"{path}: ")


def _known_groups(name: str, *counts: int) -> dict[str, np.ndarray]:
    """The groups of a data set that does not say them itself, if it has as many images as we know of."""
    known = GROUPS.get(name, ())
    if tuple(sum(part.values()) for part in known) != counts:
        return {}
    return {
        f"{part}_groups": np.repeat([*groups], [*groups.values()])
        for part, groups in zip(("train", "test"), known, strict=True)
    }
