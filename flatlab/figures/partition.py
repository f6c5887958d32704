"""Who holds which images: sizes of the clients above a heatmap of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..arguments import Whole, checked
from ..data import FederatedDataset
from .images import draw_images
from .style import PAGE, Drawing, class_labels, figure, plain

COMPACT = (4.4, 3.2)  # inches
_TICKS = (0.01, 0.1, 0.3, 0.6, 1)
_NUMBERS = 200  # cells up to which each shows how many images it stands for


@checked
def draw_partition(
    data: FederatedDataset,
    which: Literal["train", "test"] = "train",
    order: Literal["client", "class"] = "client",
    compact: bool = False,
    images: Whole = 0,
) -> Drawing:
    """Images per client (bars) and the share of each class in them (heatmap), for any number of clients and classes.

    Args:
        data: whose partition.
        which: the clients' train or test images.
        order: clients by number, or sorted by their most frequent class, which shows the blocks of a skewed partition.
        compact: a small figure without its title, for a column of controls.
        images: show so many images of each class instead: see `draw_images`.
    """
    if images:
        return draw_images(data, images)
    counts, shown = _ordered(data, which, order)
    clients, classes = counts.shape
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    fig = figure(*COMPACT) if compact else figure(PAGE, 1.7 + min(max(0.16 * classes, 1.2), 3.4))
    grid = fig.add_gridspec(2, 2, height_ratios=(1, 3.5), width_ratios=(60, 1))
    below = fig.add_subplot(grid[1, 0])
    above = fig.add_subplot(grid[0, 0], sharex=below)
    image = _heatmap(below, share)
    if counts.size <= _NUMBERS and not compact:
        for client, label in np.argwhere(counts):
            colour = "white" if share[client, label] > 0.2 else "black"
            number = str(counts[client, label])
            below.text(client + 0.5, label + 0.5, number, ha="center", va="center", color=colour, fontsize=6)
    _scale(fig.colorbar(image, cax=fig.add_subplot(grid[1, 1]), ticks=_TICKS))
    below.set(xlabel=_across(data, order), ylabel=data.label_words[0])
    below.invert_yaxis()
    _label(below, data, shown, (10, 10, 9) if compact else (20, 25, 14))
    above.bar(
        np.arange(clients) + 0.5,
        counts.sum(1),
        width=0.8 if clients <= 60 else 1,
        linewidth=0,
        color=sns.color_palette()[0],
    )
    above.set(xlim=(0, clients), ylabel="images" if compact else f"{which} images")
    above.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    above.tick_params(axis="x", length=0, labelbottom=False)
    for axes, sides in ((above, ("top", "right")), (below, ("top", "right", "left", "bottom"))):
        axes.spines[list(sides)].set_visible(False)
    if compact:
        return fig
    met, (word, words) = data.heterogeneity(which), data.label_words
    fig.suptitle(
        f"{plain(_title(data))}, {clients} clients\n"
        f"on average {met['classes']:.3g} of {classes} {words}, top-{word} share {met['top_share']:.2f}, "
        f"distance to the pool {met['tv']:.2f}",
        fontsize=8,
    )
    return fig


@checked
def draw_partitions(
    several: Any, which: Literal["train", "test"] = "train", order: Literal["client", "class"] = "client"
) -> Drawing:
    """The heatmaps of several data sets side by side on one scale: a list of them, or a mapping from names.

    Args:
        several: the data sets.
        which: the clients' train or test images.
        order: clients by number, or sorted by their most frequent class.
    """
    names = list(several) if isinstance(several, Mapping) else [_title(data) for data in several]
    every = list(several.values() if isinstance(several, Mapping) else several)
    columns = min(len(every), 3)
    lines = -(-len(every) // columns)
    height = max(min(max(0.12 * data.class_counts(which).shape[1], 1.2), 3) for data in every)
    fig = figure(PAGE, lines * (0.8 + height))
    panels = fig.subplots(lines, columns, squeeze=False)
    for axes, name, data in zip(panels.flat, names, every, strict=False):
        counts, shown = _ordered(data, which, order)
        image = _heatmap(axes, counts / np.maximum(counts.sum(1, keepdims=True), 1))
        axes.set(xlabel=_across(data, order))
        axes.set_title(f"{plain(str(name))}, {len(counts)} clients", fontsize=7)
        axes.invert_yaxis()
        _label(axes, data, shown, (8, 12, 9))
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    for axes in panels.flat[len(every) :]:
        axes.set_visible(False)
    for axes, data in zip(panels[:, 0], every[::columns], strict=True):
        axes.set_ylabel(data.label_words[0])
    _scale(fig.colorbar(image, ax=panels, ticks=_TICKS))
    return fig


def _across(data: FederatedDataset, order: str) -> str:
    return "client" if order == "client" else f"client, by most frequent {data.label_words[0]}"


def _ordered(data: FederatedDataset, which: Literal["train", "test"], order: str) -> tuple[Any, Any]:
    """Images by client and class, and whose row is whose."""
    counts = data.class_counts(which)
    shown = np.arange(len(counts)) if order == "client" else np.lexsort((-counts.max(1), counts.argmax(1)))
    return counts[shown], shown


def _heatmap(axes: Axes, share: Any) -> Any:
    # One scale for all partitions, 0 to 1, on which the hundredths of a hundred classes stay visible; nothing is white.
    shown = np.ma.masked_equal(share.T, 0)
    return axes.pcolormesh(shown, cmap="rocket_r", norm=PowerNorm(0.4, 0, 1), rasterized=True)


def _scale(bar: Colorbar) -> None:
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bar.set_label("share of the client's images")
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _label(axes: Axes, data: FederatedDataset, shown: Any, most: tuple[int, int, int]) -> None:
    """Clients and classes on the axes: of each at most so many, and names of at most so many signs."""
    every = -(-len(shown) // most[0])
    axes.set_xticks(np.arange(0, len(shown), every) + 0.5, [str(client) for client in shown[::every]])
    names = class_labels(data.label_names, most[2])
    every = -(-len(names) // most[1])
    axes.set_yticks(np.arange(0, len(names), every) + 0.5, names[::every])
    axes.tick_params(length=0)


def _title(data: FederatedDataset) -> str:
    made = {name: value for name, value in data.spec.partition if name == "alpha" or name == "per_client"}
    settings = ", ".join(f"{name} {value:g}" for name, value in made.items())
    return f"{data.spec.name}: {data.spec.partition.kind}{' ' + settings if settings else ''}"
