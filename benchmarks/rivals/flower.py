"""Flower's simulation: client and server app with the message API, FedAvg, images in each worker's memory."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import torch
import work as shared
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional as F
from work import Clock, Work


def client_app(work: Work) -> ClientApp:
    """Trains on the partition that the node is given."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        images, labels = shared.client_tensors(work, int(context.node_config["partition-id"]))
        net = shared.network(work).to(shared.device())
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimiser = torch.optim.SGD(net.parameters(), lr=work.lr)
        for _ in range(work.epochs):
            for batch, truth in shared.batches(work, images, labels):
                optimiser.zero_grad()
                F.cross_entropy(net(batch), truth).backward()
                optimiser.step()
        count = {"num-examples": len(labels), "passes": len(labels) * work.epochs}
        count["threads"] = torch.get_num_threads()
        content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord(count)})
        return Message(content=content, reply_to=message)

    return app


def run(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """`options`: cpus of a client, so that as many clients run at once as fit."""
    clock = Clock()
    found: dict[str, Any] = {"samples": 0.0}
    server, net = ServerApp(), shared.network(work).to(shared.device())

    def evaluate(round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if round == 0:
            shared.tensors(work.folder, "test")
            clock.start()
            return None
        clock.train()
        if not work.tested(round):
            return None
        net.load_state_dict(arrays.to_torch_state_dict())
        score = shared.accuracy(work, net)
        clock.test(score)
        return MetricRecord({"accuracy": score})

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        shared.pace(work)  # for the test, which the server does
        share = work.cohort / work.population
        strategy = FedAvg(fraction_train=share, fraction_evaluate=0.0, min_available_nodes=work.population)
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(net.state_dict()),
            num_rounds=work.total,
            train_config=ConfigRecord(),
            evaluate_fn=evaluate,
        )
        found["final"] = list(result.arrays.to_torch_state_dict().values())
        for metrics in result.train_metrics_clientapp.values():
            found["samples"] += work.cohort * metrics["passes"]
            found["threads"] = metrics["threads"]

    cpus, count = options["cpus"], options["cores"]
    gpus = 1.0 / max(1, count // cpus) if torch.cuda.is_available() else 0.0
    run_simulation(
        server_app=server,
        client_app=client_app(work),
        num_supernodes=work.population,
        backend_config={
            "init_args": {"num_cpus": count},
            "client_resources": {"num_cpus": cpus, "num_gpus": gpus},
        },
    )
    return {
        "rounds": clock.rounds,
        "samples": round(found["samples"]),
        "final": found["final"],
        "about": {"workers": count // cpus, "threads": round(found["threads"])},
    }


if __name__ == "__main__":
    shared.contest(run)
