"""Directories as runs leave them, without the training: what reads progress looks at no state."""

import json
import os
import time
from types import SimpleNamespace

import flatlab as fl
from flatlab.training.checkpoints import Store


def experiments(count=1, rounds=10, **changes):
    """So many seeds of FedAvg."""
    data = fl.DataSpec(name="digits", clients=4, fingerprint="0" * 16)
    first = fl.Experiment(data=data, algorithm=fl.FedAvg(), rounds=rounds)
    return [first.replace(seed=seed, **changes) for seed in range(count)]


def stop_the_clock(monkeypatch):
    """Runs planted so long ago are so old, however long the test takes."""
    now = time.time()
    monkeypatch.setattr("planted.time", SimpleNamespace(time=lambda: now))
    monkeypatch.setattr("flatlab.training.status.time", SimpleNamespace(time=lambda: now))


def plant(store, experiment, round, *, seconds=2.0, every=2.0, ago=0.0, accuracy=0.5):
    """A run after `round` rounds, each timed at `seconds`, its states `every` seconds apart, the last so long `ago`."""
    run = Store(store / experiment.id)
    for number in range(round + 1):
        if number:
            row = {"round": number, "split": "holdout", "metric": "accuracy", "value": accuracy, "client": -1}
            run.history.append([{**row, "split": "train", "client": 3, "metric": "loss"}, row])
            with open(run.directory / "timings.jsonl", "a") as file:
                file.write("\n" + json.dumps({"round": number, "seconds": seconds - 0.5, "evaluation_seconds": 0.5}))
        state = run.checkpoint(number)
        state.parent.mkdir(parents=True, exist_ok=True)
        state.touch()
        written = time.time() - ago - every * (round - number)
        os.utime(state, (written, written))
    run.write_json("experiment.json", experiment.to_dict())
    return run
