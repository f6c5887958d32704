"""Labels of marks hide neither the way through them nor each other, as the drawn texts' own places tell."""

import itertools

import numpy as np
import pytest

from flatlab.figures.mark_labels import Label, draw_labels
from flatlab.figures.style import figure


def drawn(labels, marks, ways=()):
    """The labels' rectangles, and the panel, in pixels, after the figure was laid out and drawn."""
    fig = figure(4.8, 4.0)
    axis = fig.subplots()
    axis.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    draw_labels(axis, labels, np.array(marks, dtype=float), [np.array(way, dtype=float) for way in ways])
    fig.draw(fig.canvas.get_renderer())
    return axis, [text.get_window_extent() for text in axis.texts]


def covered(axis, box, way):
    """How much of a line, of a thousand places, a rectangle covers."""
    stops = np.linspace(0, len(way) - 1, 1000)
    x, y = (np.interp(stops, range(len(way)), [place[k] for place in way]) for k in (0, 1))
    return int(sum(box.contains(*pixel) for pixel in axis.transData.transform(np.column_stack([x, y]))))


@pytest.mark.parametrize("turn", range(8))
def test_a_label_leaves_the_way_to_its_mark_free(turn):
    # The usual side of this label is towards the middle, which is where the way comes from.
    angle = turn * np.pi / 4 + 0.1
    way = [(r * np.cos(angle), r * np.sin(angle)) for r in np.linspace(-0.6, 0.6, 9)]
    axis, (box,) = drawn([Label(*way[-1], "FedASAM + SWA\nloss 1.08")], way, [way])
    assert covered(axis, box, way) == 0
    assert axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 and axis.bbox.y0 <= box.y0 and box.y1 <= axis.bbox.y1


def test_labels_of_close_marks_do_not_meet():
    marks = [(0.1, 0.1), (0.2, 0.12), (0.12, 0.22), (0.22, 0.2)]
    _, boxes = drawn([Label(*mark, f"client {k}\nloss 1.45") for k, mark in enumerate(marks)], marks)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_lone_label_stands_towards_the_middle_of_its_panel():
    axis, (box,) = drawn([Label(0.5, -0.5, "global")], [(0.5, -0.5)])
    x, y = axis.transData.transform((0.5, -0.5))
    assert box.x1 < x and box.y0 > y
