"""The values on a line or plane of points, measured coarse to fine, and what a spline makes of a part of them.

Every axis has nested levels of knots: each 4th point, each 2nd, all; the ends and the model itself belong to each. With
`refine`, measuring stops where the cubic spline through a level is good enough. Before it may stop, points between the
knots are measured: those where this spline and the one through the coarser level disagree most (where the surface
bends), and as many drawn at random (its kinks are anywhere). Their worst error, over the range of the surface, is the
error stated; a point not looked at may be off by somewhat more. If it is too large, the points in doubt are measured in
turn until a whole batch of them is predicted well.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

VALUES = ("loss", "accuracy", "loss_error", "rise_error")
FEWEST = 6  # knots on an axis of the coarsest level
CHECKS, RANDOM_CHECKS = 24, 12  # points measured to judge a spline, and how many of them at random

Spot = tuple[int, int]


class Grid:
    """Values `[rows, columns]` at the points of an axis `xs` and an axis `ys` (none: a line), NaN until measured.

    Attributes:
        xs: column coordinates; 0 is among them.
        ys: row coordinates; 0 is among them.
        scores: an array for each of `VALUES`.
        measured: which points are measured, not predicted; a score there may be NaN, if the loss is no number.
        error: the spline's measured error, if it was good enough: the worst of loss and accuracy, as shares of their
            ranges, and the number of points checked.
    """

    def __init__(self, xs: NDArray[Any], ys: NDArray[Any] | None = None) -> None:
        ys = np.zeros(1) if ys is None else ys
        self.xs, self.ys = xs, ys
        self.scores = {name: np.full((len(ys), len(xs)), np.nan) for name in VALUES}
        self.measured = np.zeros((len(ys), len(xs)), dtype=bool)
        self.error: dict[str, float] | None = None
        self.level: int | None = None  # the level that is whole: each so-many-th point; None: not even the coarsest
        axes = [axis for axis in (xs, ys) if len(axis) > 1]
        coarse = [2**power for power in range(10, 0, -1)]
        self._steps = [step for step in coarse if all(len(self._knots(axis, step)) >= FEWEST for axis in axes)] + [1]

    def thinned(self, count: int) -> Grid:
        """An empty grid of the same ends with about so many points on each axis, 0 among them."""
        return Grid(*(_some(axis, count) for axis in (self.xs, self.ys)))

    @property
    def origin(self) -> Spot:
        """Row and column of (0, 0)."""
        return int(np.flatnonzero(self.ys == 0)[0]), int(np.flatnonzero(self.xs == 0)[0])

    def put(self, spot: Spot, scores: Mapping[str, float]) -> None:
        """Enter what was measured at a point."""
        for name in VALUES:
            self.scores[name][spot] = scores[name]
        self.measured[spot] = True

    def schedule(self, tolerance: float | None, random: np.random.Generator) -> Iterator[list[Spot]]:
        """The points to measure next, as lists; the caller `put`s their scores in between, and may stop at any time.

        Points already measured are left out, so a grid that was begun is finished. With a tolerance a spline may take
        the place of the finer levels, if all values that it goes through are finite; None measures all.
        """
        yield self._missing([self.origin])
        coarser = None
        for step in self._steps:
            yield self._missing(self._level(step))
            self.level = step
            if tolerance and coarser and step > 1 and (yield from self._judge(coarser, step, tolerance, random)):
                return
            coarser = step

    def sketch(self) -> dict[str, NDArray[Any]]:
        """The scores with a guess where none is yet: linear between the points of the finest level that is whole."""
        if self.level in (None, 1):
            return self.scores
        rows, columns = (self._knots(axis, self.level) for axis in (self.ys, self.xs))
        guessed = {}
        for name in ("loss", "accuracy"):
            across = _between(self.scores[name][np.ix_(rows, columns)], columns, len(self.xs))
            guess = _between(across.T, rows, len(self.ys)).T
            guessed[name] = np.where(self.measured, self.scores[name], guess)
        return {**self.scores, **guessed}

    def _judge(
        self, coarser: int, step: int, tolerance: float, random: np.random.Generator
    ) -> Generator[list[Spot], None, bool]:
        """Measure where the spline of a level is in doubt; true, and the grid filled, once it may stand."""
        knots = np.zeros(self.measured.shape, dtype=bool)
        knots[tuple(np.array(self._level(step)).T)] = True
        if not np.isfinite(self.scores["loss"][knots]).all():
            return False
        predicted = {name: self._spline(name, step) for name in ("loss", "accuracy")}
        doubt = np.where(knots, -1.0, np.abs(predicted["loss"] - self._spline("loss", coarser)))
        remaining = np.argsort(-doubt, axis=None)[: int((~knots).sum())]
        while len(remaining):
            head, rest = np.split(remaining, [CHECKS - RANDOM_CHECKS])
            drawn = random.choice(rest, min(RANDOM_CHECKS, len(rest)), replace=False)
            remaining = rest[~np.isin(rest, drawn)]
            spots = [divmod(int(place), len(self.xs)) for place in (*head, *drawn)]
            yield self._missing(spots)
            where = tuple(np.array(spots).T)
            error = {
                name: float(np.abs(values[where] - self.scores[name][where]).max() / max(np.ptp(values[knots]), 1e-12))
                for name, values in predicted.items()
            }
            if error["loss"] <= tolerance:  # never with a NaN among them
                self.error = {**error, "checked": len(spots)}
                for name, values in predicted.items():
                    self.scores[name] = np.where(self.measured, self.scores[name], values)
                self.scores["accuracy"] = self.scores["accuracy"].clip(0, 1)
                return True
            if step > 2:  # a finer level is cheaper than point after point
                return False
        return True

    def _knots(self, axis: NDArray[Any], step: int) -> NDArray[Any]:
        zero = int(np.flatnonzero(axis == 0)[0])
        return np.unique([*range(0, len(axis), step), len(axis) - 1, zero])

    def _level(self, step: int) -> list[Spot]:
        rows, columns = (self._knots(axis, step) for axis in (self.ys, self.xs))
        return [(int(row), int(column)) for row in rows for column in columns]

    def _missing(self, spots: list[Spot]) -> list[Spot]:
        measured = self.measured
        return [spot for spot in spots if not measured[spot]]

    def _spline(self, name: str, step: int) -> NDArray[Any]:
        rows, columns = (self._knots(axis, step) for axis in (self.ys, self.xs))
        along_rows = self.scores[name][np.ix_(rows, columns)] @ spline_matrix(self.xs[columns], self.xs).T
        return along_rows if len(rows) == 1 else spline_matrix(self.ys[rows], self.ys) @ along_rows


def _between(values: NDArray[Any], knots: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows of values at knots, linear in between, at `count` places."""
    return np.stack([np.interp(np.arange(count), knots, row) for row in values])


def _some(axis: NDArray[Any], count: int) -> NDArray[Any]:
    places = np.linspace(0, len(axis) - 1, min(count, len(axis))).round().astype(int)
    return axis[np.unique([*places, np.flatnonzero(axis == 0)[0]])]


def spline_matrix(knots: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """The matrix `[len(at), len(knots)]` that turns values at the knots into the cubic spline's values at `at`.

    Not-a-knot end conditions: the third derivative is continuous at the second and at the last but one knot, so a cubic
    polynomial is reproduced exactly (de Boor, A Practical Guide to Splines, 1978, chapter IV).

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
