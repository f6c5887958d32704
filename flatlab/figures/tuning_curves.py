"""Curves of personalization: accuracy against fine-tuning epochs, and what comes of it run by run."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from ..arguments import checked
from ..later import pd
from ..personalization import Comparison, Headless, Personalization
from ..results import spread
from .gains import draw_gains, note_clients
from .style import COLUMN, Drawing, figure, line_style


@checked
def draw_personalization(
    result: Personalization, view: Literal["curves", "gains", "histogram", "scatter"] = "curves"
) -> Drawing:
    """Mean accuracy over clients after each epoch, with a band of one standard deviation over clients.

    Args:
        result: what `personalize` measured.
        view: "curves"; or of `draw_gains` "gains", "histogram" or "scatter".
    """
    if view != "curves":
        return draw_gains(result, view)
    fig = figure(COLUMN + 0.5, 2.4)
    _epochs(fig.subplots(), result)
    note_clients(fig, result.about.get("lone", {}), _left_out(result))
    return fig


def draw_table(result: Comparison) -> Drawing:
    """Holdout, initial, personal, personalized accuracy of every run; bars: one standard deviation over clients."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    frame, places = result.frame, np.arange(len(result.frame))
    for shift, name, marker in ((-0.15, "initial", "o"), (0, "personal", "s"), (0.15, "personalized", "D")):
        if name not in frame or frame[name].isna().all():
            continue
        spread = 100 * frame[f"{name} std"]
        axes.errorbar(places + shift, 100 * frame[name], spread, fmt=marker, markersize=4, capsize=2, label=name)
    axes.plot(places, 100 * frame["holdout"], "k_", markersize=12, label="holdout")
    axes.set_xticks(places, frame["method"])
    axes.set(ylabel="accuracy (%)")
    axes.legend()
    note_clients(fig, result.about.get("lone", {}), int(frame.get("left_out", pd.Series([0])).max()))
    return fig


def draw_headless(result: Headless) -> Drawing:
    """Template accuracy of every client, a strip a run, with the mean."""
    fig = figure(COLUMN + 0.5, 2.4)
    axes = fig.subplots()
    taken: list[str] = []
    left_out = 0
    for place, (_, mine) in enumerate(result.frame.groupby("run", sort=False)):
        name = mine["name"].iloc[0]
        colour = line_style(name, taken)["color"]
        axes.plot([place] * len(mine), 100 * mine["accuracy"], "o", color=colour, alpha=0.4, markersize=3)
        over = spread(mine["accuracy"])
        axes.plot([place - 0.25, place + 0.25], [100 * over.mean] * 2, color=colour)
        left_out = max(left_out, over.left_out)
        taken.append(name)
    axes.set_xticks(range(len(taken)), taken)
    axes.set(ylabel="headless accuracy of a client (%)")
    note_clients(fig, result.about.get("lone", {}), left_out)
    return fig


def _left_out(result: Personalization) -> int:
    return int(result.curve()["left_out"].max())


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
    clients = int(curve["clients"].max())
    tuned = result.about["tuning"]
    axes.set(xlabel="fine-tuning epoch", ylabel="accuracy on own test set (%)")
    axes.set_title(
        f"mean ± std over {clients} clients; tuned: {tuned.get('part', tuned.get('train'))}, lr {tuned['lr']:g}",
        fontsize=7,
    )
    axes.legend(loc="lower right")
