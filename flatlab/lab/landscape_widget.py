"""Linked, rotatable loss landscapes in the browser: one anywidget that draws what `fl.landscape` measured.

The grids travel once, as float32 bytes. How they are looked at (`mode`, `log`, `shared`, `value`, `shown`, `camera`,
`cursor`) are traits: the buttons in the view set them, and so can Python.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import anywidget
import numpy as np
import traitlets

from .. import figures
from ..declare import SettingError
from ..figures.landscape_panels import clients_at, landscape_view
from ..geometry.landscape_result import Landscape
from ..pages.scripts import LANDSCAPE_CSS, view_module
from .panel import pictured

SERIES = ("models", "trajectory", "clients", "markers")


class LandscapeView(anywidget.AnyWidget):
    """The planes of a landscape, side by side.

    Args:
        result: what to show; nothing yet if None.
        **settings: of the traits below.

    Attributes:
        mode: "2d" (contours) or "3d" (surfaces).
        log: colours and heights on a logarithmic scale.
        shared: one scale for all panels.
        value: "loss" or "accuracy".
        shown: the series of marks to show, of `SERIES`.
        camera: azimuth and elevation in degrees.
        runs, at: whose time line moves their stars along their ways, by id, and to which round (None: the end).
        cursor: the coordinates whose values are shown on all panels; empty: those of the centre.
    """

    _esm = view_module("landscape")
    _css = LANDSCAPE_CSS

    panels = traitlets.List(traitlets.Dict()).tag(sync=True)  # name, nx, ny, x and y (ends), axes (names), marks
    grids = traitlets.Bytes().tag(sync=True)  # float32, panel by panel: loss [ny, nx], then accuracy [ny, nx]
    caption = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode("nothing measured yet").tag(sync=True)  # where there are no panels
    mode = traitlets.Enum(["2d", "3d"], "2d").tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    shared = traitlets.Bool(True).tag(sync=True)
    value = traitlets.Enum(["loss", "accuracy"], "loss").tag(sync=True)
    shown = traitlets.List(traitlets.Enum(SERIES), list(SERIES)).tag(sync=True)
    camera = traitlets.List(traitlets.Float(), [-60.0, 35.0], minlen=2, maxlen=2).tag(sync=True)
    cursor = traitlets.List(traitlets.Float(), maxlen=2).tag(sync=True)
    runs = traitlets.List(traitlets.Unicode()).tag(sync=True)
    at = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, result: Landscape | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.result: Landscape | None = None
        if result is not None:
            self.show(result)

    def show(self, result: Landscape | None) -> None:
        """Draw a landscape, or nothing.

        Raises:
            SettingError: if it is a line, for which there is the figure only.
        """
        if result is not None and result.about["dimensions"] != 2:
            raise SettingError("dimensions", result.about["dimensions"], "the view shows planes; plot() draws lines")
        self.result = result
        with self.hold_sync():
            if result is None or [panel["name"] for panel in self.panels] != list(result.about["panels"]):
                self.cursor = []
            self.panels, self.grids, self.caption = ([], b"", "") if result is None else landscape_view(result)

    def plot_options(self) -> dict[str, Any]:
        """The options of `Landscape.plot` that draw what the view shows, from its own angle."""
        options: dict[str, Any] = {}
        if self.value != "loss":
            options["value"] = self.value
        if self.log:
            options["log"] = True
        if self.mode == "3d":
            options["view"] = "surface"
        if not self.shared and len(self.panels) != 1:
            options["scale"] = "own"
        if self.result is not None:
            values = self.result.frame.loc[self.result.frame["series"] == "surface", self.value]
            if np.isinf(values).any():  # a diverged corner must not swallow the scale
                options["top"] = float(f"{values[np.isfinite(values)].max():.6g}")
        return options

    def figure(self) -> figures.Drawing:
        """The static picture of what is shown."""
        if self.result is None:
            return figures.draw_missing("nothing measured yet")
        seen = clients_at(self.result, self.at)
        kept = seen.frame[seen.frame["series"].isin(["surface", *self.shown])].reset_index(drop=True)
        return dataclasses.replace(seen, frame=kept).plot(**self.plot_options())

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        names = ", ".join(panel["name"] for panel in self.panels) or "nothing yet"
        return bundle and pictured(bundle, self.figure(), f"Loss landscape of {names}")
