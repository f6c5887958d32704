"""Curves of runs and of personalization: accuracy against rounds, accuracy against fine-tuning epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..personalization import Comparison, Headless, Personalization
from ..personalization.finetune import as_runs
from ..training import Run
from .style import COLUMN, PAGE, Drawing, figure, line_style


def draw_runs(runs: Run | Sequence[Run]) -> Drawing:
    """Holdout accuracy and loss against rounds."""
    runs = as_runs(runs)
    fig = figure(PAGE, 2.4)
    accuracy, loss = fig.subplots(1, 2)
    _rounds(accuracy, runs, "accuracy")
    _rounds(loss, runs, "loss")
    accuracy.legend()
    return fig


def draw_personalization(result: Personalization) -> Drawing:
    """Mean accuracy over clients after each epoch, with a band of one standard deviation over clients."""
    fig = figure(COLUMN + 0.5, 2.4)
    _epochs(fig.subplots(), result)
    return fig


def draw_table(result: Comparison) -> Drawing:
    """Holdout, initial and personalized accuracy of every run; bars are one standard deviation over clients."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    frame, places = result.frame, np.arange(len(result.frame))
    for shift, name, marker in ((-0.15, "initial", "o"), (0.15, "personalized", "D")):
        spread = 100 * frame[f"{name} std"]
        axes.errorbar(places + shift, 100 * frame[name], spread, fmt=marker, markersize=4, capsize=2, label=name)
    axes.plot(places, 100 * frame["holdout"], "k_", markersize=12, label="holdout")
    axes.set_xticks(places, frame["method"])
    axes.set(ylabel="accuracy (%)")
    axes.legend()
    return fig


def draw_comparison(runs: Sequence[Run], result: Personalization) -> Drawing:
    """Both: accuracy while training, and personalization after it."""
    fig = figure(PAGE, 2.6)
    left, right = fig.subplots(1, 2)
    _rounds(left, list(runs), "accuracy")
    _epochs(right, result)
    left.legend(loc="lower right")
    return fig


def draw_headless(result: Headless) -> Drawing:
    """Template accuracy of every client, a strip a run, with the mean."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    taken: list[str] = []
    for place, (_, mine) in enumerate(result.frame.groupby("run", sort=False)):
        name = mine["name"].iloc[0]
        colour = line_style(name, taken)["color"]
        axes.plot([place] * len(mine), 100 * mine["accuracy"], "o", color=colour, alpha=0.4, markersize=3)
        axes.plot([place - 0.25, place + 0.25], [100 * mine["accuracy"].mean()] * 2, color=colour)
        taken.append(name)
    axes.set_xticks(range(len(taken)), taken)
    axes.set(ylabel="headless accuracy of a client (%)")
    return fig


def _rounds(axes: Axes, runs: list[Run], metric: str) -> None:
    taken: list[str] = []
    for run in runs:
        history = run.history
        mine = history[(history["split"] == "holdout") & (history["metric"] == metric)]
        scale, own = (100 if metric == "accuracy" else 1), ""
        if mine.empty:  # every client has a model of its own: show their mean
            tests = history[(history["split"] == "test") & (history["metric"] == metric)]
            mine = tests.groupby("round", as_index=False)["value"].mean()
            own = " (mean of the clients' own)"
        marker = "o" if len(mine) < 2 else None
        style = line_style(run.name, taken)
        axes.plot(mine["round"], scale * mine["value"], label=_label(run, runs) + own, marker=marker, **style)
        taken.append(run.name)
    unit = " (%)" if metric == "accuracy" else ""
    axes.set(xlabel="round", ylabel=f"holdout {metric}{unit}", xlim=(0, max(run.rounds for run in runs)))


def _epochs(axes: Axes, result: Personalization) -> None:
    curve = result.curve()
    taken: list[str] = []
    groups = curve.groupby(["run", "round"], sort=False)
    single = curve["name"].nunique() == groups.ngroups
    for (_, round), mine in groups:
        name = mine["name"].iloc[0]
        label = name if single else f"{name}, seed {mine['seed'].iloc[0]}, round {round}"
        style = line_style(name, taken)
        mean, std = 100 * mine["mean"], 100 * mine["std"]
        axes.plot(mine["epoch"], mean, label=label, **style)
        axes.fill_between(
            mine["epoch"], mean - std, (mean + std).clip(upper=100), alpha=0.15, color=style["color"], lw=0
        )
        taken.append(name)
    clients = int(pd.Series(curve["clients"]).max())
    tuned = result.about["tuning"]
    axes.set(xlabel="fine-tuning epoch", ylabel="accuracy on own test set (%)")
    axes.set_title(f"mean ± std over {clients} clients; tuned: {tuned['train']}, lr {tuned['lr']:g}", fontsize=7)
    axes.legend(loc="lower right")


def _label(run: Run, runs: list[Run]) -> str:
    alone = sum(other.name == run.name for other in runs) == 1
    return run.name if alone else f"{run.name}, {run.id.rsplit('-', 1)[-1][:4]}"
