"""How much a measurement would change with other samples: the delete-a-group jackknife (Tukey, 1958).

The samples are cut into S groups; each value is measured S times, without one group in turn. With values t_g of mean m,
and t of all samples,

    standard error = sqrt((S - 1) / S  sum_g (t_g - m)^2),        bias = (S - 1) (m - t)

For a mean over samples (a trace, a loss) the error is that of the group means, and the bias 0. A largest eigenvalue is
larger the fewer samples there are; the bias, an estimate that takes it to fall like one over their number, says by how
much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..declare import SettingError
from ..streams import stream
from .objective import Target


class Sampling(NamedTuple):
    """Standard error over samples and bias, of each value `[k]`."""

    error: NDArray[np.float64]
    bias: NDArray[np.float64]


def jackknifed(without: Sequence[Sequence[float]], full: Sequence[float]) -> Sampling:
    """Standard error and bias of values.

    Args:
        without: `[groups, k]` the values measured without each group of samples in turn.
        full: `[k]` those of all samples.
    """
    many = np.array(without, dtype=np.float64)
    groups, centre = len(many), many.mean(0)
    error = np.sqrt((groups - 1) / groups * ((many - centre) ** 2).sum(0))
    return Sampling(error, (groups - 1) * (centre - np.asarray(full, dtype=np.float64)))


def leave_out(target: Target, subsets: int, seed: int = 0) -> list[Target]:
    """The target without one group of its samples in turn; whole batches where these are part of the function.

    Raises:
        SettingError: if `subsets` is not between 2 and the number of samples.
    """
    count = len(target.labels)
    if subsets > count:
        raise SettingError("subsets", subsets, f"a whole number from 2 to the {count} samples")
    units = np.array_split(np.arange(count), range(target.batch, count, target.batch)) if target.batch else []
    if len(units) < subsets:  # too few batches to leave any out whole: samples are, and batches are cut anew
        units = list(np.arange(count)[:, None])
    order = stream(seed, "jackknife").permutation(len(units))
    parts = []
    for group in np.array_split(order, subsets):
        kept = np.sort(np.setdiff1d(np.arange(len(units)), group))
        index = torch.from_numpy(np.concatenate([units[unit] for unit in kept])).to(target.device)
        parts.append(dataclasses.replace(target, images=target.images[index], labels=target.labels[index]))
    return parts


def error_bars(numerical: str, subsets: int | None) -> dict[str, str]:
    """What the error bars of a result cover, in words, for its `about`."""
    sampling = f"sampling: jackknife over {subsets} groups of the samples" if subsets else "sampling: not measured"
    return {"error": f"numerical, on these samples: {numerical}", "sampling_error": sampling}
