"""Loss along the way between two models: the straight line with its barrier, and a trained curve around the barrier.

path(run.model(50), run.model(60), run.data).plot()
path(run_a, run_b, curve=True).summary()
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from flatlab.arguments import Axis, Count, Positive, Settings, Whole, with_settings
from flatlab.declare import setting
from flatlab.geometry.evaluate_points import Points
from flatlab.geometry.inputs import buffers_of, named, targets, vector_of
from flatlab.geometry.objective import Target
from flatlab.models import frame
from flatlab.results import Result
from flatlab.streams import stream
from flatlab.training.progress import Progress, watched
from flatlab.training.threads import computing_with


@dataclass(frozen=True)
class Path(Result):
    """Loss and accuracy along curves in weight space.

    `frame`, one row a point: `curve` ("line" or "bezier"), `t` (0 at the first model, 1 at the second), `loss`,
    `accuracy` (0..1; NaN where the loss is not finite), `loss_error` (standard error over the samples), `distance`
    (from the first model, along the curve).
    """

    def summary(self) -> pd.DataFrame:
        """Per curve: loss and accuracy at the ends, the barriers and where the loss has its own, and the length.

        The barrier is max_t L(w_t) - ((1 - t) L(a) + t L(b)) (Entezari et al., 2022, arXiv 2110.06296; after Frankle et
        al., 2020, arXiv 1912.05671), 0 at least; that of the accuracy is the largest drop below its interpolation.
        Points whose loss is not finite are counted and left out of both.
        """
        rows = []
        for curve, points in self.frame.groupby("curve", sort=False):
            t, loss, accuracy = (points[name].to_numpy() for name in ("t", "loss", "accuracy"))
            with np.errstate(invalid="ignore"):
                rise = loss - ((1 - t) * loss[0] + t * loss[-1])
                drop = (1 - t) * accuracy[0] + t * accuracy[-1] - accuracy
            barrier, at = _largest(rise, t)
            row = {"curve": curve, "loss a": loss[0], "loss b": loss[-1], "barrier": barrier, "at": at}
            row |= {"accuracy a": accuracy[0], "accuracy b": accuracy[-1], "accuracy barrier": _largest(drop, t)[0]}
            row |= {"not finite": int((~np.isfinite(loss)).sum())}
            rows.append({**row, "length": points["distance"].iloc[-1]})
        return pd.DataFrame(rows)


def _largest(values: NDArray[Any], t: NDArray[Any]) -> tuple[float, float]:
    """The largest finite value and where it is; NaN if none is finite."""
    finite = np.flatnonzero(np.isfinite(values))
    top = finite[values[finite].argmax()] if len(finite) else None
    return (np.nan, np.nan) if top is None else (values[top], t[top])


class PathSettings(Settings):
    """How `path` goes from one model to the other."""

    points: Axis = setting(21, "on each curve, both ends included", span=(3, 101))
    curve: bool = setting(False, "also train a quadratic Bezier curve from a to b; see `bezier_bend`")
    steps: Count = setting(500, "steps of its training")
    lr: Positive = setting(0.05, "its learning rate", log=True, span=(1e-4, 1.0))
    seed: Whole = setting(0, "of samples and training")


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
    **selection: Any,
) -> Path:
    """Measure loss and accuracy between two models of one network.

    Running statistics of your own networks go the same way as the weights, from those of `a` to those of `b`, so that
    both ends are the models that predict; `statistics="batch"` has every batch re-estimate them on the way.

    Args:
        a: the model, or run, at t = 0.
        b: the one at t = 1.
        data: "holdout", "train" or "test" of the first run; a FederatedDataset; or (images, labels).
        settings: made of the keyword arguments.
        train: samples to train it on, (images, labels) or a FederatedDataset (all clients' training samples); by
            default those of the run or of `data`.
        progress: called with the training steps and points done and their number; False stops (a curve still in
            training is left out).
        **selection: as in `targets`: round, which, source, client, limit (1000 samples), batch, loss,
            statistics.

    Raises:
        ValueError: naming what cannot be measured, and why.
    """
    points, curve, steps, lr, seed = (value for _, value in settings)
    subjects = named({"a": a, "b": b})
    found = targets(subjects, data, seed=seed, **selection)
    target = found["a"]
    start, end = (vector_of(target, found[name].model, name) for name in "ab")
    ways: dict[str, Callable[[float], Tensor]] = {"line": lambda t: (1 - t) * start + t * end}
    kept = Buffers(buffers_of(target, found["a"].model), buffers_of(target, found["b"].model))
    meter, rows = Points(target), []
    with watched(progress, points + curve * (points + steps), "path") as proceed:
        if curve:
            samples = _training_samples(train, data, subjects)
            trainer = Target.of(target.model, *samples, loss=target.losses, one_class=True)
            bend = bezier_bend(trainer, start, end, kept, steps=steps, lr=lr, seed=seed, proceed=proceed)
            if bend is not None:
                ways["bezier"] = lambda t: bezier(start, bend, end, t)
        spent = curve * steps
        for name, way in ways.items():
            before, distance = start, 0.0
            for t in np.linspace(0, 1, points).tolist():
                point = way(t)
                losses, hits = (part[0].double() for part in meter.measure([point], kept.at(t)))
                distance += torch.linalg.vector_norm(point - before).item()
                before = point
                scores = {"loss": losses.mean().item(), "accuracy": hits.sum().item() / len(hits)}
                scores["accuracy"] = scores["accuracy"] if math.isfinite(scores["loss"]) else math.nan
                scores["loss_error"] = losses.std(correction=0).item() / len(losses) ** 0.5
                rows.append({"curve": name, "t": t, **scores, "distance": distance})
                if not proceed(spent + len(rows)):
                    return Path(pd.DataFrame(rows), {**target.about, **meter.about, "complete": False})
    about = {"models": [getattr(one, "name", "") for one in (a, b)], "seed": seed, "points": points}
    about |= {"curve steps": steps, "curve lr": lr} if curve else {}
    return Path(pd.DataFrame(rows), {**target.about, **meter.about, **about, "complete": len(ways) == 1 + curve})


class Buffers(NamedTuple):
    """What two models keep besides their weights: running statistics, counts."""

    start: dict[str, Tensor]
    end: dict[str, Tensor]

    def at(self, t: float) -> dict[str, Tensor]:
        """Those on the way: numbers interpolated, counts those of the nearer end; exact at both."""
        return {
            name: torch.lerp(value, self.end[name], t) if value.is_floating_point() and t not in (0.0, 1.0) else nearer
            for name, value in self.start.items()
            for nearer in [value if t < 0.5 else self.end[name]]
        }


def bezier(start: Tensor, bend: Tensor, end: Tensor, t: float) -> Tensor:
    """The point t of a quadratic Bezier curve: (1 - t)^2 start + 2 t (1 - t) bend + t^2 end."""
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


@computing_with(1)
def bezier_bend(
    target: Target,
    start: Tensor,
    end: Tensor,
    kept: Buffers | None = None,
    *,
    steps: int = 500,
    lr: float = 0.05,
    batch: int = 64,
    seed: int = 0,
    proceed: Callable[[int], bool] = lambda done: True,
) -> Tensor | None:
    """The bend that makes the mean loss along the Bezier curve small (Garipov et al., 2018, arXiv 1802.10026).

    Stochastic gradient descent with momentum 0.9 on the loss at a uniform t and a random batch, from the midpoint of
    the ends; the learning rate falls linearly to a hundredth over the second half.

    Args:
        target: training loss and samples.
        start: weights `[parameters]` at t = 0.
        end: weights at t = 1.
        kept: running statistics of both ends, if they differ.
        steps: gradient steps.
        lr: learning rate.
        batch: samples a step.
        seed: names the draws of t and batches.
        proceed: told after each step how many are done; if it says no, the result is None.

    Raises:
        ValueError: if the loss becomes infinite or NaN.
    """
    bend = ((start + end) / 2).requires_grad_()
    optimiser = torch.optim.SGD([bend], lr=lr, momentum=0.9)
    random, count = stream(seed, "bezier"), len(target.labels)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * min(1.0, max(0.01, 2 * (1 - step / steps)))
        t = random.random()
        some = torch.from_numpy(random.choice(count, min(batch, count), replace=False)).to(target.device)
        images = target.images[some].contiguous(memory_format=target.layout)
        point = {**target.shaped(bezier(start, bend, end, t)), **(kept.at(t) if kept else {})}
        mean = target.losses_of(target.outputs(point, images), target.labels[some]).mean()
        if not bool(mean.isfinite()):
            raise ValueError(f"lr = {lr}: the curve's loss became {mean.item()} after {step} steps; take a smaller one")
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()
        if not proceed(step + 1):
            return None
    return bend.detach()


def _training_samples(train: Any, data: Any, subjects: dict[str, Any]) -> tuple[Tensor, Tensor]:
    sources = [train, data, *(getattr(subject, "data", None) for subject in subjects.values())]
    if train is not None and not hasattr(train, "samples"):
        return train
    source = next((one for one in sources if hasattr(one, "samples")), None)
    if source is None:
        raise ValueError("train: a curve needs samples to train on; give train=(images, labels) or a FederatedDataset")
    images, labels = source.samples("train")
    return images, labels
