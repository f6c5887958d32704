"""Dirichlet partitions. Alpha means two things in the literature, so there are two kinds:

- `Dirichlet` fixes the clients' sizes and draws each client's classes; alpha is the TOTAL concentration.
- `DirichletClasses` divides each class among the clients; alpha is the concentration PER CLIENT, and sizes follow.

Whole images and sizes to be kept bound the skew that a draw can have. Where that bound is reached, and the clients
come out much more or less alike than drawn, a warning says by how much: alpha beyond that point changes little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from ..declare import SettingError, setting, tell
from .partitions import Drawn, Indices, Sized, apportion, class_pools, fill, hand_out

LARGEST = 1e15  # concentrations above it draw the same shares, to rounding
TOLD = 0.1  # difference of mean total variation, drawn against dealt, above which it may be told
NEAR = 0.02  # of the largest or least skew that can be dealt: it is reached, as far as one draw can tell

Deal = tuple[np.ndarray, np.ndarray]  # [clients, classes] logarithms of the shares drawn, and images


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
        supply, sizes = np.array([len(pool) for pool in pools]), self.client_sizes(len(labels), clients, rng)

        def deal(alpha: float, rng: np.random.Generator) -> Deal:
            left, concentration = supply, min(alpha, LARGEST) * supply / supply.sum()
            counts, drawn = [], []
            for size in sizes:
                drawn.append(log_gamma(concentration, rng) if alpha else _one_class(size, left, rng))
                counts.append(fill(size, left, drawn[-1]))
                left = left - counts[-1]
            return np.array(drawn), np.array(counts)

        drawn, counts = deal(self.alpha, rng)
        asked = f"Dirichlet.alpha = {self.alpha:g}"
        _tell_skew(asked, drawn, counts, "more images a client, and clients enough to use up classes", deal)
        return hand_out(pools, counts)


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


def log_gamma(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logarithms of gamma variates; normalised, they are a Dirichlet draw that never underflows to 0 / 0.

    Uses Gamma(a) = Gamma(a + 1) * U^(1/a), which stays exact in logarithms where a itself is tiny.
    """
    shape = np.maximum(shape, 1e-300)
    return np.log(rng.standard_gamma(shape + 1)) + np.log1p(-rng.random(len(shape))) / shape


def _tell_skew(
    asked: str,
    drawn: np.ndarray,
    counts: np.ndarray,
    remedy: str,
    deal: Callable[[float, np.random.Generator], Deal] | None = None,
) -> None:
    """Warn if clients come out much more or less alike than drawn: mean total variation to the pool, as in `summary`.

    Args:
        asked: the settings, in words.
        drawn: [clients, classes] logarithms of the shares drawn, up to a factor a client; one that was to get nothing
            (all are -inf) does not count.
        counts: [clients, classes] the images that they got.
        remedy: what keeps the skew better.
        deal: deals again with another alpha, of which 0 gives the most skew and an infinite one the least: as long as
            that is not reached, nothing is said.
    """
    pool, sizes = counts.sum(0) / counts.sum(), counts.sum(1)
    drawn = drawn[np.isfinite(drawn).any(1)]
    wanted, got = _skew(np.exp(drawn - drawn.max(1, keepdims=True)), pool), _skew(counts, pool)
    if abs(got - wanted) <= TOLD:
        return
    if deal is not None:
        less = got < wanted
        end = _skew(deal(0.0 if less else LARGEST, np.random.default_rng(0))[1], pool)
        if (end - got if less else got - end) > NEAR:
            return
    tell(
        f"{asked}: {len(counts)} clients of {sizes.min()} to {sizes.max()} images differ from the whole by"
        f" {got:.2f} on average (total variation) where {wanted:.2f} was drawn, as images are whole and classes"
        f" end; so the skew does not follow alpha here. Closer: {remedy}"
    )


def _skew(shares: np.ndarray, pool: np.ndarray) -> float:
    """Mean total variation between the clients' shares of the classes [clients, classes] and all of them together's."""
    return float((np.abs(shares / shares.sum(1, keepdims=True) - pool).sum(1) / 2).mean())


def _one_class(size: int, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log weights that pick one class: at random among those that fill the client, else the largest, then the next."""
    enough = left >= size
    order = np.lexsort((np.where(enough, rng.random(len(left)), left), enough))
    weights = np.empty(len(left))
    weights[order] = 1e4 * np.arange(len(left))
    return weights
