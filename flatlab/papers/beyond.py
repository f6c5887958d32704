"""What readers compare beyond the mean: spread and worst clients, differences paired by seed, and what a level cost."""

from __future__ import annotations

import math

from ..later import pd
from ..personalization.comparison import reached, scores
from ..statistics import Interval, difference, interval
from ..training import Experiment
from .archive import Archive
from .costs import megabytes_a_round, samples_a_round
from .filled import FilledCell, FilledTable, markdown, short


def beyond(filled: FilledTable, archive: Archive) -> pd.DataFrame:
    """A row a cell that has a number: std over clients and worst tenth, difference to the column's first row, rounds,
    samples and megabytes until the holdout accuracy is the highest that all runs of the column reach.

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
        row["against the first row"] = "" if cell is column[0] else _gap(column[0], cell)
        if frozenset(run.id for run in runs) not in told:
            told.add(frozenset(run.id for run in runs))
            level = min(curves[run.id]["value"].max() for c in column for run in c.cell.experiments if run.id in curves)
            row |= _cost(runs, curves, level)
        rows.append(row)
    frame = pd.DataFrame(rows).fillna("")
    return frame.loc[:, [name for name in frame if name in ("", "column") or (frame[name] != "").any()]]


def section(filled: FilledTable, archive: Archive) -> str:
    """The same as Markdown, to stand below the table; nothing if there is nothing to say."""
    frame = beyond(filled, archive)
    return "\n".join(["#### Beyond the mean", "", *markdown(frame), ""]) if len(frame.columns) > 2 else ""


def _curves(filled: FilledTable, archive: Archive) -> dict[str, pd.DataFrame]:
    """Holdout accuracy by round, of every kept run that has a global model."""
    runs = {run.id: run for cell in filled.cells for run in cell.cell.experiments if archive.has(run)}
    curves = {id: scores(archive.history(run)) for id, run in runs.items()}
    return {id: curve for id, curve in curves.items() if len(curve)}


def _clients(cell: FilledCell) -> dict[str, str]:
    names = {"std over clients": "spread", "worst tenth": "worst"}
    values = {name: 100 * cell.over(what) for name, what in names.items()}
    return {name: "" if math.isnan(value) else f"{short(value)} %" for name, value in values.items()}


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


def _cost(runs: list[Experiment], curves: dict[str, pd.DataFrame], level: float) -> dict[str, str]:
    """Means over the seeds that reach the level."""
    rounds = {run: reached(curves[run.id], level) for run in runs}
    came = [run for run, number in rounds.items() if not math.isnan(number)]
    if not came:
        return {}
    samples = interval(rounds[run] * samples_a_round(run) for run in came).mean
    sent = interval(rounds[run] * megabytes_a_round(run) for run in came).mean
    return {
        "level": f"{100 * level:.1f} %",
        "rounds": f"{interval(rounds[run] for run in came).mean:.4g}",
        "samples": f"{samples / 1e6:.3g} M",
        "megabytes": f"{sent:.4g}",
    }
