"""pfl-research: one resident model per process, users' images in memory; several processes under torchrun."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import torch
import work as shared
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics, StringMetricName, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional as F
from work import Clock, Work

ACCURACY = StringMetricName("accuracy")


def with_loss(net: nn.Module, work: Work) -> nn.Module:
    """Give the network the two methods that pfl asks for; it counts the samples that it trains on."""
    net.samples = 0

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        net.train()
        net.samples += len(labels)
        return F.cross_entropy(net(shared.augment(images) if work.augment else images), labels)

    @torch.no_grad()
    def metrics(images: Tensor, labels: Tensor) -> dict[str, Weighted]:
        net.eval()
        return {"accuracy": Weighted(int((net(images).argmax(1) == labels).sum()), len(labels))}

    net.loss, net.metrics = loss, metrics
    return net


class Test(TrainingProcessCallback):
    """Keeps the clock and tests when it is due; with several processes each takes its share."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self.work, self.clock = work, clock
        params = NNEvalHyperParams(local_batch_size=work.test_batch)
        data = Dataset(shared.tensors(work.folder, "test"))
        self.central = CentralEvaluationCallback(data, params, format_fn=StringMetricName)

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        self.central.on_train_begin(model=model)
        self.clock.start()
        return Metrics()  # an untrained model's would clash with those of the first round

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.clock.train()
        done = central_iteration + 1  # its own count would leave out the first round
        if not self.work.tested(done):
            return False, Metrics()
        _, found = self.central.after_central_iteration(aggregate_metrics, model, central_iteration=done)
        self.clock.test(float(found[ACCURACY].overall_value))
        return False, found


def run(work: Work, options: dict[str, Any]) -> dict[str, Any] | None:
    """`options`: processes; with more than one this is what torchrun starts in each."""
    np.random.seed(work.seed)  # noqa: NPY002  # pfl draws from it
    torch.manual_seed(work.seed)
    context = pytorch_ops.distributed
    threads = shared.pace(work) if options["processes"] == 1 else torch.get_num_threads()
    users = {user: shared.client_tensors(work, user) for user in range(work.population)}
    data = FederatedDataset(
        lambda user: Dataset(users[user], user_id=str(user)),
        get_user_sampler("minimize_reuse", np.random.default_rng(work.seed).permutation(work.population).tolist()),
    )
    net = with_loss(shared.network(work), work)
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    clock = Clock()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints all metrics of each round
        FederatedAveraging().run(
            algorithm_params=NNAlgorithmParams(
                central_num_iterations=work.total,
                evaluation_frequency=work.total + 1,
                train_cohort_size=work.cohort,
                val_cohort_size=0,
            ),
            backend=SimulatedBackend(data, data),
            model=model,
            model_train_params=NNTrainHyperParams(
                local_batch_size=work.batch, local_num_epochs=work.epochs, local_learning_rate=work.lr
            ),
            model_eval_params=NNEvalHyperParams(local_batch_size=work.test_batch),
            callbacks=[Test(work, clock)],
        )
    samples = torch.tensor([float(net.samples)])
    context.all_reduce([samples])
    if context.global_rank:
        return None
    return {
        "rounds": clock.rounds,
        "samples": round(float(samples)),
        "final": list(net.parameters()),
        "about": {"processes": context.world_size, "threads": threads},
    }


if __name__ == "__main__":
    shared.contest(run)
