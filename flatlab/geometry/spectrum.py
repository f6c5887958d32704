"""The density of all eigenvalues by stochastic Lanczos quadrature (Golub & Welsch, 1969; Ghorbani et al., 1901.10159).

The Lanczos matrix of a random unit vector has eigenvalues (nodes) and eigenvectors whose squared first components
(weights) stand for the spectrum as Gauss quadrature does. The nodes are no eigenvalues, and must not be listed as such.
Steps improve the density faster than probes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import Axis, Positive, checked
from ..declare import SettingError
from ..later import pd
from ..results import Result
from .hvp import HessianProducts
from .lanczos import Lanczos, generator, random_signs
from .pyhessian_adapter import PyHessian
from .settings import Source


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
            `eigenvalue`, `density`, whose area is 1, and `error`, its standard error over the probes (NaN for one).
        """
        nodes = self.frame["node"].to_numpy()
        low, high = nodes.min(), nodes.max()
        sigma = width * ((high - low) or 1.0)
        grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
        curves = []
        for _, probe in self.frame.groupby("probe"):
            distance = (grid[:, None] - probe["node"].to_numpy()) / sigma
            curves.append(np.exp(-(distance**2) / 2) @ probe["weight"].to_numpy() / (sigma * np.sqrt(2 * np.pi)))
        return pd.DataFrame({"eigenvalue": grid, "density": np.mean(curves, 0), "error": _standard_error(curves)})

    def summary(self) -> pd.DataFrame:
        """Range, and the share of the weight below zero and within 1 % of the range around it, with standard errors.

        These are over the probes (NaN for a single one) and say nothing of what too few steps leave out.
        """
        nodes = self.frame["node"]
        reach = 0.01 * (nodes.max() - nodes.min())
        table = {"lowest": [nodes.min()], "highest": [nodes.max()]}
        for name, chosen in (("negative", nodes < -reach), ("near_zero", nodes.abs() <= reach)):
            shares = self.frame["weight"].where(chosen, 0.0).groupby(self.frame["probe"]).sum().to_numpy()
            table |= {name: [shares.mean()], f"{name}_error": [float(_standard_error(shares))]}
        return pd.DataFrame(table)


def _standard_error(values: Any) -> np.ndarray:
    """Of the mean over the first axis; NaN for a single value."""
    count = len(values)
    return np.std(values, axis=0, ddof=1) / count**0.5 if count > 1 else np.full(np.shape(values)[1:], np.nan)


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

    Raises:
        SettingError: if there are fewer parameters than `steps`.
    """
    like = products.target.flat(products.target.weights)
    if not 1 <= steps <= like.numel():
        raise SettingError("steps", steps, f"between 1 and the {like.numel()} selected parameters")
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
