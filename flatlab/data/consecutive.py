"""Runs of consecutive images: frames of videos, whose neighbours look alike."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ..declare import SettingError, setting, tell
from .given import by_group
from .partitions import Indices, Labels, Partition, apportion


class Consecutive(Partition):
    """Each client holds a run of consecutive images of one group (frames of a video); its end is the client's test set.

    Groups are cut into runs in proportion to their train images, one run each at least, equal to within one image. Test
    images of groups that clients hold are the holdout; those of other groups are `FederatedDataset.unseen`, and the
    history scores them in the split `unseen`. Where all are of other groups, they are the holdout as well, which is
    told. Drawn at random, a test frame would have its neighbour in the train set. Without groups all images are one.

    >>> held = fl.load("digits").federate(fl.Consecutive(), clients=4)
    >>> held.train[0].tolist() == list(range(288)), held.test[0].tolist() == list(range(288, 360))
    (True, True)
    """

    tests_from_train: ClassVar[bool] = True
    kind: Literal["consecutive"] = "consecutive"
    test: float = setting(0.2, "share of each run, its last images, that is the client's test set", gt=0, lt=1)

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        halves = [np.split(run, [len(run) - at_end(len(run), self.test)]) for run in self._runs(labels, clients)]
        return [train for train, _ in halves], [test for _, test in halves]

    def scored(self, labels: Labels) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        train, test = (by_group(part) for part in _groups(labels))
        seen = [part for name, part in test.items() if name in train]
        unseen = {name: part + len(labels.train) for name, part in test.items() if name not in train}
        if not seen:
            tell("all test images are of groups that no client holds: the holdout is made of them, as `unseen` is")
        return np.sort(np.concatenate(seen or list(test.values()))) + len(labels.train), unseen

    def _runs(self, labels: Labels, clients: int | None) -> Indices:
        groups = by_group(_groups(labels)[0])
        sizes = np.array([len(part) for part in groups.values()])
        if clients is None or not len(groups) <= clients <= (sizes // 2).sum() or sizes.min() < 2:
            told = f"needs {len(groups)} to {(sizes // 2).sum()}: a run in each group, of two images or more"
            raise SettingError("DataSpec.clients", clients, told)
        counts = 1 + apportion(clients - len(groups), np.maximum(sizes * clients / sizes.sum() - 1, 0) + 1e-9)
        room = sizes // 2  # two images a run
        counts, missing = np.minimum(counts, room), int(np.maximum(counts - room, 0).sum())
        for _ in range(missing):  # to the longest runs
            counts[np.where(counts < room, sizes / counts, 0).argmax()] += 1
        return [run for part, n in zip(groups.values(), counts, strict=True) for run in np.array_split(part, n)]


def at_end(count: int, share: float) -> int:
    """How many of so many images in a row are its end: a share, one at least, never all."""
    return min(max(round(share * count), 1), count - 1)


def _groups(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    return labels.groups or (np.zeros(len(labels.train), np.int64), np.zeros(len(labels.test), np.int64))
