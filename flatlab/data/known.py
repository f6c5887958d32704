"""The data sets that flatlab can make: digits inside scikit-learn, and those that torchvision downloads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..streams import stream

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]  # train, test: images, labels; class names

# Class of torchvision.datasets, and its arguments for the train and the test set.
_TRAIN_TEST = ({"train": True}, {"train": False})
TORCHVISION: dict[str, tuple[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "mnist": ("MNIST", _TRAIN_TEST),
    "fashionmnist": ("FashionMNIST", _TRAIN_TEST),
    "emnist": ("EMNIST", ({"split": "balanced", "train": True}, {"split": "balanced", "train": False})),
    "cifar10": ("CIFAR10", _TRAIN_TEST),
    "cifar100": ("CIFAR100", _TRAIN_TEST),
    "svhn": ("SVHN", ({"split": "train"}, {"split": "test"})),
}

# Of data sets that do not say it: the groups of their images, in order. CamVid's videos follow one another in SegNet's
# order, and part where neighbouring frames differ most.
GROUPS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "camvid240": ({"0001TP": 62, "0006R0": 101, "0016E5": 204}, {"0001TP": 62, "Seq05VD": 171}),
}


def digits() -> Arrays:
    """Scikit-learn's handwritten digits, 0..16 stretched to 0..255; the test set is a fixed fifth of every class."""
    bunch = importlib.import_module("sklearn.datasets").load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        pool = np.flatnonzero(labels == label)
        test[stream(0, "digits test set", label).choice(pool, round(len(pool) / 5), replace=False)] = True
    names = [str(label) for label in range(10)]
    return images[~test], labels[~test], images[test], labels[test], names


def torchvision(name: str, root: Path) -> Arrays:
    """Download (or find in `root/raw`) and parse a data set that torchvision knows."""
    kind, settings = TORCHVISION[name]
    maker: Callable[..., Any] = getattr(importlib.import_module("torchvision.datasets"), kind)
    raw = root / "raw"
    try:
        parts = [maker(str(raw), download=True, **options) for options in settings]
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} is not in {root.resolve()} and could not be downloaded ({error}). Without network, put "
            f"{name}.npz (layout: data/README.md) there, or on a machine with network run "
            f'flatlab.load("{name}", root="somewhere") and copy somewhere/{name}.npz; torchvision\'s own files for '
            f"{kind} are found in {raw.resolve()}, too"
        ) from error
    arrays: list[np.ndarray] = []
    for part in parts:
        images = np.asarray(part.data)
        if name == "svhn":
            images = images.transpose(0, 2, 3, 1)
        if name == "emnist":
            images = images.swapaxes(1, 2)  # the published files hold every image transposed
        arrays += [images, np.asarray(part.labels if name == "svhn" else part.targets)]
    names = [str(label).split(" - ")[0] for label in getattr(parts[0], "classes", range(10))]
    return arrays[0], arrays[1], arrays[2], arrays[3], names
