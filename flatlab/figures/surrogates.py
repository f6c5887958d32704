"""Distilled images: the loss on real and on synthetic ones over the same weights, and how far apart they are."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ..geometry import Surrogates
from .style import PAGE, Drawing, figure, line_styles, plain

COLUMNS = 3


def draw_surrogates(result: Surrogates) -> Drawing:
    """Loss on the real images and on each surrogate's, on one plane and one logarithmic scale; beside them how far
    apart these are at each point, against its distance from the model. Circle and dotted line are at the radius.
    """
    about, by_name = result.about, dict(list(result.frame.groupby("surrogate", sort=False)))
    first = next(iter(by_name.values()))
    panels = {"real images": first["real"]} | {name: rows["synthetic"] for name, rows in by_name.items()}
    rows = -(-(len(panels) + 1) // COLUMNS)
    fig = figure(PAGE, 0.5 + 2.0 * rows)
    axes = fig.subplots(rows, COLUMNS, squeeze=False).ravel()
    losses = np.concatenate([values.to_numpy(np.float64) for values in panels.values()])
    finite = losses[np.isfinite(losses) & (losses > 0)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.1, 1.0)
    scale, turn = LogNorm(low, max(high, 1.001 * low)), np.linspace(0, 2 * np.pi, 100)
    xs, ys = first["x"].unique(), first["y"].unique()
    for axis, (name, values) in zip(axes, panels.items(), strict=False):
        grid = values.to_numpy().reshape(len(ys), len(xs))
        image = axis.pcolormesh(xs, ys, grid, norm=scale, cmap="viridis", rasterized=True)
        axis.plot(0, 0, "+", color="white", ms=7)
        axis.plot(about["radius"] * np.cos(turn), about["radius"] * np.sin(turn), ":", color="white", lw=0.9)
        axis.set(aspect="equal")
        axis.set_title(plain(name), fontsize=8)
    fig.colorbar(image, ax=list(axes[COLUMNS - 1 :: COLUMNS]), shrink=0.8).set_label("loss")
    _differences(axes[len(panels)], result)
    for axis in axes[len(panels) + 1 :]:
        axis.set_visible(False)
    fig.name_above(axes[len(panels)])
    fig.caption = (
        f"Mean loss on at most {about['samples']} real train images, and on at most {about['ipc']} others of each class"
        f" and client, over one plane of weights around the model (cross); {about['iterations']} steps of distillation."
        f" Distances in all weights together; dotted: {about['radius']:g}."
    )
    return fig


def _differences(axis: Axes, result: Surrogates) -> None:
    names = list(dict.fromkeys(result.frame["surrogate"]))
    apart = (result.frame["synthetic"] - result.frame["real"]).abs()
    for name, style in zip(names, line_styles(names), strict=True):
        here = result.frame["surrogate"] == name
        axis.plot(result.frame["distance"][here], apart[here], "o", ms=2, color=style["color"], label=plain(name))
    axis.axvline(result.about["radius"], color="0.4", lw=0.9, ls=":")
    axis.set(
        yscale="log" if (apart > 0).any() else "linear",
        xlabel="distance from the model",
        ylabel="|synthetic − real loss|",
    )
