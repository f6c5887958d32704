"""Who was sampled in a round: what each client holds, how it trained, and what fine-tuning would give it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import ipywidgets

import flatlab as fl

from .. import figures
from ..geometry import Sharpness
from ..geometry.kept_results import remember
from ..jobs import Job
from ..personalization import Personalization
from ..training import Run
from ..training.as_code import call, code_for, literal
from ..training.finding import as_runs
from .cards import deal
from .chart import chart_view
from .clipboard import CopyCode
from .fields import wrapping
from .panel import Panel, Picture
from .rounds import chosen_round, offer_rounds, round_slider

MEASURES = ["top", "asam"]
NOBODY = "choose one"
WIDTH, HEIGHT = 820, 260


class Clients(Panel):
    """A round's cohort; choose a client to see its personalization curve and its sharpness.

    Args:
        run: a run (the first, if several are given).

    Attributes:
        round: which is shown, as in other panels; "latest" follows the run, or the round that a bench looks at.
        client: which client is looked at more closely; choosing one measures it, unless that was done before.
        measure_button: measures it again in another round.
        score_button: scores the cohort's initial accuracy where the run did not.
        chart: the cohort, a bar each, in numbers where the pointer rests; a click opens a client's card.
    """

    name = "Clients"

    def __init__(self, run: Run | Iterable[Run]) -> None:
        runs = as_runs(run)  # what is refused leaves no widgets behind
        super().__init__()
        self._lock = threading.RLock()
        self.run = runs[0]
        self._sought: int | None = None
        self._tuned: dict[tuple[str, int, int], Personalization] = {}
        self._sharp: dict[tuple[str, int, int], Sharpness] = {}
        self._scored: dict[tuple[str, int], Personalization] = {}
        self._drawn: Any = None
        self._listed: Any = None
        self._listing = False
        self.round = round_slider()
        told = "Fine-tune a copy of this round's model for this client and measure its sharpness there"
        self.client = ipywidgets.Dropdown(options=[(NOBODY, None)], description="client", tooltip=told)
        told = "Initial accuracy of the sampled clients in this round, if the run did not score it"
        self.score_button = self.button("Score cohort", "check", told, self.score)
        told = "Fine-tune for the chosen client in the round shown, and measure its sharpness"
        self.measure_button = self.button("Measure client", "search", told, self.measure)
        self.chart = chart_view(HEIGHT)
        deal(self.chart, self, lambda: (self.run.data, self.run, self._at or None))
        self.picture = Picture(WIDTH, HEIGHT, "The client chosen: its accuracy while it is tuned, and its sharpness")
        self.picture.layout.object_position = "left top"
        self.copy_code = CopyCode(lambda: code_for(self.run) + "\n" + self.code() + "\n", self.blame)
        self.round.observe(lambda _: self.guarded(self._redraw), "value")
        self.client.observe(lambda _: self.guarded(self._choose), "value")
        controls = wrapping(self.round, self.client, self.measure_button, self.score_button)
        self.fill(controls, self.chart, self.picture, self.copy_code)
        self.refresh()

    def show(self, runs: Run | Iterable[Run]) -> None:
        """Show another run."""
        with self._lock:
            self.run = as_runs(runs)[0]
        self.refresh()

    def refresh(self) -> None:
        """Look at the run again; nothing is drawn if the round shown is the same."""
        with self._lock:
            offer_rounds(self.round, [self.run], first=1)
            self._redraw()

    def hint(self) -> None:
        """In the picture of the client chosen."""
        self._redraw()

    def seek(self, round: int | None) -> None:
        """Show another round, unless one is chosen here."""
        self._sought = round
        self.refresh()

    def score(self) -> Job:
        """Score the initial accuracy of the clients sampled in the round shown, in the background."""
        run, round = self.run, self._at
        if not run.round:
            raise RuntimeError(f"{run.name} is at round 0, when nobody was sampled: train a round first")
        cohort = figures.cohort_table(run, round)["client"].tolist()

        def work(job: Job) -> Personalization:
            return fl.personalize(run, epochs=0, round=round, clients=cohort, progress=job.report)

        def then(scores: Personalization) -> None:
            self._scored[run.id, round] = scores
            self._redraw()

        return self.compute(work, then, "scoring the cohort")

    def measure(self) -> Job | None:
        """Fine-tune for the chosen client and measure its sharpness, in the background; None if that is known."""
        run, round, client = self.run, self._at, self.client.value
        key = (run.id, round, client)
        if client is None or key in self._sharp:
            return None

        def work(job: Job) -> tuple[Personalization, Sharpness | None]:
            tuned = fl.personalize(run, round=round, clients=[client], progress=job.report)
            remember(run, tuned)
            if not tuned.about["complete"]:
                return tuned, None
            return tuned, fl.sharpness(run, round=round, measures=MEASURES, clients=[client], progress=job.report)

        def then(results: tuple[Personalization, Sharpness | None]) -> None:
            tuned, sharp = results
            if sharp is not None and sharp.about["complete"]:
                self._tuned[key], self._sharp[key] = tuned, sharp
                self._redraw()

        return self.compute(work, then, f"client {client} in round {round}")

    def figure(self) -> figures.Drawing:
        """The cohort, and below it the client looked at; before the first round, who holds what."""
        if not self._at:
            return figures.draw(self.run.data)
        round, client = self._at, self.client.value
        return figures.draw_cohort(
            self.run,
            round,
            client,
            self._scored.get((self.run.id, round)),
            self._tuned.get((self.run.id, round, client)),
            [self._sharp[self.run.id, round, who] for who in self._sharp_clients()],
        )

    def filmed(self) -> dict[str, Any]:
        """The clients of each round."""
        return {"thing": [self.run], "view": "clients"}

    def code(self, name: str = "run1") -> str:
        """The lines that draw the same of the run called `name`."""
        if not self._at:
            return f"{name}.data.plot()"
        round, client = self._at, self.client.value
        lines, given = ["from flatlab.figures import draw_cohort", ""], [name, f"round={round}"]
        if client is not None:
            given.append(f"client={client}")
        if (self.run.id, round) in self._scored:
            cohort = figures.cohort_table(self.run, round)["client"].tolist()
            lines.append("scored = " + call("fl.personalize", name, epochs=0, round=round, clients=cohort))
            given.append("scored=scored")
        if (self.run.id, round, client) in self._tuned:
            lines.append("tuned = " + call("fl.personalize", name, round=round, clients=[client]))
            given.append("tuned=tuned")
        if known := self._sharp_clients():
            settings = f"round={round}, measures={literal(MEASURES)}, clients=[one]"
            lines.append(f"sharp = [fl.sharpness({name}, {settings}) for one in {known}]")
            given.append("sharp=sharp")
        return "\n".join([*lines, call("draw_cohort", *given)])

    @property
    def _at(self) -> int:
        latest = self.round.value == "latest" and self._sought is not None
        return min(self._sought or 0, self.run.round) if latest else chosen_round(self.round, self.run)

    def _sharp_clients(self) -> list[int]:
        """Those whose sharpness in the round shown is known, if the one looked at is among them."""
        here = (self.run.id, self._at)
        known = sorted(client for id, round, client in self._sharp if (id, round) == here)
        return known if self.client.value in known else []

    def _choose(self) -> None:
        with self._lock:
            if self._listing:
                return
        if self.measure() is None:  # else it is drawn as work begins
            self._redraw()

    def _redraw(self) -> None:
        with self._lock:
            shown = (self.run.id, self._at)
            self.score_button.disabled = self.measure_button.disabled = not self._at
            if shown != self._listed:
                self._list(shown)
            known = (shown in self._scored, (*shown, self.client.value) in self._tuned, self.hinted(""))
            if (*shown, self.client.value, known) != self._drawn:
                self._draw(*shown)
                self._drawn = (*shown, self.client.value, known)

    def _draw(self, id: str, round: int) -> None:
        client, chosen = self.client.value, self.client.value is not None
        if round:
            self.chart.show(figures.chart_cohort(self.run, round, self._scored.get((id, round))))
        else:
            self.chart.show(figures.chart_partition(self.run.data))
        self.picture.layout.display = "" if chosen else "none"
        if chosen:
            sharp = [self._sharp[id, round, who] for who in self._sharp_clients()]
            tuned = self._tuned.get((id, round, client))
            self.picture.sketch(figures.draw_client(self.run, client, tuned, sharp, self.hinted("")))

    def _list(self, shown: tuple[str, int]) -> None:
        """Put the round's clients among the choices."""
        self._listed = shown
        cohort = figures.cohort_table(self.run, shown[1])["client"].tolist() if shown[1] else []
        values = [None, *map(int, cohort)]
        kept = values.index(self.client.value) if self.client.value in values else 0
        self._listing = True
        try:
            self.client.options = [(NOBODY if who is None else f"client {who}", who) for who in values]
            self.client.index = kept  # by its place: None as a value is a blank line
        finally:
            self._listing = False
