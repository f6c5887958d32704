"""What a landscape shows in the browser: each panel's grid, axes and marks as JSON takes them, and the words below."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..files import json_cell
from ..geometry.landscape_result import Landscape, overflown
from ..later import pd
from .landscape import axis_name, caption


def landscape_view(result: Landscape) -> tuple[list[dict[str, Any]], bytes, str]:
    """What the browser shows: the panels, their grids, and the caption.

    The grids are float32, little end first, panel by panel: loss [ny, nx], then accuracy [ny, nx].
    """
    names = result.about["panels"]
    grids = [result.surface(name, value)[2] for name in names for value in ("loss", "accuracy")]
    packed = b"".join(np.asarray(grid, "<f4").tobytes() for grid in grids)
    return [landscape_panel(result, name) for name in names], packed, landscape_caption(result)


def landscape_panel(result: Landscape, name: str) -> dict[str, Any]:
    """A panel but for its values: name, nx, ny, x and y (their ends), axes (their names), marks."""
    xs, ys, _ = result.surface(name)
    marks = result.marks(name)
    marks = marks[["series", "name", "x", "y", "loss", "accuracy", "residual"]].assign(round=mark_rounds(result, marks))
    return {
        "name": name,
        "nx": len(xs),
        "ny": len(ys),
        "x": [float(xs[0]), float(xs[-1])],
        "y": [float(ys[0]), float(ys[-1])],
        "axes": [axis_name(result.about, name, axis) for axis in (0, 1)],
        "marks": [{key: json_cell(cell) for key, cell in mark.items()} for mark in marks.to_dict("records")],
    }


def mark_rounds(result: Landscape, marks: pd.DataFrame) -> pd.Series:
    """The round of each mark on a way and of each client; NaN of others, and where an earlier version did not say."""
    moves = marks["series"].isin(["trajectory", "clients"])
    rounds = marks["name"].str.extract(r"\bround (\d+)$")[0].astype(float).where(moves)
    alone = result.about.get("clients", [])
    return rounds.mask(marks["series"] == "clients", alone[0]) if len(alone) == 1 else rounds


def clients_at(result: Landscape, round: int | None) -> Landscape:
    """A landscape of whose clients those of one round are left: of the nearest to `round`; None: of the last."""
    rounds = mark_rounds(result, result.frame)[result.frame["series"] == "clients"].dropna()
    if rounds.empty:
        return result
    shown = rounds.max() if round is None else min(sorted(set(rounds)), key=lambda number: abs(number - round))
    return replace(result, frame=result.frame.drop(rounds.index[rounds != shown]).reset_index(drop=True))


def landscape_caption(result: Landscape) -> str:
    """What was measured, what is grey, and why marked models lie on the centre of a random plane, if they do."""
    lost, every = int(overflown(result.surfaces).sum()), len(result.surfaces)
    said = f"{caption(result.about)} Grey: not measured, or not finite ({lost} of {every})."
    marks = result.frame[~result.frame["series"].isin(["surface", "models"])]
    reach = 0.1 * max(abs(end) for axis in result.about["range"] for end in axis)
    if result.about["directions"] != "random" or marks.empty or (marks[["x", "y"]].abs() > reach).any(axis=None):
        return said
    return said + (
        " Random directions are nearly at right angles to the way from one model to another: marked models lie by the"
        ' centre, and far off this plane (point at one). Directions "pca" or "plane" show them apart.'
    )
