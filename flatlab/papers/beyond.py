"""What readers compare beyond the mean: spread and worst clients, differences paired by seed, and what a level cost."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..later import pd
from ..personalization.comparison import reached, scores
from ..statistics import Interval, difference, interval
from ..training import Experiment
from .archive import Archive
from .costs import megabytes_a_round, samples_a_round
from .filled import FilledCell, FilledTable, markdown, short
from .tables import Cell

MEANING = (
    "Means over seeds; differences and ratios (×) are paired by seed, with their 95 % t interval, in points where"
    " they are of shares. Level: the highest holdout accuracy that all runs of the column reach, and what"
    " it took until then: all clients of a round together, what is sent both ways."
)


def beyond(filled: FilledTable, archive: Archive) -> pd.DataFrame:
    """A row a cell that has a number: std over clients and worst tenth, difference to the row that it is compared with
    (the column's first, or the one of its own setting), rounds, samples and megabytes until the holdout accuracy is the
    highest that all runs of the column reach.

    Columns without a word in them are left out; runs that a row shares with an earlier column have their cost there.
    """
    rows, told = [], set()
    curves = _curves(filled, archive)
    for cell in filled.cells:
        if not cell.mean.n:
            continue
        column = [other for other in filled.cells if other.cell.column == cell.cell.column]
        runs = [run for run in cell.cell.experiments if run.id in curves]
        row = {"": cell.cell.row, "column": cell.cell.column, **_clients(cell)}
        row["against"] = _against(cell, column)
        if runs and frozenset(run.id for run in runs) not in told:
            told.add(frozenset(run.id for run in runs))
            level = min(curves[run.id]["value"].max() for c in column for run in c.cell.experiments if run.id in curves)
            row |= _cost(cell.cell, runs, curves, level)
        rows.append(row)
    frame = pd.DataFrame(rows).fillna("")
    return frame.loc[:, [name for name in frame if name in ("", "column") or (frame[name] != "").any()]]


def section(filled: FilledTable, archive: Archive) -> str:
    """The same as Markdown, to stand below the table; nothing if there is nothing to say."""
    frame = beyond(filled, archive)
    return "\n".join(["#### Beyond the mean", "", *markdown(frame), "", MEANING, ""]) if len(frame.columns) > 2 else ""


def _curves(filled: FilledTable, archive: Archive) -> dict[str, pd.DataFrame]:
    """Holdout accuracy by round, of every kept run that has a global model."""
    runs = {run.id: run for cell in filled.cells for run in cell.cell.experiments if archive.has(run)}
    curves = {id: scores(archive.history(run)) for id, run in runs.items()}
    return {id: curve for id, curve in curves.items() if len(curve)}


def _clients(cell: FilledCell) -> dict[str, str]:
    names = {"std over clients": "spread", "worst tenth": "worst"}
    values = {name: 100 * cell.over(what) for name, what in names.items()}
    return {name: "" if math.isnan(value) else f"{short(value)} %" for name, value in values.items()}


def _against(cell: FilledCell, column: list[FilledCell]) -> str:
    """The difference to the row that a cell names, or to the first of its column, with that row's name."""
    base = next((other for other in column if other.cell.row == cell.cell.against), column[0])
    told = "" if base.cell.row == cell.cell.row else _gap(base, cell)
    return f"{base.cell.row}: {told}" if told else ""


def _gap(first: FilledCell, cell: FilledCell) -> str:
    """The difference to another cell, or the ratio of what is compared by it, with its interval."""
    ratio = cell.cell.quantity.ratio
    gap: Interval = difference(_known(cell), _known(first), log=ratio)
    if not gap.n:
        return ""
    known, seeds = not math.isnan(gap.half), f"{gap.n} seed{'s' if gap.n > 1 else ''}"
    if ratio:
        span = f" ({math.exp(gap.low):.3g} to {math.exp(gap.high):.3g})" if known else ""
        return f"× {math.exp(gap.mean):.3g}{span}, {seeds}"
    factor = cell.cell.quantity.factor
    half = f" ± {short(factor * gap.half)}" if known else ""
    return f"{'+' if gap.mean >= 0 else ''}{short(factor * gap.mean)}{half}, {seeds}"


def _known(cell: FilledCell) -> dict[int, float]:
    return {seed: value for seed, value in cell.numbers.items() if math.isfinite(value)}


def _cost(cell: Cell, runs: list[Experiment], curves: dict[str, pd.DataFrame], level: float) -> dict[str, str]:
    """Means over the seeds that reach the level."""
    rounds = {run: reached(curves[run.id], level) for run in runs}
    came = [run for run, number in rounds.items() if not math.isnan(number)]
    if not came:
        return {}
    samples, sent = (
        interval(_until(rounds[run], run, cell.parents, each) for run in came).mean
        for each in (samples_a_round, megabytes_a_round)
    )
    return {
        "level": f"{100 * level:.1f} %",
        "rounds": f"{interval(rounds[run] for run in came).mean:.4g}",
        "samples": f"{samples / 1e6:.3g} M",
        "megabytes": f"{sent:.4g}",
    }


def _until(
    rounds: float, run: Experiment, parents: tuple[Experiment, ...], each: Callable[[Experiment], float]
) -> float:
    """What so many rounds took; a fork's first ones are its parent's."""
    parent = next((other for other in parents if run.parent is not None and other.id == run.parent.run), None)
    before = 0.0 if parent is None or run.parent is None else min(rounds, run.parent.round)
    return (rounds - before) * each(run) + (before * each(parent) if parent is not None else 0.0)
