"""Who holds which images: sizes of the clients above a heatmap of their classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flatlab.arguments import checked
from flatlab.data import FederatedDataset
from flatlab.figures.style import PAGE, Drawing, class_labels, figure, plain

COMPACT = (4.4, 3.2)  # inches
_NUMBERS = 200  # cells up to which each shows how many images it stands for


@checked
def draw_partition(
    data: FederatedDataset,
    which: Literal["train", "test"] = "train",
    order: Literal["client", "class"] = "client",
    compact: bool = False,
) -> Drawing:
    """Images per client (bars) and the share of each class in them (heatmap), for any number of clients and classes.

    Args:
        data: whose partition.
        which: the clients' train or test images.
        order: clients by number, or sorted by their most frequent class, which shows the blocks of a skewed partition.
        compact: a small figure without its title, for a column of controls.
    """
    counts = data.class_counts(which)
    clients, classes = counts.shape
    shown = np.arange(clients) if order == "client" else np.lexsort((-counts.max(1), counts.argmax(1)))
    counts = counts[shown]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    fig = figure(*COMPACT) if compact else figure(PAGE, 1.7 + min(max(0.16 * classes, 1.2), 3.4))
    grid = fig.add_gridspec(2, 2, height_ratios=(1, 3.5), width_ratios=(60, 1))
    below = fig.add_subplot(grid[1, 0])
    above = fig.add_subplot(grid[0, 0], sharex=below)
    # One scale for all partitions, 0 to 1, on which the hundredths of a hundred classes stay visible; nothing is white.
    image = below.pcolormesh(
        np.ma.masked_equal(share.T, 0), cmap="rocket_r", norm=PowerNorm(0.4, 0, 1), rasterized=True
    )
    if counts.size <= _NUMBERS and not compact:
        for client, label in np.argwhere(counts):
            colour = "white" if share[client, label] > 0.2 else "black"
            number = str(counts[client, label])
            below.text(client + 0.5, label + 0.5, number, ha="center", va="center", color=colour, fontsize=6)
    ticks = (0.01, 0.1, 0.3, 0.6, 1)
    bar = fig.colorbar(image, cax=fig.add_subplot(grid[1, 1]), ticks=ticks, format=PercentFormatter(1, decimals=0))
    bar.set_label("share of the client's images")
    bar.minorticks_off()
    bar.outline.set_visible(False)
    below.set(xlabel="client" if order == "client" else "client, by most frequent class", ylabel="class")
    below.invert_yaxis()
    every = -(-clients // (10 if compact else 20))
    below.set_xticks(np.arange(0, clients, every) + 0.5, [str(client) for client in shown[::every]])
    every, most = -(-classes // (10 if compact else 25)), 9 if compact else 14
    names = class_labels(data.label_names, most)
    below.set_yticks(np.arange(0, classes, every) + 0.5, names[::every])
    below.tick_params(length=0)
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
    made = {name: value for name, value in data.spec.partition if name == "alpha" or name == "per_client"}
    settings = ", ".join(f"{name} {value:g}" for name, value in made.items())
    met = data.heterogeneity()
    fig.suptitle(
        f"{plain(data.spec.name)}: {data.spec.partition.kind}{' ' + settings if settings else ''}, {clients} clients\n"
        f"on average {met['classes']:.3g} of {classes} classes, top-class share {met['top_share']:.2f}, "
        f"distance to the pool {met['tv']:.2f}",
        fontsize=8,
    )
    return fig
