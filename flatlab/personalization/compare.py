"""One table over methods: global accuracy, initial and personalized accuracy, with their spread over clients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from ..results import Result
from ..training import Run
from .finetune import Personalization, as_runs, spread


@dataclass(frozen=True)
class Comparison(Result):
    """A row a run. Accuracies are labelled: holdout is the global test set; initial and personalized are means ±
    population standard deviation over clients, in percent, each on its own test set.
    """


def compare(runs: Run | Iterable[Run], personalization: Personalization) -> Comparison:
    """Put the last holdout accuracy of each run beside what fine-tuning gives its clients.

    Args:
        runs: finished runs.
        personalization: of the same runs, from `personalize`.
    """
    rows = []
    frame = personalization.frame
    for run in as_runs(runs):
        history = run.history
        holdout = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")]["value"]
        mine = frame[frame["run"] == run.id]
        rows.append(
            {
                "method": run.name,
                "seed": run.experiment.seed,
                "rounds": run.round,
                "holdout %": f"{100 * holdout.iloc[-1]:.2f}" if len(holdout) else "none",
                "initial %": spread(mine[mine["epoch"] == 0]["accuracy"]),
                "personalized %": spread(mine[mine["epoch"] == mine["epoch"].max()]["accuracy"]),
                "clients": mine["client"].nunique(),
                "run": run.id,
            }
        )
    return Comparison(pd.DataFrame(rows), personalization.about)
