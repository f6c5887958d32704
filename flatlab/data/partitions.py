"""Partitions: which images each client holds, as seeded draws from the labels.

A partition never loops until it is lucky: every draw ends, uses each train image at most once (all of them, unless
smaller sizes are asked for) and gives every client at least one; what cannot be satisfied is refused at once.
A client's own test set is drawn from the test images in the proportions of its train classes. Under skew such sets
cannot all be disjoint (clients of one class ask for more of it than the test set has), so each is drawn by itself,
without replacement, and those of different clients may overlap. `Shards` and the kinds in `given.py` bring their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..declare import Family, SettingError, setting
from ..streams import stream

Indices = list[np.ndarray]
NEAR = 0.05  # total variation within which a client's test set has its train proportions


@dataclass(frozen=True)
class Labels:
    """What a partition knows of a data set: int labels [n_train] and [n_test] in 0..classes-1, and natural groups."""

    train: np.ndarray
    test: np.ndarray
    classes: int
    groups: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, source: Any) -> Labels:
        """Those of a `Source`."""
        return cls(source.train_labels.numpy(), source.test_labels.numpy(), len(source.class_names), source.groups)


class Partition(Family):
    """A way to deal a data set to clients; what all kinds can do.

    Attributes:
        tests_from_train: whether the clients' test images count within the train set, too.
    """

    tests_from_train: ClassVar[bool] = False

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        """The train and the test images of every client, as sorted int64 indices into the train and the test set.

        Args:
            labels: of the data set; a class without train images is left out.
            clients: how many clients; may be None where the partition itself says how many.
            seed: the same seed gives the same partition.

        Raises:
            SettingError: if the request cannot be satisfied.
        """
        raise NotImplementedError

    def drawn_test(self, labels: Labels, seed: int) -> np.ndarray | None:
        """Which of all images (train, then test) are for testing, bool, where the partition draws that anew."""
        return None

    def scored(self, labels: Labels) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The holdout, and by name the groups of which no client has train images: indices into all images."""
        return np.arange(len(labels.test)) + len(labels.train), {}

    def client_groups(self, labels: Labels) -> tuple[str, ...]:
        """The natural group of each client, where they have one."""
        return ()


class Drawn(Partition):
    """A partition whose clients get test sets drawn in the proportions of their train classes."""

    test_size: int | None = setting(None, "test images per client; all test images / clients if not given", ge=1)

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        clients = checked_clients(clients, len(labels.train))
        given = self.deal(labels.train, labels.classes, clients, stream(seed, "partition"))
        train = checked_parts(f"{self.kind}.deal", given, len(labels.train), clients, disjoint=True)
        return train, own_tests(train, labels, seed, self.test_size)

    def deal(self, labels: np.ndarray, classes: int, clients: int, rng: np.random.Generator) -> Indices:
        """The train images of every client, from the labels of the train set."""
        raise NotImplementedError


class Sized(Drawn):
    """A drawn partition that gives each client as many train images as asked for."""

    sizes: Literal["equal", "lognormal"] | tuple[Annotated[int, Field(ge=1)], ...] = setting(
        "equal", "train images per client: equal (to within one), lognormal, or one number for each client"
    )
    sigma: float = setting(0.5, "standard deviation of the logarithm of log-normal sizes", ge=0, le=10)

    def client_sizes(self, total: int, clients: int, rng: np.random.Generator) -> np.ndarray:
        """How many of `total` images each client gets, int [clients], all at least one."""
        if isinstance(self.sizes, tuple):
            if len(self.sizes) != clients or sum(self.sizes) > total:
                raise SettingError(
                    f"{type(self).__name__}.sizes",
                    allowed=f"{len(self.sizes)} sizes with sum {sum(self.sizes)}; "
                    f"needs {clients} sizes, one for each client, with sum at most {total}",
                )
            return np.array(self.sizes)
        if self.sizes == "lognormal":
            return 1 + apportion(total - clients, np.exp(self.sigma * rng.standard_normal(clients)))
        return apportion(total, np.ones(clients))


class IID(Sized):
    """Every client draws at random from the whole train set.

    >>> [len(images) for images in fl.load("digits").federate(fl.IID(), clients=4, seed=0).train]
    [360, 360, 359, 359]
    """

    kind: Literal["iid"] = "iid"

    def deal(self, labels: np.ndarray, classes: int, clients: int, rng: np.random.Generator) -> Indices:
        ends = self.client_sizes(len(labels), clients, rng).cumsum()
        order = rng.permutation(len(labels))[: ends[-1]]
        return np.split(order, ends[:-1])


def checked_clients(clients: int | None, images: int) -> int:
    """The number of clients, if `images` train images suffice for it."""
    if clients is None or not 1 <= clients <= images:
        raise SettingError("DataSpec.clients", clients, f"needs 1 to {images}, as there are {images} train images")
    return clients


def checked_parts(where: str, given: Any, total: int, clients: int | None, disjoint: bool = False) -> Indices:
    """What a rule of one's own gave, as sorted int64 arrays.

    Args:
        where: the rule, for errors.
        given: the images of each client.
        total: images of the set.
        clients: how many there must be; None: any number.
        disjoint: no image may be held twice.

    Raises:
        SettingError: if it is something else, naming the client.
    """
    if not isinstance(given, Sequence | np.ndarray):
        raise SettingError(f"{where} returned {type(given).__name__}", allowed="needs a list, an array for each client")
    if clients is not None and len(given) != clients:
        raise SettingError(f"{where} returned {len(given)} parts", allowed=f"needs {clients}, one for each client")
    parts = [np.asarray(part) for part in given]
    for client, part in enumerate(parts):
        if len(part.shape) != 1 or (part.size and part.dtype.kind not in "iu"):
            kind = f"{part.dtype} {[*part.shape]}" if part.ndim else type(given[client]).__name__
            raise SettingError(f"{where}, client {client}: {kind}", allowed=f"needs indices in 0..{total - 1}")
    parts = [np.sort(part.astype(np.int64)) for part in parts]
    check_indices(parts, total, where, disjoint)
    return parts


def check_indices(parts: Sequence[np.ndarray], total: int, where: str, disjoint: bool = False) -> None:
    """Refuse indices outside 0..total-1, an image twice in a client, or (if `disjoint`) in two clients.

    Raises:
        SettingError: naming the client or the image.
    """
    for client, part in enumerate(parts):
        if part.ndim != 1 or (len(part) and not 0 <= part.min() <= part.max() < total):
            raise SettingError(f"{where}, client {client}", allowed=f"needs a list of indices in 0..{total - 1}")
        if len(np.unique(part)) < len(part):
            raise SettingError(f"{where}, client {client}", allowed="holds an image twice")
    if disjoint and (held := np.bincount(np.concatenate([*parts, np.empty(0, np.int64)]), minlength=1)).max() > 1:
        raise SettingError(where, allowed=f"image {held.argmax()} is held by {held.max()} clients; at most one may")


def own_tests(train: Indices, labels: Labels, seed: int, size: int | None = None) -> Indices:
    """For each client `size` test images in its train proportions; fewer where one of its classes has no more.

    More of its other classes would be another distribution than that it trains on; a total variation of .05 passes.
    Classes that the test set lacks do not count. Without `size`, as many as if the test images were divided equally.
    """
    pools = class_pools(labels.test, labels.classes)
    supply = np.array([len(pool) for pool in pools])
    size = min(size or max(len(labels.test) // len(train), 1), len(labels.test))
    tests = []
    for client, held in enumerate(train):
        rng = stream(seed, "client test set", client)
        counts = np.where(supply > 0, np.bincount(labels.train[held], minlength=labels.classes), 0)
        wanted = _in_proportion(size, supply, counts)
        parts = [rng.choice(pool, count, replace=False) for pool, count in zip(pools, wanted, strict=True) if count]
        tests.append(np.sort(np.concatenate([np.empty(0, np.int64), *parts])))
    return tests


def _in_proportion(size: int, supply: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many of each class make `size` in proportion to `counts`, or fewer, of which no class has too few."""
    with np.errstate(divide="ignore"):
        weights = np.log(counts)
    wanted, held = fill(size, supply, weights), counts > 0
    most = max(1, int((supply[held] * counts.sum() // counts[held]).min(initial=size)))
    if most < size and np.abs(wanted / wanted.sum() - counts / counts.sum()).sum() / 2 > NEAR:
        return fill(most, supply, weights)
    return wanted


def class_pools(labels: np.ndarray, classes: int, rng: np.random.Generator | None = None) -> Indices:
    """The images of each class, in data set order or shuffled."""
    pools = [np.flatnonzero(labels == label) for label in range(classes)]
    return pools if rng is None else [rng.permutation(pool) for pool in pools]


def hand_out(pools: Indices, counts: np.ndarray) -> Indices:
    """Give each client its share of each class: counts is int [clients, classes]."""
    ends = counts.cumsum(0)
    return [
        np.concatenate([pool[end - n : end] for pool, end, n in zip(pools, ends[client], row, strict=True)])
        for client, row in enumerate(counts)
    ]


def apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers with sum `total` in proportion to non-negative weights: rounded down, then largest remainders."""
    exact = total * (weights / weights.sum())
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return whole


def fill(size: int, supply: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """`size` apportioned by weight with none above its supply; what is missing is apportioned again among the others.

    Ends after at most one turn for each class, since a turn completes the size or exhausts a class. Gives less than
    `size` only if every class of positive weight is exhausted.
    """
    taken = np.zeros_like(supply)
    while missing := size - taken.sum():
        weights = np.where(taken < supply, log_weights, -np.inf)
        if np.isneginf(weights).all():
            break
        taken += np.minimum(apportion(missing, np.exp(weights - weights.max())), supply - taken)
    return taken
