"""Labels and titles in as many lines as fit beside their axes, whatever their font and the figure's width."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

MORE = 3  # lines, at most: with ever more of them axes would have no room left
GAP = 4.0  # points between the titles or labels of two neighbours


class FittingLayout(ConstrainedLayoutEngine):
    """Constrained layout, which knows how deep labels are but not how long: those longer than their room are wrapped,
    and it is done again.

    A label may be as long as its axes are high; a title, or a label below, as long as the way to the next axes leaves.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._whole: dict[Text, tuple[str, str]] = {}  # as given, as wrapped

    def execute(self, fig: Any) -> None:
        """Lay a figure out."""
        super().execute(fig)
        for _ in range(3):  # what is wrapped makes other axes narrower
            if not self._wrapped(fig):
                break
            super().execute(fig)

    def _wrapped(self, fig: Any) -> bool:
        every = [axes for axes in fig.axes if axes.get_visible() and axes.name != "3d"]
        changed = False
        for axes in every:
            wide, high = _room_across(axes, every, fig), axes.bbox.height
            for text, room, down in (
                (axes.yaxis.label, high, True), (axes.xaxis.label, wide, False), (axes.title, wide, False)
            ):  # fmt: skip
                changed |= self._wrap(text, room, down)
        return changed

    def _wrap(self, text: Text, room: float, down: bool) -> bool:
        """Whether a text had to be wrapped otherwise than it was; one with a formula stays as it is."""
        shown = text.get_text()
        given, before = self._whole.get(text, (shown, shown))
        if shown != before:  # somebody has set another
            given = shown
        if not shown or "$" in given.replace(r"\$", ""):
            return False
        text.set_text(given)
        width, longest = max(map(len, given.split("\n"))), max(map(len, given.split()), default=0)
        if (length := _length(text, down)) > room > 0:
            most = given.count("\n") + MORE
            near = int(1.2 * width * room / length)  # from the widest that may do, or that has few enough lines
            near = next((n for n in range(max(near, 1), width) if _in_lines(given, n).count("\n") <= most), width - 1)
            for n in range(min(width - 1, near), longest - 1, -1):
                wrapped = _in_lines(given, n)
                if wrapped.count("\n") > most:
                    break
                text.set_text(wrapped)
                if _length(text, down) <= room:
                    break
        self._whole[text] = given, text.get_text()
        return text.get_text() != shown


def _in_lines(words: str, width: int) -> str:
    """Each line of a text wrapped to so many signs, and then to as few as need no more lines."""
    wrapped = []
    for line in words.split("\n"):
        few = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        narrow = (textwrap.wrap(line, n, break_long_words=False, break_on_hyphens=False) for n in range(1, width))
        wrapped += next((some for some in narrow if len(some) <= len(few)), few)
    return "\n".join(wrapped)


def _length(text: Text, down: bool) -> float:
    extent = text.get_window_extent()
    return extent.height if down else extent.width


def _room_across(axes: Axes, every: list[Axes], figure: Any) -> float:
    """Twice the way from the middle of axes to the nearest middle between them and their neighbours, or to the edge."""
    box = axes.bbox
    middle = (box.x0 + box.x1) / 2
    ends = [middle, figure.bbox.width - middle]
    for other in every:
        beside = other.bbox.y0 < box.y1 and box.y0 < other.bbox.y1
        away = abs((other.bbox.x0 + other.bbox.x1) / 2 - middle)
        if other is not axes and beside and away > 1:
            ends.append(away / 2)
    return float(2 * min(ends) - GAP * figure.dpi / 72)
