"""Loss landscapes: loss and accuracy on a line or plane of weights, for one model or several on one scale.

    landscape([babu, asam]).plot()                              # random directions, one panel a run
    landscape(asam, directions="eigen", dimensions=1).plot()    # along the Hessian's first eigenvector
    landscape([babu, asam], directions="pca").plot()            # the runs' ways, in their principal plane
    landscape({"global": a, "SWA": b, "client 3": c}, (images, labels), directions="plane")

Compared models share samples, draws, range and size of the grid. The weights themselves are always one of the points.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Count, with_settings
from ..later import pd
from ..models import frame
from ..streams import stream
from ..training.progress import Progress, gather
from ..training.threads import computing_with
from .evaluate_points import Points
from .grid import VALUES
from .inputs import named, targets
from .landscape_result import Landscape
from .landscape_store import Kept, fingerprint_of
from .panels import Panel, marks, panels
from .settings import LandscapeSettings

SAVE_SECONDS = 15.0
FEW, FEW_POINTS = 16, 5  # samples, and points on an axis, about, of the picture that is shown at once


@with_settings(LandscapeSettings)
@frame()
@computing_with(1)
def landscape(
    models: Any,
    data: Any = "holdout",
    *,
    settings: LandscapeSettings,
    markers: Mapping[str, Any] | None = None,
    clients: Count | Sequence[Count] | None = None,
    store: str | Path | bool = True,
    progress: Progress | None = None,
    watch: Callable[[Landscape], object] | None = None,
) -> Landscape:
    """Measure loss and accuracy on a line or plane through models.

    A point costs one forward pass over the samples, and is of the very function whose Hessian `hessian` measures. With
    batch statistics the samples are normalised in fixed batches. Running statistics of your own network stay as stored
    all over a surface, those of its model (of the first, where a plane joins several), and a mark has its own;
    `statistics="batch"` has every batch re-estimate them at every point instead.

    Args:
        models: a model, a run (its latest model), several of them, or a mapping from names to them.
        data: "holdout", "train", "test" or "unseen" of the first run; a FederatedDataset; or (images, labels).
        settings: made of the keyword arguments.
        markers: more models or runs to show on each panel, e.g. fine-tuned ones.
        clients: a round, or several, whose sampled clients' models are shown on their run's panel, trained again.
        store: where points are kept while and after they are measured, so that the same call goes on or returns at
            once: True is with the first run (bare models have no place), False nowhere, or a file.
        progress: called with the points done and their number (more than needed, with `refine`); False stops. None: a
            bar in a terminal.
        watch: called with what there is when all panels have come to a finer grid; between its points a guess stands.
            First with few points on few of the samples, as `about["sketch"]` tells.

    Returns:
        What was measured. After Ctrl-C or a stop `about["complete"]` is False and missing values are NaN.

    Raises:
        SettingError: naming what cannot be measured, and why.

    >>> len(fl.landscape(run, dimensions=1, points=5, limit=64, store=False).frame)
    5
    """
    subjects = named(models)
    objectives = targets(subjects, data, settings)
    rounds = [] if clients is None else list(dict.fromkeys(clients if isinstance(clients, Sequence) else [clients]))
    shown = marks(subjects, objectives, settings, rounds, markers or {})
    fingerprint = fingerprint_of(settings, objectives, shown)
    kept = Kept(store, subjects, fingerprint)
    if kept.begun is not None and kept.whole:
        return kept.begun
    surfaces = panels(objectives, shown, settings)
    if watch is not None and kept.begun is None and len(surfaces[0].target.labels) >= 4 * FEW:
        watch(_first_look(surfaces, settings))
    meters = _meters(surfaces, kept.begun.about["memory format"] if kept.begun is not None else None)
    about = {**settings.key, **_about(meters, surfaces), "models": list(objectives), "fingerprint": fingerprint}
    about |= {"clients": rounds} if rounds else {}
    kept.restore(surfaces)

    def parts() -> Iterator[list[object]]:
        """What is done; shown and kept now and then."""
        saved, level = time.monotonic(), _level(surfaces)
        for part in _measure(surfaces, meters, settings):
            yield part
            if watch is not None and level != (level := _level(surfaces)):
                watch(_result(surfaces, {**about, "complete": False, "sketch": "being measured, still coarse"}))
            if kept.path is not None and time.monotonic() - saved > SAVE_SECONDS:
                kept.keep(_result(surfaces, {**about, "complete": False}))
                saved = time.monotonic()

    total = sum(len(panel.marks) + panel.grid.measured.size for panel in surfaces)
    reason = f"the same call goes on from {kept.path}" if kept.path else "save(path) it and pass store=path to go on"
    _, complete = gather(parts(), total, "landscape", progress, len, reason)
    return kept.keep(_result(surfaces, {**about, "complete": complete}))


def _meters(surfaces: list[Panel], layout: str | None) -> dict[str, Points]:
    """What measures the points of each panel, all in the memory format given or that of the first."""
    meters: dict[str, Points] = {}
    for panel in surfaces:
        if panel.name not in meters:
            meters[panel.name] = Points(panel.target, layout=layout)
            layout = meters[panel.name].about["memory format"]
    return meters


def _measure(
    surfaces: list[Panel], meters: Mapping[str, Points], settings: LandscapeSettings
) -> Iterator[list[object]]:
    """Fill the panels, a few points at a time; yields what was done, first what was restored."""
    restored = sum(len(panel.rows) + int(panel.grid.measured.sum()) for panel in surfaces)
    if restored:
        yield ["restored"] * restored
    # In turns: all panels are there in a coarse form before one of them is made fine.
    turns = [_measure_panel(panel, meters[panel.name], settings) for panel in surfaces]
    while turns:
        for turn in list(turns):
            for part in turn:
                if not part:  # a level is whole
                    break
                yield part
            else:
                turns.remove(turn)


def _measure_panel(panel: Panel, meter: Points, settings: LandscapeSettings) -> Iterator[list[object]]:
    """Fill one panel; an empty list says that a level of its grid is whole."""
    plane, grid = panel.plane, panel.grid
    origin = meter.measure([plane.origin]).losses[0]
    for mark in panel.marks[len(panel.rows) :]:
        x, y, residual = plane.project(mark.weights)
        scores = meter.table([mark.weights], origin, mark.buffers)[0]
        panel.rows.append({"series": mark.series, "name": mark.name, "x": x, "y": y, "residual": residual, **scores})
        yield [mark.name]
    random = stream(settings.seed, "landscape checks", panel.name, panel.direction)
    for spots in grid.schedule(settings.tolerance if settings.refine else None, random):
        yield []
        for start in range(0, len(spots), meter.at_once):
            some = spots[start : start + meter.at_once]
            vectors = [plane.at(grid.xs[column], grid.ys[row]) for row, column in some]
            for spot, scores in zip(some, meter.table(vectors, origin), strict=True):
                grid.put(spot, scores)
            yield list(some)


def _first_look(surfaces: list[Panel], settings: LandscapeSettings) -> Landscape:
    """Few points of each panel on few of its samples, in a fraction of a second; kept nowhere."""
    every = len(surfaces[0].target.labels)
    some, looks = slice(None, None, every // FEW), []
    for panel in surfaces:
        few = replace(panel.target, images=panel.target.images[some], labels=panel.target.labels[some])
        looks.append(replace(panel, target=few, grid=panel.grid.thinned(FEW_POINTS), marks=[], rows=[]))
    meters = _meters(looks, None)
    for _ in _measure(looks, meters, settings):
        pass
    about = {**settings.key, **_about(meters, looks), "complete": False}
    return _result(looks, {**about, "sketch": f"a first look with {about['samples']} of {every} samples: all follow"})


def _level(surfaces: list[Panel]) -> float:
    """The coarsest level at which a panel is; infinite if one is not even there."""
    return max(panel.grid.level or math.inf for panel in surfaces)


def _result(surfaces: list[Panel], about: dict[str, Any]) -> Landscape:
    frames = []
    for panel in surfaces:
        ys, xs = np.meshgrid(panel.grid.ys, panel.grid.xs, indexing="ij")
        scores = panel.grid.sketch() if about.get("sketch") else panel.grid.scores
        values = {name: values.ravel() for name, values in scores.items()}
        measured = {"measured": panel.grid.measured.ravel(), "residual": 0.0}
        surface = pd.DataFrame(
            {"series": "surface", "name": "", "x": xs.ravel(), "y": ys.ravel(), **values, **measured}
        )
        marked = pd.DataFrame(panel.rows).assign(measured=True)
        frames += [part.assign(panel=panel.name, direction=panel.direction) for part in (surface, marked) if len(part)]
    columns = ["panel", "series", "name", "direction", "x", "y", *VALUES, "measured", "residual"]
    errors = {panel.name: panel.grid.error for panel in surfaces if panel.grid.error}
    return Landscape(pd.concat(frames, ignore_index=True)[columns], {**about, "spline_error": errors})


def _about(meters: Mapping[str, Points], surfaces: list[Panel]) -> dict[str, Any]:
    first = surfaces[0]
    axes = (first.grid.xs, first.grid.ys) if first.plane.y is not None else (first.grid.xs,)
    described = [{**meter.target.about, **meter.about} for meter in meters.values()]
    return {
        **described[0],
        "normalisation": " / ".join(dict.fromkeys(about["normalisation"] for about in described)),
        "scale": first.plane.scale,
        "range": [[float(axis[0]), float(axis[-1])] for axis in axes],
        "panels": list(meters),
        "explained": list(first.plane.explained),
        "eigenvalues": {panel.name: list(panel.plane.eigenvalues) for panel in surfaces if panel.plane.eigenvalues},
    }
