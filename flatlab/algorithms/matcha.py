"""MATCHA's constants: how often each matching of a graph is active, and by what step neighbours then average.

Source: Wang, Sahu, Yang, Joshi and Kar, MATCHA: Speeding Up Decentralized SGD via Matching Decomposition Sampling,
1905.09435. With Laplacians L_m of the matchings, m = 1 .. M:

    p = argmax lambda_2(sum_m p_m L_m),  0 <= p_m <= 1,  sum_m p_m <= budget M
    W = I - a sum_m B_m L_m,             B_m = 1 with probability p_m, independently in each mix
    a = argmin rho_2,                    rho_2 = ||E[W'W] - 11'/n||

lambda_2 is the least of linear functions of p, one for each vector without mean, so p follows from linear programs that
know ever more of them. L_m^2 = 2 L_m, so E[W'W] = I - 2 a L + a^2 (L^2 + 2 sum_m p_m (1 - p_m) L_m), L = sum_m p_m L_m,
and rho_2 is convex in a.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PROGRAMS = 200  # at most
TOLERANCE = 1e-7  # of lambda_2, below the bound that each program lowers

Numbers = npt.NDArray[np.float64]


class Activations(NamedTuple):
    """How matchings are switched on.

    Args:
        laplacians: [M, n, n] of the matchings, float64.
        probabilities: [M] of being active in a mix.
        step: a.
        rho2: by what factor a mix shrinks the mean square of differences at least, on average.
    """

    laplacians: Tensor
    probabilities: Tensor
    step: float
    rho2: float

    @property
    def mean(self) -> Tensor:
        """E[W] [n, n]."""
        return self._identity - self.step * torch.tensordot(self.probabilities, self.laplacians, 1)

    def matrix(self, active: Tensor) -> Tensor:
        """W [n, n] of a mix in which these matchings are `active` [M]."""
        return self._identity - self.step * self.laplacians[active].sum(0)

    @property
    def _identity(self) -> Tensor:
        return torch.eye(self.laplacians.shape[1], dtype=torch.float64, device="cpu")


def activations(matchings: Sequence[Tensor], budget: float) -> Activations:
    """The constants for a graph in matchings; at a budget of 1 all are active, and W = I - a L has the best constant a.

    Args:
        matchings: bool [n, n] each.
        budget: share of them that may be active on average.

    >>> ring = fl.topology.Ring().matchings(nodes=8, seed=0)
    >>> found = fl.topology.activations(ring, budget=0.5)
    >>> found.probabilities.tolist(), round(found.step, 4), round(found.rho2, 4)
    ([0.5, 0.5], 0.6074, 0.7839)
    """
    from scipy.optimize import minimize_scalar  # slow to import

    edges = torch.stack(list(matchings)).double()
    laplacians = torch.diag_embed(edges.sum(1)) - edges
    p = torch.from_numpy(_probabilities(laplacians.numpy(), budget))
    mean, spread = (torch.tensordot(weights, laplacians, 1) for weights in (p, 2 * p * (1 - p)))
    square = mean @ mean + spread
    others = torch.eye(len(mean), dtype=torch.float64, device="cpu") - 1 / len(mean)

    def rho2(step: float) -> float:
        return float(torch.linalg.eigvalsh(others - 2 * step * mean + step**2 * square).abs().max())

    least = minimize_scalar(rho2, bounds=(0, 1), method="bounded", options={"xatol": 1e-10})
    return Activations(laplacians, p, float(least.x), float(least.fun))


def _probabilities(laplacians: Numbers, budget: float) -> Numbers:
    """The best p by cutting planes, in units of the budget: q = p / budget, of at most M in all."""
    from scipy.optimize import linprog  # slow to import

    count = len(laplacians)
    q, best = np.ones(count), np.ones(count)
    least, bound, cuts = -1.0, np.inf, np.zeros((0, count))
    for _ in range(PROGRAMS if budget < 1 else 0):
        values, vectors = np.linalg.eigh(np.tensordot(q, laplacians, 1))
        if values[1] > least:
            least, best = values[1], q
        if bound - least <= TOLERANCE * least:
            break
        broken = vectors[:, 1:][:, values[1:] < bound]  # v' L(q) v >= lambda_2 for each v without mean
        cuts = np.vstack([cuts, np.einsum("ik,mij,jk->km", broken, laplacians, broken)])
        rows = np.vstack([np.c_[-cuts, np.ones(len(cuts))], np.r_[np.ones(count), 0]])
        limits = np.r_[np.zeros(len(cuts)), count]
        goal = np.r_[np.full(count, -1e-9), -1]  # the bound; of equals, the one that is active more often
        solved = linprog(goal, A_ub=rows, b_ub=limits, bounds=[(0, 1 / budget)] * count + [(0, None)])
        q, bound = solved.x[:-1], solved.x[-1]
    return np.clip(budget * best, 0, 1)
