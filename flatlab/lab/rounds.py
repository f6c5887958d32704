"""The slider for a round, as the panels that measure runs have it, and controls of fixed width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ..training import Run


def fitted(width: int) -> dict[str, Any]:
    """Options of a control of fixed width whose label takes no more than it needs."""
    layout = widgets.Layout(width=f"{width}px", max_width="100%")
    return {"layout": layout, "style": {"description_width": "initial"}}


def round_slider() -> widgets.SelectionSlider:
    """Chooses among the rounds that `offer_rounds` puts into it."""
    return widgets.SelectionSlider(
        options=["latest"], description="Round", continuous_update=False, **fitted(200),
        tooltip="The model as it was after this round, of those with a checkpoint",
    )  # fmt: skip


def offer_rounds(slider: widgets.SelectionSlider, runs: Sequence[Run]) -> None:
    """The rounds of which all runs have a checkpoint by now, and each run's latest; the choice stays if it can."""
    common = [*map(str, sorted(set.intersection(*(set(run.checkpoints) for run in runs)))), "latest"]
    if list(slider.options) != common:
        chosen = slider.value
        slider.options = common
        slider.value = chosen if chosen in common else "latest"
