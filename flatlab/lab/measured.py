"""What panels that measure on demand have in common: whose model and which samples, what is known, the code of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ipywidgets import Dropdown

from .. import figures
from ..jobs import Job
from ..training import Run
from ..training.as_code import code_for
from ..training.finding import as_runs
from .clipboard import CopyCode
from .panel import Panel
from .rounds import chosen_round, fitted, offer, offer_rounds, round_slider

APART = ("round", "client", "source", "loss", "one_class")  # settings that are chosen beside, or for a script only


class Measured(Panel):
    """A panel that measures runs when somebody asks for it. A subclass says what it asks for, and shows it.

    Args:
        runs: a run or several.

    Attributes:
        data, round, client: the samples, and whose model of when.
        known: what was measured, by runs, their rounds, and what was asked for.
        copy_code: copies the Python that makes what is shown.
    """

    moves = False  # whether another round of the same runs is a mark on what is shown

    def __init__(self, runs: Run | Iterable[Run]) -> None:
        runs = as_runs(runs)  # what is refused leaves no widgets behind
        super().__init__()
        self.runs = runs
        self.known: dict[Any, Any] = {}
        self.round = round_slider()
        told = "Samples whose loss is measured: global test set, or all clients' own training or test sets"
        self.data = Dropdown(options=["holdout", "train", "test"], description="Data", tooltip=told, **fitted(125))
        told = "Clients keep parts of the model for themselves, so that no model is global: whose is measured"
        self.client = Dropdown(options=[0], description="Model of client", tooltip=told, **fitted(185))
        self.copy_code = CopyCode(lambda: f"{code_for(self.runs)}\n{self.code()}\n", self.blame)

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Look at other runs; what was measured of the old ones stays known, and seen where they are moved along it."""
        self.cancel()
        before, self.runs = self.runs, as_runs(runs)
        if not (self.moves and [run.id for run in before] == [run.id for run in self.runs]):
            self.clear()
        self.refresh()

    def refresh(self) -> None:
        """Offer the rounds and clients that there are by now; nothing is measured."""
        unseen = ["unseen"] if all(run.data.unseen for run in self.runs) else []
        offer(self.data, ["holdout", "train", "test", *unseen], "holdout")
        offer_rounds(self.round, self.runs)
        self.client.layout.display = "" if any(run.kept for run in self.runs) else "none"
        offer(self.client, range(min(run.data.clients for run in self.runs)), 0)

    def rounds(self) -> tuple[int, ...]:
        """The round of each run's model."""
        return tuple(chosen_round(self.round, run) for run in self.runs)

    def whose(self) -> dict[str, int]:
        """The argument `client` of a measurement, if there is something to choose."""
        return {} if self.client.layout.display == "none" else {"client": self.client.value}

    def ends(self) -> tuple[tuple[str, int], ...]:
        """The runs and how far they have come."""
        return tuple((run.id, run.round) for run in self.runs)

    def colors(self) -> dict[str, str]:
        """Of the runs, by id: those of their curves."""
        return {id: look["color"] for id, look in figures.run_looks(self.runs, False, figures.Histories()).items()}

    def code(self) -> str:
        """The Python that makes what is shown: `run1`, `run2`, ... are the runs."""
        raise NotImplementedError

    def clear(self) -> None:
        """Show that nothing is measured."""
        raise NotImplementedError

    def ask(self, work: Callable[[Job], Any], then: Callable[[Any], None], what: str) -> Job:
        """Measure in the background, as `compute`; what comes when other runs are shown already is dropped."""
        runs = self.runs
        return self.compute(work, lambda result: then(result) if runs is self.runs else None, what)

    def failed(self, error: BaseException) -> None:
        """What was shown before is not what was asked for."""
        self.clear()
        super().failed(error)
