"""Where the points of a landscape are kept, so that the same call goes on or returns at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..declare import SettingError, tell
from ..digest import Opaque, digest
from ..files import printable, user_path
from .grid import VALUES
from .landscape_result import Landscape, overflown
from .objective import Target
from .panels import Mark, Panel
from .plane import Plane
from .settings import LandscapeSettings


class Kept:
    """What is kept of one landscape.

    Args:
        store: as for `landscape`.
        subjects: models and runs by name.
        fingerprint: what stands for all that the values depend on; None keeps nothing.

    Attributes:
        path: the file; None: nowhere.
        begun: what was there.
    """

    def __init__(self, store: str | Path | bool, subjects: Mapping[str, Any], fingerprint: str | None) -> None:
        self.path: Path | None = None
        self.begun: Landscape | None = None
        run = next((subject for subject in subjects.values() if hasattr(subject, "directory")), None)
        if fingerprint is None or store is False or (store is True and run is None):
            return
        directory = Path(getattr(run, "directory", "."))
        path = directory / "geometry" / f"landscape-{fingerprint}.parquet"
        path = path if isinstance(store, bool) else user_path(store, "store")
        try:
            self.begun = Landscape.kept(path)
        except OSError as error:  # perhaps whole, so nothing may take its place
            tell(printable(f"{path}: cannot be read ({error}); measured again, and not kept"))
            return
        if self.begun is not None and self.begun.about.get("fingerprint") != fingerprint:
            reason = "holds a landscape of other models, samples or settings; name another file"
            raise SettingError("store", str(path), reason)
        self.path = path

    @property
    def whole(self) -> bool:
        """Whether all was measured; files of earlier versions took what is not finite for not measured."""
        begun = self.begun
        return begun is not None and begun.about["complete"] and not overflown(begun.surfaces, measured=False).any()

    def keep(self, result: Landscape) -> Landscape:
        """Write a result; where that fails it is said, and not tried again."""
        if self.path is not None and not result.keep(self.path):
            self.path = None
        return result

    def restore(self, surfaces: list[Panel]) -> None:
        """Fill the panels with what was there."""
        if self.begun is None:
            return
        for panel in surfaces:
            frame = self.begun.frame
            points = frame[(frame["panel"] == panel.name) & (frame["direction"] == panel.direction)]
            surface, shape = points["series"] == "surface", panel.grid.measured.shape
            for value in VALUES:
                panel.grid.scores[value][:] = points.loc[surface, value].to_numpy().reshape(shape)
            panel.grid.measured[:] = points.loc[surface, "measured"].to_numpy(bool).reshape(shape)
            rows = points[~surface].drop(columns=["panel", "direction", "measured"])
            panel.rows = [{str(key): cell for key, cell in row.items()} for row in rows.to_dict("records")]


def fingerprint_of(
    settings: LandscapeSettings, objectives: Mapping[str, Target], shown: Mapping[str, list[Mark]]
) -> str | None:
    """What stands for all that the values depend on; None if something cannot be looked into."""
    first = next(iter(objectives.values()))
    plane = settings.directions if isinstance(settings.directions, Plane) else None
    measured = [(name, target.about, target.model, target.losses, shown[name]) for name, target in objectives.items()]
    try:
        return digest(settings.key, plane, first.images, first.labels, measured, torch.__version__)
    except Opaque as error:
        tell(f"landscape: not kept, as a model or loss holds {error}, of which nobody can tell whether it changed")
        return None
