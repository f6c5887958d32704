"""A `Chart` in the browser: one anywidget around uPlot, which is told only what grew since it was last shown.

The script is bundled when flatlab is built (setup.py); where that could not be done, `MISSING` says so.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets

from ..figures import Chart, paper
from ..figures.chart import Array
from ..pages.scripts import BUNDLE, MISSING
from .panel import Picture, pictured


class ChartView(anywidget.AnyWidget):
    """Shows a `Chart`; `show` may be called many times a second, from any thread.

    Attributes:
        chart: what is shown.
        hidden: names that the legend switched off.
        log: the logarithmic axes: "", "x", "y" or "xy".
        smooth: weight of the past in an exponential moving average, which the browser takes.
        height: of all plots, in pixels.
        at: the round that is looked at, see `Chart`; a time line moves it in the browser, and then here.
        clicked: called with "card" or "measure" and a client, whose card is asked for; see `cards`.
    """

    clicked: Callable[[str, int], object] = staticmethod(lambda *_: None)
    if not MISSING:
        _esm = BUNDLE / "index.js"
        _css = BUNDLE / "chart.css"

    # What is drawn when a page is opened; from then on `show` sends messages.
    about = traitlets.Dict().tag(sync=True)
    sizes = traitlets.List(traitlets.Int()).tag(sync=True)  # of the columns, which follow each other in `numbers`
    numbers = traitlets.Bytes().tag(sync=True)  # float64
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)
    log = traitlets.Enum(["", "x", "y", "xy", "yx"], "").tag(sync=True)
    smooth = traitlets.Float(0.0, min=0.0, max=0.99).tag(sync=True)
    height = traitlets.Int(240).tag(sync=True)
    at = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, chart: Chart | None = None, **settings: Any) -> None:
        self._lock = threading.RLock()
        self.chart = Chart(()) if chart is None else chart  # first: the state with which the widget opens has all of it
        super().__init__(**settings)
        self.on_msg(self._asked)

    def show(self, chart: Chart) -> int:
        """Draw a chart; what only grew travels alone. Returns the bytes of numbers sent."""
        with self._lock:
            old, self.chart, self.at = self.chart, chart, chart.at
            if chart.log != old.log:  # else as a person has set it
                self.log = chart.log
            columns, before = chart.columns(), old.columns()
            starts, sizes = [*map(len, before)], [*map(len, columns)]
            if chart.about() != old.about() or not _grew(before, columns):
                return self._send_all()
            if starts == sizes:
                return 0
            tail = _packed([column[start:] for column, start in zip(columns, starts, strict=True)])
            self.send({"kind": "tail", "starts": starts, "sizes": sizes, "stamp": time.time()}, [tail])
            return len(tail)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """As of ipywidgets; a page that is opened anew gets what went out as messages, too."""
        state = super().get_state(key, drop_defaults)
        if key is None:
            with self._lock:
                columns = self.chart.columns()
                state |= {"about": self.chart.about(), "sizes": [*map(len, columns)], "numbers": _packed(columns)}
        return state

    def _send_all(self) -> int:
        columns = self.chart.columns()
        numbers, sizes = _packed(columns), [*map(len, columns)]
        self.send({"kind": "all", "about": self.chart.about(), "sizes": sizes, "stamp": time.time()}, [numbers])
        return len(numbers)

    def _asked(self, _: Any, content: dict[str, Any], buffers: list[bytes]) -> None:
        if content.get("kind") == "hello":  # what a page has; points may have come before it listened
            with self._lock:
                if content.get("sizes") != [len(column) for column in self.chart.columns()]:
                    self._send_all()
        elif content.get("kind") in ("card", "measure"):
            self.clicked(content["kind"], int(content["client"]))
        elif content.get("kind") == "export":
            out = io.BytesIO()
            paper(self.chart.smoothed(self.smooth), last=True).savefig(
                out, format="pdf", metadata={"CreationDate": None}
            )
            self.send({"kind": "file", "format": "pdf"}, [out.getvalue()])

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None or not self.chart.plots:
            return bundle
        return pictured(bundle, paper(self.chart.smoothed(self.smooth), last=True))


class StillChart(ipywidgets.VBox):
    """A `Chart` as a picture, where there is no bundle: it says so, and has what of `ChartView` panels use.

    Attributes:
        chart, smooth: as of `ChartView`.
        picture: the image.
    """

    def __init__(self, chart: Chart | None = None, height: int = 240, smooth: float = 0.0) -> None:
        self.smooth = smooth
        self.picture = Picture(820, height + 60, "Curves")
        super().__init__([ipywidgets.HTML(MISSING), self.picture], layout=ipywidgets.Layout(width="100%"))
        self.show(Chart(()) if chart is None else chart)

    def show(self, chart: Chart) -> int:
        """Draw a chart. Returns the bytes of the picture."""
        self.chart = chart
        if chart.plots:
            self.picture.sketch(paper(chart.smoothed(self.smooth), last=True))
        return len(self.picture.value)


def chart_view(height: int) -> ChartView | StillChart:
    """An empty chart, in the browser if it can be drawn there."""
    return StillChart(height=height) if MISSING else ChartView(height=height)


def _packed(columns: list[Array]) -> bytes:
    return b"".join(np.ascontiguousarray(column, "<f8").tobytes() for column in columns)


def _grew(before: list[Array], after: list[Array]) -> bool:
    """Whether the new columns are the old ones and perhaps more behind."""
    return len(before) == len(after) and all(
        len(old) <= len(new) and np.array_equal(old, new[: len(old)], equal_nan=True)
        for old, new in zip(before, after, strict=True)
    )
