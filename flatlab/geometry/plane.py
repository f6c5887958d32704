"""A line or plane in weight space, w(a, b) = origin + a x + b y, and the coordinates to show on its axes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..declare import SettingError


@dataclass(frozen=True, eq=False)
class Plane:
    """A line (`y` is None) or plane of weights, as vectors in the order of `Target.flat`.

    Attributes:
        origin: `[parameters]`, the weights at (0, 0).
        x: `[parameters]`, the first direction.
        y: `[parameters]` or None, the second.
        kind: "random", "eigen", "pca", "plane" or a user's own word.
        scale: what one step of 1 along a direction means, in words.
        explained: share of the variance along x and y, for principal components.
        eigenvalues: the curvature along x and y, for eigenvectors.
    """

    origin: Tensor
    x: Tensor
    y: Tensor | None = None
    _: KW_ONLY
    kind: str = "given"
    scale: str = "as given"
    explained: tuple[float, ...] = ()
    eigenvalues: tuple[float, ...] = ()

    def at(self, a: float, b: float = 0.0) -> Tensor:
        """The weights `[parameters]` at the coordinates (a, b); at (0, 0) the origin, bit for bit."""
        point = torch.add(self.origin, self.x, alpha=a)
        return point if self.y is None else point.add_(self.y, alpha=b)

    def check(self, parameters: int) -> None:
        """Refuse a plane that is none of so many parameters.

        Raises:
            SettingError: if its tensors have another size or numbers that are not finite, or x and y are one direction.
        """
        vectors = {"origin": self.origin, "x": self.x, **({} if self.y is None else {"y": self.y})}
        for name, vector in vectors.items():
            if vector.shape != (parameters,):
                told = f"{name} has shape {tuple(vector.shape)}; {parameters} parameters vary here"
                raise SettingError("directions", allowed=told)
            if not vector.isfinite().all():
                raise SettingError("directions", allowed=f"{name} holds numbers that are not finite")
        axes = torch.stack([axis.double() for axis in (self.x, self.y) if axis is not None])
        if torch.linalg.matrix_rank(axes) < len(axes):
            raise SettingError("directions", allowed="x and y must be two directions, neither of them 0")

    def project(self, weights: Tensor) -> tuple[float, float, float]:
        """The coordinates (a, b) of the point nearest to `weights [parameters]`, and the distance left over.

        The directions need not be orthogonal. On a line b is 0.
        """
        offset = weights.double() - self.origin.double()
        axes = torch.stack([axis.double() for axis in (self.x, self.y) if axis is not None])
        coordinates = torch.linalg.solve(axes @ axes.T, axes @ offset)
        residual = torch.linalg.vector_norm(offset - coordinates @ axes)
        a, b = (*coordinates.tolist(), 0.0)[:2]
        return a, b, residual.item()


def window(low: float, high: float, points: int, margin: float = 0.25) -> NDArray[Any]:
    """`points` (at least 3) equally spaced coordinates over [low, high] and a margin on both sides, one of them 0.

    Args:
        low: smallest coordinate to show.
        high: largest coordinate to show.
        points: how many.
        margin: share of (high - low) added on each side.

    Raises:
        SettingError: if there is nothing but 0 to show.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        raise SettingError("span", None, "all models lie at one place; say how far the axes are to reach")
    low, high = low - margin * (high - low), high + margin * (high - low)
    zero = min(max(round(-low / (high - low) * (points - 1)), 1), points - 2)
    step = max(-low / zero, high / (points - 1 - zero))
    return (np.arange(points) - zero) * step
