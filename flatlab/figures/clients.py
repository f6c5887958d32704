"""One round's cohort: what the sampled clients hold, how well their training went, how far they drifted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from ..arguments import Count, Whole, checked
from ..declare import SettingError
from ..geometry import Sharpness
from ..later import pd
from ..personalization import Personalization
from ..training import Run
from .colors import NAMED, class_colors
from .paths import LABELS
from .style import PAGE, Drawing, class_labels, figure, line_style, paper_style, plain, whole


@checked
def cohort_table(run: Run, round: Count | None = None, scored: Personalization | None = None) -> pd.DataFrame:
    """The clients sampled in a round, as the history has them; a row each.

    Args:
        run: whose.
        round: from 1; None is the latest.
        scored: what `personalize(run, epochs=0)` found at this round: initial accuracy where the history has none.

    Returns:
        client, samples and classes (of its train set), loss (mean training loss), drift (distance moved by its trained
        part), initial (accuracy on its own test set after the round; NaN if clients were not scored then); where an
        aggregation decides whom it hears, weight; where clients lie, bad (1: it attacked in this round).

    Raises:
        SettingError: if the history does not have the round.
    """
    round = run.round if round is None else round
    table = cohorts(run, scored, round)
    counts = class_counts_of(run, table["client"])
    table = table.assign(samples=counts.sum(1), classes=(counts > 0).sum(1))
    table = table[table["round"] == round]
    attack = [name for name in ("weight", "bad") if name in table and table[name].notna().any()]
    return table[["client", "samples", "classes", "loss", "drift", "initial", *attack]].reset_index(drop=True)


def cohorts(run: Run, scored: Personalization | None, round: int) -> pd.DataFrame:
    """As `cohort_table`, of all rounds, with a column `round`; `scored` is of the round named, which must be there."""
    history = run.history
    trained = history[(history["split"] == "train") & (history["client"] >= 0)]
    if round not in set(trained["round"]):
        raise SettingError("round", round, f"{run.name} has rounds 1 to {run.round} on record")
    keys = ["round", "client"]
    table = trained.pivot(index=keys, columns="metric", values="value").rename_axis(columns=None)
    tested = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
    table = table.assign(initial=tested.set_index(keys)["value"].reindex(table.index)).reset_index()
    if scored is not None:
        first = scored.frame[scored.frame["epoch"] == 0].set_index("client")["accuracy"]
        table["initial"] = table["initial"].fillna(table["client"].map(first).where(table["round"] == round))
    return table


def class_counts_of(run: Run, clients: pd.Series | pd.Index) -> np.ndarray:
    """Train images of each class, int [clients, classes]; pooled training has one client, which holds all."""
    counts = run.data.class_counts("train")
    return (
        counts.sum(0)[None].repeat(len(clients), 0) if run.experiment.algorithm.pooled else counts[clients.to_numpy()]
    )


@paper_style()
@checked
def draw_cohort(
    run: Run,
    round: Count | None = None,
    client: Whole | None = None,
    scored: Personalization | None = None,
    tuned: Personalization | None = None,
    sharp: Sequence[Sharpness] = (),
) -> Drawing:
    """A round's sampled clients, a bar each: class mix, local loss, drift, initial accuracy.

    Args:
        run: whose round.
        round: from 1; None is the latest.
        client: draw this one in full colour, and below the bars what is known of it.
        scored: what `personalize(run, epochs=0)` found at this round: initial accuracy where the history has none.
        tuned: what `personalize` found of `client`.
        sharp: what `sharpness` found of the global model on clients' own samples.

    Raises:
        SettingError: if the history does not have the round.
    """
    table = cohort_table(run, round, scored)
    if client is None:
        fig = figure(PAGE, 2.6)
        _bars(fig, run, table, None)
    else:
        fig = figure(PAGE, 4.6)
        (above,), (below,) = fig.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))
        _bars(above, run, table, client)
        _one_client(below, run, client, tuned, sharp)
    shown = run.round if round is None else round
    fig.suptitle(f"{plain(run.name)}, round {shown}: {len(table)} of {run.data.clients} clients", fontsize=8)
    return fig


def _bars(fig: Drawing | SubFigure, run: Run, table: pd.DataFrame, client: int | None) -> None:
    heard = "weight" in table
    widths = (2.2, *[1] * (3 + heard))
    panels = fig.subplots(1, len(widths), sharey=True, gridspec_kw={"width_ratios": widths})
    places = range(len(table))
    _classes(panels[0], run, table)
    colour = line_style(run.name, [])["color"]
    chosen = client in table["client"].tolist()
    faint = [0.35 if chosen and who != client else 1.0 for who in table["client"]]
    for axis, (name, label, factor) in zip(
        panels[1:],
        (
            ("loss", "training loss", 1),
            ("drift", "drift (L2)", 1),
            ("initial", "initial accuracy (%)", 100),
            *([("weight", "weight", 1)] if heard else []),
        ),
        strict=True,
    ):
        bars = axis.barh(places, factor * table[name], color=colour)
        for bar, alpha in zip(bars, faint, strict=True):
            bar.set_alpha(alpha)
        axis.set_xlabel(label)
        if table[name].isna().all():
            axis.text(
                0.5, 0.5, "not scored\nin this round", ha="center", va="center", transform=axis.transAxes, fontsize=7
            )
    panels[3].set_xlim(0, 100)
    every = -(-len(table) // 20)
    bad = table.get("bad", pd.Series(0, table.index))
    names = [f"bad: {client}" if lies else str(client) for client, lies in zip(table["client"], bad, strict=True)]
    panels[0].set_yticks(list(places)[::every], names[::every])
    panels[0].invert_yaxis()
    panels[0].set_ylabel("client")


def _classes(axis: Axes, run: Run, table: pd.DataFrame) -> None:
    data, counts = run.data, class_counts_of(run, table["client"])
    kinds = len(data.label_names)
    few = kinds <= NAMED
    colours = class_colors(kinds)
    left, names = 0 * counts[:, 0], class_labels(data.label_names)
    for label in range(kinds):
        name = names[label] if few else None
        axis.barh(range(len(table)), counts[:, label], left=left, color=colours[label], label=name, lw=0)
        left = left + counts[:, label]
    axis.set_xlabel("train images by class")
    if few:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.04), fontsize=5.5, handlelength=0.8, labelspacing=0.2)


def _one_client(
    fig: SubFigure, run: Run, client: int, tuned: Personalization | None, sharp: Sequence[Sharpness], hint: str = ""
) -> None:
    curves = None if tuned is None else tuned.frame[tuned.frame["client"] == client]
    rows = pd.concat([sharpness.frame for sharpness in sharp]) if sharp else pd.DataFrame({"measure": []})
    measures = list(dict.fromkeys(rows["measure"]))
    panels = fig.subplots(1, 1 + max(1, len(measures)), gridspec_kw={"width_ratios": (2, *[1] * max(1, len(measures)))})
    colour = line_style(run.name, [])["color"]
    if curves is None or curves["epoch"].nunique() < 2:
        _missing(panels[0], hint or "not fine-tuned yet")
    else:
        panels[0].plot(curves["epoch"], 100 * curves["accuracy"], marker="o", ms=3, color=colour)
    whole(panels[0].xaxis)
    panels[0].set(xlabel="fine-tuning epoch", ylabel=f"accuracy of client {client} (%)", ylim=(-2, 102))
    if not measures:
        _missing(panels[1], hint or "sharpness not measured yet")
        panels[1].set_axis_off()
        return
    panels[1].set_ylabel("sharpness on own samples")
    for axis, measure in zip(panels[1:], measures, strict=True):
        own = rows[rows["measure"] == measure].sort_values("client")
        places = range(len(own))
        axis.errorbar(places, own["value"], own["error"].fillna(0), fmt="none", ecolor="0.6", lw=0.8)
        axis.scatter(places, own["value"], s=14, color=[colour if who == client else "0.6" for who in own["client"]])
        axis.set_xticks(places, own["client"])
        axis.set(xlabel="client", xlim=(-0.6, len(own) - 0.4))
        finite = own.loc[np.isfinite(own["value"]), "value"]
        low, high = min([0, *finite]), max([0, *finite])
        axis.set_ylim(1.2 * low, 1.2 * high or 1)
        axis.set_title(LABELS[measure], fontsize=7)


@paper_style()
def draw_client(
    run: Run, client: int, tuned: Personalization | None, sharp: Sequence[Sharpness] = (), hint: str = ""
) -> Drawing:
    """What is known of one client, as `draw_cohort` has it below the bars; `hint` stands where nothing is known."""
    fig = figure(PAGE, 2.1)
    ((below,),) = fig.subfigures(1, 1, squeeze=False)
    _one_client(below, run, client, tuned, sharp, hint)
    return fig


def _missing(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, fontsize=7, color="0.4")
