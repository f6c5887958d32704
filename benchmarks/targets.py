"""The runs whose time on a GPU is a goal of the project, one after another, beside the goal.

    python benchmarks/targets.py [--only fedasam setup-b ...] [--share 1.0] [--precision tf32] [--out results]

`--share 0.01` does a hundredth of the rounds and says what the whole would take: to try the script on a CPU. Data:
CIFAR from `--data` (else random images of its shape). The first round of an entry, which loads libraries, chooses
kernels and records graphs, is said apart. Setups A to C are the published work of pfl-research, BlazeFL and
FL-Simulator, without dropout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from federation import cifar, memory, wait
from report import header, write
from torchvision.models import resnet18

import flatlab as fl
from flatlab.data import FederatedDataset
from flatlab.models import Model, split, stateless
from flatlab.training import score
from flatlab.training.network import describe

sys.path.insert(0, str(Path(__file__).parent / "rivals"))
from work import CnnA, CnnB  # networks of the rivals' setups

SMALLEST = 2  # rounds


class Bench:
    """What all entries need: device, data, share of the rounds, precision."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device, self.share, self.precision = options.device, options.share, options.precision
        self.root = options.data
        self._data: dict[Any, FederatedDataset] = {}
        self.folder = tempfile.TemporaryDirectory()

    def data(self, clients: int, each: int, partition: fl.Partition | None = None) -> FederatedDataset:
        """CIFAR-10 in this federation."""
        key = (clients, each, partition)
        if key not in self._data:
            self._data[key] = cifar(self.root, clients, each, partition or fl.IID())
        return self._data[key]

    def run(self, name: str, data: FederatedDataset, model: str | fl.ModelSpec | Model, **settings: Any) -> fl.Run:
        """A run in a store of its own."""
        own, spec = describe(model)
        experiment = fl.Experiment(data=data.spec, model=spec, **settings)
        where = {"store": f"{self.folder.name}/{name}", "device": self.device, "precision": self.precision}
        return fl.Run(experiment, data, own, **where)

    def train(self, name: str, rounds: int, *arguments: Any, **settings: Any) -> dict[str, Any]:
        """Seconds of a training of `rounds` rounds, evaluation and files included."""
        run = self.run(name, *arguments, rounds=rounds, **settings)
        done = min(rounds, max(SMALLEST, round(rounds * self.share)))
        start = time.perf_counter()
        run.to(1)
        middle = time.perf_counter()
        run.to(done)
        wait(run.device)
        end = time.perf_counter()
        last = run.history.query("split == 'holdout' and metric == 'accuracy'")["value"]
        return {
            "seconds": (end - middle) * rounds / (done - 1),
            "first round": middle - start,
            "rounds": rounds,
            "rounds done": done,
            "samples/s": float(run.timings["samples"][1:].sum() / (end - middle)),
            "accuracy": None if last.empty else float(last.iloc[-1]),
        }


def fedasam(bench: Bench, name: str = "asam") -> dict[str, Any]:
    """FedASAM paper: 5 of 100 clients, alpha 0, batch 64, lr .01, decay 4e-4, 10,000 rounds, tested every 100."""
    settings = {"lr": 0.01, "batch_size": 64, "weight_decay": 4e-4}
    algorithm = fl.FedASAM(rho=0.7, eta=0.2, **settings) if name == "asam" else fl.FedAvg(**settings)
    data = bench.data(100, 500, fl.Dirichlet(alpha=0))
    return bench.train(
        name, 10_000, data, "lenet", algorithm=algorithm, participation=0.05, evaluation=fl.Evaluation(every=100)
    )


def fedavg(bench: Bench) -> dict[str, Any]:
    """The same with FedAvg."""
    return fedasam(bench, "avg")


def setup_a(bench: Bench) -> dict[str, Any]:
    """pfl-research's work: 50 of 1,000 users with 50 images, batch 10, 1,500 rounds, tested every 10."""
    algorithm = fl.FedAvg(lr=0.1, batch_size=10, aggregation="uniform")
    evaluation = fl.Evaluation(every=10, batch_size=1000)
    model = split(CnnA(), head="last")
    return bench.train(
        "a", 1500, bench.data(1000, 50), model, algorithm=algorithm, participation=0.05, evaluation=evaluation
    )


def setup_b(bench: Bench, model: Model | None = None) -> dict[str, Any]:
    """BlazeFL's work, small CNN: 100 clients, 2 of 200 shards each, 5 rounds of 5 epochs, batch 50, all tested."""
    return bench.train(
        "b" if model is None else "b-resnet",
        5,
        bench.data(100, 500, fl.Shards(per_client=2)),
        model or split(CnnB(), head="last"),
        algorithm=fl.FedAvg(lr=0.1, epochs=5),
        evaluation=fl.Evaluation(batch_size=1000),
    )


def setup_b_resnet(bench: Bench) -> dict[str, Any]:
    """The same with torchvision's ResNet-18, on 32x32 images."""
    return setup_b(bench, split(stateless(resnet18(num_classes=10)), head="fc"))


def setup_c(bench: Bench) -> dict[str, Any]:
    """FL-Simulator's work: ResNet-18 with 2-group norm, 10 of 100 clients, 5 epochs; tests on 50k train + 10k test."""
    data = bench.data(100, 500)
    model = split(stateless(resnet18(num_classes=10), norm="group", groups=2), head="fc")
    algorithm = fl.FedAvg(lr=0.1, epochs=5, weight_decay=1e-3, clip=10.0)
    settings = {"algorithm": algorithm, "participation": 0.1, "evaluation": fl.Evaluation(batch_size=1000)}
    run = bench.run("c", data, model, rounds=1000, **settings)
    times = []
    for _ in range(max(2, round(4 * bench.share))):
        start = time.perf_counter()
        run.step()
        pool = torch.cat(run.data.train)
        few = pool[: max(1000, round(len(pool) * bench.share))]
        float(score(run.cohort, run.state().served, few, 1000).loss)
        times.append(time.perf_counter() - start)
    return {"seconds": min(times[1:]), "first round": times[0]}


def personalization(bench: Bench) -> dict[str, Any]:
    """100 clients fine-tune mobilenet for 10 epochs and are tested after each."""
    data = bench.data(100, 500, fl.Shards(per_client=2))
    run = bench.run("p", data, "mobilenet", algorithm=fl.FedBABU(), rounds=1, evaluation=fl.Evaluation(every=0))
    clients = list(range(max(2, round(100 * bench.share))))
    fl.personalize(run, epochs=1, clients=clients)
    start = time.perf_counter()
    fl.personalize(run, epochs=10, clients=clients)
    return {"seconds": (time.perf_counter() - start) * 100 / len(clients), "clients": len(clients)}


def surface(bench: Bench) -> dict[str, Any]:
    """51 x 51 points on 10,000 images with lenet."""
    run = bench.run("l", bench.data(100, 500), "lenet", algorithm=fl.FedAvg(), rounds=1)
    points = 51 if bench.share == 1 else 7
    fl.landscape(run, points=3, limit=None)
    start = time.perf_counter()
    fl.landscape(run, points=points, limit=None)
    return {"seconds": (time.perf_counter() - start) * 51**2 / points**2, "points": points}


def curvature(bench: Bench) -> dict[str, Any]:
    """Top 5 eigenvalues and trace on 10,000 images with lenet."""
    run = bench.run("h", bench.data(100, 500), "lenet", algorithm=fl.FedAvg(), rounds=1)
    limit = round(10_000 * max(bench.share, 0.05))
    start = time.perf_counter()
    measured = fl.hessian(run, limit=limit)
    measured.top(5)
    measured.trace()
    return {"seconds": (time.perf_counter() - start) * 10_000 / limit, "samples": limit}


TARGETS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {
    "fedasam": (fedasam, 90),
    "fedavg": (fedavg, 45),
    "setup-a": (setup_a, 20),
    "setup-b": (setup_b, 3),
    "setup-b-resnet18": (setup_b_resnet, 15),
    "setup-c": (setup_c, 1),
    "personalization": (personalization, 20),
    "landscape": (surface, 15),
    "hessian": (curvature, 10),
}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--share", type=float, default=1.0, help="of the rounds, clients or points, (0, 1]")
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    bench, rows = Bench(options), {}
    report: dict[str, Any] = {
        **header("flatlab", "torch", "numpy", device=options.device),
        "data": "cifar10" if (options.data / "cifar10.npz").exists() else "random images",
        "precision": options.precision,
        "share": options.share,
        "rows": rows,
    }
    for name in options.only:
        measure, goal = TARGETS[name]
        try:
            row = measure(bench)
        except Exception as error:  # the others are worth having; this one is named
            row = {"failed": f"{type(error).__name__}: {error}"}
        rows[name] = row | {"goal": goal, "what": measure.__doc__, "peak MiB": memory(torch.device(options.device))}
        print(f"{name:17} {row.get('seconds', float('nan')):8.2f} s, goal {goal} s  {row}", flush=True)
        write(report, "targets", options.out, f"-{options.precision}")


if __name__ == "__main__":
    main()
