"""What a landscape costs: a point in forward passes of the plain network, and a 21x21 plane, whole and refined.

    python benchmarks/landscape.py [--planes] [--data data] [--out benchmarks/results]

2,000 CIFAR-10 images (random ones without `data/cifar10.npz`), `cnn4` with batch statistics, all cores. The ways take
turns, so that a busy machine slows all of them; trust the ratios. The floor is the time of the convolutions alone.
`--planes` measures both planes for real (minutes), with the true error of the refined one at every point.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import header, write
from torch import Tensor, nn
from torch.nn import functional as F

import flatlab as fl
from flatlab.geometry.evaluate_points import Points
from flatlab.geometry.objective import Target

POINTS = 21
TURNS = 7


def problem(root: Path, samples: int) -> tuple[nn.Module, Tensor, Tensor, str]:
    """`cnn4` after 300 steps, so that its loss has a shape, and the samples."""
    model = fl.models.build(fl.ModelSpec(name="cnn4"), (3, 32, 32), 10)
    if not (root / "cifar10.npz").exists():
        return model, torch.randn(samples, 3, 32, 32), torch.arange(samples) % 10, "random images"
    data = fl.load("cifar10", root=root).federate(fl.IID(), clients=1)
    images, labels = data.samples("train", limit=10_000)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    random = torch.Generator().manual_seed(0)
    for _ in range(300):
        chosen = torch.randint(len(labels), (50,), generator=random)
        optimiser.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimiser.step()
    optimiser.zero_grad()
    return model, *data.samples("holdout", limit=samples), "cifar10"


@torch.no_grad()
def point_costs(target: Target) -> dict[str, float]:
    """Seconds of a point, of plain forward passes in both memory formats, and of the convolutions alone: the least."""
    meter = Points(target)
    vector = target.flat(target.weights)
    inputs: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda conv, given: inputs.append((conv, given[0])))
        for layer in target.model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    target.model(meter.batches[0])
    for hook in hooks:
        hook.remove()
    full = len(target.labels) / len(meter.batches[0])

    def forward(layout: torch.memory_format) -> Callable[[], None]:
        batches = [images.contiguous(memory_format=layout) for images in meter.batches]
        return lambda: [target.model(images) for images in batches] and None

    def convolutions() -> None:
        for _ in range(round(full)):
            for conv, given in inputs:
                F.conv2d(given, conv.weight, conv.bias, conv.stride, conv.padding)

    some = [vector] * meter.at_once
    ways: dict[str, Callable[[], Any]] = {
        "point": lambda: meter.measure(some),
        "forward, channels last": forward(torch.channels_last),
        "forward, contiguous": forward(torch.contiguous_format),
        "convolutions alone": convolutions,
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(TURNS):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best | {"point": best["point"] / len(some)}


def planes(model: nn.Module, data: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Seconds of the refined and of the whole plane, points measured, stated and true error in shares of the range."""
    measured = functools.partial(fl.landscape, model, data, points=POINTS, limit=None)
    start = time.perf_counter()
    refined = measured(refine=True)
    middle = time.perf_counter()
    whole = measured()
    end = time.perf_counter()
    true = whole.surface()[2]
    points = refined.frame[refined.frame["series"] == "surface"]
    stated = refined.about["spline_error"].get("model 1")
    return {
        "refined_seconds": middle - start,
        "refined_points": int(points["measured"].sum()),
        "stated_error": stated,
        "true_error": float(np.abs(refined.surface()[2] - true).max() / np.ptp(true)),
        "whole_seconds": end - middle,
        "whole_points": true.size,
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", action="store_true", help="measure two 21x21 planes as well")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model, images, labels, name = problem(arguments.data, arguments.samples)
    seconds = point_costs(Target.of(model, images, labels))
    plain = min(seconds["forward, channels last"], seconds["forward, contiguous"])
    report: dict[str, Any] = {
        **header("torch", "numpy"),
        "problem": {"data": name, "samples": len(labels), "model": "cnn4"},
        "seconds": seconds,
        "point_in_forwards": seconds["point"] / plain,
        "point_in_convolutions": seconds["point"] / seconds["convolutions alone"],
        "whole_plane_from_points": seconds["point"] * POINTS**2,
        "whole_plane_of_convolutions_alone": seconds["convolutions alone"] * POINTS**2,
    }
    if arguments.planes:
        report["planes"] = planes(model, (images, labels))
    print(json.dumps(report, indent=1))
    print(f"written to {write(report, 'landscape', arguments.out)}")


if __name__ == "__main__":
    main()
