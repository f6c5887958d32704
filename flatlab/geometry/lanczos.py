"""Extreme eigenpairs of a symmetric map by Lanczos' method with full reorthogonalisation, done twice (Parlett, 1998).

A Ritz pair (theta, u) with residual norm r = |H u - theta u| has an eigenvalue within r of theta, and r comes for free
from the recurrence. So the method knows when to stop, and every value carries an error bar. From one start vector it
sees one vector of each eigenspace, however many times its eigenvalue occurs: `extreme_pairs` starts again beside what
was found, until nothing comes that belongs among the values asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..declare import SettingError
from ..streams import key

Product = Callable[[Tensor], Tensor]
SPENT = "the products were spent before a start beside them: equal ones may be missing"


class Overflow(ValueError):
    """The derivatives of a loss are infinite or no numbers at the weights in question."""

    def __init__(self) -> None:
        super().__init__(
            "the Hessian is not finite here: the loss or its derivatives overflow at these weights; take other weights,"
            " or dtype=torch.float64"
        )


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues and what is known about them.

    Attributes:
        values: `[k]`, in the order asked for.
        vectors: rows of length 1, `[k, size]`.
        errors: `[k]`; an eigenvalue lies within this distance of the value.
        converged: `[k]`, whether the method's own stopping rule was met.
        products: matrix-vector products they rest on.
        other_end: for one end of the spectrum, the farthest Ritz value at the other: an eigenvalue lies at least so far
            out. NaN if nobody looked.
        repeats: what is known of equal eigenvalues, in words.
    """

    values: np.ndarray
    vectors: Tensor
    errors: np.ndarray
    converged: np.ndarray
    products: int
    other_end: float = float("nan")
    repeats: str = "by deflation, pair after pair"


class Lanczos:
    """An orthonormal Krylov basis, grown one product at a time, and the map restricted to it (tridiagonal).

    Each question grows the basis as far as it must and looks at no more of it than it would alone: answers do not
    depend on what was asked before.

    Args:
        product: symmetric map on vectors `[size]`.
        start: first vector, of any length but zero; its precision and device are the basis'.
        random: draws a new direction when the space of the start vector is exhausted.
    """

    def __init__(self, product: Product, start: Tensor, random: torch.Generator) -> None:
        self.product, self._random = product, random
        self.size = start.numel()
        self._rows = start.new_empty(min(32, self.size), self.size)
        self._next = start / start.norm()
        self._diagonal: list[float] = []
        self._off: list[float] = []
        self._noise: list[float] = [0.0]

    def grow(self, steps: int) -> None:
        """Make the basis at least `steps` vectors long (or `size`)."""
        while len(self._diagonal) < min(steps, self.size):
            self._step()

    def basis(self, steps: int) -> Tensor:
        """The first orthonormal vectors `[steps, size]`."""
        self.grow(steps)
        return self._rows[: min(steps, self.size)]

    def trace(self, steps: int) -> float:
        """The trace of the map on the first `steps` vectors."""
        self.grow(steps)
        return sum(self._diagonal[:steps])

    def ritz(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ascending `[steps]`, residual norms `[steps]`, coefficients in the basis `[steps, steps]`."""
        self.grow(steps)
        off = self._off[: steps - 1]
        values, columns = np.linalg.eigh(np.diag(self._diagonal[:steps]) + np.diag(off, 1) + np.diag(off, -1))
        rest = self._off[steps - 1] if steps < self.size else 0.0
        return values, rest * np.abs(columns[-1]), columns.T

    def extreme(self, k: int, end: str = "top", tolerance: float = 1e-3, budget: int = 200) -> Eigenpairs:
        """The `k` largest eigenvalues with sign, descending, or with `end="bottom"` the smallest, ascending.

        Args:
            k: how many, at least 1.
            end: "top", "bottom", or "size" for the largest in size, of either sign, in descending order of size.
            tolerance: stop when every residual is below this share of its eigenvalue's size (or of a hundredth of the
                largest, for eigenvalues near zero). A value is then good to about its square. Looser rules skip
                near-twins, and at 1e-2 one in thirty clients' largest eigenvalues was up to 20 % too low.
            budget: the longest basis to try.

        Raises:
            SettingError: if there are fewer eigenvalues than `k`, or `budget` is below `k`.
        """
        if not 1 <= k <= self.size:
            raise SettingError("k", k, f"this Hessian has {self.size} eigenvalues")
        if budget < k:
            raise SettingError("budget", budget, f"{k} eigenvalues need at least as many products")
        for steps in range(k, min(budget, self.size) + 1):
            values, residuals, rows = self.ritz(steps)
            order = _order(values, end)
            values, residuals, rows = values[order], residuals[order], rows[order]
            largest = np.abs(values).max()
            converged = residuals[:k] <= tolerance * np.maximum(np.abs(values[:k]), largest / 100)
            if converged.all():
                break
        weights = torch.as_tensor(rows[:k].copy(), dtype=self._rows.dtype, device=self._rows.device)
        rounding = self._noise[steps] ** 0.5 + 32 * torch.finfo(self._rows.dtype).eps * largest
        errors = residuals[:k] + rounding
        return Eigenpairs(values[:k].copy(), weights @ self.basis(steps), errors, converged, steps, float(values[-1]))

    def _step(self) -> None:
        count = len(self._diagonal)
        if count == len(self._rows):
            more = self._rows.new_empty(min(count, self.size - count), self.size)
            self._rows = torch.cat([self._rows, more])
        self._rows[count] = self._next
        basis = self._rows[: count + 1]
        vector = self.product(self._next)
        floor = 100 * torch.finfo(vector.dtype).eps * vector.norm().item()
        along = basis @ vector
        vector = vector - along @ basis
        again = basis @ vector
        vector = vector - again @ basis
        length = vector.norm().item()
        if not math.isfinite(length):
            raise Overflow
        # Without rounding a product has no component along the basis but these two: the rest is an error of the values.
        stray = along[:-1].double()
        if count:
            stray[-1] -= self._off[-1]
        self._noise.append(self._noise[-1] + stray.square().sum().item())
        self._diagonal.append((along[-1] + again[-1]).item())
        self._off.append(length)
        # What is left of a vector within the basis is rounding, and points anywhere: go on from a random direction.
        following = vector / length if length > floor else self._fresh(basis)
        following = following - (basis @ following) @ basis
        self._next = following / following.norm()

    def _fresh(self, basis: Tensor) -> Tensor:
        vector = random_vector(basis, self._random)
        for _ in range(2):
            vector = vector - (basis @ vector) @ basis
        return vector / vector.norm()


def _order(values: np.ndarray, end: str) -> np.ndarray:
    return np.argsort(values if end == "bottom" else -values if end == "top" else -np.abs(values), kind="stable")


def extreme_pairs(
    space: Lanczos, k: int = 1, end: str = "top", tolerance: float = 1e-3, budget: int = 200, seed: int = 0
) -> Eigenpairs:
    """The `k` extreme eigenpairs, equal eigenvalues as often as they occur (arguments as of `Lanczos.extreme`).

    For one pair that is the same. For more, the map is restricted to what is orthogonal to the vectors found, and its
    extreme pair looked for from a new random vector, until it no longer belongs among the `k`, or the products are
    spent: H' = P H P + c V V^T with P = 1 - V V^T, where c lies beyond the other end of the spectrum. With c = 0 the
    vectors found would come again wherever fewer than `k` eigenvalues have the sign that is looked for.
    """
    pairs = space.extreme(k, end, tolerance, budget)
    if k == 1:
        return dataclasses.replace(pairs, repeats="not looked for: one value")
    used, starts, parked = pairs.products, 0, _beyond(pairs, end)
    while len(pairs.values) < space.size and used < budget:
        rows = pairs.vectors

        def beside(vector: Tensor, rows: Tensor = rows) -> Tensor:
            found = rows @ vector
            image = space.product(vector - found @ rows)
            return image - (rows @ image - parked * found) @ rows

        again = lanczos(beside, rows[0], key(seed, "restart", starts))
        new, starts = again.extreme(1, end, 10 * tolerance, budget - used), starts + 1
        worst = pairs.values[_order(pairs.values, end)[k - 1]]
        near = abs(worst - new.values[0]) <= tolerance * max(abs(worst), np.abs(pairs.values).max() / 100)
        if near or _order(np.array([worst, new.values[0]]), end)[0] == 0:
            repeats = f"as often as they occur: a start beside them found no more ({starts})"
            return _best(pairs, k, end, used + new.products, repeats if new.converged[0] else SPENT)
        new = again.extreme(1, end, tolerance, budget - used)
        used += new.products
        vector = new.vectors[0] - (rows @ new.vectors[0]) @ rows
        # The map beside others is the map itself but for what their own residuals let through.
        error = new.errors[0] + np.sqrt((pairs.errors**2).sum())
        pairs = dataclasses.replace(
            pairs,
            values=np.append(pairs.values, new.values[0]),
            vectors=torch.cat([rows, (vector / vector.norm())[None]]),
            errors=np.append(pairs.errors, error),
            converged=np.append(pairs.converged, new.converged[0]),
        )
    return _best(pairs, k, end, used, "all eigenvalues" if len(pairs.values) == space.size else SPENT)


def _beyond(pairs: Eigenpairs, end: str) -> float:
    """A value that comes after all eigenvalues, seen from an end of the spectrum."""
    if end == "size":
        return 0.0
    first, last = float(pairs.values[0]), pairs.other_end
    away = 0.1 * max(abs(first - last), abs(last))
    return last + away if end == "bottom" else last - away


def _best(pairs: Eigenpairs, k: int, end: str, products: int, repeats: str) -> Eigenpairs:
    order = _order(pairs.values, end)[:k]
    return dataclasses.replace(
        pairs,
        values=pairs.values[order],
        vectors=pairs.vectors[torch.as_tensor(order.copy(), device=pairs.vectors.device)],
        errors=pairs.errors[order],
        converged=pairs.converged[order],
        products=products,
        repeats=repeats,
    )


def lanczos(product: Product, like: Tensor, seed: int = 0, near: Tensor | None = None) -> Lanczos:
    """A Krylov space from a random start, or from what is known of a similar map.

    The second starts from the known vectors and a random one as long, lest a new direction be missed; a shorter one
    saves no more. It saves up to a quarter of the products of one pair, and nothing where the maps have drifted apart.

    Args:
        product: symmetric map on vectors of `like`'s shape `[size]`, precision and device.
        like: any such vector.
        seed: of the start vector.
        near: eigenvectors of the similar map, `[size]` or `[any, size]`.
    """
    random = generator(seed, "lanczos")
    start = random_vector(like, random)
    if near is not None:
        toward = near.to(like).reshape(-1, like.numel()).sum(0)
        start = toward / toward.norm() + start / start.norm()
    return Lanczos(product, start, random)


def quadrature(product: Product, like: Tensor, steps: int, probe: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The density of all eigenvalues by stochastic Lanczos quadrature, as nodes and weights `[steps]`.

    The Lanczos matrix of a random unit vector has eigenvalues (nodes) and eigenvectors whose squared first components
    (weights) stand for the spectrum as Gauss quadrature does (Golub & Welsch, 1969; Ghorbani et al., 1901.10159). The
    nodes are no eigenvalues, and must not be listed as such. Steps improve the density faster than probes do.

    Args:
        product: symmetric map on vectors of `like`'s shape `[size]`.
        like: any such vector.
        steps: Lanczos steps, each one product; at most the size.
        probe: which random start vector of this seed.
        seed: of the start vectors.
    """
    random = generator(seed, "spectrum", probe)
    values, _, rows = Lanczos(product, random_signs(like, random), random).ritz(steps)
    return values, rows[:, 0] ** 2


def generator(seed: int, *name: str | int) -> torch.Generator:
    """A CPU generator for a named stream: the same numbers on every device."""
    return torch.Generator().manual_seed(key(seed, "hessian", *name) % 2**63)


def random_vector(like: Tensor, random: torch.Generator) -> Tensor:
    """A Gaussian vector `[size]` in `like`'s precision, on its device."""
    return torch.randn(like.shape[-1], generator=random, dtype=torch.float32, device="cpu").to(like)


def random_signs(like: Tensor, random: torch.Generator) -> Tensor:
    """A vector of +1 and -1 (Rademacher) `[size]` in `like`'s precision, on its device."""
    return (torch.randint(2, (like.shape[-1],), generator=random, device="cpu") * 2 - 1).to(like)
