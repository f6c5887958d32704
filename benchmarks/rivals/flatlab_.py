"""flatlab: its own augmentation, engine and thread count, with its files and history written as in any run."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import work as shared
from work import Clock, Work

import flatlab as fl
from flatlab.data.given import labels_digest, write_partition
from flatlab.data.partitions import Labels
from flatlab.training.network import describe


def run(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """Train in an empty store."""
    folder = Path(work.folder)
    source = fl.load("cifar10", root=folder)
    labels = Labels(source.train_labels.numpy(), source.test_labels.numpy(), len(source.class_names))
    own = [np.sort(client) for client in shared.clients(work.folder)]
    tests = np.array_split(np.arange(len(labels.test)), len(own))
    with tempfile.TemporaryDirectory() as scratch:
        file = write_partition(Path(scratch) / "partition.json", own, tests, labels_digest(labels), {"data": "cifar10"})
        augmentation = fl.Augmentation(crop=shared.PAD if work.augment else 0, flip=work.augment)
        data = source.federate(fl.Fixed(path=str(file)), augment=augmentation)
        net = fl.models.split(shared.network(work), head="last", example=(3, 32, 32))
        experiment = fl.Experiment(
            data=data.spec,
            model=describe(net)[1],
            algorithm=fl.FedAvg(lr=work.lr, epochs=work.epochs, batch_size=work.batch),
            rounds=work.total + 1,  # the last round of a run also scores every client, which is not in the work
            participation=work.cohort / work.population,
            evaluation=fl.Evaluation(every=min(work.test_every, work.total), batch_size=work.test_batch),
            seed=work.seed,
        )
        trainer = fl.Run(experiment, data, net, store=Path(scratch) / "runs", **options)
        clock, samples = Clock(), 0

        def listen(_: fl.Run, report: Any) -> None:
            nonlocal samples
            now = time.perf_counter()
            whole, clock.last = now - clock.last, now
            clock.rounds.append({"train": whole - report.evaluation_seconds})
            if report.holdout is not None:
                score = {"test": report.evaluation_seconds, "accuracy": float(report.holdout.accuracy)}
                clock.rounds[-1] |= score
            samples += report.samples

        clock.start()
        trainer.to(work.total, listener=listen)
        cohort, final = trainer.cohort, list(trainer.model().parameters())
    about = {"engine": cohort.way, "threads": cohort.threads, "channels_last": cohort.channels_last}
    return {
        "rounds": clock.rounds,
        "samples": samples,
        "final": final,
        "about": about,
    }


if __name__ == "__main__":
    shared.contest(run)
