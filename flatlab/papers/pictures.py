"""Figures of the papers from what is kept: tidy frames and results, handed to `flatlab.figures`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import figures
from ..geometry import Landscape
from ..later import pd
from ..results import spread, whole_clients
from ..statistics import interval
from ..training import Experiment
from .archive import Archive
from .tables import Figure, trained_on

SEEDS = "band: 95 % t interval over seeds"
BANDS = 4  # more of them cover each other

APART = 1.5  # losses whose ratio is larger are very different


def picture(figure: Figure, archive: Archive) -> Any:
    """The drawing of a figure; None if nothing of it is kept yet."""
    make = _FRAMES.get(figure.kind)
    if make is None:
        results = _results(figure, archive)
        return _measured(figure, archive, results) if results else None
    frame = make.frame(figure, archive)
    if frame.empty:
        return None
    about, count = make.caption, frame["series"].nunique()
    if count > BANDS and {"low", "high"} <= set(frame):
        frame = frame.assign(low=np.nan, high=np.nan)
        about = f"means; bands of {count} series would cover each other: intervals stand in the table"
    caption = f"{about}{_missing(figure, archive)}{_left_out(frame)}; trained on {trained_on(figure)}"
    draw = figures.draw_bundles if figure.kind == "clients" else figures.draw_series
    pooled = all(run.algorithm.pooled and run.algorithm.epochs == 1 for run in figure.experiments().values())
    return draw(frame, "epoch" if pooled and make.x == "round" else make.x, make.y, figure.title, caption)


def save(figure: Figure, archive: Archive, folder: Path) -> list[Path]:
    """Draw a figure as PNG and PDF; no files if nothing of it is kept."""
    drawing = picture(figure, archive)
    if drawing is None:
        return []
    with figures.paper_style():
        return figures.save(drawing, folder / f"{figure.id}.png")


def curves(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Accuracy in percent against rounds: series, x, mean, low, high over seeds, left_out."""
    parts = []
    for name, group in figure.series.items():
        for experiment in group:
            if archive.has(experiment):
                history = archive.history(experiment)
                rows = history[(history["split"] == figure.split) & (history["metric"] == "accuracy")]
                parts.append(_percent(name, rows, "round", "value"))
    return _banded(parts)


def tuning(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Accuracy in percent against tuning epochs: series, x, mean, low, high over seeds, left_out."""
    parts = []
    for name, group in figure.series.items():
        for experiment in group:
            result = _kept(figure, archive, experiment)
            if result is not None:
                rows = result.frame.assign(accuracy=whole_clients(result.frame, "accuracy"))
                parts.append(_percent(name, rows, "epoch", "accuracy"))
    return _banded(parts)


def clients(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Each client's accuracy in percent on its own test set: series, client, x, value, left_out."""
    parts = []
    for name, group in figure.series.items():
        for experiment in group[:1]:
            if archive.has(experiment):
                history = archive.history(experiment)
                rows = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
                own = {"series": name, "client": rows["client"], "x": rows["round"], "value": 100 * rows["value"]}
                parts.append(pd.DataFrame(own).assign(left_out=(~np.isfinite(rows["value"])).astype(int)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["series", "client", "x", "value"])


def client_eigenvalues(figure: Figure, archive: Archive) -> pd.DataFrame:
    """Largest eigenvalue of the participants' models against rounds: as `curves`, over the clients of a round."""
    parts = []
    for name, result in _results(figure, archive).items():
        rows = result.frame[result.frame["quantity"] == "lambda_1"]
        parts.append(pd.DataFrame({"series": name, "x": rows["round"], "value": rows["value"], "left_out": 0}))
    return _banded(parts)


class _Axes(NamedTuple):
    """How a kind of figure gets its frame, and what its axes and caption say."""

    frame: Callable[[Figure, Archive], pd.DataFrame]
    x: str
    y: str
    caption: str


_FRAMES = {
    "curves": _Axes(curves, "round", "holdout accuracy (%)", SEEDS),
    "tuning": _Axes(tuning, "tuning epoch", "accuracy on own test sets (%)", SEEDS),
    "clients": _Axes(clients, "round", "accuracy on own test set (%)", "a line a client, their mean black; first seed"),
    "client_eigenvalues": _Axes(
        client_eigenvalues, "round", "λ₁ of the Hessian, a client's model",
        "band: 95 % t interval over the round's clients; first seed",
    ),
}  # fmt: skip


def _percent(name: str, rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The mean of the finite values at each x, in percent, and how many others there are."""
    points = [(name, at, *spread(values)) for at, values in rows.groupby(x)[y]]
    frame = pd.DataFrame(points, columns=["series", "x", "value", "std", "number", "left_out"])
    return frame.assign(value=100 * frame["value"])


def _banded(parts: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["series", "x", "mean", "low", "high", "left_out"]
    if not parts:
        return pd.DataFrame(columns=columns)
    rows = []
    for (name, x), values in pd.concat(parts).groupby(["series", "x"], sort=False):
        over = interval(values["value"])
        rows.append((name, x, over.mean, over.low, over.high, max(over.left_out, int(values["left_out"].sum()))))
    return pd.DataFrame(rows, columns=columns)


def _left_out(frame: pd.DataFrame) -> str:
    count = int(frame["left_out"].sum())
    return f"; {count} VALUES ARE NO FINITE NUMBERS, or of clients that have such, and are left out" if count else ""


def _kept(figure: Figure, archive: Archive, *experiments: Experiment) -> Any:
    assert figure.measurement is not None
    return archive.measured(figure.measurement, experiments)


def _results(figure: Figure, archive: Archive) -> dict[str, Any]:
    """What was measured, by series; of several together under one name."""
    shown = figure.shown()
    if figure.together:
        result = _kept(figure, archive, *(experiment for group in shown.values() for experiment in group))
        return {} if result is None else {"": result}
    results = {name: _kept(figure, archive, group[0]) for name, group in shown.items()}
    return {name: result for name, result in results.items() if result is not None}


def _measured(figure: Figure, archive: Archive, results: dict[str, Any]) -> Any:
    """Results as they draw themselves, under the figure's title."""
    shown: Any = results if figure.kind == "spectrum" else _one_scale(results)
    apart, columns = "", {}
    if isinstance(shown, Landscape):
        apart = _apart(shown)
        columns = {"columns": 2 if len(shown.about["panels"]) == 4 else 3}
    drawing = figures.draw(shown, title=figure.title, **columns)  # type: ignore[arg-type]
    said = f"Runs of the first seed, trained on {trained_on(figure)}{_missing(figure, archive)}."
    drawing.caption = f"{drawing.caption} {apart}{said}".strip()
    return drawing


def _apart(planes: Landscape) -> str:
    """A warning where the models' losses are far apart: those of marks, or in the middle of the panels."""
    frame = planes.frame
    marked = frame[frame["series"] == "models"]
    losses = (marked if len(marked) else frame[(frame["x"].abs() + frame["y"].abs()) < 1e-9])["loss"]
    low, high = losses.min(), losses.max()
    told = (
        f"Losses of the models: {low:.2f} to {high:.2f}; curvature at very different losses says little of flatness. "
    )
    return told if high > APART * low else ""


def _one_scale(results: Mapping[str, Any]) -> Any:
    """Several landscapes of one panel as one of several panels, so that they share their colours."""
    first = next(iter(results.values()))
    if len(results) == 1 or not isinstance(first, Landscape):
        return first
    frame = pd.concat([result.frame.assign(panel=name) for name, result in results.items()], ignore_index=True)
    ranges = [result.about["range"] for result in results.values()]
    every = ranges[0] if all(one == ranges[0] for one in ranges) else []
    return Landscape(frame, {**first.about, "panels": list(results), "range": every})


def _missing(figure: Figure, archive: Archive) -> str:
    told = lacking(figure, archive)
    return f"; NOT COMPLETE: {told}" if told else ""


def lacking(figure: Figure, archive: Archive) -> str:
    """What of a figure is not kept, in words; "" if nothing."""
    runs, needed = figure.experiments(), list(figure.measurements())
    absent = sum(not archive.has(run) for run in runs.values())
    open = sum(not archive.has_measured(*asked) and all(map(archive.has, asked[1])) for asked in needed)
    told = [f"{absent} of {len(runs)} runs are missing"] if absent else []
    return ", ".join([*told, *([f"{open} of {len(needed)} measurements were not made"] if open else [])])
