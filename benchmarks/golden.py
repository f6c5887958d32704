"""Golden runs: digests of every bit that each algorithm leaves on each engine, to compare before and after a change.

    python benchmarks/golden.py --record /tmp/golden.json   # before
    python benchmarks/golden.py --check /tmp/golden.json    # after, on the same machine with the same torch

Every named algorithm and each thing that composes (memory, servers, averages, server data, pooled data, aggregations)
trains a narrow network for two rounds, one client after another, as one batch, and on the tensors of a CUDA graph (run
on a CPU without one); some also in lockstep with another seed. A digest covers names, shapes and bytes of all tensors
of the last state, and the history's numbers. They belong to one machine and one torch, so the file is no part of git.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from report import header

import flatlab as fl
from flatlab.training.lockstep import train_together

SPEC = fl.ModelSpec(name="cnn4", width=0.125)
COMMON: dict[str, Any] = {"lr": 0.1, "batch_size": 16}
NAMED = (
    *(fl.FedAvg, fl.FedAvgM, fl.FedProx, fl.FedBABU, fl.FedSAM, fl.FedASAM, fl.FedPer, fl.LocalOnly, fl.Centralized),
    *(fl.SCAFFOLD, fl.FedDyn, fl.AdaBest, fl.Ditto, fl.FedRep, fl.LGFedAvg, fl.PerFedAvg),
    *(fl.FedSpeed, fl.MoFedSAM, fl.FedGAMMA, fl.FedSMOO, fl.FedLESAM, fl.FedLESAMD, fl.FedLESAMS, fl.FedGloSS),
    *(fl.FedSOL, fl.FedSWA, fl.FedMoSWA, fl.FedWMSAM),
)
COMPOSED = {
    "momentum": fl.FedAvg(momentum=0.9, weight_decay=0.01, clip=1.0, **COMMON),
    "momentum kept": fl.FedASAM(momentum=0.9, keep_momentum=True, **COMMON),
    "FedBABU, ASAM, mu": fl.FedBABU(local=fl.ASAM(rho=0.5), mu=0.1, epochs=2, **COMMON),
    "head alone": fl.FedAvg(train="head", **COMMON),
    "FedPer, kept momentum": fl.FedPer(momentum=0.9, keep_momentum=True, **COMMON),
    "SWA": fl.FedASAM(swa=fl.SWA(start=0.5, cycle=1), **COMMON),
    "server momentum": fl.FedAvg(server=fl.Average(lr=0.7, momentum=0.9), **COMMON),
    "adaptive server": fl.FedAvg(server=fl.Adaptive(lr=0.01), **COMMON),
    "uniform": fl.FedAvg(aggregation="uniform", **COMMON),
    "median": fl.FedAvg(aggregation="median", **COMMON),
    "server data": fl.FedAvg(server_data=fl.ServerData(share=0.1), **COMMON),
    "pooled": fl.FedASAM(pooled=True, **COMMON),
}
LOCKSTEP = ("FedAvg", "FedASAM", "FedPer", "SCAFFOLD", "momentum kept", "SWA")


def digest(run: fl.Run) -> dict[str, str]:
    """SHA-256 of the history, and of each tensor of the last state."""
    rows = run.history[run.history["metric"] != "megabytes"].reset_index(drop=True)  # files from before know none
    found = {"history": hashlib.sha256(rows.to_json(double_precision=15).encode()).hexdigest()}
    for name, value in sorted(run.state().flat().items()):
        content = f"{value.dtype} {tuple(value.shape)}".encode() + value.cpu().contiguous().numpy().tobytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def runs(only: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and digest of each golden run."""
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.5), clients=6, seed=0, augment=fl.Augmentation(crop=1))
    algorithms = {cls.__name__: cls(**COMMON) for cls in NAMED} | COMPOSED
    scored = fl.Evaluation(clients_every=2)
    for name, algorithm in algorithms.items():
        if only not in name:
            continue
        wanted = fl.Experiment(
            data=data.spec, model=SPEC, algorithm=algorithm, rounds=2, participation=0.7, evaluation=scored
        )
        for engine in ("loop", "batch", "graph"):
            with tempfile.TemporaryDirectory() as store:
                run = fl.Run(wanted, data, store=store, device="cpu", engine=engine).to()
                yield f"{name}, {engine}", digest(run)
                if engine == "loop":
                    tuned = fl.personalize(run, epochs=1).frame
                    yield f"{name}, personalized", {"frame": tuned.to_json(double_precision=15)}
            if name in LOCKSTEP and engine != "graph":
                with tempfile.TemporaryDirectory() as store:
                    pair = [
                        fl.Run(wanted.replace(seed=seed), data, store=store, device="cpu", engine=engine)
                        for seed in (0, 1)
                    ]
                    errors = train_together(pair)
                    assert not errors, errors
                    for seed, run in enumerate(pair):
                        yield f"{name}, {engine}, lockstep {seed}", digest(run)


def differing(before: dict[str, str], after: dict[str, str]) -> str:
    """The entries of two digests that are not the same."""
    return ", ".join(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def main() -> None:
    """Record, or compare and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--record", type=Path, help="file to write")
    way.add_argument("--check", type=Path, help="file to compare with")
    parser.add_argument("--only", default="", help="names that contain this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    for name, one in runs(options.only):
        found[name] = one
        print(name, flush=True)
    if options.record:
        options.record.write_text(json.dumps({**header("flatlab", "torch", "numpy"), "runs": found}, indent=1))
        return
    golden = json.loads(options.check.read_text())["runs"]
    known = {name: golden[name] for name in golden if options.only in name}
    wrong = {name: differing(one, found.get(name, {})) for name, one in known.items()}
    wrong = {name: keys for name, keys in wrong.items() if keys}
    for name, keys in wrong.items():
        print(f"DIFFERS  {name}: {keys}")
    print(f"{len(known) - len(wrong)} of {len(known)} golden runs are the same; new: {sorted(found.keys() - known)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
