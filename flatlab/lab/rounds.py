"""Which model and samples: choices of a round, a client and a set, as the panels have them; fixed widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ..training import Run


def fitted(width: int) -> dict[str, Any]:
    """Options of a control of fixed width whose label takes no more than it needs."""
    layout = widgets.Layout(width=f"{width}px", max_width="100%")
    return {"layout": layout, "style": {"description_width": "initial"}}


def data_picker() -> widgets.Dropdown:
    """Chooses the samples."""
    return widgets.Dropdown(
        options=["holdout", "train", "test"], description="Data", **fitted(125),
        tooltip="Samples whose loss is measured: global test set, or all clients' own training or test sets",
    )  # fmt: skip


def offer_data(picker: widgets.Dropdown, runs: Sequence[Run]) -> None:
    """The sets that all runs have; the choice stays if it can."""
    there = ["holdout", "train", "test", *(["unseen"] if all(run.data.unseen for run in runs) else [])]
    if list(picker.options) != there:
        chosen = picker.value
        picker.options = there
        picker.value = chosen if chosen in there else "holdout"


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
    common = [*(str(round) for round in sorted(stored) if first <= round <= last), "latest"]
    if list(slider.options) != common:
        chosen = slider.value
        slider.options = common
        slider.value = chosen if chosen in common else "latest"


def chosen_round(slider: widgets.SelectionSlider, run: Run) -> int:
    """The round that it stands at."""
    return run.round if slider.value == "latest" else int(slider.value)


def client_picker() -> widgets.Dropdown:
    """Chooses among the clients that `offer_clients` puts into it."""
    return widgets.Dropdown(
        options=[0], description="Model of client", **fitted(185),
        tooltip="Clients keep parts of the model for themselves, so that no model is global: whose is measured",
    )  # fmt: skip


def offer_clients(picker: widgets.Dropdown, runs: Sequence[Run]) -> None:
    """All runs' clients, where a run has no global model; else there is nothing to choose."""
    picker.layout.display = "" if any(run.kept for run in runs) else "none"
    clients = list(range(min(run.data.clients for run in runs)))
    if list(picker.options) != clients:
        chosen = picker.value
        picker.options = clients
        picker.value = chosen if chosen in clients else 0


def whose(picker: widgets.Dropdown) -> dict[str, int]:
    """The argument `client` of a measurement, if there is something to choose."""
    return {} if picker.layout.display == "none" else {"client": picker.value}
