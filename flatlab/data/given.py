"""Partitions that are given, not drawn: by natural group, or from a file that methods, machines and papers share.

Two layouts of file are read, both JSON:

- what `FederatedDataset.save_partition` writes;
- the split files of the FedSAM paper's code (debcaldarola/fedsam, `data/*/data/train/federated_train_alpha_*.json`):
  `{"users": [id, ...], "num_samples": [...], "user_data": {id: {"x": [image name, ...], "y": [label, ...]}}}`.
  A CIFAR-10 name is `img_<index>_label_<label>.png`, the index counting in the published order, which torchvision
  keeps. That code wrote the test images to the same folder under such names too, so it trained on 1,006 of them; here
  a name always means the train image. CIFAR-100 names are those of the original archive (`seal_s_001997.png`), which
  say nothing of the order: `Fixed(names=...)` is a text file with the name of each train image, a line each, in the
  data set's order (the entry `filenames` of the archive's file `train`, which stands beside `fine_labels`). The file
  for the test set names all of it: that is the holdout.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..arguments import checked
from ..declare import SettingError, setting
from ..files import FORMAT, parse_json, user_path, write_atomically
from .partitions import Indices, Labels, Partition, check_indices, checked_parts, own_tests


class Groups(Partition):
    """One client for each natural group that has train images (a writer, a hospital), with its own test images.

    Groups are in sorted order. A group with test images only is no client: its images stay in the holdout,
    `FederatedDataset.unseen` lists them, and the history scores them in the split `unseen`. A client whose group has no
    test images has an empty test set.

    >>> import numpy as np
    >>> images, labels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), [0, 1, 0, 1]
    >>> writers = np.array(["ann", "ann", "bob", "bob"])
    >>> names = {"class_names": ["no", "yes"], "train_groups": writers, "test_groups": writers}
    >>> source = fl.Source.from_arrays("notes", images, labels, images, labels, **names)
    >>> source.federate(fl.Groups()).names
    ('ann', 'bob')
    """

    kind: Literal["groups"] = "groups"

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        if labels.groups is None:
            raise SettingError("DataSpec.partition", "groups", "this data set has no train_groups and test_groups")
        train, test = by_group(labels.groups[0]), by_group(labels.groups[1])
        if clients not in (None, len(train)):
            raise SettingError("DataSpec.clients", clients, f"{len(train)} groups have train images; leave it out")
        return list(train.values()), [test.get(name, np.empty(0, np.int64)) for name in train]

    def scored(self, labels: Labels) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        holdout, _ = super().scored(labels)
        names, groups = self.client_groups(labels), by_group(labels.groups[1]) if labels.groups else {}
        return holdout, {name: part + holdout[0] for name, part in groups.items() if name not in names}

    def client_groups(self, labels: Labels) -> tuple[str, ...]:
        return tuple(by_group(labels.groups[0])) if labels.groups else ()


class Fixed(Partition):
    """The partition in a file; see the head of this module for the two layouts.

    A file of the FedSAM code has train images only: each client's test set is then drawn in its train proportions.

    >>> path = data.save_partition("mine.json")
    >>> again = fl.load("digits").federate(fl.Fixed(path=str(path)))
    >>> all(map(torch.equal, again.train, data.train))
    True
    """

    kind: Literal["fixed"] = "fixed"
    path: str = setting(..., "file of the partition (JSON)")
    digest: str | None = setting(None, "of the indices; noted when the data are federated, and checked when made again")
    names: str | None = setting(
        None, "text file with the name of each train image, a line each, where the file goes by such names", new=True
    )

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        where = f"Fixed.path = {self.path!r}"
        try:
            content = parse_json(user_path(self.path, "Fixed.path").read_bytes(), where)
            if "user_data" in content:
                train = _fedsam(content["user_data"], labels.train, where, self._positions(len(labels.train)))
                tests = own_tests(train, labels, seed)
            else:
                if content["labels"] != (here := labels_digest(labels)):
                    raise SettingError(
                        where,
                        allowed=f"made for other labels (of {content['data']!s:.40}, digest {content['labels']!s:.40})"
                        f" than these (digest {here})",
                    )
                train, tests = ([_whole(part) for part in content[key]] for key in ("train", "test"))
                if content.get("digest", held := indices_digest(train, tests)) != held:
                    raise SettingError(
                        where, allowed="altered: its checksum does not match (changed by hand: remove digest)"
                    )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if isinstance(error, SettingError):
                raise
            raise SettingError(
                where, allowed=f"no partition can be read from it ({type(error).__name__}: {error})"
            ) from None
        if clients not in (None, len(train)):
            raise SettingError("DataSpec.clients", clients, f"{self.path} has {len(train)}; leave it out")
        check_indices(train, len(labels.train), f"{where}: train", disjoint=True)
        check_indices(tests, len(labels.test), f"{where}: test")
        if self.digest not in (None, here := indices_digest(train, tests)):
            raise SettingError(
                where, allowed=f"the file has changed: its indices have digest {here}, not {self.digest}"
            )
        return train, tests

    def _positions(self, count: int) -> dict[str, int]:
        """Where the train image of each name stands."""
        if self.names is None:
            return {}
        names = user_path(self.names, "Fixed.names").read_text(encoding="utf-8-sig").split()
        if len(names) != count or len(set(names)) != count:
            raise SettingError(
                "Fixed.names",
                self.names,
                f"holds {len(names)} names, {len(set(names))} of them different; needs"
                f" one for each of the {count} train images",
            )
        return {name: place for place, name in enumerate(names)}


def by_group(groups: np.ndarray) -> dict[str, np.ndarray]:
    """The images of each group, by the group's name, sorted."""
    names, member = np.unique(groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    parts = np.split(order, np.bincount(member, minlength=len(names)).cumsum()[:-1])
    return {str(name): part for name, part in zip(names, parts, strict=True)}


def write_partition(path: str | Path, train: Indices, test: Indices, labels: str, about: dict[str, Any]) -> Path:
    """Write a partition that `Fixed` reads, whole or not at all; `labels` is the `labels_digest` of its data set."""
    path = user_path(path)
    lists = {key: [part.tolist() for part in parts] for key, parts in (("train", train), ("test", test))}
    about = {**about, "format": FORMAT, "labels": labels, "digest": indices_digest(train, test)}
    write_atomically(path, json.dumps(about | lists).encode())
    return path


@checked
def save_partition(path: str | Path, source: Any, train: Sequence[Any], test: Sequence[Any]) -> Path:
    """Write who holds which images, made elsewhere, for `Fixed` to read.

    Args:
        path: of the file.
        source: the data set, as `load` gives it.
        train: for each client its images, as indices within the train set; no image twice.
        test: the same within the test set; an image may be several clients'.

    Raises:
        SettingError: naming the client whose indices are none.

    >>> path = fl.data.save_partition("own.json", fl.load("digits"), train=[[0, 2, 5], [1, 3]], test=[[0, 3], [1, 2]])
    >>> fl.load("digits").federate(fl.Fixed(path="own.json")).clients
    2
    """
    labels = Labels.of(source)
    held = checked_parts("save_partition: train", train, len(labels.train), None, disjoint=True)
    tests = checked_parts("save_partition: test", test, len(labels.test), len(held))
    return write_partition(path, held, tests, labels_digest(labels), {"data": source.name})


def labels_digest(labels: Labels) -> str:
    """Stands for the labels in their order: what the indices of a partition refer to (`labels` in its file)."""
    return _digest([labels.train, labels.test])


def indices_digest(train: Iterable[np.ndarray], test: Iterable[np.ndarray]) -> str:
    """Stands for who holds which images: `Fixed.digest`, and `digest` in its file.

    Args:
        train: for each client its images' indices within the train set, ascending.
        test: the same within the test set.

    >>> indices_digest([np.array([0, 2]), np.array([1])], [np.array([0]), np.array([1])])
    '51548f57812cb9fc9ba0871fcf3fc5f7'
    """
    return _digest([*train, np.array([-1]), *test])


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{len(array)}:".encode())
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    return digest.hexdigest()


def _whole(part: list[int]) -> np.ndarray:
    """A list of indices as an array; numpy would make 1 of 1.5 and of true."""
    strange = [index for index in part if type(index) is not int]
    if strange:
        raise ValueError(f"{strange[0]!r:.40} is no index")
    return np.array(part, np.int64)


def _fedsam(users: dict[str, Any], labels: np.ndarray, where: str, positions: dict[str, int]) -> Indices:
    """The clients of a FedSAM split file in the order of their numbers."""

    def index(user: str, name: str, label: int) -> int:
        match = re.fullmatch(r"img_(\d+)_label_(\d+)\.png", name)
        if match is None and name not in positions:
            raise SettingError(
                f"{where}, client {user}",
                allowed=f"{name!r} does not say which image it is: names need the form img_<index>_label_<label>.png,"
                " or Fixed.names a file with all names in the data set's order (CIFAR-100: the entry 'filenames' of the"
                " original archive's file 'train', a line each)",
            )
        place, said = (int(match[1]), int(match[2])) if match else (positions[name], label)
        if place >= len(labels) or not labels[place] == said == label:
            raise SettingError(f"{where}, client {user}", allowed=f"{name!r} ({label}) is not train image {place} here")
        return place

    clients = []
    for user in sorted(users, key=int):
        given = zip(users[user]["x"], users[user]["y"], strict=True)
        clients.append(np.sort(np.array([index(user, name, label) for name, label in given], np.int64)))
    return clients
