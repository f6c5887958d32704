"""What fewer digits in training cost: accuracy and top eigenvalue of runs in float32, TF32 and bfloat16.

    python benchmarks/precision.py [--device cpu] [--seeds 3] [--rounds 12] [--out benchmarks/results]

Handwritten digits, 20 clients, Dirichlet 0.3, cnn4 of half width, FedAvg and FedASAM + SWA; eigenvalue and accuracy are
measured in float32 on the whole test set. A difference between precisions means something only beside the spread over
seeds. TF32 exists on CUDA only; elsewhere it is float32 and left out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from report import header, write

import flatlab as fl

ALGORITHMS = {
    "FedAvg": fl.FedAvg(lr=0.1),
    "FedASAM + SWA": fl.FedASAM(lr=0.1, rho=0.7, eta=0.2, swa=fl.SWA(start=0.75, cycle=3, low=0.01)),
}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "tf32", "bfloat16") if cuda else ("float32", "bfloat16"):
            for name, algorithm in ALGORITHMS.items():
                for seed in range(options.seeds):
                    run = fl.train(
                        algorithm,
                        data,
                        fl.ModelSpec(name="cnn4", width=0.5),
                        options.rounds,
                        seed=seed,
                        store=f"{folder}/{precision}",
                        device=options.device,
                        precision=precision,
                        progress=False,
                    )
                    history = run.history.query("split == 'holdout' and round == round.max()").set_index("metric")
                    top = fl.hessian(run, limit=None).top(1).frame["eigenvalue"].iloc[0]
                    row = {"algorithm": name, "precision": precision, "seed": seed}
                    measured = {"accuracy": history.loc["accuracy", "value"], "loss": history.loc["loss", "value"]}
                    rows.append(row | {key: float(value) for key, value in measured.items()} | {"top": float(top)})
                    print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    table = frame.groupby(["algorithm", "precision"], sort=False)[["accuracy", "loss", "top"]].agg(["mean", "std"])
    print(table.to_string())
    report = {
        **header("flatlab", "torch", device=options.device),
        "seeds": options.seeds,
        "rounds": options.rounds,
        "rows": rows,
    }
    print(f"written to {write(report, 'precision', options.out)}")


if __name__ == "__main__":
    main()
