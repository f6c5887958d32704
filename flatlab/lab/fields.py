"""The widgets of one setting, by its type: a menu, a switch, a number with its slider, words.

Each `Field` reads and writes the plain value of its setting, and shows in words below itself what is wrong with it.
A number can be typed freely: one out of range is not silently cut, it is explained.
"""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..declare import SettingError

if TYPE_CHECKING:
    from .controls import Controls

STEP = 0.51  # steps of a slider between a value and the place it is rounded to, at most
REPORT = 5.0  # seconds until a front end has said where it put a slider
LABEL = "104px"  # width of all descriptions, so that controls stand in a column


class Field:
    """One setting. A subclass makes its widgets and gives them to `__init__`.

    Attributes:
        widget: all of it, with the message below.
    """

    def __init__(self, *widgets: ipywidgets.Widget) -> None:
        self._message = ipywidgets.HTML(layout=ipywidgets.Layout(display="none", width="100%"))
        row = ipywidgets.HBox(widgets, layout=ipywidgets.Layout(width="100%", align_items="center"))
        self.widget = ipywidgets.VBox([row, self._message], layout=ipywidgets.Layout(width="100%"))

    def read(self) -> Any:
        """The plain value; a wrong one is left for the declaration to refuse."""
        raise NotImplementedError

    def write(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError

    def listen(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called whenever the value changes."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the widgets."""
        free(self.widget)

    def mark(self, message: str) -> None:
        """Show what is wrong, or nothing if the message is empty."""
        self._message.value = complaint(message)
        self._message.layout.display = "" if message else "none"


class Value(Field):
    """A setting whose one widget holds its value as it is: a menu, a switch."""

    def __init__(self, widget: ipywidgets.Widget) -> None:
        self.control = widget
        super().__init__(widget)

    def read(self) -> Any:
        return self.control.value

    def write(self, value: Any) -> None:
        self.control.value = value

    def listen(self, callback: Callable[[], None]) -> None:
        self.control.observe(lambda _: callback(), "value")


class Menu(Value):
    """One of a few values; one that is set from Python joins them."""

    def __init__(self, name: str, options: Sequence[Any], tooltip: str) -> None:
        super().__init__(ipywidgets.Dropdown(options=list(options), **described(name, tooltip)))

    def write(self, value: Any) -> None:
        if value not in self.control.options:
            self.control.options = (*self.control.options, value)
        self.control.value = value


def switch(name: str, tooltip: str) -> Value:
    """On or off."""
    return Value(ipywidgets.Checkbox(indent=True, **described(name, tooltip)))


class Words(Value):
    """Text, or anything else as JSON.

    Args:
        name, tooltip: what the control is called, and what its setting means.
        plain: take the text as it is; else as JSON where it is JSON.
    """

    def __init__(self, name: str, tooltip: str, plain: bool) -> None:
        self.name, self.plain = name, plain
        super().__init__(ipywidgets.Text(continuous_update=False, **described(name, tooltip)))

    def read(self) -> Any:
        text = self.control.value.strip()
        if self.plain:
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            if text[:1] in "[{" and text:
                raise SettingError(self.name, text, "is not JSON; a list looks like [0.5, 0.75]") from None
            return text

    def write(self, value: Any) -> None:
        self.control.value = value if isinstance(value, str) else json.dumps(value)


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

    def read(self) -> Any:
        return self.box.value

    def write(self, value: Any) -> None:
        self.box.value = value
        self._lead(value)  # also where the box had it already

    def listen(self, callback: Callable[[], None]) -> None:
        self.box.observe(lambda _: callback(), "value")

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


class Group(Field):
    """Settings inside a setting, made by `make` from their first value, under a heading if there is one."""

    def __init__(self, make: Callable[[Any], Controls], heading: str, tooltip: str) -> None:
        self._make = make
        self._callbacks: list[Callable[[], None]] = []
        self.controls: Controls | None = None
        title = f"<b>{heading.replace('_', ' ')}</b>"
        self._heading = [ipywidgets.HTML(title, tooltip=tooltip)] if heading else []
        self._place = ipywidgets.VBox(layout=ipywidgets.Layout(width="100%"))
        super().__init__(self._place)

    def read(self) -> Any:
        assert self.controls is not None
        return self.controls.value

    def write(self, value: Any) -> None:
        if self.controls is not None:
            self.controls.value = value
            return
        self.controls = self._make(value)
        self.controls.observe(lambda _: self._tell(), "changed")
        self._place.children = [*self._heading, self.controls]

    def close(self) -> None:
        if self.controls is not None:
            self.controls.close()
        super().close()

    def listen(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()


class Maybe(Field):
    """A setting that may be absent: a switch, and its control while that is on."""

    def __init__(self, name: str, tooltip: str, make: Callable[[], Field], start: Any) -> None:
        self._make, self._start = make, start
        self._inside: Field | None = None
        self._callbacks: list[Callable[[], None]] = []
        self.on = ipywidgets.Checkbox(indent=True, **described(name, tooltip))
        self.on.layout.flex, self.on.layout.min_width = "1 1 0", "0"
        self._place = ipywidgets.Box([self.on], layout=ipywidgets.Layout(width="100%"))
        super().__init__(self._place)
        self.on.observe(lambda _: self._switched(), "value")

    @property
    def controls(self) -> Controls | None:
        """The nested settings, while they are on."""
        return self._inside.controls if self.on.value and isinstance(self._inside, Group) else None

    @property
    def inside(self) -> Field:
        """The control of the value that is set while the switch is on."""
        if self._inside is None:
            self._inside = self._make()
            self._inside.write(self._start)
            nested = isinstance(self._inside, Group)
            self._place.layout.flex_flow = "column" if nested else "row"
            self._inside.widget.layout.width = "100%" if nested else "120px"
            self._inside.widget.layout.flex = "0 0 auto"
            self._inside.listen(self._tell)
        return self._inside

    def read(self) -> Any:
        return self.inside.read() if self.on.value else None

    def close(self) -> None:
        if self._inside is not None:
            self._inside.close()
        super().close()

    def write(self, value: Any) -> None:
        if value is not None:
            self.inside.write(value)
        self.on.value = value is not None

    def listen(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _switched(self) -> None:
        self._place.children = (self.on, self.inside.widget) if self.on.value else (self.on,)
        self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()


def free(widget: ipywidgets.Widget) -> None:
    """Close a widget and whatever it holds: the kernel keeps each one that is not closed, forever."""
    held = [getattr(widget, name) for name in widget.keys if name in ("children", "layout", "style")]
    ipywidgets.Widget.close(widget)
    for one in held:
        for inside in one if isinstance(one, Iterable) else [one]:
            if inside.comm is not None:
                free(inside) if type(inside).close is ipywidgets.Widget.close else inside.close()


def described(name: str, tooltip: str) -> dict[str, Any]:
    """The options that every labelled control has."""
    return {
        "description": name.replace("_", " "),
        "tooltip": tooltip,
        "style": {"description_width": LABEL},
        "layout": ipywidgets.Layout(width="auto", flex="1 1 auto", min_width="0"),
    }


def complaint(message: str) -> str:
    """A message as HTML: in red, and told by its words and sign, not by colour alone."""
    if not message:
        return ""
    return (
        '<div class="flatlab-problem" role="alert" style="color:var(--jp-error-color1,#c00);line-height:1.3;'
        f'white-space:normal;margin:0 2px 4px 4px">⚠ {html.escape(message)}</div>'
    )
