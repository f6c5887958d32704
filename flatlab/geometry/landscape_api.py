"""Loss landscapes: loss and accuracy on a line or plane of weights, for one model or several on one scale.

    landscape([babu, asam]).plot()                              # random directions, one panel a run
    landscape(asam, directions="eigen", dimensions=1).plot()    # along the Hessian's first eigenvector
    landscape([babu, asam], directions="pca").plot()            # the runs' ways, in their principal plane
    landscape({"global": a, "SWA": b, "client 3": c}, (images, labels), directions="plane")

Compared models share samples, draws, range and size of the grid. The weights themselves are always one of the points.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flatlab.arguments import Count, Whole, checked, with_settings
from flatlab.declare import shown, tell
from flatlab.digest import Opaque, digest
from flatlab.files import printable, user_path
from flatlab.geometry.directions import Plane
from flatlab.geometry.evaluate_points import Points
from flatlab.geometry.grid import VALUES
from flatlab.geometry.inputs import named, targets
from flatlab.geometry.objective import Target
from flatlab.geometry.panels import LandscapeSettings, Mark, Panel, marks, panels
from flatlab.models import frame
from flatlab.results import Result
from flatlab.streams import stream
from flatlab.training.progress import Progress, watched
from flatlab.training.threads import computing_with

Value = Literal["loss", "accuracy", "loss_error", "rise_error", "measured"]
SAVE_SECONDS = 15.0


@dataclass(frozen=True)
class Landscape(Result):
    """Loss and accuracy over a line or plane.

    `frame`, one row a point: `panel`; `series` ("surface", or what a mark belongs to: "models", "trajectory",
    "clients", "markers") and `name`; `direction` (which of the repeated lines); `x`, `y` (a mark's are those of the
    nearest point of the plane); `loss` (mean), `accuracy` (0..1; NaN where the loss is not finite), `loss_error`
    (standard error over the samples), `rise_error` (of the difference to the loss at (0, 0), sample by sample),
    `measured` (false: a spline's value); `residual` (how far a mark lies off the plane; its loss is that of its own
    weights).
    """

    @checked
    def surface(
        self, panel: str | None = None, value: Value = "loss", direction: Whole = 0
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Coordinates `[nx]`, `[ny]` and values `[ny, nx]` (NaN where an interruption left none) of one panel."""
        rows = self.frame[(self.frame["series"] == "surface") & (self.frame["panel"] == self._panel(panel))]
        if direction not in set(rows["direction"]):
            raise ValueError(f"direction = {direction}: {rows['direction'].nunique()} were measured, from 0 on")
        rows = rows[rows["direction"] == direction]
        xs, ys = rows["x"].unique(), rows["y"].unique()
        return xs, ys, rows[value].to_numpy().reshape(len(ys), len(xs))

    @checked
    def marks(self, panel: str | None = None) -> pd.DataFrame:
        """The rows of the models shown on a panel: coordinates, true loss and accuracy, distance off the plane."""
        rows = self.frame[self.frame["series"] != "surface"]
        return rows[rows["panel"] == self._panel(panel)].reset_index(drop=True)

    def _panel(self, name: str | None) -> str:
        panels = self.about["panels"]
        if name is not None and name not in panels:
            raise ValueError(f"panel = {shown(name)}: must be one of {', '.join(panels)}")
        return str(panels[0] if name is None else name)

    def summary(self) -> pd.DataFrame:
        """Per panel: loss and accuracy at (0, 0), mean rise and largest loss over the grid, how many points were
        measured, and at how many the loss was not finite: the mean and the largest leave those out.

        `sampling error` is of the mean rise, the standard error over the samples: the mean of the points' own, which it
        does not exceed, and reaches where the same samples make all points rise.
        """
        rows = []
        for panel, points in self.surfaces.groupby("panel", sort=False):
            centre = points[(points["x"] == 0) & (points["y"] == 0)].iloc[0]
            finite = points.loc[np.isfinite(points["loss"]), "loss"]
            alone = len(finite) < 2  # the centre says nothing of a rise
            rise = np.nan if alone or not np.isfinite(centre["loss"]) else finite.mean() - centre["loss"]
            rows.append(
                {
                    "panel": panel,
                    "loss": centre["loss"],
                    "accuracy": centre["accuracy"],
                    "mean rise": rise,
                    "sampling error": points.loc[np.isfinite(points["rise_error"]), "rise_error"].mean(),
                    "largest loss": finite.max(),
                    "measured": int(points["measured"].sum()),
                    "not finite": int(overflown(points).sum()),
                    "points": len(points),
                }
            )
        return pd.DataFrame(rows)

    @property
    def surfaces(self) -> pd.DataFrame:
        """The rows of the grids, without the marks."""
        return self.frame[self.frame["series"] == "surface"]


def overflown(points: pd.DataFrame) -> pd.Series:
    """Which points were measured and have no finite loss (NaN elsewhere means that nothing was measured)."""
    return points["measured"].astype(bool) & ~np.isfinite(points["loss"])


@with_settings(LandscapeSettings)
@frame()
@computing_with(1)
def landscape(
    models: Any,
    data: Any = "holdout",
    *,
    settings: LandscapeSettings,
    markers: Mapping[str, nn.Module] | None = None,
    clients: Count | None = None,
    store: str | Path | bool = True,
    progress: Progress | None = None,
    **selection: Any,
) -> Landscape:
    """Measure loss and accuracy on a line or plane through models.

    A point costs one forward pass over the samples, and is of the very function whose Hessian `hessian` measures. With
    batch statistics the samples are normalised in fixed batches. Running statistics of your own network stay as stored
    all over a surface, those of its model (of the first, where a plane joins several), and a mark has its own;
    `statistics="batch"` has every batch re-estimate them at every point instead.

    Args:
        models: a model, a run (its latest model), several of them, or a mapping from names to them.
        data: "holdout", "train" or "test" of the first run; a FederatedDataset; or (images, labels); see `aim`.
        settings: made of the keyword arguments.
        markers: more models to show on each panel, e.g. fine-tuned ones.
        clients: a round whose sampled clients' models are shown on their run's panel.
        store: where points are kept while and after they are measured, so that the same call goes on or returns at
            once: True is with the first run (bare models have no place), False nowhere, or a file.
        progress: called with the points done and their number (more than needed, with `refine`); False stops. None: a
            bar in a terminal.
        **selection: as in `targets`: round, which, source, client, limit (1000 samples), part, batch, loss, statistics.

    Returns:
        What was measured. After Ctrl-C or a stop `about["complete"]` is False and missing values are NaN.

    Raises:
        ValueError: naming what cannot be measured, and why.
    """
    refine, tolerance, seed = settings.refine, settings.tolerance, settings.seed
    subjects = named(models)
    found = targets(subjects, data, seed=seed, **selection)
    shown = marks(
        subjects,
        found,
        clients,
        settings.trajectory or settings.directions == "pca",
        markers or {},
        selection.get("client"),
    )
    fingerprint = _fingerprint(settings, found, shown)
    path, begun = _begun(_place(store, subjects, fingerprint), fingerprint)
    if begun is not None and begun.about["complete"] and not _holes(begun):
        return begun

    surfaces = panels(found, shown, settings)
    if refine and not all(panel.grid.refinable for panel in surfaces):
        raise ValueError(f"points = {settings.size}: refine needs at least 21 on each axis")
    meters: dict[str, Points] = {}
    memory = begun.about["memory format"] if begun is not None else None
    for panel in surfaces:
        if panel.name not in meters:
            meters[panel.name] = Points(panel.target, layout=memory)
            memory = meters[panel.name].about["memory format"]
    about = {**settings.key, **_about(found, meters, surfaces), "fingerprint": fingerprint}
    if begun is not None:
        _restore(surfaces, begun)

    total = sum(len(panel.marks) + panel.grid.measured.size for panel in surfaces)
    complete, saved = False, time.monotonic()
    try:
        with watched(progress, total, "landscape") as proceed:
            for done in _measure(surfaces, meters, tolerance if refine else None, seed):
                if not proceed(done):
                    break
                if path is not None and time.monotonic() - saved > SAVE_SECONDS:
                    path = path if _result(surfaces, about, complete).keep(path) else None
                    saved = time.monotonic()
            else:
                complete = True
    except KeyboardInterrupt:
        kept = f"the same call goes on from {path}" if path else "save(path) it and pass store=path to go on"
        tell(f"landscape interrupted: what was measured is returned; {kept}")
    result = _result(surfaces, about, complete)
    if path is not None:
        result.keep(path)
    return result


def _measure(surfaces: list[Panel], meters: Mapping[str, Points], tolerance: float | None, seed: int) -> Iterator[int]:
    """Fill the panels, a few points at a time; yields how many are done."""
    done = sum(int(panel.grid.measured.sum()) + len(panel.rows) for panel in surfaces)
    for panel in surfaces:
        meter, plane, grid = meters[panel.name], panel.plane, panel.grid
        origin = meter.measure([plane.origin]).losses[0]
        for mark in panel.marks[len(panel.rows) :]:
            x, y, residual = plane.project(mark.weights)
            scores = _scores(meter, [mark.weights], origin, mark.buffers)[0]
            panel.rows.append(
                {"series": mark.series, "name": mark.name, "x": x, "y": y, "residual": residual, **scores}
            )
            done += 1
            yield done
        random = stream(seed, "landscape checks", panel.name, panel.direction)
        for spots in grid.schedule(tolerance, random):
            for start in range(0, len(spots), meter.at_once):
                some = spots[start : start + meter.at_once]
                vectors = [plane.at(grid.xs[column], grid.ys[row]) for row, column in some]
                for spot, scores in zip(some, _scores(meter, vectors, origin), strict=True):
                    grid.put(spot, scores)
                done += len(some)
                yield done


def _scores(
    meter: Points, vectors: list[Tensor], origin: Tensor, buffers: Mapping[str, Tensor] | None = None
) -> list[dict[str, float]]:
    losses, hits = (part.double() for part in meter.measure(vectors, buffers))
    errors = [part.std(1, correction=0) / len(origin) ** 0.5 for part in (losses, losses - origin.double())]
    mean = losses.mean(1)
    # Outputs that are no numbers would be scored as the first class.
    shares = torch.where(mean.isfinite(), hits.sum(1) / hits.shape[1], torch.nan)
    table = torch.stack([mean, shares, *errors], 1)
    return [dict(zip(VALUES, row, strict=True)) for row in table.tolist()]


def _result(surfaces: list[Panel], about: dict[str, Any], complete: bool) -> Landscape:
    frames = []
    for panel in surfaces:
        ys, xs = np.meshgrid(panel.grid.ys, panel.grid.xs, indexing="ij")
        values = {name: values.ravel() for name, values in panel.grid.scores.items()}
        measured = {"measured": panel.grid.measured.ravel(), "residual": 0.0}
        surface = pd.DataFrame(
            {"series": "surface", "name": "", "x": xs.ravel(), "y": ys.ravel(), **values, **measured}
        )
        marked = pd.DataFrame(panel.rows).assign(measured=True)
        frames += [part.assign(panel=panel.name, direction=panel.direction) for part in (surface, marked) if len(part)]
    columns = ["panel", "series", "name", "direction", "x", "y", *VALUES, "measured", "residual"]
    errors = {panel.name: panel.grid.error for panel in surfaces if panel.grid.error}
    return Landscape(
        pd.concat(frames, ignore_index=True)[columns], {**about, "spline_error": errors, "complete": complete}
    )


def _about(found: Mapping[str, Target], meters: Mapping[str, Points], surfaces: list[Panel]) -> dict[str, Any]:
    first = surfaces[0]
    axes = (first.grid.xs, first.grid.ys) if first.plane.y is not None else (first.grid.xs,)
    said = [{**meter.target.about, **meter.about} for meter in meters.values()]
    return {
        **said[0],
        "normalisation": " / ".join(dict.fromkeys(one["normalisation"] for one in said)),
        "scale": first.plane.scale,
        "range": [[float(axis[0]), float(axis[-1])] for axis in axes],
        "models": list(found),
        "panels": list(meters),
        "explained": list(first.plane.explained),
        "eigenvalues": {panel.name: list(panel.plane.eigenvalues) for panel in surfaces if panel.plane.eigenvalues},
    }


def _fingerprint(
    settings: LandscapeSettings, found: Mapping[str, Target], shown: Mapping[str, list[Mark]]
) -> str | None:
    """What stands for all that the values depend on; None if something cannot be looked into."""
    first = next(iter(found.values()))
    plane = settings.directions if isinstance(settings.directions, Plane) else None
    measured = [(name, target.about, target.model, target.losses, shown[name]) for name, target in found.items()]
    try:
        return digest(settings.key, plane, first.images, first.labels, measured, torch.__version__)
    except Opaque as error:
        tell(f"landscape: not kept, as a model or loss holds {error}, of which nobody can tell whether it changed")
        return None


def _place(store: str | Path | bool, subjects: Mapping[str, Any], fingerprint: str | None) -> Path | None:
    if fingerprint is None:
        return None
    if not isinstance(store, bool):
        return user_path(store, "store")
    run = next((subject for subject in subjects.values() if hasattr(subject, "directory")), None)
    return Path(run.directory) / "geometry" / f"landscape-{fingerprint}.parquet" if run is not None and store else None


def _begun(path: Path | None, fingerprint: str | None) -> tuple[Path | None, Landscape | None]:
    """Where points are kept (None: nowhere) and those that are there."""
    if path is None:
        return None, None
    try:
        begun = Landscape.kept(path)
    except OSError as error:  # perhaps whole, so nothing may take its place
        tell(printable(f"{path}: cannot be read ({error}); measured again, and not kept"))
        return None, None
    if begun is not None and begun.about.get("fingerprint") != fingerprint:
        raise ValueError(f"store = {path}: holds a landscape of other models, samples or settings; name another file")
    return path, begun


def _holes(begun: Landscape) -> bool:
    """Whether points count as not measured whose loss was not finite, as in files of earlier versions."""
    points = begun.surfaces
    return bool((~points["measured"].astype(bool) & ~np.isfinite(points["loss"])).any())


def _restore(surfaces: list[Panel], begun: Landscape) -> None:
    for panel in surfaces:
        mine = begun.frame[(begun.frame["panel"] == panel.name) & (begun.frame["direction"] == panel.direction)]
        surface = mine["series"] == "surface"
        for value in VALUES:
            panel.grid.scores[value][:] = mine.loc[surface, value].to_numpy().reshape(panel.grid.measured.shape)
        panel.grid.measured[:] = mine.loc[surface, "measured"].to_numpy(bool).reshape(panel.grid.measured.shape)
        rows = mine[~surface].drop(columns=["panel", "direction", "measured"])
        panel.rows = [{str(key): cell for key, cell in row.items()} for row in rows.to_dict("records")]
