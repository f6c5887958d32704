"""The runs in a store, as a list to choose from: what it says is read from their `experiment.json` alone."""

from __future__ import annotations

from pathlib import Path

import ipywidgets

from ..files import printable, user_path
from ..training.run_names import experiment_labels
from ..training.store_scan import scan

TOOLTIP = "Runs in the store: those selected are shown beside the present one (Ctrl for several)"


class Shelf(ipywidgets.VBox):
    """The runs of a store: those selected are overlaid; one can be taken up again.

    Attributes:
        list: the list of runs; its value holds the ids of those selected.
        open_button: take up the one selected.
        again_button: look into the store again.
    """

    def __init__(self, store: str | Path) -> None:
        self._store = user_path(store, "store")
        self._scan = scan(self._store)
        self._labels: dict[str, str] = {}
        self.list = ipywidgets.SelectMultiple(
            description="runs",
            tooltip=TOOLTIP,
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
        held = self._scan.look()
        if held.keys() != self._labels.keys():
            self._labels = dict(zip(held, experiment_labels([one.experiment for one in held.values()]), strict=True))
        latest_first = sorted(held, key=lambda run: _written(held[run].directory), reverse=True)
        options = [(printable(f"{self._labels[run]} · {run}"), run) for run in latest_first]
        self.list.tooltip = TOOLTIP + "".join(f"\n{name}: {why}" for name, why in self._scan.problems.items())
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


def _written(directory: Path) -> float:
    try:
        return (directory / "experiment.json").stat().st_mtime
    except OSError:
        return 0.0
