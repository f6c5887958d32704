"""Who gains from fine-tuning: initial against personalized accuracy of every client, and how gains are spread."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..personalization import Personalization
from .style import COLUMN, PAGE, Drawing, figure, line_style, paper_style

VIEWS = ("gains", "histogram", "scatter")


@paper_style()
def draw_gains(result: Personalization, view: str = "gains") -> Drawing:
    """Each client's accuracy before and after fine-tuning, coloured by run.

    Args:
        result: what `personalize` measured.
        view: "histogram" of the gains, "scatter" of personalized against initial accuracy, or "gains": both.

    Raises:
        ValueError: if the view is unknown.
    """
    if view not in VIEWS:
        raise ValueError(f"view = {view!r}: one of {', '.join(VIEWS)}")
    both = view == "gains"
    fig = figure(PAGE if both else COLUMN + 0.5, 2.6)
    axes = list(fig.subplots(1, 2 if both else 1, squeeze=False)[0])
    groups = _by_run(result)
    if view != "scatter":
        _histogram(axes[0], groups)
    if view != "histogram":
        _scatter(axes[-1], groups)
    tuned = result.about["tuning"]
    for axis in axes:
        axis.legend()
        axis.set_title(f"{result.about['epochs']} epochs; tuned: {tuned['train']}, lr {tuned['lr']:g}", fontsize=7)
    return fig


def _by_run(result: Personalization) -> dict[str, tuple[str, pd.DataFrame]]:
    """By label: the run's name, and of every client initial and personalized accuracy in percent."""
    groups = result.frame.groupby(["run", "round"], sort=False)
    single = result.frame["name"].nunique() == groups.ngroups
    found: dict[str, tuple[str, pd.DataFrame]] = {}
    for (_, at), mine in groups:
        name, seed = mine["name"].iloc[0], mine["seed"].iloc[0]
        table = 100 * mine.sort_values("epoch").groupby("client")["accuracy"].agg(initial="first", personalized="last")
        label = name if single else f"{name}, seed {seed}, round {at}"
        found[label if label not in found else f"{label} ({len(found) + 1})"] = (name, table)
    return found


def _histogram(axis: Axes, groups: dict[str, tuple[str, pd.DataFrame]]) -> None:
    gains = {label: table["personalized"] - table["initial"] for label, (_, table) in groups.items()}
    every = pd.concat(list(gains.values())) if gains else pd.Series(dtype=float)
    edges = np.histogram_bin_edges(every.dropna(), bins=min(20, max(5, len(every) // 3))).tolist()
    taken: list[str] = []
    for (label, mine), (name, _) in zip(gains.items(), groups.values(), strict=True):
        style = line_style(name, taken)
        taken.append(name)
        axis.hist(mine, edges, histtype="stepfilled", alpha=0.25, color=style["color"])
        axis.hist(mine, edges, histtype="step", label=f"{label}: mean {mine.mean():.1f}", **style)
    axis.axvline(0, color="0.6", lw=0.6)
    axis.set(xlabel="gain from fine-tuning (points)", ylabel="clients")


def _scatter(axis: Axes, groups: dict[str, tuple[str, pd.DataFrame]]) -> None:
    taken: list[str] = []
    for place, (label, (name, table)) in enumerate(groups.items()):
        colour = line_style(name, taken)["color"]
        taken.append(name)
        gain = (table["personalized"] > table["initial"]).sum()
        label = f"{label}: {gain} of {len(table)} gain"
        axis.plot(
            table["initial"], table["personalized"], "os^D"[place % 4], ms=4, alpha=0.7, color=colour, label=label
        )
    axis.plot([0, 100], [0, 100], color="0.6", lw=0.6)
    axis.set(xlabel="initial accuracy (%)", ylabel="personalized accuracy (%)", xlim=(-2, 102), ylim=(-2, 102))
