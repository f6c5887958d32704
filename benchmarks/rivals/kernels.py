"""No toolkit: forward passes, backward passes and plain SGD on batches that lie ready, a client on each core.

What nobody who runs torch's kernels on these cores can undercut. Drawing, gathering and augmenting the batches is done
once, before the clock starts; every round trains on the same ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import work as shared
from torch import Tensor, nn
from torch.nn import functional as F
from work import Clock, Work

Batches = list[tuple[Tensor, Tensor]]


def step(net: nn.Module, images: Tensor, labels: Tensor, lr: float) -> None:
    """One of plain SGD, in place."""
    params = list(net.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(net(images), labels), params)
    with torch.no_grad():
        torch._foreach_add_(params, slopes, alpha=-lr)


def layout(work: Work) -> torch.memory_format:
    """The memory format in which steps are faster."""
    net = shared.network(work)
    images, labels = torch.randn(work.batch, 3, 32, 32), torch.zeros(work.batch, dtype=torch.int64)

    def seconds(form: torch.memory_format) -> float:
        net.to(memory_format=form)
        laid = images.contiguous(memory_format=form)
        return shared.typical(lambda: step(net, laid, labels, 0.0))

    return min((torch.contiguous_format, torch.channels_last), key=seconds)


def run(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """Clients of each round in turn."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(work.seed)
    form = layout(work)
    ready: list[Batches] = [
        [
            (images.contiguous(memory_format=form), labels)
            for _ in range(work.epochs)
            for images, labels in shared.batches(work, *shared.client_tensors(work, client))
        ]
        for client in range(work.population)
    ]
    server = shared.network(work).to(memory_format=form)
    clock, samples = Clock(), 0

    def trained(client: int) -> list[Tensor]:
        net = shared.network(work).to(memory_format=form)
        net.load_state_dict(server.state_dict())
        for images, labels in ready[client]:
            step(net, images, labels, work.lr)
        return [value.detach() for value in net.parameters()]

    with ThreadPoolExecutor(cores) as pool:
        clock.start()
        for round in range(1, work.total + 1):
            cohort = [(round * work.cohort + place) % work.population for place in range(work.cohort)]
            clients = list(pool.map(trained, cohort))
            samples += sum(len(labels) for client in cohort for _, labels in ready[client])
            with torch.no_grad():
                for value, *theirs in zip(server.parameters(), *clients, strict=True):
                    value.copy_(torch.stack(theirs).mean(0))
            clock.train()
            if work.tested(round):
                clock.test(shared.accuracy(work, server))
    return {
        "rounds": clock.rounds,
        "samples": samples,
        "final": list(server.parameters()),
        "about": {"threads": cores, "channels_last": form is torch.channels_last},
    }


if __name__ == "__main__":
    shared.contest(run)
