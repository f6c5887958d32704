"""What every panel is made of: a picture that never changes its size, a line that says what goes on, work in the back.

A panel is a `VBox` that scripts can drive as well as a person: its controls are attributes, its methods do what its
buttons do, and `settle()` waits until the background work is over and raises what went wrong there.
"""

from __future__ import annotations

import base64
import html
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import display

from .. import figures, pages
from ..arguments import checked
from ..declare import SettingError
from ..errors import plain_words
from ..jobs import Job, enqueue, on_compute_thread
from .fields import free, push
from .line import Work

# Where a page is loaded whose kernel is gone, JupyterLab writes an error in a panel's place, and shows no other form of
# it. This output beside it is seen then, and where nobody hides it: in a notebook that is not trusted, or on a site.
GONE = """<div class="flatlab-gone" style="padding:8px 12px;border-left:4px solid #f57c00">Nothing here answers now:
<b>run the cell again</b>. What was trained and measured is kept.</div><style>.jp-OutputArea-child:has(.flatlab-gone),
body:not(:has(.jp-OutputArea)):has(.flatlab-panel) .flatlab-gone { display: none }
.jp-OutputArea:has(> * > .jp-OutputArea-output.jupyter-widgets):not(:has(.flatlab-panel))
> .jp-OutputArea-child:has(.flatlab-gone) { display: flex }</style>"""


def pictured(bundle: Any, figure: figures.Drawing, text: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What shows a widget, and beside it a picture for viewers that do not (an untrusted notebook, GitHub)."""
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    still = {"image/png": base64.b64encode(figure.png()).decode()} | ({} if text is None else {"text/plain": text})
    return {**data, **still}, metadata


class Picture(ipywidgets.HTML):
    """A figure as an image of fixed size: replacing it moves nothing on the page.

    Args:
        width, height: on the page, in pixels; the figure is fitted into it, as large as it can be.
        alt: what it shows, for those who do not see it.
    """

    def __init__(self, width: int, height: int, alt: str) -> None:
        layout = ipywidgets.Layout(
            width=f"{width}px", height=f"{height}px", max_width="100%", object_fit="contain", flex="0 0 auto"
        )
        super().__init__(layout=layout)
        self.add_class("flatlab-picture")
        self._alt, self._dots, self._high = html.escape(alt), width, height

    def sketch(self, figure: figures.Drawing) -> None:
        """Show a figure of `flatlab.figures`; safe from any thread."""
        wide, high = figure.get_size_inches()
        png = figures.frame(figure, dpi=1.5 * min(self._dots / wide, self._high / high))  # sharp on a dense screen too
        self.value = f'<img alt="{self._alt}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


class Panel(ipywidgets.VBox):
    """The base of all panels. A subclass builds its widgets, gives them to `fill`, and says how `figure` draws it.

    Attributes:
        note: the line below: what is to be known, or what went wrong, with its traceback.
        work: beside it, what is computed.
        job: the latest work in the background, if any.
        measured: called when it has been done.
    """

    name = "Panel"
    held: Iterable[Panel] = ()  # the panels in it
    live = False  # whether `refresh` costs next to nothing, so that every round can be shown

    def __init__(self) -> None:
        super().__init__(layout=ipywidgets.Layout(width="100%", overflow="hidden"))
        self.add_class("flatlab-panel")
        self.note = ipywidgets.HTML(layout=ipywidgets.Layout(flex="0 1 auto", min_width="0"))
        self.work = Work()
        self.job: Job | None = None
        self.measured: Callable[[], object] = lambda: None

    def __del__(self) -> None:
        if self.comm is not None:  # one that was refused has nothing to close
            super().__del__()

    def fill(self, *parts: ipywidgets.Widget) -> None:
        """Put the panel's parts above the line that says what goes on."""
        layout = ipywidgets.Layout(width="100%", flex="0 0 auto", align_items="center")
        self._foot = ipywidgets.HBox([self.work, self.note], layout=layout)
        self.children = (*parts, self._foot)

    def button(
        self, name: str, icon: str, tooltip: str, act: Callable[[], object], style: str = ""
    ) -> ipywidgets.Button:
        """A button of this panel, which shows what goes wrong when it acts."""
        made = push(name, icon, tooltip, style)
        made.on_click(lambda _: self.guarded(act))
        return made

    def hint(self) -> None:
        """Say in an empty picture what is to be done, or is under way; most panels have none."""

    def hinted(self, otherwise: str) -> str:
        """What it says: what is computed for it, or `otherwise`."""
        under_way = self.job is not None and self.job.state in ("waiting", "running")
        return f"{self.job.name} …" if self.job is not None and under_way and self.job.name else otherwise

    def lend_note(self) -> ipywidgets.HTML:
        """The line of words, for a place outside: there, somebody else says what is computed."""
        self._foot.layout.display = "none"
        return self.note

    def figure(self) -> figures.Drawing:
        """What the panel shows now, as a figure of `flatlab.figures`."""
        raise NotImplementedError

    @checked
    def save_page(self, path: str | Path, title: str | None = None) -> Path:
        """Write what is shown as one HTML page that needs no kernel and no network; see `fl.save_page`."""
        return pages.of_panel(self, title).save(path)

    def compute(self, work: Callable[[Job], Any], then: Callable[[Any], None], what: str) -> Job:
        """Do `work` on the compute thread, then give its result to `then`, there; a newer call replaces an older one.

        Args:
            work: called with the job, whose `report` measurements take as `progress`.
            then: shows the result; it may change traits and draw, not print or display.
            what: a person calls it, as in "Step waits for the landscape"; "" for what is not worth a word.
        """
        self.cancel()

        def all_of_it(job: Job) -> Any:
            result = work(job)
            if job is self.job:
                then(result)
                self.measured()
            return result

        self.say("")
        self.job = Job(all_of_it, lambda job: self._follow(job), what)
        self.job.give_up = self.cancel
        self._show_work([self.job])
        self.hint()
        return enqueue(self.job)

    def cancel(self) -> None:
        """End the work in the background, if there is any, also that of panels in it."""
        for panel in self.held:
            panel.cancel()
        if self.job is not None:
            self.job.cancel()

    def close(self) -> None:
        """End the work in the background and free all widgets of the panel."""
        if self.comm is not None:
            self.cancel()
            for panel in self.held:  # those that are not seen now, too
                panel.close()
            free(self)

    def seek(self, round: int | None) -> None:
        """Another round is looked at (None: the latest); panels that show all rounds mark it."""
        for panel in self.held:
            panel.seek(round)

    def filmed(self) -> dict[str, Any]:
        """What a film of it shows, as `figures.pictures_of` takes it; most panels refuse."""
        raise SettingError("view", self.name, "has no rounds to go through; choose Curves, Clients, Landscape or Pulls")

    def rest(self) -> None:
        """The run that is looked at rests; most panels do nothing by themselves."""

    def settle(self, seconds: float | None = None) -> Any:
        """Wait for the work in the background; its result (None if there was none).

        Raises:
            BaseException: what the work raised.
            RuntimeError: on the compute thread, which cannot wait for itself.
        """
        if on_compute_thread():
            raise RuntimeError("settle: called from the compute thread, which would wait for itself")
        return None if self.job is None else self.job.wait(seconds)

    def guarded(self, act: Callable[[], object]) -> None:
        """Do what a control asks, and show what goes wrong: an exception in a callback would be shown nowhere."""
        try:
            act()
        except Exception as error:
            self.blame(error)

    def say(self, text: str) -> None:
        """Put a line of plain text below the panel."""
        self.note.value = html.escape(text)

    def blame(self, error: BaseException) -> None:
        """Show an error: in plain words, and its traceback to unfold."""
        trace = "".join(traceback.format_exception(error))
        self.note.value = (
            f'<span role="alert" style="color:var(--jp-error-color1,#c00)">⚠ {html.escape(plain_words(error))}</span>'
            "<details><summary>traceback</summary>"
            f'<pre style="white-space:pre-wrap">{html.escape(trace)}</pre></details>'
        )

    def _follow(self, job: Job) -> None:
        if job is not self.job:
            return
        self._show_work([job] if job.state in ("waiting", "running") else [])
        if job.error is not None:
            self.failed(job.error)
        elif job.state == "cancelled" and job.name:
            self.say(f"{job.name}: cancelled")
        if job.state not in ("waiting", "running"):
            self.hint()

    def _show_work(self, queue: Sequence[Job]) -> None:
        self.work.show(queue)

    def failed(self, error: BaseException) -> None:
        """Work in the background ended with an error."""
        self.blame(error)

    def stand_in(self) -> figures.Drawing:
        """What stands for the panel where nothing is alive."""
        return self.figure()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        try:
            text = f"{self.name} panel of flatlab: run the cell again to bring it to life"
            return pictured(bundle, self.stand_in(), text)
        except Exception as error:  # without a picture the live view is still of use
            self.blame(error)
            return bundle, {}

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        display({"text/html": GONE}, raw=True)
