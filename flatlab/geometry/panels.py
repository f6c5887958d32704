"""What a landscape shows: the panels, their planes and grids, and the models marked on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..declare import SettingError
from .directions import eigen_plane, plane_through, random_plane, trajectory_plane
from .grid import Grid
from .inputs import buffers_of, model_of, need_run, vector_of
from .objective import Target
from .plane import Plane, window
from .settings import LandscapeSettings


class Mark(NamedTuple):
    """A model to be shown on a plane: the series it belongs to, its name, its weights `[parameters]`, and what it keeps
    besides them (running statistics).
    """

    series: str
    name: str
    weights: Tensor
    buffers: Mapping[str, Tensor] = {}


@dataclass
class Panel:
    """One surface to be measured; `rows` are the marks done so far."""

    name: str
    direction: int
    target: Target
    plane: Plane
    grid: Grid
    marks: list[Mark]
    rows: list[dict[str, Any]] = field(default_factory=list)


def grid(settings: LandscapeSettings, span: float) -> Grid:
    """Axes from -span to span."""
    half = settings.size // 2
    return Grid(*[(np.arange(settings.size) - half) * (span / half)] * settings.dimensions)


def grid_around(settings: LandscapeSettings, places: NDArray[Any]) -> Grid:
    """Axes that show the `places [marks, 2]`, if no span is asked for."""
    if settings.span is not None:
        return grid(settings, settings.span)
    low, high = places[:, : settings.dimensions].min(0), places[:, : settings.dimensions].max(0)
    widths = high - low
    more = np.maximum(widths.max() / 2 - widths, 0) / 2  # no axis is shorter than half the other
    ends = zip(low - more, high + more, strict=True)
    return Grid(*(window(*pair, settings.size) for pair in ends))


def marks(
    subjects: Mapping[str, Any],
    targets: Mapping[str, Target],
    settings: LandscapeSettings,
    clients: Sequence[int],
    markers: Mapping[str, Any],
) -> dict[str, list[Mark]]:
    """By subject, what is shown with it: its checkpoints, its clients' models of the rounds `clients`, and markers."""
    shown = {}
    for name, subject in subjects.items():
        target, several = targets[name], []
        if settings.trajectory or settings.directions == "pca":
            several += [
                ("trajectory", f"round {kept}", model_of(subject, kept, "global", settings.client))
                for kept in need_run(subject).checkpoints
            ]
        for at in clients:
            try:
                trained = need_run(subject).clients(at)
            except SettingError as error:
                raise SettingError("clients", at, error.problems[0].allowed) from error
            own = need_run(subject).round if settings.round is None else settings.round
            when = f", round {at}" if len(clients) > 1 or at != own else ""
            several += [("clients", f"client {client}{when}", model) for client, model in trained.items()]
        for label, marker in markers.items():
            if not isinstance(marker, nn.Module):
                marker = model_of(need_run(marker), settings.round, settings.which, settings.client)
            several.append(("markers", str(label), marker))
        shown[name] = [
            Mark(series, label, vector_of(target, model, label), buffers_of(target, model))
            for series, label, model in several
        ]
    return shown


def panels(targets: Mapping[str, Target], shown: Mapping[str, list[Mark]], settings: LandscapeSettings) -> list[Panel]:
    """A panel for each model (and repeated line) around its own weights; one for all where the plane joins them."""
    if settings.directions in ("random", "eigen", "own-eigen"):
        span = settings.span or (1.0 if settings.directions == "random" else 0.5)
        return [
            Panel(name, index, targets[name], plane, grid(settings, span), shown[name])
            for name, several in _planes_apart(targets, settings).items()
            for index, plane in enumerate(several)
        ]
    first = next(iter(targets.values()))
    centres = {name: vector_of(first, target.model, name) for name, target in targets.items()}
    all_marks = [
        Mark("models", name, weights, buffers_of(first, targets[name].model)) for name, weights in centres.items()
    ]
    for name, several in shown.items():
        own = [mark for mark in several if mark.series != "markers"]
        all_marks += [mark if len(shown) == 1 else mark._replace(name=f"{name}, {mark.name}") for mark in own]
    all_marks += [mark for mark in next(iter(shown.values()), []) if mark.series == "markers"]  # the same for all
    plane = _plane_for_all(first, centres, shown, settings)
    places = np.array([plane.project(mark.weights)[:2] for mark in all_marks])
    return [Panel(" · ".join(targets), 0, first, plane, grid_around(settings, places), all_marks)]


def _planes_apart(targets: Mapping[str, Target], settings: LandscapeSettings) -> dict[str, list[Plane]]:
    if settings.directions == "random":
        draws = range(settings.repeats)
        return {
            name: [random_plane(target, settings.dimensions, settings.seed, index) for index in draws]
            for name, target in targets.items()
        }
    if settings.directions == "own-eigen":
        return {name: [eigen_plane(target, settings.dimensions, settings.seed)] for name, target in targets.items()}
    (first_name, first), *others = targets.items()
    plane = eigen_plane(first, settings.dimensions, settings.seed)
    moved = {
        name: [dataclasses.replace(plane, origin=vector_of(first, target.model, name), eigenvalues=())]
        for name, target in others
    }
    return {first_name: [plane], **moved}


def _plane_for_all(
    first: Target, centres: Mapping[str, Tensor], shown: Mapping[str, list[Mark]], settings: LandscapeSettings
) -> Plane:
    if settings.directions in ("pca", "plane") and first.part != "all":
        raise SettingError("part", first.part, f"directions={settings.directions!r} join whole models; use part='all'")
    if isinstance(settings.directions, Plane):
        settings.directions.check(first.size)
        return settings.directions
    if settings.directions == "plane":
        if len(centres) != 3:
            raise SettingError("models", len(centres), "a plane goes through exactly 3")
        return plane_through(*centres.values())
    ways = {name: [mark.weights for mark in several if mark.series == "trajectory"] for name, several in shown.items()}
    short = [f"{name} has {len(way)}" for name, way in ways.items() if len(way) < 3]
    if short:
        raise SettingError("checkpoints", allowed=f"principal components need at least 3 of a run; {', '.join(short)}")
    every = [weights for way in ways.values() for weights in way]
    return trajectory_plane(every, next(iter(centres.values())), settings.dimensions)
