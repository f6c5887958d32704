"""Who gains from fine-tuning: initial against personalized accuracy of every client, and how gains are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from ..arguments import checked
from ..later import pd
from ..personalization import Personalization
from .landscape import note
from .style import COLUMN, PAGE, Drawing, figure, line_style, paper_style


@paper_style()
@checked
def draw_gains(result: Personalization, view: Literal["gains", "histogram", "scatter"] = "gains") -> Drawing:
    """Each client's accuracy before and after fine-tuning, coloured by run.

    Args:
        result: what `personalize` measured.
        view: "histogram" of the gains, "scatter" of personalized against initial accuracy, or "gains": both.

    Raises:
        ValueError: if the view is unknown.
    """
    both = view == "gains"
    fig = figure(PAGE if both else COLUMN + 0.5, 2.6)
    axes = list(fig.subplots(1, 2 if both else 1, squeeze=False)[0])
    groups = gains_by_run(result)
    if view != "scatter":
        _histogram(axes[0], groups)
    if view != "histogram":
        _scatter(axes[-1], groups)
    tuned = result.about["tuning"]
    for axis in axes:
        axis.legend()
        axis.set_title(
            f"{result.about['epochs']} epochs; tuned: {tuned.get('part', tuned.get('train'))}, lr {tuned['lr']:g}",
            fontsize=7,
        )
    note_clients(fig, result.about.get("lone", {}), max((left for *_, left in groups.values()), default=0))
    return fig


def note_clients(fig: Drawing, lone: Mapping[str, Sequence[int]], left_out: int) -> None:
    """Small print on clients whose accuracy says nothing or is missing; nothing if there are none.

    Args:
        fig: below which to write.
        lone: by run, clients whose score rests on a batch of one image, see `training.lone`.
        left_out: clients without a finite accuracy.
    """
    said = []
    if alone := len({client for clients in lone.values() for client in clients}):
        said.append(f"{alone} clients rest on a batch of one image, of which batch statistics say nothing.")
    if left_out:
        said.append(f"{left_out} clients are left out: they have no finite accuracy.")
    if said:
        note(fig, " ".join(said))


def gains_by_run(result: Personalization) -> dict[str, tuple[str, pd.DataFrame, int]]:
    """By label: the run's name, initial and personalized accuracy of every client in percent, how many lack them."""
    groups = result.frame.groupby(["run", "round"], sort=False)
    single = result.frame["name"].nunique() == groups.ngroups
    found: dict[str, tuple[str, pd.DataFrame, int]] = {}
    for (_, at), mine in groups:
        name, seed = mine["name"].iloc[0], mine["seed"].iloc[0]
        ends = [mine[mine["epoch"] == epoch].set_index("client")["accuracy"] for epoch in (0, mine["epoch"].max())]
        table = 100 * pd.concat(ends, axis=1, keys=["initial", "personalized"])
        whole = np.isfinite(table).all(axis=1)
        label = name if single else f"{name}, seed {seed}, round {at}"
        label = label if label not in found else f"{label} ({len(found) + 1})"
        found[label] = (name, table[whole], int((~whole).sum()))
    return found


def _histogram(axis: Axes, groups: dict[str, tuple[str, pd.DataFrame, int]]) -> None:
    gains = {label: table["personalized"] - table["initial"] for label, (_, table, _) in groups.items()}
    every = pd.concat(list(gains.values())) if gains else pd.Series(dtype=float)
    edges = np.histogram_bin_edges(every, bins=min(20, max(5, len(every) // 3))).tolist()
    taken: list[str] = []
    for (label, mine), (name, *_) in zip(gains.items(), groups.values(), strict=True):
        style = line_style(name, taken)
        taken.append(name)
        axis.hist(mine, edges, histtype="stepfilled", alpha=0.25, color=style["color"])
        axis.hist(mine, edges, histtype="step", label=f"{label}: mean {mine.mean():.1f}", **style)
    axis.axvline(0, color="0.6", lw=0.6)
    axis.set(xlabel="gain from fine-tuning (points)", ylabel="clients")


def _scatter(axis: Axes, groups: dict[str, tuple[str, pd.DataFrame, int]]) -> None:
    taken: list[str] = []
    for place, (label, (name, table, _)) in enumerate(groups.items()):
        colour = line_style(name, taken)["color"]
        taken.append(name)
        gain = (table["personalized"] > table["initial"]).sum()
        label = f"{label}: {gain} of {len(table)} gain"
        axis.plot(
            table["initial"], table["personalized"], "os^D"[place % 4], ms=4, alpha=0.7, color=colour, label=label
        )
    axis.plot([0, 100], [0, 100], color="0.6", lw=0.6)
    axis.set(xlabel="initial accuracy (%)", ylabel="personalized accuracy (%)", xlim=(-2, 102), ylim=(-2, 102))
