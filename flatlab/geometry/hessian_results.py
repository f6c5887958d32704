"""What questions about a Hessian are answered with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..arguments import Axis, Positive, checked
from ..declare import SettingError
from ..later import pd
from ..results import Result


@dataclass(frozen=True)
class Eigenvalues(Result):
    """Extreme eigenvalues: `frame` has `rank` from 1, `eigenvalue`, `error` and `converged`.

    An eigenvalue of the Hessian on these samples lies within `error` of each value (a bound from its residual, rounding
    included). With `subsets`, `sampling_error` and `sampling_bias` say what other samples would change: see `sampling`.

    Attributes:
        vectors: the eigenvectors, of length 1, each a mapping from parameter names to tensors; not saved.
    """

    vectors: tuple[dict[str, Tensor], ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Trace(Result):
    """The trace: `frame` has one row, `trace`, `standard_error`, `low` and `high` (99 % interval), `converged`.

    They are of the probes, on these samples. With `subsets`, `sampling_error` and `sampling_bias` are of the samples.
    """


@dataclass(frozen=True)
class HessianAlong(Result):
    """Sharpness along a run: `frame` has `round`, `quantity` ("lambda_1", ..., "trace"), `value`, `error`, `converged`,
    `products`; with `subsets` also `sampling_error` and `sampling_bias`. The error of an eigenvalue is its bound, of a
    trace half its 99 % interval.
    """


@dataclass(frozen=True)
class ClientHessians(Result):
    """Sharpness per client: `frame` has `client`, `samples`, and the columns of `HessianAlong` but the round."""


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

        Raises:
            SettingError: if the points are further apart than a Gaussian is wide: most of it could lie between two.
        """
        nodes = self.frame["node"].to_numpy()
        low, high = nodes.min(), nodes.max()
        sigma = width * ((high - low) or 1.0)
        if (least := math.ceil((high - low) / sigma + 8) + 1) > points:
            raise SettingError("width", width, f"needs at least {least} points; draw wider, or with points={least}")
        grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
        curves = []
        for _, probe in self.frame.groupby("probe"):
            distance = (grid[:, None] - probe["node"].to_numpy()) / sigma
            curves.append(np.exp(-(distance**2) / 2) @ probe["weight"].to_numpy() / (sigma * np.sqrt(2 * np.pi)))
        return pd.DataFrame({"eigenvalue": grid, "density": np.mean(curves, 0), "error": _standard_error(curves)})

    def summary(self) -> pd.DataFrame:
        """Range, and shares of the weight: `near_zero` within 1 % of the range around 0, `negative` further below it.

        Standard errors are over the probes (NaN for a single one) and say nothing of what too few steps leave out.
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
