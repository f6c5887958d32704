"""A number to type, with its slider: one out of range is not silently cut, it is explained."""

from __future__ import annotations

import math
import time
from typing import Any

import ipywidgets

from .fields import Field, described

STEP = 0.51  # steps of a slider between a value and the place it is rounded to, at most
REPORT = 5.0  # seconds until a front end has said where it put a slider


class Number(Field):
    """A number to type, and where a usual range is declared, a slider that moves it.

    Args:
        name, tooltip: what the control is called, and what its setting means.
        whole: whether it is a whole number.
        span: usual lowest and highest value, for the slider; None: no slider.
        log: whether the slider is logarithmic. The number typed may be 0 all the same.
    """

    def __init__(self, name: str, tooltip: str, whole: bool, span: tuple[float, float] | None, log: bool) -> None:
        self.whole, self.span = whole, span
        self._moving = False
        self._led: list[tuple[float, float]] = []  # where the slider was lately put, and when: its reports are awaited
        kind = ipywidgets.IntText if whole else ipywidgets.FloatText
        self.slider: ipywidgets.Widget | None = None
        self.box = kind(continuous_update=False, **described(name, tooltip))
        if span is None:
            super().__init__(self.box)
            self.box.observe(self._tell, "value")
            return
        self.box.layout.width, self.box.layout.flex = "184px", "0 0 184px"
        layout = ipywidgets.Layout(width="auto", flex="1 1 80px", min_width="0")
        look: dict[str, Any] = {"readout": False, "tooltip": f"{name}: {tooltip}", "layout": layout}
        low, high = span
        if whole:
            self.slider = ipywidgets.IntSlider(min=int(low), max=int(high), **look)
        elif log:
            exponents = {"min": math.log10(low), "max": math.log10(high), "step": 0.05}
            self.slider = ipywidgets.FloatLogSlider(value=low, **exponents, **look)
        else:
            self.slider = ipywidgets.FloatSlider(min=low, max=high, step=(high - low) / 100, **look)
        super().__init__(self.box, self.slider)
        self.slider.observe(lambda change: self._follow(change["new"]), "value")
        self.box.observe(lambda change: self._lead(change["new"]), "value")
        self.box.observe(self._tell, "value")

    def read(self) -> Any:
        return self.box.value

    def write(self, value: Any) -> None:
        self.box.value = value
        self._lead(value)  # also where the box had it already

    def _follow(self, value: float) -> None:
        if self._moving or self._reported(value):
            return
        self._moving = True
        try:
            self.box.value = int(value) if self.whole else float(f"{value:.3g}")
        finally:
            self._moving = False

    def _lead(self, value: float) -> None:
        if self.slider is not None and self.span is not None and not self._moving:
            self._moving = True
            try:
                if self.slider.value != self._within(value):
                    self._led = [*self._led[-9:], (self._place(value), time.monotonic())]
                    self.slider.value = self._within(value)
            finally:
                self._moving = False

    def _reported(self, value: float) -> bool:
        """Whether this is no person's doing: the front end rounds a slider to its steps when it is put, and says so.

        It may say so late, when the box holds the next number already, which must not be overwritten.
        """
        place, now = self._place(value), time.monotonic()
        if abs(place - self._place(self.box.value)) <= STEP:
            return True
        for led in self._led:
            if abs(place - led[0]) <= STEP and now - led[1] < REPORT:
                self._led.remove(led)  # once: a person may move it there
                return True
        self._led = []
        return False

    def _within(self, value: float) -> float:
        assert self.span is not None
        return min(max(value, self.span[0]), self.span[1])

    def _place(self, value: float) -> float:
        """Where on the slider a value is, in steps."""
        assert self.slider is not None
        value = self._within(value)
        return (math.log10(value) if isinstance(self.slider, ipywidgets.FloatLogSlider) else value) / self.slider.step
