"""The card of a client that a click on one of its marks opens: filled from what is kept, measured when asked."""

from __future__ import annotations

from collections.abc import Callable

import flatlab as fl

from .. import figures
from ..data import FederatedDataset
from ..geometry.kept_results import recalled, remember
from ..jobs import Job
from ..personalization import Personalization
from ..training import Run
from .chart import ChartView, StillChart
from .panel import Panel

Subject = tuple[FederatedDataset, Run | None, int | None]  # whose clients, in which run and round


def deal(view: ChartView | StillChart, panel: Panel, subject: Callable[[], Subject]) -> None:
    """Have the clients of a chart answer clicks; a panel measures for them."""
    if isinstance(view, StillChart):
        return

    def fill(client: int) -> None:
        card, images = figures.client_card(subject()[0], client, *subject()[1:])
        view.send({"kind": "card", **card}, images)

    def measure(client: int) -> None:
        _, run, round = subject()
        if run is None:
            return

        def work(job: Job) -> None:
            known = recalled(run.directory).get(Personalization)
            if known is not None and known.frame["client"].nunique() > 1:  # as the others were tuned, and when
                at, tuning = known.about["round"], known.about["tuning"]
            else:
                at, tuning = round, {}
            remember(run, fl.personalize(run, **tuning, round=at, clients=[client], progress=job.report))
            if job.report(1, 1) and not run.experiment.task.dense:
                remember(run, fl.corrected(run, [client], **tuning, round=at))

        panel.compute(work, lambda _: fill(client), f"client {client}")

    acts = {"card": fill, "measure": measure}
    view.clicked = lambda kind, client: panel.guarded(lambda: acts[kind](client))
