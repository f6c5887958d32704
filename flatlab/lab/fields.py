"""The widgets of one setting, by its type: a menu, a switch, words, settings within; numbers are in number_field.py.

Each `Field` reads and writes the plain value of its setting, and shows in words below itself what is wrong with it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..declare import Family, SettingError

if TYPE_CHECKING:
    from .controls import Controls

LABEL = "104px"  # width of all descriptions, so that controls stand in a column


class Field:
    """One setting. A subclass makes its widgets and gives them to `__init__`.

    Attributes:
        widget: all of it, with the message below.
        several: whether it has a few values that can be tried by themselves.
    """

    several = True

    def __init__(self, *widgets: ipywidgets.Widget) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._message = ipywidgets.HTML(layout=ipywidgets.Layout(display="none", width="100%"))
        self._row = ipywidgets.HBox(widgets, layout=ipywidgets.Layout(width="100%", align_items="center"))
        self.widget = ipywidgets.VBox([self._row, self._message], layout=ipywidgets.Layout(width="100%"))

    def append(self, widget: ipywidgets.Widget) -> None:
        """Put a widget behind the others of its row."""
        self._row.children += (widget,)

    def read(self) -> Any:
        """The plain value; a wrong one is left for the declaration to refuse."""
        raise NotImplementedError

    def read_or(self, default: Any) -> Any:
        """The plain value, or what is given where it cannot be read."""
        try:
            return self.read()
        except SettingError:
            return default

    def write(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError

    def listen(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called whenever the value changes."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """Free the widgets."""
        free(self.widget)

    def beside_others(self) -> None:
        """Take no more width than needed: it stands in a row."""
        self.widget.layout.width = "330px" if getattr(self, "slider", None) else "235px"

    def mark(self, message: str) -> None:
        """Show what is wrong, or nothing if the message is empty."""
        self._message.value = complaint(message)
        self._message.layout.display = "" if message else "none"

    def _tell(self, _: Any = None) -> None:
        for callback in self._callbacks:
            callback()


class Value(Field):
    """A setting whose one widget holds its value as it is: a menu, a switch."""

    def __init__(self, widget: ipywidgets.Widget) -> None:
        self.control = widget
        super().__init__(widget)
        widget.observe(self._tell, "value")

    def read(self) -> Any:
        return self.control.value

    def write(self, value: Any) -> None:
        self.control.value = value


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

    several = False

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


class Group(Field):
    """Settings inside a setting, made by `make` from their first value, under a heading if there is one."""

    several = False  # its kinds have a button of their own

    def __init__(self, make: Callable[[Any], Controls], heading: str, tooltip: str) -> None:
        self._make = make
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
        self.controls.observe(self._tell, "changed")
        self._place.children = [*self._heading, self.controls]

    def close(self) -> None:
        if self.controls is not None:
            self.controls.close()
        super().close()


class Maybe(Field):
    """A setting that may be absent: a switch, and its control while that is on."""

    def __init__(self, name: str, tooltip: str, make: Callable[[], Field], start: Any) -> None:
        self._make, self._start = make, start
        self.several = not isinstance(start, type) or issubclass(start, Family)  # else: settings without kinds
        self._inside: Field | None = None
        self.on = ipywidgets.Checkbox(indent=True, **described(name, tooltip))
        self.on.layout.flex, self.on.layout.min_width = "1 1 0", "0"
        self._place = ipywidgets.Box([self.on], layout=ipywidgets.Layout(width="100%"))
        super().__init__(self._place)
        self.on.observe(lambda _: self._switched(), "value")

    def beside_others(self) -> None:
        self.on.indent = False
        self.widget.layout.width = "235px"

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

    def _switched(self) -> None:
        self._place.children = (self.on, self.inside.widget) if self.on.value else (self.on,)
        self._tell()


def fold(widgets: Sequence[ipywidgets.Widget]) -> list[ipywidgets.Widget]:
    """What is seldom wanted, behind a button that shows it: the button, and what it shows; nothing of nothing."""
    if not widgets:
        return []
    more = ipywidgets.ToggleButton(description="More settings", icon="caret-right", tooltip="Show or hide them")
    inside = ipywidgets.VBox(widgets, layout={"width": "100%", "display": "none"}).add_class("flatlab-folded")
    more.add_class("flatlab-more")

    def turn(change: dict[str, Any]) -> None:
        more.icon, inside.layout.display = ("caret-down", "") if change["new"] else ("caret-right", "none")

    more.observe(turn, "value")
    return [more, inside]


def menu_of(members: Mapping[str, type[Family]]) -> list[tuple[str, str]]:
    """The options of a menu of kinds."""
    return [(name.replace("_", " "), name) for name in members]


def push(name: str, icon: str, tooltip: str, style: str = "") -> ipywidgets.Button:
    """A button as wide as its name."""
    layout = ipywidgets.Layout(width="auto")
    return ipywidgets.Button(description=name, icon=icon, tooltip=tooltip, button_style=style, layout=layout)


def try_button(name: str, act: Callable[[], object]) -> ipywidgets.Button:
    """What asks what other values of a setting would do."""
    tooltip = f"What if? Try 4 values of {name.replace('_', ' ')}"
    button = ipywidgets.Button(icon="flask", tooltip=tooltip).add_class("flatlab-try")
    button.on_click(lambda _: act())
    return button


def wrapping(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
    """Widgets in a row, or in several where it is narrow."""
    return ipywidgets.HBox(
        widgets, layout={"flex_flow": "row wrap", "width": "100%", "align_items": "center", "grid_gap": "0 12px"}
    )


def free(widget: ipywidgets.Widget) -> None:
    """Close a widget and whatever it holds: the kernel keeps each one that is not closed, forever."""
    held = [getattr(widget, name) for name in widget.keys if name in ("children", "layout", "style")]
    ipywidgets.Widget.close(widget)
    for part in held:
        for inside in part if isinstance(part, Iterable) else [part]:
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
