"""What differs between runs, as a table of words: results as far as they are measured, and settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..later import pd
from ..personalization import Personalization
from ..personalization.comparison import row_of
from ..results import Result, spread
from ..training import Run, flattened
from .hessian_results import Eigenvalues

NONE = "–"


def differences(
    runs: list[Run], personalized: Personalization | None = None, hessians: Sequence[Result] = ()
) -> pd.DataFrame:
    """Results of runs, and the settings in which they differ, as text: `what`, then a column for each run.

    Args:
        runs: to compare.
        personalized: what `personalize` found of them, if it was asked.
        hessians: of each run what was measured of its Hessian; only eigenvalues are looked at.
    """
    settings = [{".".join(path): value for path, value in flattened(run.experiment.to_dict()).items()} for run in runs]
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    texts = [[name, *(_text(of_run.get(name, NONE)) for of_run in settings)] for name in names]
    results = [_results(run) for run in runs]
    rows = [[name, *(of_run[name] for of_run in results)] for name in results[0]]
    if personalized is not None:
        table = personalized.summary()
        tuned = [row_of(run, table)[["personalized", "personalized std", "left_out"]] for run in runs]
        rows.append(["personalized accuracy", *(_spread(*accuracy) for accuracy in tuned)])
    if hessians and all(isinstance(result, Eigenvalues) for result in hessians):
        tops = [result.frame.iloc[0] for result in hessians]
        rows.append(["top eigenvalue", *(f"{top['eigenvalue']:.4g} ± {top['error']:.1g} (numerical)" for top in tops)])
    rows += [row for row in texts if len(set(row[1:])) > 1]
    columns = [f"run{place}: {run.name}" for place, run in enumerate(runs, 1)]
    return pd.DataFrame(rows, columns=["what", *columns])


def _results(run: Run) -> dict[str, str]:
    history = run.history
    results = {"rounds done": f"{run.round} of {run.rounds}"}
    for name, split, metric in (
        ("holdout accuracy", "holdout", "accuracy"),
        ("holdout loss", "holdout", "loss"),
        ("initial accuracy", "test", "accuracy"),
    ):
        scores = history[(history["split"] == split) & (history["metric"] == metric)]
        last = scores[scores["round"] == scores["round"].max()]["value"]
        over = spread(last)
        if last.empty:
            results[name] = NONE
        elif split == "test":
            results[name] = _spread(over.mean, over.std, over.left_out)
        else:
            results[name] = f"{100 * last.item():.2f} %" if metric == "accuracy" else f"{last.item():.4g}"
    return results


def _spread(mean: float, std: float, left_out: int) -> str:
    told = f", {left_out} clients left out" if left_out else ""
    return (f"{100 * mean:.2f} ± {100 * std:.2f} %" if math.isfinite(mean) else NONE) + told


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
