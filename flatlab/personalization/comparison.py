"""One table over methods: global accuracy, initial and personalized accuracy, with their spread over clients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..arguments import checked
from ..declare import SettingError
from ..results import Result
from ..training import Run
from .finetune import Personalization, as_runs


@dataclass(frozen=True)
class Comparison(Result):
    """A row a run, accuracies as shares: holdout is on the global test set, after `scored` rounds; the others are means
    over clients, each on its own test set, with their population standard deviations; `left_out` counts the clients
    that have no accuracy.

    Initial is before fine-tuning, personalized after it. Personal is the initial accuracy where each client has a model
    of its own (FedPer, FedRep, LG-FedAvg, Ditto, ...), NaN where all begin with the global one.
    """

    def summary(self) -> pd.DataFrame:
        """The table in percent, as mean ± spread over clients."""
        frame = self.frame
        table = frame[["method", "seed", "round"]].copy()
        scored, left_out = frame.get("scored", frame["round"]), frame.get("left_out", 0)  # not in older files
        late = scored != frame["round"]
        table["holdout %"] = [
            "none" if pd.isna(value) else f"{100 * value:.2f}" + (f" (round {at:.0f})" if other else "")
            for value, at, other in zip(frame["holdout"], scored, late, strict=True)
        ]
        for name in ("initial", "personal", "personalized"):
            if name not in frame or frame[name].isna().all():  # an older file; nobody has models of his own
                continue
            pairs = zip(frame[name], frame[f"{name} std"], strict=True)
            table[f"{name} %"] = [
                "none" if pd.isna(mean) else f"{100 * mean:.2f} ± {100 * std:.2f}" for mean, std in pairs
            ]
        return table.assign(**{"clients": frame["clients"], "left out": left_out, "run": frame["run"]})


@checked
def compare(runs: Run | Iterable[Run], personalization: Personalization) -> Comparison:
    """Put the holdout accuracy of each run beside what fine-tuning gives its clients, at the round that was tuned.

    Args:
        runs: finished runs.
        personalization: of the same runs, from `personalize`. The holdout accuracy is that of the last scored round up
            to the one that was tuned; `scored` says which.

    Raises:
        SettingError: if a run was not personalized.
    """
    rows = []
    table = personalization.summary()
    for run in as_runs(runs):
        found = row_of(run, table)
        history = run.history
        scores = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")]
        scores = scores[(scores["round"] <= found["round"]) & np.isfinite(scores["value"])]
        own = bool(run.kept) or run.experiment.algorithm.personalizes
        rows.append(
            {
                "method": run.name,
                "seed": run.experiment.seed,
                "holdout": scores["value"].iloc[-1] if len(scores) else float("nan"),
                "scored": scores["round"].iloc[-1] if len(scores) else float("nan"),
                **found[["round", "initial", "initial std"]],
                "personal": found["initial"] if own else float("nan"),
                "personal std": found["initial std"] if own else float("nan"),
                **found[["personalized", "personalized std", "clients", "left_out"]],
                "run": run.id,
            }
        )
    return Comparison(pd.DataFrame(rows), personalization.about)


def row_of(run: Run, table: pd.DataFrame) -> pd.Series:
    """The row of a run in a summary of personalizations: at its own round if it is there at several.

    Raises:
        SettingError: if there is none.
    """
    mine = table[table["run"] == run.id]
    if mine.empty:
        raise SettingError("personalization", allowed=f"holds nothing of {run.id}; personalize the same runs")
    here = mine[mine["round"] == run.round]
    return (mine if here.empty else here).iloc[-1]
