"""Partitions: which images each client holds, as seeded draws from the labels.

A partition never loops until it is lucky: every draw ends, uses each train image at most once (all of them, unless
smaller sizes are asked for) and gives every client at least one; what cannot be satisfied is refused at once.
Alpha means two things in the literature, so there are two kinds:

- `Dirichlet` fixes the clients' sizes and draws each client's classes; alpha is the TOTAL concentration.
- `DirichletClasses` divides each class among the clients; alpha is the concentration PER CLIENT, and sizes follow.

Whole images and sizes to be kept bound the skew that a draw can have. Where the clients come out much more or less
alike than drawn, a warning says by how much: beyond that point the skew does not follow alpha any more.

A client's own test set is drawn from the test images in the proportions of its train classes. Under skew such sets
cannot all be disjoint (clients of one class ask for more of it than the test set has), so each is drawn by itself,
without replacement, and those of different clients may overlap. `Shards` and the kinds in `given.py` bring their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from flatlab.data.indices import checked_parts
from flatlab.declare import Family, SettingError, setting, tell
from flatlab.streams import stream

Indices = list[np.ndarray]
LARGEST = 1e15  # concentrations above it draw the same shares, to rounding
TOLD = 0.1  # difference of mean total variation, drawn against dealt, above which it is told


@dataclass(frozen=True)
class Labels:
    """What a partition knows of a data set: int labels [n_train] and [n_test] in 0..classes-1, and natural groups."""

    train: np.ndarray
    test: np.ndarray
    classes: int
    groups: tuple[np.ndarray, np.ndarray] | None = None


class Partition(Family):
    """A way to deal a data set to clients; what all kinds can do."""

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


class Drawn(Partition):
    """A partition whose clients get test sets drawn in the proportions of their train classes."""

    test_size: int | None = setting(None, "test images per client; all test images / clients if not given", ge=1)

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        clients = checked_clients(clients, len(labels.train))
        given = self.deal(labels.train, labels.classes, clients, stream(seed, "partition"))
        mine = checked_parts(f"{self.kind}.deal", given, len(labels.train), clients, disjoint=True)
        return mine, own_tests(mine, labels, seed, self.test_size)

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


class Dirichlet(Sized):
    """Fixed client sizes, classes from a Dirichlet draw for each client (Hsu, Qi, Brown 2019, arXiv 1909.06335).

    Client after client draws q ~ Dir(alpha * p), with p the class frequencies of the train set (1/C each for CIFAR),
    and takes q * size images, rounded; what an exhausted class cannot give, the others give in proportion to q.
    Here alpha is the sum of the concentrations over the C classes, as in the FedSAM paper: one class has alpha / C, so
    this alpha is C times that of codes that write Dir(alpha) per class. Alpha 0 gives a client one class while some
    class can still fill a client; the last clients share what is left.

    >>> skewed = fl.load("digits").federate(fl.Dirichlet(alpha=1.0), clients=20, seed=0)
    >>> mild = fl.load("digits").federate(fl.Dirichlet(alpha=100.0), clients=20, seed=0)
    >>> skewed.heterogeneity()["tv"] > mild.heterogeneity()["tv"]
    True
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = setting(
        ...,
        "total concentration over all C classes (alpha / C for each); 0: one class per client",
        ge=0,
        log=True,
        span=(0.01, 1000),
    )

    def deal(self, labels: np.ndarray, classes: int, clients: int, rng: np.random.Generator) -> Indices:
        pools = [pool for pool in class_pools(labels, classes, rng) if len(pool)]
        left = np.array([len(pool) for pool in pools])
        concentration = min(self.alpha, LARGEST) * left / left.sum()
        counts, drawn = [], []
        for size in self.client_sizes(len(labels), clients, rng):
            drawn.append(log_gamma(concentration, rng) if self.alpha else _one_class(size, left, rng))
            counts.append(fill(size, left, drawn[-1]))
            left = left - counts[-1]
        asked, remedy = (
            f"Dirichlet.alpha = {self.alpha:g}",
            "more images a client, and clients enough to use up classes",
        )
        _tell_skew(asked, np.array(drawn), np.array(counts), remedy)
        return hand_out(pools, np.array(counts))


class DirichletClasses(Drawn):
    """Each class is divided among the clients by its own Dirichlet draw: unequal sizes, as in most benchmark zoos.

    Here alpha is the concentration of every single client. Other codes draw again until all clients are large enough;
    here images move one by one from the client that is largest at the moment (from its most frequent class) until every
    client has `min_size`, so a result always comes. Alpha 0 gives each class whole to one client, the classes spread
    evenly over the clients, before that filling up.

    Warns:
        UserWarning: if filling up, or whole images, make the clients much more or less alike than drawn.

    >>> data = fl.load("digits").federate(fl.DirichletClasses(alpha=0.5, min_size=20), clients=10, seed=0)
    >>> min(len(images) for images in data.train) >= 20
    True
    """

    kind: Literal["dirichlet_classes"] = "dirichlet_classes"
    alpha: float = setting(
        ..., "concentration per client; 0: each class whole to one", ge=0, log=True, span=(0.01, 100)
    )
    min_size: int = setting(10, "train images that every client gets at least", ge=1)

    def deal(self, labels: np.ndarray, classes: int, clients: int, rng: np.random.Generator) -> Indices:
        if self.min_size * clients > len(labels):
            raise SettingError(
                "DirichletClasses.min_size",
                self.min_size,
                f"{clients} clients share {len(labels)} train images; allowed up to {len(labels) // clients}",
            )
        pools = [pool for pool in class_pools(labels, classes, rng) if len(pool)]
        counts = np.zeros((clients, len(pools)), dtype=np.int64)
        drawn = np.zeros(counts.shape)  # logarithms of each client's part of each class
        if self.alpha:
            for column, pool in enumerate(pools):
                weights = log_gamma(np.full(clients, min(self.alpha, LARGEST)), rng)
                counts[:, column] = apportion(len(pool), np.exp(weights - weights.max()))
                drawn[:, column] = weights - np.logaddexp.reduce(weights) + np.log(len(pool))
        else:
            owners = np.resize(rng.permutation(clients), len(pools))
            columns = rng.permutation(len(pools))
            counts[owners, columns] = [len(pools[column]) for column in columns]
            with np.errstate(divide="ignore"):
                drawn = np.log(counts)
        sizes = counts.sum(1)
        for poor in np.flatnonzero(sizes < self.min_size):
            while sizes[poor] < self.min_size:
                rich = sizes.argmax()
                column = counts[rich].argmax()
                counts[rich, column] -= 1
                counts[poor, column] += 1
                sizes[rich] -= 1
                sizes[poor] += 1
        asked = f"DirichletClasses.alpha = {self.alpha:g}, min_size = {self.min_size}"
        _tell_skew(asked, drawn, counts, "a smaller min_size or fewer clients; Classes(per_client) gives few classes")
        return hand_out(pools, counts)


def checked_clients(clients: int | None, images: int) -> int:
    """The number of clients, if `images` train images suffice for it."""
    if clients is None or not 1 <= clients <= images:
        raise SettingError("DataSpec.clients", clients, f"needs 1 to {images}, as there are {images} train images")
    return clients


def own_tests(train: Indices, labels: Labels, seed: int, size: int | None = None) -> Indices:
    """For each client `size` test images in its train proportions; fewer where its classes have no more.

    Without `size`, as many as if the test images were divided equally.
    """
    pools = class_pools(labels.test, labels.classes)
    supply = np.array([len(pool) for pool in pools])
    size = min(size or max(len(labels.test) // len(train), 1), len(labels.test))
    found = []
    for client, mine in enumerate(train):
        rng = stream(seed, "client test set", client)
        with np.errstate(divide="ignore"):
            wanted = fill(size, supply, np.log(np.bincount(labels.train[mine], minlength=labels.classes)))
        parts = [rng.choice(pool, count, replace=False) for pool, count in zip(pools, wanted, strict=True) if count]
        found.append(np.sort(np.concatenate([np.empty(0, np.int64), *parts])))
    return found


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


def log_gamma(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logarithms of gamma variates; normalised, they are a Dirichlet draw that never underflows to 0 / 0.

    Uses Gamma(a) = Gamma(a + 1) * U^(1/a), which stays exact in logarithms where a itself is tiny.
    """
    shape = np.maximum(shape, 1e-300)
    return np.log(rng.standard_gamma(shape + 1)) + np.log1p(-rng.random(len(shape))) / shape


def _tell_skew(asked: str, drawn: np.ndarray, counts: np.ndarray, remedy: str) -> None:
    """Warn if clients come out more or less alike than drawn: mean total variation to the pool, as in `summary`.

    Args:
        asked: the settings, in words.
        drawn: [clients, classes] logarithms of the shares drawn, up to a factor a client; one that was to get nothing
            (all are -inf) does not count.
        counts: [clients, classes] the images that they got.
        remedy: what keeps the skew better.
    """
    pool = counts.sum(0) / counts.sum()
    drawn = drawn[np.isfinite(drawn).any(1)]
    wanted, got = (
        (np.abs(part / part.sum(1, keepdims=True) - pool).sum(1) / 2).mean()
        for part in (np.exp(drawn - drawn.max(1, keepdims=True)), counts)
    )
    if abs(got - wanted) > TOLD:
        sizes = counts.sum(1)
        tell(
            f"{asked}: {len(counts)} clients of {sizes.min()} to {sizes.max()} images differ from the whole by"
            f" {got:.2f} on average (total variation) where {wanted:.2f} was drawn, as images are whole and classes"
            f" end; so the skew does not follow alpha here. Closer: {remedy}"
        )


def _one_class(size: int, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log weights that pick one class: at random among those that fill the client, else the largest, then the next."""
    enough = left >= size
    order = np.lexsort((np.where(enough, rng.random(len(left)), left), enough))
    weights = np.empty(len(left))
    weights[order] = 1e4 * np.arange(len(left))
    return weights
