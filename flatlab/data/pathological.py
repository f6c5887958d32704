"""Partitions that fix how many classes a client sees: FedBABU's shards, and exactly s classes each."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..declare import SettingError, setting
from ..streams import stream
from .partitions import (
    Drawn,
    Indices,
    Labels,
    Partition,
    apportion,
    checked_clients,
    class_pools,
    fill,
    hand_out,
)


class Shards(Partition):
    """FedBABU's shards: every client holds `per_client` shards of one class each, in train and in test alike.

    Each class is cut, in the order of the data set, into per_client * clients / classes equal shards (to within one
    image). The list of all shards' classes is shuffled and dealt, and each entry takes a random remaining shard of its
    class, so a client may get a class twice. The test set is dealt by the same table: both sets are partitioned, and a
    client's train and test classes agree.

    >>> data = fl.load("digits").federate(fl.Shards(per_client=2), clients=20, seed=0)
    >>> max(len(data.labels[images].unique()) for images in data.train)
    2
    """

    kind: Literal["shards"] = "shards"
    per_client: int = setting(2, "shards, hence classes at most, of each client", ge=1)

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        clients, classes = checked_clients(clients, len(labels.train)), labels.classes
        each, rest = divmod(self.per_client * clients, classes)
        supply = np.bincount(labels.train, minlength=classes).min()
        if rest or each > supply:
            raise SettingError(
                "Shards.per_client",
                self.per_client,
                f"{clients} clients hold {self.per_client * clients} shards of "
                f"{classes} classes; needs a multiple of {classes}, and at most {supply} shards of a class, as the "
                "rarest class has so many train images",
            )
        rng = stream(seed, "partition")
        table = rng.permutation(np.repeat(np.arange(classes), each)).reshape(clients, self.per_client)
        sets: list[Indices] = []
        for dealt in (labels.train, labels.test):
            held: list[Indices] = [[] for _ in range(clients)]
            for label, pool in enumerate(class_pools(dealt, classes)):
                shards = np.array_split(pool, each)
                for owner, pick in zip(np.nonzero(table == label)[0], rng.permutation(each), strict=True):
                    held[owner].append(shards[pick])
            sets.append([np.sort(np.concatenate(parts)) for parts in held])
        return sets[0], sets[1]


class Classes(Drawn):
    """Exactly `per_client` different classes for each client, all classes in use, sizes as equal as the classes permit.

    A class gets holders in proportion to its images. Client after client draws its classes at random, weighted by the
    places left; a class with as many places left as there are clients left is taken at once, so the draw cannot get
    stuck. Then the images of a class are divided among its holders so that clients come out equal where possible.

    >>> data = fl.load("digits").federate(fl.Classes(per_client=3), clients=10, seed=0)
    >>> {len(data.labels[images].unique()) for images in data.train}
    {3}
    """

    kind: Literal["classes"] = "classes"
    per_client: int = setting(2, "different classes of each client", ge=1)

    def deal(self, labels: np.ndarray, classes: int, clients: int, rng: np.random.Generator) -> Indices:
        pools = [pool for pool in class_pools(labels, classes, rng) if len(pool)]
        supply = np.array([len(pool) for pool in pools])
        slots, room = self.per_client * clients, np.minimum(supply, clients)
        if self.per_client > len(pools) or slots < len(pools) or slots > room.sum():
            raise SettingError(
                "Classes.per_client",
                self.per_client,
                f"{clients} clients hold {slots} classes in all; allowed are "
                f"{-(-len(pools) // clients)} to {len(pools)} for each, as there are {len(pools)} classes with images, "
                f"all used, and at most {room.sum()} in all, as every holder of a class needs an image of it",
            )
        places = 1 + fill(slots - len(pools), room - 1, np.log(supply))
        held = np.zeros((clients, len(pools)), dtype=bool)
        for client in range(clients):
            with np.errstate(divide="ignore"):
                order = np.log(places) + rng.gumbel(size=len(pools))
            order[places == clients - client] = np.inf
            held[client, np.argsort(order)[-self.per_client :]] = True
            places = places - held[client]
        share = held.astype(float)
        for _ in range(100):
            share *= len(labels) / clients / share.sum(1, keepdims=True)
            share *= supply / share.sum(0)
        # One image to each holder of a class, the others by share.
        counts = [has + apportion(n - has.sum(), part) for n, has, part in zip(supply, held.T, share.T, strict=True)]
        return hand_out(pools, np.stack(counts, axis=1))
