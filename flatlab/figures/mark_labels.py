"""Labels of marks on a landscape, each where it hides least of marks, ways and other labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

SIZE = 5.5  # points
AWAY = 6.0  # points between a mark and its label
ROUND = 2.0  # points around a label that count as its own, since its size is known only about
BETWEEN = 12  # places that stand for the line from one mark to the next
# Points of a sign's width and of a line's height, for each point of a label's size, about.
SIGN, LINE = 0.55, 1.2
HIDDEN, OUTSIDE = 30, 300  # what hiding another label, or lying outside, weighs in hidden places
SIDES = {-1: "right", 0: "center", 1: "left"}
HEIGHTS = {-1: "top", 0: "center", 1: "bottom"}


Values = NDArray[Any]


class Label(NamedTuple):
    """A mark's text, and where the mark is."""

    x: float
    y: float
    text: str


class Box(NamedTuple):
    """A rectangle in the panel's coordinates."""

    left: float
    right: float
    low: float
    high: float

    def holds(self, places: Values) -> int:
        """How many of the places (n, 2) lie in it."""
        x, y = places[:, 0], places[:, 1]
        return int(((x > self.left) & (x < self.right) & (y > self.low) & (y < self.high)).sum())

    def meets(self, other: Box) -> bool:
        """Whether both share some of the panel."""
        beside = self.left < other.right and other.left < self.right
        return beside and self.low < other.high and other.low < self.high


def draw_labels(axis: Axes, labels: Iterable[Label], marks: Values, ways: Sequence[Values]) -> None:
    """Write labels beside their marks: towards the middle of the panel, unless another side hides less.

    Args:
        axis: the panel, its limits set.
        labels: what to write.
        marks: places of all marks (n, 2), which labels should not hide.
        ways: places of marks that a line connects, in order, each (n, 2).
    """
    taken = np.concatenate([marks, *map(_along, ways)])
    written: list[Box] = []
    for label in labels:
        boxes = {side: _box(axis, label, side) for side in _sides(axis, label)}
        side = min(boxes, key=lambda side: _cost(axis, boxes[side], taken, written))
        written.append(boxes[side])
        right, up = side
        axis.annotate(
            label.text, label[:2], xytext=(AWAY * right, (AWAY if not right else AWAY - 1) * up), fontsize=SIZE,
            textcoords="offset points", ha=SIDES[right], va=HEIGHTS[up], color="white",
            path_effects=[withStroke(linewidth=1.2, foreground="0.2")],
        )  # fmt: skip


def _along(way: Values) -> Values:
    """Places along a line through the given ones."""
    stops = np.arange(len(way))
    every = np.linspace(0, len(way) - 1, max(1, (len(way) - 1) * BETWEEN))
    return np.column_stack([np.interp(every, stops, way[:, axis]) for axis in (0, 1)])


def _sides(axis: Axes, label: Label) -> list[tuple[int, int]]:
    """Where a label may stand from its mark, right and up (-1 to 1), the best first."""
    right = -1 if label.x > sum(axis.get_xlim()) / 2 else 1
    up = -1 if label.y > sum(axis.get_ylim()) / 2 else 1
    return [(right, up), (right, -up), (-right, up), (-right, -up), (0, up), (0, -up), (right, 0), (-right, 0)]


def _box(axis: Axes, label: Label, side: tuple[int, int]) -> Box:
    lines = label.text.split("\n")
    point = max(np.ptp(axis.get_xlim()) / axis.bbox.width, np.ptp(axis.get_ylim()) / axis.bbox.height)
    point *= axis.figure.dpi / 72
    wide, high = SIGN * SIZE * max(map(len, lines)) * point, LINE * SIZE * len(lines) * point
    left = label.x + side[0] * AWAY * point + (side[0] - 1) / 2 * wide
    low = label.y + side[1] * AWAY * point + (side[1] - 1) / 2 * high
    free = ROUND * point
    return Box(left - free, left + wide + free, low - free, low + high + free)


def _cost(axis: Axes, box: Box, taken: Values, written: list[Box]) -> float:
    """What a label there hides."""
    (west, east), (south, north) = axis.get_xlim(), axis.get_ylim()
    out = box.left < west or box.right > east or box.low < south or box.high > north
    return box.holds(taken) + HIDDEN * sum(map(box.meets, written)) + OUTSIDE * out
