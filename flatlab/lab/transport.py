"""Above the views: the buttons that move a session, its progress, the slider over its rounds. It decides nothing."""

from __future__ import annotations

import html

import anywidget
import ipywidgets
import traitlets

from ..pages.scripts import view_module
from ..training import Run
from ..training.status import no_better_than_guessing
from .fields import push
from .session import Session

BUSY = ("running", "pausing", "stopping")
_HINTS = {
    "idle": "ready",
    "running": "running",
    "pausing": "pausing after this round",
    "paused": "paused",
    "stopping": "stopping after this round",
    "stopped": "stopped",
    "failed": "failed: Run tries again from the last good round",
    "done": "done",
}


class TimeLine(anywidget.AnyWidget):
    """A slider over the rounds of a run, that plays: what shows all rounds follows in the browser, the kernel at rest.

    Attributes:
        value, min, max, disabled: the round that is looked at, the first and the last; at the last it follows the run.
        run: whose id.
        speed, loop: rounds a second; whether it begins again at the end.
        formats: of files that it can save.
        moving: whether it plays as soon as it is seen.
    """

    _esm = view_module("timeline")
    value, min, max = (traitlets.Int(at).tag(sync=True) for at in (0, 0, 1))
    disabled, loop, moving = (traitlets.Bool(on).tag(sync=True) for on in (True, False, False))
    run, speed = traitlets.Unicode().tag(sync=True), traitlets.Float(5.0).tag(sync=True)
    formats = traitlets.List(traitlets.Unicode()).tag(sync=True)


class Transport(ipywidgets.VBox):
    """Buttons, progress and round slider of a session.

    Attributes:
        buttons: by name: run, step, pause, stop, rewind, fork.
        fold: shows or hides the settings.
        slider: the time line: the round that is looked at.
        bar: how many rounds are done.
        status: state, speed and time left, in words.
        line: what holds these two.
    """

    def __init__(self) -> None:
        self.buttons = {
            "run": push("Run", "play", "Train to the end; with changed settings, a new run", "success"),
            "step": push("Step", "step-forward", "Train one round"),
            "pause": push("Pause", "pause", "Wait after the round in flight"),
            "stop": push("Stop", "stop", "Train no further after the round in flight; Run goes on with it"),
            "rewind": push("Rewind", "undo", "Take the run back to the round of the slider; nothing on disk is lost"),
            "fork": push("Fork here", "code-fork", "Begin a new run at the slider's round with the settings above"),
        }
        self.color: str | None = None  # of the run's curve, and of its bar
        self.fold = ipywidgets.ToggleButton(
            description="Settings", icon="cog", tooltip="Show or hide the settings", layout={"width": "auto"}
        )
        self.slider = TimeLine(layout={"flex": "1 1 330px", "min_width": "0", "max_width": "100%"})
        self.bar = ipywidgets.IntProgress(max=1, tooltip="Rounds done", layout={"width": "90px", "flex": "0 0 90px"})
        self.status = ipywidgets.HTML(layout={"flex": "1 1 120px", "min_width": "0"}).add_class("flatlab-status")
        row = ipywidgets.Layout(width="100%", flex_flow="row wrap", align_items="center")
        self.line = ipywidgets.HBox([self.bar, self.status], layout=row).add_class("flatlab-line")
        parts = [ipywidgets.HBox([*self.buttons.values(), self.fold, self.slider], layout=row), self.line]
        super().__init__(parts, layout=ipywidgets.Layout(width="100%"))
        self.show(None, ready=True)

    def fit(self, run: Run, round: int | None) -> None:
        """Fit the slider to the rounds of a run, and put it at one; None: its latest."""
        slider, first = self.slider, run.experiment.parent.round if run.experiment.parent is not None else 0
        last = max([run.round, *run.checkpoints[-1:]])
        with slider.hold_sync():
            slider.run = run.id
            slider.min = min(first, slider.min)
            slider.max = max(last, slider.min + 1)
            slider.min, slider.value, slider.disabled = first, run.round if round is None else round, last <= first

    def show(self, session: Session | None, ready: bool, hint: str = "") -> None:
        """Show where a session stands.

        Args:
            session: the session; None before there is one.
            ready: whether the settings make an experiment.
            hint: what Run would do, if that is not plain.
        """
        state = "idle" if session is None else session.state
        busy = state in BUSY
        over = session is not None and state == "done" and not hint
        can = {
            "run": ready and not over and (not busy or bool(hint)),
            "step": ready and not over and not busy,
            "pause": state == "running",
            "stop": session is not None and state in ("idle", "running", "pausing", "paused"),
            "rewind": session is not None,
            "fork": session is not None and ready,
        }
        for name, button in self.buttons.items():
            button.disabled = not can[name]
        if session is None:
            self.status.value = f'<b class="flatlab-state">{_HINTS[state]}</b> {html.escape(hint)}'
            return
        run = session.run
        self.bar.max, self.bar.value = run.rounds, run.round
        doubt = no_better_than_guessing(run) if state == "done" else ""
        self.bar.bar_style = "danger" if doubt or state == "failed" else "success" if state == "done" else ""
        self.bar.style.bar_color = None if self.bar.bar_style == "danger" else self.color
        self.status.value = (
            f'<b class="flatlab-state">{_HINTS[state]}</b>'  # what may be cut off where it is narrow comes last
            + (f' · <b style="color:var(--jp-error-color1,#c00)">⚠ {html.escape(doubt)}</b>' if doubt else "")
            + (f" · <i>{html.escape(hint)}</i>" if hint else "")
            + f" · {html.escape(run.name)} · {html.escape(session.progress)}"
        )
