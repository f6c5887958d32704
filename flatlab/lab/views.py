"""The right side of the lab: every view of a run as a tab. Only the one in front is drawn, and made when first seen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from ..declare import SettingError
from ..training import Run
from .clients import Clients
from .compare import Compare
from .curves import Curves
from .fields import free
from .hessian_panel import Spectrum
from .landscape_panel import Landscape
from .personalization_panel import Personalization
from .pulls_panel import PullsPanel
from .what_if import WhatIf

VIEWS: dict[str, Callable[[list[Run]], Any]] = {
    "Curves": Curves,
    "Clients": lambda runs: Clients(runs[0]),
    "Landscape": Landscape,
    "Pulls": PullsPanel,
    "Hessian": Spectrum,
    "Personalization": Personalization,
    "Compare": Compare,
    "What if": WhatIf,
}


WHOLE = ("Curves", "Clients", "Compare")  # show all rounds, and mark the one that is looked at


class Views(ipywidgets.Tab):
    """The panels of a run.

    Args:
        made: called with each view's title and panel when it was made.

    Attributes:
        panels: those made so far, by title.
        notes: what the one in front has to say, for a place outside.
    """

    def __init__(self, made: Callable[[str, Any], object]) -> None:
        self.panels: dict[str, Any] = {}
        self._lent: dict[str, ipywidgets.Widget] = {}
        self._made = made
        self._outdated: set[str] = set()
        self._making = threading.RLock()
        hint = "<p>There is no run yet: press <b>Run</b> or <b>Step</b> above.</p>"
        self._places = {name: ipywidgets.VBox([ipywidgets.HTML(hint)]) for name in VIEWS}
        for place in self._places.values():
            place.add_class("flatlab-view")  # which charts and landscapes fill
        self.notes = ipywidgets.HBox(layout=ipywidgets.Layout(flex="0 1 auto", min_width="0"))
        super().__init__(
            list(self._places.values()),
            titles=tuple(VIEWS),
            selected_index=0,
            layout=ipywidgets.Layout(width="100%", min_width="0", max_width="100%"),
        )
        self.observe(lambda _: self._fit_notes(), "selected_index")

    @property
    def front(self) -> str:
        """The title of the tab in front."""
        return tuple(VIEWS)[self.selected_index or 0]

    def panel(self, name: str, runs: list[Run]) -> Any:
        """A view by its title, made of `runs` if nobody has looked at it yet.

        Raises:
            SettingError: if there is no such view.
        """
        if name not in VIEWS:
            raise SettingError("name", name, f"must be {', '.join(VIEWS)}")
        with self._making:
            if name not in self.panels:
                self.panels[name] = VIEWS[name](runs)
                self._made(name, self.panels[name])
                (hint,), self._places[name].children = self._places[name].children, (self.panels[name],)
                free(hint)
                self._outdated.discard(name)
                self._lent[name] = self.panels[name].lend_note()
                self._fit_notes()
            return self.panels[name]

    def _fit_notes(self) -> None:
        self.notes.children = [self._lent[self.front]] if self.front in self._lent else []

    def outdate(self) -> None:
        """Have every view take the runs anew when it is next drawn."""
        self._outdated = set(self.panels)

    def draw(self, runs: list[Run], at: int | None, grown: bool, resting: bool) -> None:
        """Bring the view in front up to date.

        Args:
            runs: what to show.
            at: the round that is looked at; None: the latest.
            grown: whether the runs may have come further since.
            resting: whether none is in training.
        """
        name = self.front
        known, outdated = name in self.panels, name in self._outdated
        panel = self.panel(name, runs)
        self._outdated.discard(name)
        if outdated:
            panel.show(runs[0] if name == "Clients" else runs)
        elif known and grown:
            panel.refresh()
        panel.seek(at)
        if resting:
            panel.rest()
