"""The trace by Hutchinson's estimator, deflated: E z^T H z = tr H for random signs z (Hutchinson, 1989).

With an orthonormal basis V of known directions, tr H = tr V^T H V + E y^T H y, where y is z without its part in V:
the few large eigenvalues are counted exactly and only the rest is sampled (cf. Hutch++, arXiv 2010.09649).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..declare import SettingError
from .lanczos import Product, generator, random_signs

FIRST_LOOK = 10
CONFIDENCE = 0.99
# Student's t with the 9 degrees of freedom of the first look, kept for later looks: a rule that stops when the spread
# looks small favours small spreads, and the usual t of the last look then covers up to 3 % too few (simulated).
STUDENT = 3.2498


@dataclass(frozen=True)
class TraceEstimate:
    """A trace, its standard error, its 99 % interval, and what it took.

    Attributes:
        value: the estimate.
        standard_error: of the sampled part.
        low: lower end of the interval.
        high: upper end of the interval.
        probes: random vectors used.
        converged: whether the standard error reached the tolerance.
    """

    value: float
    standard_error: float
    low: float
    high: float
    probes: int
    converged: bool


def hutchinson(
    product: Product,
    like: Tensor,
    *,
    basis: Tensor | None = None,
    basis_trace: float = 0.0,
    tolerance: float = 0.03,
    budget: int = 200,
    seed: int = 0,
) -> TraceEstimate:
    """The trace of a symmetric map on vectors of `like`'s shape `[size]`.

    Args:
        product: the map.
        like: any vector it takes.
        basis: orthonormal rows `[m, size]` to count exactly.
        basis_trace: the map's trace on them.
        tolerance: stop when the standard error is below this share of the trace; never before ten probes.
        budget: the most probes.
        seed: of the probes.
    """
    random = generator(seed, "trace")

    def probe() -> float:
        signs = random_signs(like, random)
        if basis is not None:
            signs = signs - (basis @ signs) @ basis
        return torch.dot(signs, product(signs)).item()

    return sample_until(probe, basis_trace, tolerance, budget)


def sample_until(probe: Callable[[], float], exact: float, tolerance: float, budget: int) -> TraceEstimate:
    """`exact` plus the mean of independent probes, as many as the tolerance asks for."""
    if budget < FIRST_LOOK:
        raise SettingError("budget", budget, f"a trace needs at least {FIRST_LOOK} products")
    values: list[float] = []
    while len(values) < budget:
        values.append(probe())
        value = exact + float(np.mean(values))
        error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else np.inf
        converged = len(values) >= FIRST_LOOK and error <= tolerance * abs(value)
        if converged:
            break
    reach = STUDENT * error
    return TraceEstimate(value, error, value - reach, value + reach, len(values), converged)
