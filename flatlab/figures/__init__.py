"""Drawings of results: no computation here. `draw(result)` picks the drawing that fits."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from matplotlib.figure import Figure

from ..data import FederatedDataset
from ..personalization import Headless, Personalization
from ..training import Run
from .curves import draw_comparison, draw_headless, draw_personalization, draw_runs
from .partition import draw_partition
from .style import paper_style, save

__all__ = ["draw", "draw_comparison", "paper_style", "save"]


def draw(thing: Any, **options: Any) -> Figure:
    """The matplotlib figure of a result, a run, a list of runs or a data set, in the papers' style.

    Raises:
        TypeError: if there is no drawing for it.
    """
    with paper_style():
        return _drawing(thing, **options)


@singledispatch
def _drawing(thing: Any, **options: Any) -> Figure:
    raise TypeError(f"there is no drawing for {type(thing).__name__}")


_drawing.register(FederatedDataset, draw_partition)
_drawing.register(Run, draw_runs)
_drawing.register(list, draw_runs)
_drawing.register(Personalization, draw_personalization)
_drawing.register(Headless, draw_headless)
