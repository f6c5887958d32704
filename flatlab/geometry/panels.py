"""What a landscape shows: the panels, their planes and grids, and the models marked on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import field_serializer, model_validator
from torch import Tensor, nn

from flatlab.arguments import Axis, Count, Positive, Settings, Whole
from flatlab.declare import SettingError, setting
from flatlab.geometry.directions import Plane, eigen_plane, plane_through, random_plane, trajectory_plane, window
from flatlab.geometry.grid import Grid
from flatlab.geometry.inputs import buffers_of, model_of, need_run, vector_of
from flatlab.geometry.objective import Target

Kind = Literal["random", "eigen", "own-eigen", "pca", "plane"]


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


class LandscapeSettings(Settings):
    """Where the points of a landscape lie, and which are measured. A `Plane` is written as its kind."""

    dimensions: Literal[1, 2] = setting(2, "1 (a line) or 2 (a plane)")
    directions: Kind | Plane = setting(
        "random",
        '"random" (one draw for all, filter-normalised to each model), "eigen" (Hessian eigenvectors of the first'
        ' model, for all), "own-eigen" (each model\'s own), "pca" (all runs\' checkpoints, one panel around the first'
        ' run\'s model), "plane" (through three models, one panel around the first), or a `Plane`',
    )
    points: Axis | None = setting(None, "on an axis, odd; 21 in a plane, 41 on a line by default")
    span: Positive | None = setting(
        None,
        "the axes reach from -span to span. By default 1 for random directions (units of filter length), 0.5 for"
        " eigenvectors (distance in weight space), else as far as the marked models need",
    )
    repeats: Count = setting(1, "how many random lines to measure, in one dimension; one line is one sample")
    refine: bool = setting(
        False, "measure a coarse grid, and finer points only where it bends; a spline gives the rest"
    )
    tolerance: Positive = setting(0.002, "largest error of that spline, as a share of the surface's range", log=True)
    trajectory: bool = setting(False, 'show each run\'s checkpoints on its panel (always with "pca")')
    seed: Whole = setting(0, "of the samples and directions")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.directions, Plane) and (self.directions.y is None) != (self.dimensions == 1):
            raise SettingError("dimensions", self.dimensions, "the plane given has another number of directions")
        if self.size % 2 == 0:
            raise SettingError("points", self.size, "an odd number, so that one is the model itself")
        if self.repeats != 1 and (self.dimensions == 2 or self.directions != "random"):
            raise SettingError("repeats", self.repeats, "1, or more for random lines (dimensions=1)")
        if self.directions == "plane" and self.dimensions == 1:
            allowed = "a plane through three models has 2; path(a, b) draws the line between two"
            raise SettingError("dimensions", 1, allowed)
        return self

    @field_serializer("directions")
    def _written(self, directions: Any) -> str:
        return directions.kind if isinstance(directions, Plane) else str(directions)

    @property
    def size(self) -> int:
        """Points on an axis."""
        return self.points or (21 if self.dimensions == 2 else 41)

    @property
    def key(self) -> dict[str, Any]:
        """What stands for them on files of landscapes: their names and order must not change."""
        spaced = {name: getattr(self, name) for name in ("span", "repeats", "seed")}
        named = {"directions": self.kind, "tolerance": self.tolerance if self.refine else None}
        return {"dimensions": self.dimensions, "points": self.size, **spaced, **named}

    @property
    def kind(self) -> str:
        """The directions in a word."""
        return self.directions.kind if isinstance(self.directions, Plane) else self.directions

    def grid(self, span: float) -> Grid:
        """Axes from -span to span."""
        return self._grid([self._axis(span)] * self.dimensions)

    def grid_around(self, places: NDArray[Any]) -> Grid:
        """Axes that show the `places [marks, 2]`, if no span is asked for."""
        if self.span is not None:
            return self.grid(self.span)
        low, high = places[:, : self.dimensions].min(0), places[:, : self.dimensions].max(0)
        widths = high - low
        more = np.maximum(widths.max() / 2 - widths, 0) / 2  # no axis is shorter than half the other
        return self._grid([window(*ends, self.size) for ends in zip(low - more, high + more, strict=True)])

    def _axis(self, span: float) -> NDArray[Any]:
        half = self.size // 2
        return (np.arange(self.size) - half) * (span / half)

    def _grid(self, axes: list[NDArray[Any]]) -> Grid:
        return Grid(axes[0], axes[1] if self.dimensions == 2 else np.zeros(1))


def marks(
    subjects: Mapping[str, Any],
    targets: Mapping[str, Target],
    clients: int | None,
    trajectory: bool,
    more: Mapping[str, nn.Module],
    client: int | None = None,
) -> dict[str, list[Mark]]:
    """By subject, what is shown with it: its checkpoints, its clients' models of a round, and what the user adds.

    `client` is whose checkpoints, where clients have models of their own.
    """
    found = {}
    for name, subject in subjects.items():
        target, several = targets[name], []
        if trajectory:
            several += [
                ("trajectory", f"round {kept}", model_of(subject, kept, "global", client))
                for kept in need_run(subject).checkpoints
            ]
        if clients is not None:
            several += [("clients", f"client {who}", one) for who, one in need_run(subject).clients(clients).items()]
        several += [("markers", str(label), model) for label, model in more.items()]
        found[name] = [
            Mark(series, label, vector_of(target, model, label), buffers_of(target, model))
            for series, label, model in several
        ]
    return found


def panels(targets: Mapping[str, Target], shown: Mapping[str, list[Mark]], layout: LandscapeSettings) -> list[Panel]:
    """A panel for each model (and repeated line) around its own weights; one for all where the plane joins them."""
    if layout.directions in ("random", "eigen", "own-eigen"):
        span = layout.span or (1.0 if layout.directions == "random" else 0.5)
        return [
            Panel(name, index, targets[name], plane, layout.grid(span), shown[name])
            for name, several in _planes_apart(targets, layout).items()
            for index, plane in enumerate(several)
        ]
    first = next(iter(targets.values()))
    centres = {name: vector_of(first, target.model, name) for name, target in targets.items()}
    all_marks = [
        Mark("models", name, weights, buffers_of(first, targets[name].model)) for name, weights in centres.items()
    ]
    for name, several in shown.items():
        all_marks += [mark if len(shown) == 1 else mark._replace(name=f"{name}, {mark.name}") for mark in several]
    plane = _plane_for_all(first, centres, shown, layout)
    places = np.array([plane.project(mark.weights)[:2] for mark in all_marks])
    return [Panel(" · ".join(targets), 0, first, plane, layout.grid_around(places), all_marks)]


def _planes_apart(targets: Mapping[str, Target], layout: LandscapeSettings) -> dict[str, list[Plane]]:
    if layout.directions == "random":
        draws = range(layout.repeats)
        return {
            name: [random_plane(target, layout.dimensions, layout.seed, index) for index in draws]
            for name, target in targets.items()
        }
    if layout.directions == "own-eigen":
        return {name: [eigen_plane(target, layout.dimensions, layout.seed)] for name, target in targets.items()}
    first_name, first = next(iter(targets.items()))
    plane = eigen_plane(first, layout.dimensions, layout.seed)
    moved = {
        name: dataclasses.replace(plane, origin=vector_of(first, target.model, name), eigenvalues=())
        for name, target in targets.items()
    }
    return {name: [plane if name == first_name else moved[name]] for name in targets}


def _plane_for_all(
    first: Target, centres: Mapping[str, Tensor], shown: Mapping[str, list[Mark]], layout: LandscapeSettings
) -> Plane:
    if layout.directions in ("pca", "plane") and first.part != "all":
        raise ValueError(f"part = {first.part!r}: directions={layout.directions!r} join whole models; use part='all'")
    if isinstance(layout.directions, Plane):
        if layout.directions.x.numel() != first.size:
            raise ValueError(f"directions: a plane of {layout.directions.x.numel()} parameters; {first.size} vary here")
        return layout.directions
    if layout.directions == "plane":
        if len(centres) != 3:
            raise ValueError(f"models = {len(centres)}: a plane goes through exactly 3")
        return plane_through(*centres.values())
    ways = {name: [mark.weights for mark in several if mark.series == "trajectory"] for name, several in shown.items()}
    short = [f"{name} has {len(way)}" for name, way in ways.items() if len(way) < 3]
    if short:
        raise ValueError(f"checkpoints: principal components need at least 3 of a run; {', '.join(short)}")
    every = [weights for way in ways.values() for weights in way]
    return trajectory_plane(every, next(iter(centres.values())), layout.dimensions)
