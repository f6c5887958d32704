"""A measured landscape: its surfaces as arrays, its marks, and a table of what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..arguments import Whole, checked
from ..declare import SettingError
from ..later import pd
from ..results import Result

Value = Literal["loss", "accuracy", "loss_error", "rise_error", "measured"]


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
            raise SettingError("direction", direction, f"{rows['direction'].nunique()} were measured, from 0 on")
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
            raise SettingError("panel", name, f"must be one of {', '.join(panels)}")
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


def overflown(points: pd.DataFrame, measured: bool = True) -> pd.Series:
    """Which points were measured and have no finite loss.

    Where nothing was measured, NaN means no more than that; there is none of it in a complete file, but in those of
    earlier versions, which took what was not finite for not measured: `measured=False` finds it.
    """
    return (points["measured"].astype(bool) == measured) & ~np.isfinite(points["loss"])
