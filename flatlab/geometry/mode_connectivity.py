"""Loss along the way between two models: the straight line with its barrier, and a trained curve around the barrier.

path(run.model(50), run.model(60), run.data).plot()
path(run_a, run_b, curve=True).summary()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import with_settings
from ..declare import SettingError
from ..later import pd
from ..models import frame
from ..results import Result
from ..streams import stream
from ..training.progress import Progress, gather
from ..training.threads import computing_with
from .evaluate_points import Points
from .inputs import buffers_of, choose_samples, named, targets, vector_of
from .objective import Target
from .settings import ObjectiveSettings, PathSettings

BATCH = 64  # samples of a step of training


@dataclass(frozen=True)
class Path(Result):
    """Loss and accuracy along curves in weight space.

    `frame`, one row a point: `curve` ("line" or "bezier"), `t` (0 at the first model, 1 at the second), `loss`,
    `accuracy` (0..1; NaN where the loss is not finite), `loss_error` (standard error over the samples), `distance`
    (from the first model, along the curve). `about["barriers"]` has each curve's barrier of the loss, see `summary`.
    """

    def summary(self) -> pd.DataFrame:
        """Per curve: loss and accuracy at the ends, the barriers and where the loss has its own, and the length.

        The barrier is max_t L(w_t) - ((1 - t) L(a) + t L(b)) (Entezari et al., 2022, arXiv 2110.06296; after Frankle et
        al., 2020, arXiv 1912.05671), 0 at least; that of the accuracy is the largest drop below its interpolation.
        Points whose loss is not finite are counted and left out of both. A curve that was stopped on its way has none.
        """
        rows = []
        for curve, points in self.frame.groupby("curve", sort=False):
            t, loss, accuracy = (points[name].to_numpy() for name in ("t", "loss", "accuracy"))
            ends = loss[-1], accuracy[-1]
            if t[-1] < 1:  # stopped before the other model
                ends = np.nan, np.nan
            with np.errstate(invalid="ignore"):
                rise = loss - ((1 - t) * loss[0] + t * ends[0])
                drop = (1 - t) * accuracy[0] + t * ends[1] - accuracy
            barrier, at = _largest(rise, t)
            row = {"curve": curve, "loss a": loss[0], "loss b": ends[0], "barrier": barrier, "at": at}
            row |= {"accuracy a": accuracy[0], "accuracy b": ends[1], "accuracy barrier": _largest(drop, t)[0]}
            row |= {"not finite": int((~np.isfinite(loss)).sum())}
            rows.append({**row, "length": points["distance"].iloc[-1]})
        return pd.DataFrame(rows)


def _largest(values: NDArray[Any], t: NDArray[Any]) -> tuple[float, float]:
    """The largest finite value and where it is; NaN if none is finite."""
    if not np.isfinite(values).any():
        return np.nan, np.nan
    top = np.where(np.isfinite(values), values, -np.inf).argmax()
    return values[top], t[top]


@with_settings(PathSettings)
@frame()
@computing_with(1)
def path(
    a: Any,
    b: Any,
    data: Any = "holdout",
    *,
    settings: PathSettings,
    train: Any = None,
    progress: Progress | None = None,
) -> Path:
    """Measure loss and accuracy between two models of one network.

    Running statistics of your own networks go the same way as the weights, from those of `a` to those of `b`, so that
    both ends are the models that predict; `statistics="batch"` has every batch re-estimate them on the way.

    Args:
        a: the model, or run, at t = 0.
        b: the one at t = 1.
        data: "holdout", "train", "test" or "unseen" of the first run; a FederatedDataset; or (images, labels).
        settings: made of the keyword arguments.
        train: samples to train it on, (images, labels) or a FederatedDataset (all clients' training samples); by
            default those of the run or of `data`.
        progress: called with the points and training steps done and their number; False stops (a curve still in
            training is left out).

    Returns:
        What was measured. After Ctrl-C or a stop `about["complete"]` is False and later points are missing.

    Raises:
        SettingError: naming what cannot be measured, and why.

    >>> other = fl.train(fl.FedAvg(), data, "lenet", rounds=2, seed=1)
    >>> len(fl.path(run, other, points=5, limit=64).frame) >= 5
    True
    """
    if settings.part != "all":
        raise SettingError("part", settings.part, "a path joins whole models; use part='all'")
    subjects = named({"a": a, "b": b})
    ends = targets(subjects, data, settings)
    target, points = ends["a"], settings.points
    start, end = (vector_of(target, ends[name].model, name) for name in "ab")
    buffers = Buffers(buffers_of(target, ends["a"].model), buffers_of(target, ends["b"].model))
    held = (getattr(subject, "data", None) for subject in subjects.values())
    samples = _training_samples(train, data, settings.source, *held) if settings.curve else None
    meter = Points(target)

    def parts() -> Iterator[list[dict[str, Any]]]:
        """A row for each point of the line, nothing for each step of training, a row for each point of the curve."""
        yield from _along("line", lambda t: (1 - t) * start + t * end, buffers, meter, points)
        if samples is None:
            return
        function = {**settings.of(ObjectiveSettings), "dtype": target.images.dtype, "one_class": True}
        trainer, bend = Target.of(target.model, *samples, task=target.task, **function), start
        steps, lr, seed = settings.steps, settings.lr, settings.seed
        for trained in bezier_bends(trainer, start, end, buffers, steps=steps, lr=lr, seed=seed):
            bend = trained
            yield []
        yield from _along("bezier", lambda t: bezier(start, bend, end, t), buffers, meter, points)

    total = points + settings.curve * (points + settings.steps)
    rows, complete = gather(parts(), total, "path", progress)
    about = {"models": [getattr(model, "name", "") for model in (a, b)], "seed": settings.seed, "points": points}
    about |= {"curve steps": settings.steps, "curve lr": settings.lr} if settings.curve else {}
    measured = Path(pd.DataFrame(rows), {**target.about, **meter.about, **about, "complete": complete})
    if rows:
        table = measured.summary().set_index("curve")
        measured.about["barriers"] = {str(curve): float(barrier) for curve, barrier in table["barrier"].items()}
    return measured


def _along(
    curve: str, way: Callable[[float], Tensor], buffers: Buffers, meter: Points, points: int
) -> Iterator[list[dict[str, Any]]]:
    """The row of each point of a curve."""
    before, distance = way(0.0), 0.0
    for t in np.linspace(0, 1, points).tolist():
        point = way(t)
        distance += torch.linalg.vector_norm(point - before, dtype=torch.float64).item()
        before = point
        yield [{"curve": curve, "t": t, **meter.table([point], buffers=buffers.at(t))[0], "distance": distance}]


class Buffers(NamedTuple):
    """What two models keep besides their weights: running statistics, counts."""

    start: dict[str, Tensor]
    end: dict[str, Tensor]

    def at(self, t: float) -> dict[str, Tensor]:
        """Those on the way: numbers interpolated, counts those of the nearer end; exact at both."""
        nearer = self.start if t < 0.5 else self.end
        if t in (0.0, 1.0):
            return nearer
        return {
            name: torch.lerp(value, self.end[name], t) if value.is_floating_point() else nearer[name]
            for name, value in self.start.items()
        }


def bezier(start: Tensor, bend: Tensor, end: Tensor, t: float) -> Tensor:
    """The point t of a quadratic Bezier curve: (1 - t)^2 start + 2 t (1 - t) bend + t^2 end."""
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


def bezier_bends(
    target: Target,
    start: Tensor,
    end: Tensor,
    buffers: Buffers | None = None,
    *,
    steps: int = 500,
    lr: float = 0.05,
    seed: int = 0,
) -> Iterator[Tensor]:
    """The bend that makes the mean loss along the Bezier curve small (Garipov et al., 2018, arXiv 1802.10026).

    Stochastic gradient descent with momentum 0.9 on the loss at a uniform t and a random batch of 64, from the midpoint
    of the ends; the learning rate falls linearly to a hundredth over the second half.

    Args:
        target: training loss and samples.
        start: weights `[parameters]` at t = 0.
        end: weights at t = 1.
        buffers: running statistics of both ends, if they differ.
        steps: gradient steps.
        lr: learning rate.
        seed: names the draws of t and batches.

    Yields:
        The bend `[parameters]` after each step; the last is the result.

    Raises:
        SettingError: if the loss becomes infinite or NaN.
    """
    bend = ((start + end) / 2).requires_grad_()
    optimiser = torch.optim.SGD([bend], lr=lr, momentum=0.9)
    random, count = stream(seed, "bezier"), len(target.labels)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * min(1.0, max(0.01, 2 * (1 - step / steps)))
        t = random.random()
        drawn = torch.from_numpy(random.choice(count, min(BATCH, count), replace=False)).to(target.device)
        images = target.images[drawn].contiguous(memory_format=target.layout)
        point = {**target.shaped(bezier(start, bend, end, t)), **(buffers.at(t) if buffers else {})}
        mean = target.losses_of(target.outputs(point, images), target.labels[drawn]).mean()
        if not bool(mean.isfinite()):
            reason = f"the curve's loss became {mean.item()} after {step} steps; take a smaller one"
            raise SettingError("lr", lr, reason)
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()
        yield bend.detach()


def _training_samples(train: Any, *others: Any) -> tuple[Tensor, Tensor]:
    """Those of `train`; if it is None, of the first of the others that has some."""
    if train is not None and not hasattr(train, "samples"):
        return choose_samples(train)[:2]
    dataset = next((held for held in (train, *others) if hasattr(held, "samples")), None)
    if dataset is None:
        reason = "a curve needs samples to train on; give train=(images, labels) or a FederatedDataset"
        raise SettingError("train", allowed=reason)
    return dataset.samples("train")
