"""What the lab costs a run: rounds with a live bench against rounds without, and how soon buttons and cells answer.

    python benchmarks/lab.py [--rounds 12] [--repeats 5] [--out benchmarks/results]

Digits, 20 clients, `cnn4` at full width. The same run goes on in turns of some rounds, under a bare session and under a
bench whose Curves tab is in front (no browser: what a kernel does). Buttons are pressed at random moments; what is
counted is the time until the session rests or moves, less what was left of the round in flight. "Another cell" is a
tenth of a second of numpy in the main thread while a round runs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import header, write

import flatlab as fl
from flatlab.lab import Lab, Session
from flatlab.training import Run

LONG = 10_000  # rounds: more than will be done


def bench(store: str) -> Lab:
    """The bench, with its run made."""
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
    lab = Lab(data, store=store, model="cnn4", rounds=LONG, participation=0.5)
    lab.ensure(1)
    lab.settle()
    return lab


def seconds_of(ensure: Callable[[int], object], run: Run, rounds: int) -> float:
    """Seconds a round."""
    start = time.perf_counter()
    ensure(run.round + rounds)
    return (time.perf_counter() - start) / rounds


def training(store: str, rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds a round with and without the bench, in turns, and the median of the paired ratios."""
    lab = bench(store)
    run = lab.run
    assert run is not None
    live, bare, frames = [], [], [0]
    curves = lab.tabs.panels[lab.tabs.front]
    curves.picture.observe(lambda _: frames.append(frames.pop() + 1), "value")
    for _ in range(repeats):
        session = Session(run)  # takes the place of the bench's own
        bare.append(seconds_of(session.ensure, run, rounds))
        session.stop()
        lab.start()
        live.append(seconds_of(lab.ensure, run, rounds) if lab.ensure(run.round + 1) else 0.0)
        lab.pause()
        lab.settle()
    ratios = [with_ / without for with_, without in zip(live, bare, strict=True)]
    lab.close()
    return {
        "frames": frames[0],
        "bare_seconds": bare,
        "live_seconds": live,
        "median_ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def answers(store: str, presses: int) -> dict[str, float]:
    """The longest time to rest after Pause or Stop and to begin after Step, less a round; and another cell's."""
    lab = bench(store)
    chance = random.Random(0)
    assert lab.run is not None
    assert lab.session is not None
    lab.ensure(lab.run.round + 3)
    round_seconds = lab.run.timings[["seconds", "evaluation_seconds"]].sum(axis=1).tail(3).max()
    worst = {"pause": 0.0, "step": 0.0, "stop": 0.0, "cell": 0.0}

    def timed(name: str, press: Callable[[], object], over: Callable[[], bool]) -> None:
        start = time.perf_counter()
        press()
        while not over():
            time.sleep(0.002)
        worst[name] = max(worst[name], time.perf_counter() - start - round_seconds)

    for _ in range(presses):
        before = lab.run.round
        timed("step", lab.step, lambda before=before: lab.run.round > before)
        lab.start()
        time.sleep(chance.uniform(0.2, 2 * round_seconds))
        alone = time.perf_counter()
        matrix = np.random.default_rng(0).normal(size=(200, 200))
        for _ in range(20):
            matrix = np.tanh(matrix @ matrix.T / 200)
        worst["cell"] = max(worst["cell"], time.perf_counter() - alone)
        timed("pause", lab.pause, lambda: lab.session.state == "paused")
    lab.start()
    time.sleep(0.2)
    timed("stop", lab.stop, lambda: lab.session.state == "stopped")
    lab.close()
    return {"round_seconds": float(round_seconds), **{f"{name}_seconds": value for name, value in worst.items()}}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        report: dict[str, Any] = {
            **header("torch", "ipywidgets", "matplotlib"),
            "training": training(f"{store}/a", arguments.rounds, arguments.repeats),
            "answers": answers(f"{store}/b", 6),
        }
    print(json.dumps(report, indent=1))
    print(f"written to {write(report, 'lab', arguments.out)}")


if __name__ == "__main__":
    main()
