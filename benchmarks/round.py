"""What a training round costs: against a bare loop over its batches, as one batch against one after another.

    python benchmarks/round.py [--device cpu] [--data data] [--models cnn4 lenet] [--full] [--out benchmarks/results]

Each case runs in a fresh process: CIFAR-10 with crop and flip, 100 clients, batches of 50. The ways take turns, so that
a busy machine slows all of them; the ratios are medians over paired turns. `bare` is forward, backward and SGD over the
same batches, ready in memory. A round is the whole of `Run.step` without evaluation: drawing, gathering, augmentation,
training, folding, server, record on disk. On a CPU `batch` is measured only with --full: it is slower there.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from federation import bare, cifar, memory, passes, peak, wait
from report import header, write

import flatlab as fl

ALGORITHMS = {"FedAvg": fl.FedAvg(lr=0.01), "FedBABU": fl.FedBABU(lr=0.01), "FedASAM": fl.FedASAM(lr=0.01)}
MODELS = ("cnn4", "lenet", "mobilenet", "resnet18")
SAMPLES = {"cpu": {"mobilenet": 50, "resnet18": 50}, "cuda": {}}  # a client's, where not 500


class Case(NamedTuple):
    """One line of the table."""

    model: str
    algorithm: str
    cohort: int
    device: str
    precision: str
    engines: tuple[str, ...]
    turns: int
    data: Path


def measured(case: Case) -> dict[str, Any]:
    """Seconds of each engine's round and of the bare loop, in turns."""
    device = torch.device(case.device)
    each = SAMPLES[device.type].get(case.model, 500)
    data = cifar(case.data, 100, each)
    algorithm = ALGORITHMS[case.algorithm]
    found: dict[str, list[float]] = {engine: [] for engine in case.engines}
    with tempfile.TemporaryDirectory() as folder:
        experiment = fl.Experiment(
            data=data.spec,
            model=fl.ModelSpec(name=case.model),
            algorithm=algorithm,
            rounds=10_000,
            participation=case.cohort / 100,
            evaluation=fl.Evaluation(every=0),
        )
        runs = {
            engine: fl.Run(
                experiment, data, store=f"{folder}/{engine}", device=device, engine=engine, precision=case.precision
            )
            for engine in case.engines
        }
        first = runs[case.engines[0]]
        loop = bare(first, 0, device) if case.precision == "float32" else None
        found |= {"bare": []} if loop else {}
        for turn in range(-1, case.turns):  # the first warms up
            for engine, run in runs.items():
                start = time.perf_counter()
                run.step()  # ends by reading the losses, which waits for the device
                if turn >= 0:
                    found[engine].append(time.perf_counter() - start)
            if loop:
                seconds = loop()
                if turn >= 0:
                    found["bare"].append(seconds)
        wait(device)
    samples = case.cohort * each
    best = statistics.median(found[case.engines[0]])
    return {
        "model": case.model,
        "algorithm": case.algorithm,
        "cohort": case.cohort,
        "precision": case.precision,
        "samples a client": each,
        "seconds": {way: statistics.median(values) for way, values in found.items()},
        "samples/s": samples / best,
        "operations/s": samples / best * passes(first.model(), data.shape, algorithm),
        "ratios": {
            f"{case.engines[0]} / {way}": statistics.median(
                a / b for a, b in zip(found[case.engines[0]], values, strict=True)
            )
            for way, values in found.items()
            if way != case.engines[0]
        },
        "pace": {name: getattr(first.cohort, name) for name in ("threads", "workers", "channels_last", "convolution")},
        "peak MiB": memory(device),
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--algorithms", nargs="*", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--cohorts", nargs="*", type=int)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="every engine and precision, and cohorts up to 100")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    engines = ("graph", "batch", "loop") if cuda else ("loop", "batch") if options.full else ("loop",)
    cohorts = options.cohorts or ((5, 10, 100) if cuda else (5,))
    precisions = ("float32", "tf32", "bfloat16") if cuda else ("float32",)
    top = peak(torch.device(options.device))
    rows = []
    print(f"peak {top / 1e12:.2f} Tflop/s in float32")
    for model, name, cohort, precision in itertools.product(options.models, options.algorithms, cohorts, precisions):
        ways = engines if precision == "float32" else engines[:1]
        if cohort > 10 and cuda:
            ways = tuple(way for way in ways if way != "loop")  # minutes, and known
        case = Case(model, name, cohort, options.device, precision, ways, options.turns, options.data)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            row = pool.submit(measured, case).result()
        row["share of peak"] = row["operations/s"] / top
        rows.append(row)
        seconds = ", ".join(f"{way} {value:.4g} s" for way, value in row["seconds"].items())
        print(
            f"{model:9} {name:8} cohort {cohort:3} {precision:8} {row['samples/s']:8,.0f} samples/s"
            f" {row['share of peak']:6.1%} of peak, {row['peak MiB']:6,.0f} MiB; {seconds}; {row['ratios']}",
            flush=True,
        )
    about = header("flatlab", "torch", "numpy", device=options.device)
    about["machine"]["peak float32 flop/s"] = top
    report = {
        **about,
        "data": "cifar10" if (options.data / "cifar10.npz").exists() else "random images",
        "rows": rows,
    }
    print(f"written to {write(report, 'round', options.out)}")


if __name__ == "__main__":
    main()
