"""fluke: its FedAVG on loaders made of our partition, which augment batch by batch; accuracy as the only metric."""

from __future__ import annotations

from typing import Any

import work as shared
from fluke import DDict, FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataSplitter, DummyDataContainer, FastDataLoader
from fluke.evaluation import ClassificationEval
from torch import Tensor
from torchmetrics import Accuracy
from work import Clock, Work


class Evaluator(ClassificationEval):
    """Tests when it is due and keeps the clock; fluke calls it after each round and once more at the end."""

    def __init__(self, work: Work, clock: Clock) -> None:
        super().__init__(1, 10, accuracy=Accuracy(task="multiclass", num_classes=10))
        self.work, self.clock = work, clock

    def evaluate(self, round: int, *given: Any, **named: Any) -> dict[str, Any]:
        """The test, if the round was not the last one already."""
        if len(self.clock.rounds) == self.work.total:
            return {}
        self.clock.train()
        if not self.work.tested(round):
            return {}
        found = super().evaluate(round, *given, **named)
        self.clock.test(found["accuracy"])
        return found


def run(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """FedAVG, in memory."""
    threads, samples = shared.pace(work), 0
    FlukeENV().set_seed(work.seed)
    FlukeENV().set_device(str(shared.device()))
    FlukeENV().set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=True)
    clock = Clock()
    FlukeENV().set_evaluator(Evaluator(work, clock))

    def counted(images: Tensor) -> Tensor:
        nonlocal samples
        samples += len(images)
        return shared.augment(images) if work.augment else images

    def loader(images: Tensor, labels: Tensor, **settings: Any) -> FastDataLoader:
        return FastDataLoader(images, labels, num_labels=10, **settings)

    own = {"batch_size": work.batch, "shuffle": True, "transforms": counted}
    container = DummyDataContainer(
        [loader(*shared.client_tensors(work, client), **own) for client in range(work.population)],
        [None] * work.population,
        loader(*shared.tensors(work.folder, "test"), batch_size=work.test_batch),
        num_classes=10,
    )
    net = shared.network(work)
    client = DDict(
        batch_size=work.batch,
        local_epochs=work.epochs,
        loss="CrossEntropyLoss",
        optimizer=DDict(name="SGD", lr=work.lr),
        scheduler=DDict(name="StepLR", step_size=1, gamma=1),
    )
    hyper = DDict(client=client, server=DDict(weighted=True), model=net)
    algorithm = FedAVG(work.population, DataSplitter(container), hyper)
    clock.start()
    algorithm.run(work.total, work.cohort / work.population)
    return {
        "rounds": clock.rounds,
        "samples": samples,
        "final": list(net.parameters()),
        "about": {"threads": threads},
    }


if __name__ == "__main__":
    shared.contest(run)
