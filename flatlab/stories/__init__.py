"""Stories: finished comparisons that come with flatlab, with sentences made from their numbers.

    fl.stories.show()                      # in a cell: the list, and one of them, moving
    fl.stories.show("flat")
    fl.stories.STORIES["flat"].sentences() # what its record says, recomputed
    fl.stories.STORIES["flat"].page().save("flat.html")

A record holds histories and measurements, no weights; `flatlab story flat --make` trains and measures it anew.
"""

from __future__ import annotations

import importlib
from typing import Any

from .making import make
from .story_record import Story
from .told import STORIES, TITLES, story

__all__ = ["STORIES", "TITLES", "Story", "make", "show", "story"]


def show(name: str = "flat") -> Any:
    """The stories as a panel for a notebook, one of them open: curves, landscape, Play, and "Run your own".

    Args:
        name: which of `STORIES` is open.

    Raises:
        SettingError: if there is no such story.
    """
    return importlib.import_module("flatlab.stories.panel").Stories(story(name).name)
