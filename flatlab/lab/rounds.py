"""Choices whose options change: of a round, as the panels have it; fixed widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ..training import Run


def fitted(width: int) -> dict[str, Any]:
    """Options of a control of fixed width whose label takes no more than it needs."""
    layout = widgets.Layout(width=f"{width}px", max_width="100%")
    return {"layout": layout, "style": {"description_width": "initial"}}


def offer(picker: widgets.Widget, options: Sequence[Any], otherwise: Any) -> None:
    """Put options into a menu; the choice stays if it is among them, else it is `otherwise`."""
    if list(picker.options) != list(options):
        chosen = picker.value
        picker.options = options
        values = [option[1] if isinstance(option, tuple) else option for option in options]
        picker.value = chosen if chosen in values else otherwise


def round_slider() -> widgets.SelectionSlider:
    """Chooses among the rounds that `offer_rounds` puts into it."""
    return widgets.SelectionSlider(
        options=["latest"], description="Round", continuous_update=False, **fitted(200),
        tooltip="The model as it was after this round, of those with a checkpoint",
    )  # fmt: skip


def offer_rounds(slider: widgets.SelectionSlider, runs: Sequence[Run], first: int = 0) -> None:
    """The rounds of which all runs have a checkpoint by now, and each run's latest; the choice stays if it can."""
    stored = set.intersection(*(set(run.checkpoints) for run in runs))
    last = min(run.round for run in runs)  # a run that was taken back has later ones on record
    offer(slider, [*(str(round) for round in sorted(stored) if first <= round <= last), "latest"], "latest")


def chosen_round(slider: widgets.SelectionSlider, run: Run) -> int:
    """The round that it stands at."""
    return run.round if slider.value == "latest" else int(slider.value)
