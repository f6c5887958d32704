"""Is the loss on a few synthetic images the loss on the real ones? Both, on one plane of weights around a model.

fl.geometry.surrogates(run).plot()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..arguments import Count, Positive, Seed, Whole, checked
from ..data import FederatedDataset
from ..later import pd
from ..results import Result
from ..streams import stream
from ..training import Run
from ..training.distill import distil
from .landscape_api import landscape
from .plane import Plane

BASELINE, RANDOM = "random real images", "random networks"
REAL = 128  # images of each class and client in a step, at most
ZONES = "at w", "within", "beyond"  # the model itself; up to the radius; farther
SPAN = 3.0  # the plane's half side, in radii


@dataclass(frozen=True)
class Surrogates(Result):
    """Losses of the run's task on synthetic and on real train images, a row a point of the plane and a surrogate.

    `frame`: `surrogate`, `x` and `y` (distances in all weights together), `distance` of the point from the model,
    `real` and `synthetic` loss, `zone` ("at w", "within" the radius, "beyond" it).
    """

    def summary(self) -> pd.DataFrame:
        """Per surrogate and zone: mean |synthetic - real|, mean real loss, and the ratio of these two."""
        rows = self.frame.assign(error=(self.frame["synthetic"] - self.frame["real"]).abs())
        means = rows.groupby(["surrogate", "zone"], sort=False)[["error", "real"]].mean().reset_index()
        return means.assign(relative=means["error"] / means["real"])


@checked
def surrogates(
    run: Run,
    *,
    radius: Positive = 5.0,
    ipc: Count = 10,
    iterations: Whole = 100,
    points: Count = 11,
    limit: Count = 500,
    seed: Seed = 0,
) -> Surrogates:
    """Distil the clients' images in several ways, and measure each where the real ones are measured.

    The ways: images as drawn (no distillation), features of random networks, features and logits at the model itself
    (rho 0), and at weights as far from it as the radius.

    Args:
        run: whose latest model is in the plane's middle.
        radius: FedDM's rho; the plane reaches three times as far.
        ipc: synthetic images per class and client.
        iterations: steps of the distillation.
        points: on an axis of the plane, odd.
        limit: real train images at most, drawn with the seed.
        seed: of images, weights and directions.

    Raises:
        SettingError: if a setting is out of range, or the images have masks.

    >>> made = fl.geometry.surrogates(run, ipc=1, iterations=1, points=3, limit=32)
    >>> made.summary()["surrogate"].unique().tolist()
    ['random real images', 'random networks', 'rho 0', 'rho 5']
    """
    model = run.model()
    ways: dict[str, dict[str, Any]] = {
        BASELINE: {"iterations": 0},
        RANDOM: {"iterations": iterations, "model": run.experiment.model},
        "rho 0": {"iterations": iterations, "at": model, "rho": 0.0},
        f"rho {radius:g}": {"iterations": iterations, "at": model, "rho": radius},
    }
    size = sum(value.numel() for value in model.parameters())
    plane = _plane(torch.cat([value.detach().flatten() for value in model.parameters()]), size, seed)

    def losses(data: FederatedDataset, most: int | None) -> pd.DataFrame:
        images = data.samples("train", limit=most)
        measured = landscape(
            model, images, directions=plane, points=points, span=SPAN * radius, loss=run.experiment.task, store=False
        )
        return measured.surfaces[["x", "y", "loss"]].reset_index(drop=True)

    real = losses(run.data, limit).rename(columns={"loss": "real"})
    distance = np.hypot(real["x"], real["y"])
    zone = np.select([distance == 0, distance <= radius], ZONES[:2], ZONES[2])
    frames = []
    for name, way in ways.items():
        made = distil(run.data, ipc=ipc, real=REAL, seed=seed, **way)
        told = {"distance": distance, "zone": zone, "synthetic": losses(made, None)["loss"]}
        frames.append(real.assign(surrogate=name, **told))
    about = {"radius": radius, "ipc": ipc, "iterations": iterations, "samples": limit, "seed": seed, "run": run.id}
    return Surrogates(pd.concat(frames, ignore_index=True), about)


def _plane(origin: torch.Tensor, size: int, seed: int) -> Plane:
    """Two random directions of length 1 at right angles, so that coordinates are distances."""
    drawn = torch.from_numpy(stream(seed, "surrogates").standard_normal((size, 2)))
    axes = torch.linalg.qr(drawn).Q.T.to(origin)
    return Plane(origin, axes[0].contiguous(), axes[1].contiguous(), kind="random", scale="distance in weight space")
