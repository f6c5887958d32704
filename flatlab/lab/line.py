"""The line that says what is computed in the background: what, how far, how long still, what waits; and Cancel."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence
from pathlib import Path

import ipywidgets
from tqdm import tqdm

from ..jobs import Job, named
from .fields import push

SECONDS = 0.2  # between two looks: a measurement may report thousands of times a second
STYLE = f"<style>{Path(__file__).with_name('lab.css').read_text('utf-8')}</style>"  # of all panels: each has a line
ROUNDS = ("Run", "Step")  # what jobs that train are called


class Work(ipywidgets.HBox):
    """What jobs do.

    Attributes:
        meter: how much of it is done.
        cancel_button: ends what is shown.
        text: in words.
    """

    def __init__(self) -> None:
        self.meter = ipywidgets.IntProgress(tooltip="How much is measured", layout=ipywidgets.Layout(width="110px"))
        self.cancel_button = push("Cancel", "times", "End this measurement; what is done is kept")
        self.text = ipywidgets.HTML()
        layout = ipywidgets.Layout(flex="0 0 auto", align_items="center", display="none", max_width="100%")
        super().__init__([self.meter, self.cancel_button, self.text, ipywidgets.HTML(STYLE)], layout=layout)
        self.add_class("flatlab-work")
        self.cancel_button.on_click(lambda _: self._job.give_up() if self._job is not None else None)
        self._job: Job | None = None
        self._shown: tuple[object, float] = (None, 0.0)  # whose states were shown, and when

    def show(self, queue: Sequence[Job]) -> None:
        """Show jobs, the one that runs first; nothing if there are none."""
        now = (tuple((id(job), job.state) for job in queue), time.monotonic())
        if now[0] == self._shown[0] and now[1] - self._shown[1] < SECONDS:
            return
        self._shown = now
        said = sentence(queue)
        self._job = next((job for job in queue if job.name not in ROUNDS), None)
        if self._job is not None:
            done, total = self._job.progress
            self.meter.max, self.meter.value = max(total, 1), done
        self.text.value = html.escape(said)
        self.layout.display = "flex" if said else "none"


def measuring() -> bool:
    """Whether something is computed that may take long and is no round."""
    return any(job.state == "running" and job.name not in ROUNDS for job in named())


def sentence(queue: Sequence[Job]) -> str:
    """What runs, of how much, how long still; and what waits for it. Nothing of rounds that only rounds wait for."""
    if all(job.name in ROUNDS for job in queue):
        return ""
    first, waiting = queue[0], " and ".join(dict.fromkeys(job.name for job in queue[1:]))
    if first.name in ROUNDS:
        return _capital(f"{waiting} waits for the round in flight")
    done, total = first.progress
    far = f", {done} of {total}" if total else f", {done} products" if done else " …"
    if done and total:
        seconds = (time.monotonic() - first.begun) * (total - done) / done
        far += f" ({100 * done // total} %), {tqdm.format_interval(math.ceil(seconds))} left"
    return _capital(f"{waiting} waits for {first.name}{far}" if waiting else f"{first.name}{far}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
