"""Who gains from fine-tuning: initial against personalized accuracy of every client, and how gains are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from ..arguments import checked
from ..later import pd
from ..personalization import Personalization
from ..results import counted, either
from ..training.run_names import seedless_label
from .chart import Array, Numbers
from .style import COLUMN, PAGE, Drawing, figure, line_styles, paper_style, plain, whole


@paper_style()
@checked
def draw_gains(
    result: Personalization, view: Literal["gains", "histogram", "scatter", "accuracies"] = "gains"
) -> Drawing:
    """Each client's accuracy before and after fine-tuning, coloured by run.

    Args:
        result: what `personalize` measured.
        view: "histogram" of the gains, "scatter" of personalized against initial accuracy, or "gains": both;
            "accuracies": histograms of the accuracies before and after, a panel a run on common axes.

    Raises:
        ValueError: if the view is unknown.
    """
    groups = gains_by_run(result)
    both = view == "gains" or (view == "accuracies" and len(groups) > 1)
    rows, across = (-(-len(groups) // 2) if view == "accuracies" else 1), 1 + both
    fig = figure(PAGE if both else COLUMN + 0.5, 0.8 + 1.8 * rows)
    axes = list(
        fig.subplots(rows, across, squeeze=False, sharex=view == "accuracies", sharey=view == "accuracies").ravel()
    )
    if view in ("gains", "histogram"):
        _histogram(axes[0], groups)
    if view in ("gains", "scatter"):
        _scatter(axes[-1], groups)
    if view == "accuracies":
        _before_and_after(axes, groups)
    if view != "accuracies":  # whose panels say it each
        fig.name_above()
    fig.caption = f"The clients of all seeds together; {how_tuned(result)}"
    note_clients(fig, result.about.get("lone", {}), max((left for _, left in groups.values()), default=0))
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
        who = counted(alone, "client", "rests", "rest")
        said.append(f"{who} on a batch of one image, of which batch statistics say nothing.")
    if left_out:
        said.append(f"{counted(left_out, 'client', 'is', 'are')} left out: no finite accuracy.")
    if said:
        fig.caption = " ".join([fig.caption, *said]).strip()


def how_tuned(result: Personalization) -> str:
    """What was tuned, and how, for small print."""
    tuned = result.about["tuning"]
    part = tuned.get("part", tuned.get("train"))
    return f"{counted(result.about['epochs'], 'epoch')}; tuned: {part}, lr {tuned['lr']:g}.{how_chosen(result.about)}"


def how_chosen(about: Mapping[str, Any]) -> str:
    """That the rounds are those of the best test accuracy, if they are: such numbers flatter."""
    return " Rounds chosen by test accuracy." if about.get("best") else ""


def by_label(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of runs that differ in nothing but their seeds, by their common label; others apart."""
    frame = frame.assign(label=frame["name"].map(seedless_label))
    if "round" in frame and (frame.groupby("label")["round"].nunique() > 1).any():
        frame["label"] += ", round " + frame["round"].astype(str)
    runs = frame.groupby(["label", "seed"])["run"].transform("nunique")
    frame["label"] += np.where(runs.groupby(frame["label"]).transform("max") > 1, ", " + frame["run"].str[-4:], "")
    return dict(list(frame.groupby("label", sort=False)))


class MeanCurve(NamedTuple):
    """Percents by epoch: a mean, its standard deviation, and over what that is."""

    epochs: Array
    mean: Array
    std: Array
    over: str

    @property
    def band(self) -> tuple[Array, Array]:
        """One deviation below and above, as far as there are percents."""
        return np.clip(self.mean - self.std, 0, 100), np.clip(self.mean + self.std, 0, 100)


def mean_curves(result: Personalization) -> dict[str, MeanCurve]:
    """By label the mean over clients, and over the seeds where there are several; the deviation is over the last."""
    curves = {}
    for label, seeds in by_label(result.curve()).items():
        means = seeds.pivot_table(index="epoch", columns="run", values="mean", sort=False, dropna=False)
        several = means.shape[1] > 1
        std = (means.std(axis=1) if several else seeds["std"]).to_numpy(np.float64)
        over = f"{means.shape[1]} seeds" if several else f"{int(seeds['clients'].max())} clients"
        mean = means.mean(axis=1).to_numpy(np.float64)
        curves[label] = MeanCurve(means.index.to_numpy(np.float64), 100 * mean, 100 * std, over)
    return curves


def over_what(curves: Mapping[str, MeanCurve]) -> str:
    """What the deviations of all curves are over, in words."""
    return either(curve.over for curve in curves.values())


Groups = dict[str, tuple[pd.DataFrame, int]]


def gains_by_run(result: Personalization) -> Groups:
    """By label: initial and personalized accuracy of every client in percent, and how many lack them."""
    groups: Groups = {}
    for label, own in by_label(result.frame).items():
        ends = [
            own[own["epoch"] == epoch].set_index(["run", "client"])["accuracy"] for epoch in (0, own["epoch"].max())
        ]
        table = 100 * pd.concat(ends, axis=1, keys=["initial", "personalized"])
        finite = np.isfinite(table).all(axis=1)
        groups[label] = (table[finite], int((~finite).sum()))
    return groups


def gain_edges(gains: Numbers | pd.Series) -> Array:
    """Edges of the bars of a histogram of gains: few where there are few."""
    return np.histogram_bin_edges(gains, bins=min(20, max(5, len(gains) // 3)))


def _named(label: str, table: pd.DataFrame) -> str:
    gains = table["personalized"] - table["initial"]
    return f"{plain(label)}: mean {gains.mean():.1f}, {(gains > 0).sum()} of {len(table)} gain"


def _histogram(axis: Axes, groups: Groups) -> None:
    gains = {label: table["personalized"] - table["initial"] for label, (table, _) in groups.items()}
    every = pd.concat(list(gains.values())) if gains else pd.Series(dtype=float)
    edges = gain_edges(every).tolist()
    for (label, own), style in zip(gains.items(), line_styles(gains), strict=True):
        axis.hist(own, edges, histtype="stepfilled", alpha=0.1, color=style["color"])
        axis.hist(own, edges, histtype="step", label=_named(label, groups[label][0]), **style)
    axis.axvline(0, color="0.6", lw=0.6)
    axis.set(xlabel="gain from fine-tuning (points)", ylabel="clients")
    whole(axis.yaxis)


def _before_and_after(axes: list[Axes], groups: Groups) -> None:
    bins = np.linspace(0, 100, 21)
    for axis, (label, (table, _)), style in zip(axes, groups.items(), line_styles(groups), strict=False):
        for name, look in (
            ("initial", {"color": "0.35", "ls": "--", "zorder": 3}),
            ("personalized", {"color": style["color"]}),
        ):
            axis.hist(
                table[name], bins.tolist(), histtype="step", label=f"{name}: mean {table[name].mean():.1f}", **look
            )
        axis.set_title(plain(label))
        axis.set(xlabel="accuracy of a client (%)", ylabel="clients")
        axis.legend(loc="best")
        whole(axis.yaxis)
    for axis in axes[len(groups) :]:
        axis.set_visible(False)


def _scatter(axis: Axes, groups: Groups) -> None:
    for place, ((label, (table, _)), style) in enumerate(zip(groups.items(), line_styles(groups), strict=True)):
        mark = "os^Dv<>P"[place % 8]
        ends = table["initial"], table["personalized"]
        axis.plot(*ends, mark, ms=3.5, alpha=0.6, color=style["color"], label=_named(label, table))
    axis.plot([0, 100], [0, 100], color="0.6", lw=0.6)
    axis.set(xlabel="initial accuracy (%)", ylabel="personalized accuracy (%)", xlim=(-2, 102), ylim=(-2, 102))
