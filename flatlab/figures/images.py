"""What images look like: some of each class that clients train on, beside real ones where those are synthetic."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..arguments import Count, checked
from ..data import FederatedDataset
from .style import PAGE, Drawing, class_labels, figure

MOST = 20  # classes, a row each


@checked
def draw_images(data: FederatedDataset, images: Count = 5) -> Drawing:
    """The first so many train images of each class, of what `distil` made beside the first real ones.

    Args:
        data: whose images.
        images: of each class.
    """
    held = torch.cat(data.train)
    sides = {"train images": held.sort().values}
    if data.real:  # they stand behind the real ones
        real = torch.arange(int(held.min()), device=held.device)
        sides = {"real": real[~torch.isin(real, data.holdout)], "synthetic": sides["train images"]}
    names = class_labels(data.label_names, 14)[:MOST]
    height, width = data.shape[1:]
    tile = min(0.4, (PAGE - 1.0) / (images * len(sides) + 1))
    fig = figure(1.0 + tile * (images * len(sides) + 1), 0.6 + tile * len(names) * height / width)
    for axes, (side, index) in zip(np.atleast_1d(fig.subplots(1, len(sides))), sides.items(), strict=True):
        rows = [index[data.labels[index] == label][:images] for label in range(len(names))]
        axes.imshow(_tiled(data, rows, images), cmap="gray", interpolation="nearest")
        axes.set_title(side, fontsize=8)
        axes.set(xticks=[], yticks=(np.arange(len(names)) + 0.5) * (height + 1) - 1, yticklabels=names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    left = len(data.label_names) - len(names)
    fig.caption = f"{images} of each class at most" + (f"; {left} classes are not shown." if left else ".")
    return fig


def _tiled(data: FederatedDataset, rows: list[Tensor], images: int) -> np.ndarray:
    """The images [H, W] or [H, W, 3] of each row side by side, a white pixel apart, white where there are fewer."""
    channels, height, width = data.shape
    grid = torch.full((len(rows), images, channels, height + 1, width + 1), 255, dtype=torch.uint8)
    for row, index in zip(grid, rows, strict=True):
        row[: len(index), :, :-1, :-1] = data.images[index].cpu()
    whole = grid.permute(0, 3, 1, 4, 2).reshape(len(rows) * (height + 1), images * (width + 1), channels).numpy()
    return whole if channels == 3 else whole[..., 0]
