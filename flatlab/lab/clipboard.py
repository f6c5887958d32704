"""A button that shows code in a box and puts it on the clipboard of the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anywidget
import ipywidgets
import traitlets

from .fields import push


class Clipboard(anywidget.AnyWidget):
    """Copies `text` in the browser each time `serial` changes; the browser says beside it whether that worked."""

    _esm = Path(__file__).with_name("copy.js")
    text = traitlets.Unicode().tag(sync=True)
    serial = traitlets.Int(0).tag(sync=True)

    def put(self, text: str) -> None:
        """Copy a text."""
        self.text = text
        self.serial += 1


class CopyCode(ipywidgets.VBox):
    """The button "Copy as code", and below it the code it copied, once it did.

    Args:
        code: gives the code as of now.
        failed: hears of an error in `code`, which a front end would not show.

    Attributes:
        button, box: the button; the text area.
    """

    def __init__(self, code: Callable[[], str], failed: Callable[[BaseException], None]) -> None:
        self._code, self._failed = code, failed
        told = "Python that reproduces what is shown; goes to the clipboard and into a box below"
        self.button = push("Copy as code", "clipboard", told)
        self.box = ipywidgets.Textarea(
            layout=ipywidgets.Layout(width="100%", height="150px", display="none"), tooltip="The code that was copied"
        )
        self.clipboard = Clipboard()
        self.button.on_click(lambda _: self.copy())
        super().__init__(
            [ipywidgets.HBox([self.button, self.clipboard]), self.box], layout=ipywidgets.Layout(width="100%")
        )

    def copy(self) -> str | None:
        """What the button does; the code, or None if making it failed."""
        try:
            code = self._code()
        except Exception as error:
            self._failed(error)
            return None
        self.box.value, self.box.layout.display = code, "block"
        self.clipboard.put(code)
        return code
