"""One setting at several values: a small curve for each, and what the setting does to accuracy, gain and λ₁."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..geometry.kept_results import headline
from ..training import Run
from .chart import Axis, Chart, Plot, Series
from .histories import Histories
from .run_curves import METRICS

COLOR = "#0173b2"


def chart_multiples(name: str, values: Sequence[Any], runs: Sequence[Run], known: Histories) -> Chart:
    """The accuracy of each run against its rounds, a plot for each value, all on one scale."""
    curves = [known.curve(run, METRICS["accuracy"]) for run in runs]
    top = max([1.0, *(float(curve.means.max()) for curve in curves if len(curve.means))])
    plots = []
    for value, run, curve in zip(values, runs, curves, strict=True):
        series = Series(f"{name} {_said(value)}", COLOR, curve.rounds.astype(np.float64), curve.means, run=run.id)
        across = Axis("round", limits=(0.0, float(run.rounds)))
        plots.append(Plot((series,), across, Axis(f"{name} {_said(value)}: accuracy", "%", (0.0, 1.05 * top))))
    return Chart(tuple(plots))


def chart_against(name: str, values: Sequence[Any], runs: Sequence[Run], known: Histories) -> Chart:
    """The last accuracy, the gain from fine-tuning and the top eigenvalue against the setting, where they are known."""
    measured = [headline(run.directory, run.round) for run in runs]
    last = [known.curve(run, METRICS["accuracy"]).means for run in runs]
    axes = {
        Axis("holdout accuracy", "%"): [float(means[-1]) if len(means) else np.nan for means in last],
        Axis("gain from fine-tuning", "points"): [100 * numbers.get("gain", np.nan) for numbers in measured],
        Axis("λ₁"): [numbers.get("λ₁", np.nan) for numbers in measured],
    }
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    x = np.array(values if numbers else range(len(values)), np.float64)
    wide = numbers and x.min() > 0 and x.max() >= 10 * x.min()
    across = (
        Axis(name, log=bool(wide)) if numbers else Axis(", ".join(f"{k}: {_said(v)}" for k, v in enumerate(values)))
    )
    plots = []
    for axis, y in axes.items():
        there = np.isfinite(y)
        if there.any():
            order = np.argsort(x[there], kind="stable")
            line = Series(axis.label, COLOR, x[there][order], np.array(y)[there][order], role="values")
            plots.append(Plot((line,), across, axis))
    return Chart(tuple(plots))


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
