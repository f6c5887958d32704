"""Runs side by side in every view, with a table of what differs between them, and the code for all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets

from .. import figures
from ..figures.html_tables import html_table
from ..geometry.differences import differences
from ..later import pd
from ..training import Run
from ..training.as_code import code_for
from ..training.finding import as_runs
from .clients import Clients
from .clipboard import CopyCode
from .curves import Curves
from .hessian_panel import Spectrum
from .landscape_panel import Landscape
from .panel import Panel
from .personalization_panel import Personalization


class Compare(Panel):
    """Runs side by side.

    Args:
        runs: two runs or more (one works).

    Attributes:
        view: which of the views is shown.
        panel: the panel of that view; each is made when it is first chosen.
        table: the settings in which the runs differ, and their results as far as they are measured.
    """

    name = "Compare"

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self._panels: dict[str, Panel] = {}
        self.runs = runs
        self.view = ipywidgets.ToggleButtons(options=list(VIEWS), tooltips=[f"{name} of all runs" for name in VIEWS])
        self.view.style.button_width = self.view.layout.width = "auto"
        self.table = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="100%"))
        self.stage = ipywidgets.VBox(layout=ipywidgets.Layout(width="100%", min_height="360px"))
        self.copy_code = CopyCode(self.code, self.blame)
        self.view.observe(lambda _: self.guarded(self._choose), "value")
        self.fill(self.view, self.stage, self.table, self.copy_code)
        self.guarded(self._choose)

    @property
    def held(self) -> Iterable[Panel]:  # type: ignore[override]
        """Those made so far."""
        return self._panels.values()

    @property
    def panel(self) -> Panel:
        """The panel that is shown."""
        name = self.view.value
        if name not in self._panels:
            panel = self._panels[name] = VIEWS[name](self.runs)
            if hasattr(panel, "copy_code"):  # one such button is enough, and this one writes the same
                panel.copy_code.layout.display = "none"
        return self._panels[name]

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Compare other runs."""
        self.runs = as_runs(runs)
        for panel in self._panels.values():
            panel.show(self.runs)
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs again: the view that is shown, and the table."""
        self.panel.refresh()
        self._fill_table()

    def filmed(self) -> dict[str, Any]:
        """As of the view that is shown."""
        return self.panel.filmed()

    def differences(self) -> pd.DataFrame:
        """A row for each result and for each setting in which the runs differ; a column for each run."""
        tuned, spectrum = self._panels.get("Personalization"), self._panels.get("Hessian")
        personalized = tuned.result if isinstance(tuned, Personalization) else None
        hessians = list(spectrum.results.values()) if isinstance(spectrum, Spectrum) else []
        return differences(self.runs, personalized, hessians)

    def figure(self) -> figures.Drawing:
        """What the view shows."""
        return self.panel.figure()

    def code(self) -> str:
        """The lines that make the runs, and draw what the view shows."""
        return f"{code_for(self.runs)}\n{self.panel.code()}\n"

    def settle(self, seconds: float | None = None) -> Any:
        """Wait for the work of all views; the result of the view shown. What went wrong in others, they show."""
        for panel in self._panels.values():
            try:
                panel.settle(seconds)
            except Exception as error:
                if panel is self.panel or isinstance(error, TimeoutError):
                    raise
        self._fill_table()
        return self.panel.settle(seconds)

    def _choose(self) -> None:
        self.stage.children = [self.panel]
        self.refresh()

    def _fill_table(self) -> None:
        text = html_table(self.differences())
        if text != self.table.value:
            self.table.value = text


class Beside(Panel):
    """The clients of each run, beside each other where there is room, in the same round.

    Attributes:
        panels: a `Clients` for each run.
    """

    name = "Clients"

    def __init__(self, runs: list[Run]) -> None:
        super().__init__()
        self.row = ipywidgets.HBox(layout=ipywidgets.Layout(flex_flow="row wrap", width="100%"))
        self.panels: list[Clients] = []
        self._leading = False
        self.fill(self.row)
        self.show(runs)

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Show other runs."""
        runs = as_runs(runs)
        for panel, run in zip(self.panels, runs, strict=False):
            panel.show(run)
        for run in runs[len(self.panels) :]:
            panel = Clients(run)
            panel.copy_code.layout.display = "none"
            panel.layout.width, panel.layout.min_width, panel.layout.flex = "auto", "400px", "1 1 0"
            panel.round.observe(lambda change: self._lead(change["new"]), "value")
            self.panels.append(panel)
        for panel in self.panels[len(runs) :]:
            panel.close()
        self.panels = self.panels[: len(runs)]
        self.row.children = self.held = self.panels

    def refresh(self) -> None:
        """Look at the runs again."""
        for panel in self.panels:
            panel.refresh()

    def figure(self) -> figures.Drawing:
        """All of them, one below the other."""
        return figures.stacked([panel.figure() for panel in self.panels])

    def code(self) -> str:
        """The lines that draw each."""
        return "\n\n".join(panel.code(f"run{place}") for place, panel in enumerate(self.panels, 1))

    def settle(self, seconds: float | None = None) -> Any:
        """Wait for all; their results."""
        return [panel.settle(seconds) for panel in self.panels]

    def _lead(self, round: str) -> None:
        """Bring the others to the round that one of them was moved to, or to their latest."""
        if not self._leading:
            self._leading = True
            try:
                for panel in self.panels:
                    panel.round.value = round if round in panel.round.options else "latest"
            finally:
                self._leading = False


VIEWS: dict[str, Callable[[list[Run]], Any]] = {
    "Curves": Curves,
    "Clients": Beside,
    "Landscape": Landscape,
    "Hessian": Spectrum,
    "Personalization": Personalization,
}
