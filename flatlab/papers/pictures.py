"""Figures of the papers from what is kept: tidy frames and results, handed to `flatlab.figures`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import figures
from ..geometry import Landscape
from ..training import Experiment
from .archive import Archive
from .statistics import interval
from .tables import Figure

SEEDS = "band: 95 % t interval over seeds"


def picture(figure: Figure, archive: Archive) -> Any:
    """The drawing of a figure; None if nothing of it is kept yet."""
    missing = _missing(figure, archive)
    if figure.kind in ("curves", "tuning"):
        frame = curves(figure, archive) if figure.kind == "curves" else tuning(figure, archive)
        if frame.empty:
            return None
        axes = ("round", "holdout accuracy (%)") if figure.kind == "curves" else ("tuning epoch", "accuracy (%)")
        return figures.draw_series(frame, *axes, figure.title, SEEDS + missing)
    if figure.kind == "clients":
        frame = clients(figure, archive)
        labels = ("round", "accuracy on own test set (%)")
        return None if frame.empty else figures.draw_bundles(frame, *labels, figure.title, f"a line a client{missing}")
    found = _results(figure, archive)
    if not found:
        return None
    if figure.kind == "client_eigenvalues":
        labels = ("round", "λ₁ of a client's model")
        caption = f"band: 95 % t interval over the round's clients; first seed{missing}"
        return figures.draw_series(client_eigenvalues(found), *labels, figure.title, caption)
    return figures.draw(found if figure.kind == "spectrum" else _one_scale(found))


def save(figure: Figure, archive: Archive, folder: Path) -> list[Path]:
    """Draw a figure as PNG and PDF; no files if nothing of it is kept."""
    drawing = picture(figure, archive)
    if drawing is None:
        return []
    with figures.paper_style():
        return figures.save(drawing, folder / f"{figure.id}.png")


def curves(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Accuracy in percent against rounds: series, x, mean, low, high over seeds."""
    found = []
    for name, group in figure.series.items():
        for experiment in group:
            if archive.has(experiment):
                history = archive.history(experiment)
                rows = history[(history["split"] == figure.split) & (history["metric"] == "accuracy")]
                values = rows.groupby("round")["value"].mean()
                found.append(pd.DataFrame({"series": name, "x": values.index, "value": 100 * values.to_numpy()}))
    return _banded(found)


def tuning(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Accuracy in percent against tuning epochs: series, x, mean, low, high over seeds."""
    found = []
    for name, group in figure.series.items():
        for experiment in group:
            result = _kept(figure, archive, experiment)
            if result is not None:
                values = result.frame.groupby("epoch")["accuracy"].mean()
                found.append(pd.DataFrame({"series": name, "x": values.index, "value": 100 * values.to_numpy()}))
    return _banded(found)


def clients(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Each client's accuracy in percent on its own test set: series, client, x, value."""
    found = []
    for name, group in figure.series.items():
        for experiment in group[:1]:
            if archive.has(experiment):
                history = archive.history(experiment)
                rows = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
                own = {"series": name, "client": rows["client"], "x": rows["round"], "value": 100 * rows["value"]}
                found.append(pd.DataFrame(own))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["series", "client", "x", "value"])


def client_eigenvalues(found: Mapping[str, Any]) -> pd.DataFrame:
    """Largest eigenvalue of the participants' models against rounds: series, x, mean, low, high over clients."""
    parts = []
    for name, result in found.items():
        rows = result.frame[result.frame["quantity"] == "lambda_1"]
        parts.append(pd.DataFrame({"series": name, "x": rows["round"], "value": rows["value"]}))
    return _banded(parts)


def _banded(found: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["series", "x", "mean", "low", "high"]
    if not found:
        return pd.DataFrame(columns=columns)
    rows = []
    for (name, x), values in pd.concat(found).groupby(["series", "x"], sort=False)["value"]:
        over = interval(values)
        rows.append((name, x, over.mean, over.low, over.high))
    return pd.DataFrame(rows, columns=columns)


def _kept(figure: Figure, archive: Archive, *experiments: Experiment) -> Any:
    assert figure.measurement is not None
    return archive.measured(figure.measurement, experiments)


def _results(figure: Figure, archive: Archive) -> dict[str, Any]:
    """What was measured, by series; of several together under one name."""
    shown = figure.shown()
    if figure.together:
        result = _kept(figure, archive, *(experiment for group in shown.values() for experiment in group))
        return {} if result is None else {"": result}
    found = {name: _kept(figure, archive, group[0]) for name, group in shown.items()}
    return {name: result for name, result in found.items() if result is not None}


def _one_scale(found: Mapping[str, Any]) -> Any:
    """Several landscapes of one panel as one of several panels, so that they share their colours."""
    first = next(iter(found.values()))
    if len(found) == 1 or not isinstance(first, Landscape):
        return first
    frame = pd.concat([result.frame.assign(panel=name) for name, result in found.items()], ignore_index=True)
    return Landscape(frame, {**first.about, "panels": list(found)})


def _missing(figure: Figure, archive: Archive) -> str:
    runs = figure.experiments()
    count = sum(not archive.has(run) for run in runs.values())
    return f"; NOT COMPLETE: {count} of {len(runs)} runs are missing" if count else ""
