"""The density of all eigenvalues by stochastic Lanczos quadrature (Golub & Welsch, 1969; Ghorbani et al., 1901.10159).

The Lanczos matrix of a random unit vector has eigenvalues (nodes) and eigenvectors whose squared first components
(weights) stand for the spectrum as Gauss quadrature does. The nodes are no eigenvalues, and must not be listed as such.
Steps improve the density faster than probes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from flatlab.arguments import Axis, Positive, checked
from flatlab.geometry.lanczos import Lanczos, generator, random_signs
from flatlab.geometry.products import HessianProducts
from flatlab.geometry.pyhessian_adapter import PyHessian
from flatlab.results import Result

Source = Literal["pyhessian", "lanczos"]


@dataclass(frozen=True)
class Spectrum(Result):
    """Quadrature of the eigenvalues' density: `frame` has `probe`, `node`, `weight` (of sum 1 for each probe)."""

    @checked
    def density(self, points: Axis = 512, width: Positive = 0.01) -> pd.DataFrame:
        """The density as a curve, each node widened to a Gaussian.

        Args:
            points: length of the curve.
            width: the Gaussian's standard deviation as a share of the range of the nodes; say it beside the curve.

        Returns:
            `eigenvalue`, `density`; the area below the curve is 1.
        """
        nodes, weights = self.frame["node"].to_numpy(), self.frame["weight"].to_numpy()
        low, high = nodes.min(), nodes.max()
        sigma = width * ((high - low) or 1.0)
        grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
        bells = np.exp(-(((grid[:, None] - nodes) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
        return pd.DataFrame({"eigenvalue": grid, "density": bells @ weights / self.frame["probe"].nunique()})

    def summary(self) -> pd.DataFrame:
        """Range, and the share of the weight below zero and within 1 % of the range around it."""
        nodes, weights = self.frame["node"], self.frame["weight"] / self.frame["probe"].nunique()
        reach = 0.01 * (nodes.max() - nodes.min())
        return pd.DataFrame(
            {
                "lowest": [nodes.min()],
                "highest": [nodes.max()],
                "negative": [weights[nodes < -reach].sum()],
                "near_zero": [weights[nodes.abs() <= reach].sum()],
            }
        )


def quadrature(
    products: HessianProducts, steps: int = 50, probes: int = 1, method: Source = "pyhessian", seed: int = 0
) -> pd.DataFrame:
    """Nodes and weights as a frame `probe`, `node`, `weight`.

    Args:
        products: the Hessian.
        steps: Lanczos steps a probe, each one product; at most the number of parameters.
        probes: random start vectors.
        method: "pyhessian", or flatlab's own "lanczos" (reorthogonalised twice; both agree but for the draws).
        seed: of the start vectors.
    """
    like = products.target.flat(products.target.weights)
    if not 1 <= steps <= like.numel():
        raise ValueError(f"steps = {steps}: between 1 and the {like.numel()} selected parameters")
    if method == "pyhessian":
        pairs = PyHessian(products, seed).quadrature(steps, probes)
    else:
        pairs = []
        for probe in range(probes):
            random = generator(seed, "spectrum", probe)
            values, _, rows = Lanczos(products, random_signs(like, random), random).ritz(steps)
            pairs.append((values, rows[:, 0] ** 2))
    frames = [pd.DataFrame({"probe": i, "node": nodes, "weight": weights}) for i, (nodes, weights) in enumerate(pairs)]
    return pd.concat(frames, ignore_index=True)
