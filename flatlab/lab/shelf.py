"""The runs in a store, as a list to choose from: what it says is read from their `experiment.json` alone."""

from __future__ import annotations

import json
from pathlib import Path

import ipywidgets

from ..declare import SettingError
from ..training import Experiment


class Shelf(ipywidgets.VBox):
    """The runs of a store: those selected are overlaid; one can be taken up again.

    Attributes:
        list: the list of runs; its value holds the ids of those selected.
        open_button: take up the one selected.
        again_button: look into the store again.
    """

    def __init__(self, store: str | Path) -> None:
        self._store = Path(store)
        self._labels: dict[str, str] = {}
        self.list = ipywidgets.SelectMultiple(
            description="runs",
            tooltip="Runs in the store: those selected are shown beside the present one (Ctrl for several)",
            rows=3,
            layout=ipywidgets.Layout(width="auto", flex="1 1 420px", max_width="100%"),
        )
        self.list.style.description_width = "44px"
        layout = ipywidgets.Layout(width="110px")
        self.open_button = ipywidgets.Button(
            description="Take up",
            icon="folder-open",
            tooltip="Go on with the selected run",
            disabled=True,
            layout=layout,
        )
        self.again_button = ipywidgets.Button(
            description="Look again", icon="refresh", tooltip="Look into the store for new runs", layout=layout
        )
        buttons = ipywidgets.VBox([self.open_button, self.again_button], layout=ipywidgets.Layout(flex="0 0 auto"))
        row = ipywidgets.Layout(width="100%", flex_flow="row wrap", align_items="flex-start")
        super().__init__([ipywidgets.HBox([self.list, buttons], layout=row)], layout=ipywidgets.Layout(width="100%"))
        self.list.observe(lambda _: self._selected(), "value")
        self.again_button.on_click(lambda _: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        """Look into the store."""
        found = sorted(self._store.glob("*/experiment.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        options = []
        for path in found:
            run = path.parent.name
            if run not in self._labels:
                try:
                    self._labels[run] = _label(Experiment.from_dict(json.loads(path.read_text())))
                except (OSError, ValueError, SettingError):
                    continue  # another version's, or half removed: no run to offer
            options.append((f"{self._labels[run]} · {run}", run))
        if options != list(self.list.options):
            kept = [run for run in self.list.value if run in {run for _, run in options}]
            with self.list.hold_trait_notifications():
                self.list.options = options
                self.list.value = kept

    def directory(self, run: str) -> Path:
        """Where a run lies."""
        return self._store / run

    def _selected(self) -> None:
        self.open_button.disabled = len(self.list.value) != 1


def _label(experiment: Experiment) -> str:
    algorithm, data = experiment.algorithm, experiment.data
    own = {**dict(data.partition), **dict(algorithm.local)}
    said = [f"{name} {own[name]:g}" for name in ("alpha", "rho") if name in own]
    since = [f"from round {experiment.parent.round}"] if experiment.parent else []
    return ", ".join([algorithm.name, data.name, *said, f"seed {experiment.seed}", *since])
