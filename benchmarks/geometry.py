"""What Hessian-vector products, eigenvalues and traces cost, beside PyHessian, power iteration and scipy, in one run.

    python benchmarks/geometry.py [--quick] [--device cpu] [--data data] [--out benchmarks/results]

Trust the ratios of one run, not its times. The problem: a quarter-width 4-conv net with GroupNorm (7,706 parameters),
trained for 500 steps on CIFAR-10 at 16x16 if `data/cifar10.npz` is there, else on scikit-learn's digits at 8x8. On a
CPU one thread and its CPU seconds, on a GPU seconds until it is idle; medians over seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyhessian
import torch
from report import header, write
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

import flatlab as fl
from flatlab.geometry.hvp import HessianProducts
from flatlab.geometry.lanczos import lanczos
from flatlab.geometry.model_hessian import DEFLATED
from flatlab.geometry.objective import Target
from flatlab.geometry.power import power_iteration
from flatlab.geometry.trace import hutchinson

LIMITS = {"GroupNorm": 2.6, "batch statistics": 3.5}


def clock(device: torch.device) -> float:
    """Seconds: of this process on a CPU, of the wall on a GPU once it is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """Time of one call."""
    start = clock(device)
    call()
    return clock(device) - start


def cost_of_products(samples: int, repetitions: int, device: torch.device) -> pd.DataFrame:
    """A product in gradients of the same samples, full-width 4-conv net on 32x32 images: median of paired ratios."""
    rows = []
    images, labels = torch.randn(samples, 3, 32, 32, device=device), torch.arange(samples, device=device) % 10
    for norm, spec in (("GroupNorm", "group"), ("batch statistics", "batch")):
        model = fl.models.build(fl.ModelSpec(name="cnn4", norm=spec), (3, 32, 32), 10).to(device)
        target = Target.of(model, images, labels)
        vector = torch.randn(target.size, device=device)
        ways = {"cached graphs": HessianProducts(target), "recomputed": HessianProducts(target, memory=0)}
        for way, products in ways.items():
            products(vector), target.gradient()
            gradients, times = [], []
            for _ in range(repetitions):
                gradients.append(seconds_of(target.gradient, device))
                times.append(seconds_of(functools.partial(products, vector), device))
            ratio = statistics.median(t / g for t, g in zip(times, gradients, strict=True))
            rows.append(
                {
                    "norm": norm,
                    "graphs": way,
                    "batch": target.about["batch"],
                    "gradient_ms_per_sample": 1e3 * statistics.median(gradients) / samples,
                    "product_in_gradients": ratio,
                    "limit": LIMITS[norm] if way == "cached graphs" else None,
                }
            )
            products.release()
    return pd.DataFrame(rows)


def problem(root: Path, samples: int) -> tuple[nn.Module, Tensor, Tensor, str]:
    """A small trained net, the samples of its loss, and what they are."""
    name = "cifar10" if (root / "cifar10.npz").exists() else "digits"
    data = fl.load(name, root=root).federate(fl.IID(), clients=1)
    images, labels = data.samples("train", limit=2000)
    if images.shape[-1] > 16:
        images = nn.functional.avg_pool2d(images, 2)
    model = fl.models.build(fl.ModelSpec(name="cnn4", norm="group", width=0.25), tuple(images.shape[1:]), data.classes)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    random = torch.Generator().manual_seed(0)
    for _ in range(500):
        chosen = torch.randperm(len(labels), generator=random)[:50]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimiser.step()
    optimiser.zero_grad()
    return model, images[:samples], labels[:samples], name


class Counted:
    """Products of a target, with what they took."""

    def __init__(self, target: Target) -> None:
        self.products = HessianProducts(target)
        self.like = target.flat(target.weights)

    def measure(self, answer: Callable[[], Any]) -> tuple[Any, int, float]:
        """The answer, its products and seconds; cached graphs are built within."""
        self.products.release()
        before, start = self.products.count, clock(self.like.device)
        found = answer()
        return found, self.products.count - before, clock(self.like.device) - start


def theirs(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Any, list[int]]:
    """PyHessian as released, and a counter of its products."""
    # The package's attribute `hessian` is the class, so its module is only found here.
    module, count = sys.modules["pyhessian.hessian"], [0]
    original = getattr(module.hessian_vector_product, "original", module.hessian_vector_product)

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return original(*arguments)

    counted.original = original  # type: ignore[attr-defined]
    module.hessian_vector_product = counted  # type: ignore[attr-defined]
    return pyhessian.hessian(model, nn.CrossEntropyLoss(), data=(images, labels), cuda=images.is_cuda), count


def eigenvalues(model: nn.Module, images: Tensor, labels: Tensor, seeds: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Top 5 by each method: products, seconds, worst relative error; and the reference values."""
    target = Target.of(model, images, labels)
    mine = Counted(target)
    double = HessianProducts(Target.of(model, images, labels, dtype=torch.float64))
    # Independent of flatlab's Lanczos, and in double precision.
    exact = np.sort(_scipy(double, 5, 1e-8, 0))[::-1]
    rows = []
    for seed in range(seeds):
        package, count = theirs(model, images, labels)
        torch.manual_seed(seed)
        start = clock(images.device)
        values = np.array(package.eigenvalues(top_n=5)[0])
        rows.append(("PyHessian, its default", values, count[0], clock(images.device) - start))
        for name, answer in {
            "flatlab Lanczos": lambda seed=seed: lanczos(mine.products, mine.like, seed).extreme(5),
            "power iteration (paper)": lambda seed=seed: power_iteration(mine.products, mine.like, 5, seed=seed),
            "scipy eigsh, tol 1e-3": lambda seed=seed: _scipy(mine.products, 5, 1e-3, seed),
        }.items():
            found, products, seconds = mine.measure(answer)
            rows.append((name, getattr(found, "values", found), products, seconds))
    frame = pd.DataFrame(
        [
            (name, products, seconds, float(np.abs(np.sort(found)[::-1] / exact - 1).max()))
            for name, found, products, seconds in rows
        ],
        columns=["method", "products", "seconds", "error"],
    )
    return _medians(frame), exact


def _scipy(products: HessianProducts, k: int, tolerance: float, seed: int) -> np.ndarray:
    size, dtype = products.target.size, products.target.images.dtype

    def matvec(vector: np.ndarray) -> np.ndarray:
        given = torch.as_tensor(vector, dtype=dtype, device=products.target.device).reshape(-1)
        return products(given).double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    return eigsh(operator, k=k, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)


def traces(model: nn.Module, images: Tensor, labels: Tensor, seeds: int, probes: int) -> tuple[pd.DataFrame, Any]:
    """Trace to a standard error of 3 %: products (eigenvectors included), seconds, error; and the reference."""
    mine = Counted(Target.of(model, images, labels))

    def deflated(seed: int, tolerance: float = 0.03, budget: int = 400) -> Any:
        space = lanczos(mine.products, mine.like, seed)
        known = {"basis": space.basis(DEFLATED), "basis_trace": space.trace(DEFLATED)}
        return hutchinson(mine.products, mine.like, **known, tolerance=tolerance, budget=budget, seed=seed)

    truth = deflated(seed=10**6, tolerance=1e-9, budget=probes)
    rows = []
    for seed in range(seeds):
        for name, answer in {
            "flatlab, deflated": lambda seed=seed: deflated(seed),
            "Hutchinson, plain": lambda seed=seed: hutchinson(mine.products, mine.like, budget=400, seed=seed),
        }.items():
            found, products, seconds = mine.measure(answer)
            rows.append((name, products, seconds, abs(found.value / truth.value - 1)))
        package, count = theirs(model, images, labels)
        torch.manual_seed(seed)
        start = clock(images.device)
        value = float(np.mean(package.trace()))
        rows.append(("PyHessian, its default", count[0], clock(images.device) - start, abs(value / truth.value - 1)))
    frame = pd.DataFrame(rows, columns=["method", "products", "seconds", "error"])
    return _medians(frame), truth


def _medians(frame: pd.DataFrame) -> pd.DataFrame:
    by = frame.groupby("method", sort=False)
    table = by[["products", "seconds"]].median()
    table["most_products"] = by["products"].max()
    table["median_error"], table["worst_error"] = by["error"].median(), by["error"].max()
    return table.reset_index()


def main() -> None:
    """Run all, print the tables, write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer samples, seeds and repetitions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quick, device = arguments.quick, torch.device(arguments.device)
    cost = cost_of_products(64 if quick else 256, 3 if quick else 7, device)
    model, images, labels, name = problem(arguments.data, 64 if quick else 256)
    model, images, labels = model.to(device), images.to(device), labels.to(device)
    top, values = eigenvalues(model, images, labels, seeds=1 if quick else 5)
    trace, truth = traces(model, images, labels, seeds=1 if quick else 5, probes=60 if quick else 400)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"\nA Hessian-vector product, in gradients of the same samples\n{cost.to_string(index=False)}")
    print(f"\nTop 5 of {size} on {len(labels)} samples of {name}: {np.array2string(values, precision=4)}")
    print(top.to_string(index=False))
    share = truth.standard_error / truth.value
    print(
        f"\nTrace to 3 %; reference {truth.value:.4g} with standard error {share:.2%}\n{trace.to_string(index=False)}"
    )
    report = {
        **header("torch", "pyhessian", "scipy", "numpy", device=device),
        "quick": quick,
        "problem": {"data": name, "parameters": size, "samples": len(labels), "top": values.tolist()},
        "products": json.loads(cost.to_json(orient="records")),
        "top5": json.loads(top.to_json(orient="records")),
        "trace": json.loads(trace.to_json(orient="records")),
        "trace_reference": {"value": truth.value, "standard_error": truth.standard_error},
    }
    print(f"\nwritten to {write(report, 'geometry', arguments.out, '-quick' if quick else '')}")


if __name__ == "__main__":
    main()
