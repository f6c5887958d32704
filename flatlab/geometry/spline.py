"""Cubic splines through a grid of values, as matrices: `fine = A @ coarse` on a line, `A @ coarse @ B.T` in a plane.

Not-a-knot end conditions: the third derivative is continuous at the second and at the last but one knot, so a cubic
polynomial is reproduced exactly (de Boor, A Practical Guide to Splines, 1978, chapter IV).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spline_matrix(knots: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """The matrix `[len(at), len(knots)]` that turns values at the knots into the spline's values at `at`.

    Args:
        knots: at least 4 increasing positions.
        at: where the spline is wanted; beyond the knots its end pieces are extended.

    Raises:
        ValueError: with fewer than 4 knots, or knots that do not increase.
    """
    knots, at = np.asarray(knots, dtype=np.float64), np.asarray(at, dtype=np.float64)
    count, gaps = len(knots), np.diff(knots)
    if count < 4 or not (gaps > 0).all():
        raise ValueError(f"knots = {knots.tolist()}: at least 4 increasing positions are needed")
    slopes = np.diff(np.eye(count), axis=0) / gaps[:, None]
    system, right = np.zeros((count, count)), np.zeros((count, count))
    inner = np.arange(1, count - 1)
    system[inner, inner - 1], system[inner, inner + 1] = gaps[:-1], gaps[1:]
    system[inner, inner] = 2 * (gaps[:-1] + gaps[1:])
    right[inner] = 6 * np.diff(slopes, axis=0)
    system[0, :3] = gaps[1], -gaps[0] - gaps[1], gaps[0]
    system[-1, -3:] = gaps[-1], -gaps[-2] - gaps[-1], gaps[-2]
    bends = np.linalg.solve(system, right)  # second derivatives at the knots, as rows acting on the values

    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, count - 2)
    gap = gaps[piece][:, None]
    right_share = (at - knots[piece])[:, None] / gap
    left_share = 1 - right_share
    values = np.eye(count)
    return (
        left_share * values[piece]
        + right_share * values[piece + 1]
        + gap**2 / 6 * ((left_share**3 - left_share) * bends[piece] + (right_share**3 - right_share) * bends[piece + 1])
    )
