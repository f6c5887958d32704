"""Segmentation: images beside their masks and what runs say of them, and how well each class is found."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import SubFigure

from ..personalization import PerClass
from .colors import class_colors
from .style import PAGE, Drawing, figure, line_styles, plain

MOST = 4  # runs whose pictures fit beside each other


def draw_segments(result: PerClass) -> Drawing:
    """Image, truth and what each run says, above the IoU of each class; classes from the most frequent down."""
    names, pictures = list(dict.fromkeys(result.frame["name"])), result.pictures
    labels = result.frame["class"].unique()
    below = 0.55 + 0.16 * len(labels) + 0.2 * -(-len(names) // 3)
    columns = 2 + min(MOST, len(pictures[0].said)) if pictures else 1
    height, width = pictures[0].truth.shape if pictures else (1, 1)
    tile = (PAGE / columns) * height / width + 0.04
    fig = figure(PAGE, below + len(pictures) * tile + (0.25 if pictures else 0))
    shares = [fig.get_figheight() - below, below] if pictures else [below]
    parts = fig.subfigures(len(shares), 1, height_ratios=shares, squeeze=False)[:, 0]
    if pictures:
        _pictures(parts[0], result, columns)
    _classes(parts[-1].subplots(), result, names)
    local = (
        f" Normalised by the batch at hand (pictures: {result.about['together']} images), so each client by its own"
        " statistics, as SiloBN has it; nothing of them is averaged."
    )
    fig.caption = (
        f"IoU of the confusion summed over the pixels of {result.about['data']}; a class that its truth lacks has none;"
        " white: no class." + (local if result.about["batch statistics"] else "")
    )
    return fig


def _pictures(part: SubFigure, result: PerClass, columns: int) -> None:
    palette = np.array([to_rgb(color) for color in class_colors(result.frame["class"].nunique())] + [(1.0, 1.0, 1.0)])
    panels = part.subplots(len(result.pictures), columns, squeeze=False)
    for row, (image, truth, said) in zip(panels, result.pictures, strict=True):
        shown = image[..., 0] if image.shape[2] != 3 else image
        row[0].imshow(shown, cmap="gray")
        masks = {"truth": truth, **said}
        for axis, mask in zip(row[1:], list(masks.values())[: columns - 1], strict=True):
            axis.imshow(palette[mask], interpolation="nearest")  # -1, no class, is the last
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, title in zip(panels[0], ("image", "truth", *result.pictures[0].said), strict=False):
        axis.set_title(plain(title), fontsize=7)


def _classes(axis: Axes, result: PerClass, names: list[str]) -> None:
    shares = result.frame.groupby("class", sort=False)["share"].mean().sort_values(ascending=False, kind="stable")
    order = {label: place for place, label in enumerate(shares.index)}
    places = list(dict.fromkeys(result.frame["class"]))
    for name, style in zip(names, line_styles(names), strict=True):
        rows = result.frame[result.frame["name"] == name]
        where, color = rows["class"].map(order), style["color"]
        mean = 100 * rows["iou"].mean()
        axis.plot(100 * rows["iou"], where, "o", ms=4, color=color, label=f"{plain(name)}: mean {mean:.1f}")
    axis.set_yticks(range(len(order)), [f"{plain(label)} ({100 * share:.1f} %)" for label, share in shares.items()])
    for label, tick in zip(shares.index, axis.get_yticklabels(), strict=True):
        tick.set_color(_dark(class_colors(len(places))[places.index(label)]))
    axis.set(xlabel="IoU (%)", xlim=(-1, 101), ylim=(len(order) - 0.5, -0.5))
    axis.grid(axis="y", lw=0.3)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)


def _dark(color: str) -> str:
    """Dark enough to be read on white."""
    red, green, blue = to_rgb(color)
    dimmed = min(1.0, 0.6 / max(0.3 * red + 0.59 * green + 0.11 * blue, 1e-9))
    return to_hex((dimmed * red, dimmed * green, dimmed * blue))
