"""From a data set and its settings to what clients hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..declare import SettingError, tell
from ..models import frame
from ..streams import stream
from .arrays import statistics
from .domains import Domains
from .federated import FederatedDataset
from .given import Fixed, indices_digest
from .partitions import Labels, checked_parts

if TYPE_CHECKING:
    from .sources import Source
    from .spec import DataSpec

# FedBABU's constants; those of CIFAR-10 are ImageNet's (its official code).
FEDBABU = {
    "cifar10": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
}


@frame()
def federate(source: Source, spec: DataSpec) -> FederatedDataset:
    """Give the images of `source` to clients as `spec` says; notes the fingerprint in the spec.

    Raises:
        SettingError: if the partition cannot be made, or is not what the spec's fingerprint stands for.
    """
    partition = spec.partition
    source = source.shrunk(spec.shrink)
    spec.augmentation.check(source.images.shape[1:], masks=source.masks is not None)
    if (drawn := partition.drawn_test(Labels.of(source), spec.seed)) is not None:
        source = source.split(drawn)
    labels, count = Labels.of(source), source.n_train
    given, where = partition.assign(labels, spec.clients, spec.seed), f"{partition.kind}.assign"
    if not (isinstance(given, tuple) and len(given) == 2):
        raise SettingError(
            f"{where} returned {type(given).__name__}", allowed="needs (train, test), each a list of arrays"
        )
    train = checked_parts(f"{where}: train", given[0], len(labels.train), spec.clients, disjoint=True)
    tests, first = (labels.train, 0) if partition.tests_from_train else (labels.test, count)
    test = checked_parts(f"{where}: test", given[1], len(tests), len(train))
    holdout, unseen = partition.scored(labels)
    if isinstance(partition, Fixed):
        partition = partition.replace(digest=indices_digest(train, test))  # of the file, which knows no leak
    train = _leaked(train, holdout, source.labels.numpy(), spec)
    names = partition.client_groups(labels)
    if partition.tests_from_train and labels.groups is not None:  # a client holds images of one group
        names = tuple(str(labels.groups[0][part[0]]) for part in train)
    mean, std = FEDBABU[spec.name] if spec.normalise == "fedbabu" else (source.mean, source.std)
    if isinstance(partition, Domains):  # nothing of an unseen domain, not even its brightness
        mean, std = statistics(source.images[np.concatenate(train)])
    data = FederatedDataset(
        images=source.images,
        labels=source.labels,
        train=tuple(torch.from_numpy(part) for part in train),
        test=tuple(torch.from_numpy(part + first) for part in test),
        holdout=torch.from_numpy(holdout),
        class_names=source.class_names,
        mean=mean,
        std=std,
        spec=spec,
        origin=source.fingerprint,
        names=names,
        unseen={name: torch.from_numpy(part) for name, part in unseen.items()},
        masks=source.masks,
        label_names=source.label_names,
    )
    if spec.fingerprint not in (None, data.fingerprint):
        raise SettingError(
            "DataSpec.fingerprint",
            spec.fingerprint,
            f"{spec.name} now gives {data.fingerprint}; its images or its partition are not those that this was"
            " recorded with (leave it out to take them)",
        )
    _tell_tests(data)
    return replace(data, spec=spec.replace(partition=partition, clients=data.clients, fingerprint=data.fingerprint))


def _leaked(train: list[np.ndarray], holdout: np.ndarray, labels: np.ndarray, spec: DataSpec) -> list[np.ndarray]:
    """Train sets in which `spec.leak` images of the holdout have the places of as many of their classes, both drawn: as
    in the official split files of FedASAM's paper for CIFAR-10, where names of train and test images collide.

    Raises:
        SettingError: if the holdout has fewer.
    """
    if not spec.leak:
        return train
    if spec.leak > len(holdout):
        raise SettingError("DataSpec.leak", spec.leak, f"must be at most {len(holdout)}, the images of the holdout")
    rng, held = stream(spec.seed, "leak"), np.concatenate(train)
    chosen, leaked = rng.choice(holdout, spec.leak, replace=False), 0
    for name in np.unique(labels[chosen]):
        come, places = chosen[labels[chosen] == name], np.flatnonzero(labels[held] == name)
        taken = rng.choice(places, min(len(come), len(places)), replace=False)
        held[taken] = come[: len(taken)]
        leaked += len(taken)
    if leaked < spec.leak:
        tell(f"DataSpec.leak = {spec.leak}: clients hold too few images of some classes; {leaked} are among theirs")
    return [np.sort(part) for part in np.split(held, np.cumsum([len(part) for part in train])[:-1])]


def _tell_tests(data: FederatedDataset) -> None:
    """Warn of test sets that say little: none, or one image, on which batch statistics fail."""
    sizes = np.array([len(part) for part in data.test])
    if (sizes == 0).any():
        tell(f"{(sizes == 0).sum()} of {len(sizes)} clients have no test images, so no accuracy")
    if (sizes == 1).any():
        tell(
            f"{(sizes == 1).sum()} of {len(sizes)} clients have one test image, so an accuracy of 0 or 1; take fewer"
            ' clients or a larger test_size, or a network without batch statistics, ModelSpec(norm="group")'
        )
