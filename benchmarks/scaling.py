"""How a round's cost grows: with clients in the data set, cohort, width, and over a thousand rounds.

    python benchmarks/scaling.py [--device cpu] [--data data] [--rounds 1000] [--out benchmarks/results]

`outside` is the share of a round's computing time (the whole of `Run.step`, without evaluation, on all cores) that is
not spent in the clients' steps: forward, backward, update. `idle` is the share of the cores' time in which there was
nothing to do, above all while the other core trained the last client. On CUDA a step only starts work, so there both
are left out and seconds say it all; so they are where torch shares a client's layers among the cores.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from federation import cifar, memory
from report import header, write
from torch import Tensor

import flatlab as fl
from flatlab.algorithms import Carry
from flatlab.data import FederatedDataset

IN_STEPS: list[float] = []  # seconds of computing, of each step of every thread


class Timed(fl.FedAvg):
    """FedAvg that adds up the time of its steps."""

    kind: Literal["timed-benchmark"] = "timed-benchmark"  # type: ignore[assignment]

    def step(self, carry: Carry, gradient: Callable[..., Any], lr: float | Tensor) -> tuple[Carry, Tensor]:
        """As FedAvg's."""
        start = time.thread_time()
        done = super().step(carry, gradient, lr)
        IN_STEPS.append(time.thread_time() - start)
        return done


def measured(
    data: FederatedDataset, cohort: int, model: fl.ModelSpec, device: str, rounds: int = 5, epochs: int = 1
) -> dict[str, Any]:
    """Medians of a round's seconds and shares, after a round to warm up."""
    with tempfile.TemporaryDirectory() as store:
        experiment = fl.Experiment(
            data=data.spec,
            model=model,
            algorithm=Timed(lr=0.01, epochs=epochs),
            rounds=10_000,
            participation=cohort / data.clients,
            evaluation=fl.Evaluation(every=0),
        )
        run = fl.Run(experiment, data, store=store, device=device)
        run.step()
        cores, alone = run.cohort.workers, run.cohort.workers > 1 or run.cohort.threads == 1
        seconds, outside, idle = [], [], []
        for _ in range(rounds):
            IN_STEPS.clear()
            start, computed = time.perf_counter(), time.process_time()
            run.step()
            seconds.append(time.perf_counter() - start)
            computed = time.process_time() - computed
            outside.append(1 - sum(IN_STEPS) / computed)
            idle.append(1 - computed / seconds[-1] / cores)
        row: dict[str, Any] = {"seconds": statistics.median(seconds)}
        if run.device.type == "cpu" and alone:
            row |= {"outside": statistics.median(outside), "idle": statistics.median(idle), "cores": cores}
        return row | {"peak MiB": memory(run.device)}


def long(data: FederatedDataset, device: str, rounds: int) -> dict[str, Any]:
    """Rounds of a tiny network in one process: seconds of each tenth's round and memory after it."""
    with tempfile.TemporaryDirectory() as store:
        experiment = fl.Experiment(
            data=data.spec,
            model=fl.ModelSpec(name="cnn4", width=0.1, norm="group", groups=2),
            algorithm=fl.FedAvg(lr=0.01),
            rounds=rounds,
            participation=2 / data.clients,
            evaluation=fl.Evaluation(every=10),
        )
        run = fl.Run(experiment, data, store=store, device=device)
        seconds, used = [], []
        for tenth in range(10):
            start = time.perf_counter()
            run.to((tenth + 1) * rounds // 10)
            seconds.append((time.perf_counter() - start) / (rounds // 10))
            gc.collect()
            used.append(_resident(run.device))
        return {"rounds": rounds, "seconds a round, by tenth": seconds, "MiB after each tenth": used}


def _resident(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=1000, help="of the long run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    report: dict[str, Any] = {}

    def say(name: str, row: dict[str, Any]) -> None:
        report[name] = row
        print(
            name,
            {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()},
            flush=True,
        )

    small = cifar(options.data, 100, 50)
    say(f"{options.rounds} rounds", long(small, options.device, options.rounds))
    cnn4 = fl.ModelSpec(name="cnn4")
    for clients in (10, 100, 1000, 10_000):
        data = cifar(options.data, clients, 50)
        for model in (cnn4, fl.ModelSpec(name="lenet")):
            row = measured(data, 4, model, options.device, epochs=5)
            say(f"{model.name}, 4 of {clients} clients, 5 epochs", row)
        del data
    whole_set = cifar(options.data, 100, 500)
    for model in (cnn4, fl.ModelSpec(name="lenet")):
        row = measured(whole_set, 4, model, options.device, rounds=3)
        say(f"{model.name}, 4 of 100 clients of 500 images", row)
    for cohort in (1, 3, 10, 30, 100):
        say(f"cnn4, {cohort} of 100 clients", measured(small, cohort, cnn4, options.device, rounds=3))
    for width in (0.25, 0.5, 1.0, 2.0):
        wide = fl.ModelSpec(name="cnn4", width=width)
        say(f"cnn4 of width {width}, 10 of 100 clients", measured(small, 10, wide, options.device, rounds=3))

    whole = {
        **header("flatlab", "torch", "numpy", device=options.device),
        "rows": report,
    }
    print(f"written to {write(whole, 'scaling', options.out)}")


if __name__ == "__main__":
    main()
