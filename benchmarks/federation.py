"""What the benchmarks of training share: a federation of CIFAR images, the bare loop, the device's peak."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flatlab as fl
from flatlab.data import FederatedDataset, Source
from flatlab.training.batches import plan


def cifar(root: Path, clients: int, each: int, partition: fl.Partition | None = None) -> FederatedDataset:
    """CIFAR-10 (random images of its shape without `cifar10.npz`) with crop and flip, `each` training samples a client.

    IID unless another partition is given.
    """
    count = clients * each
    if (root / "cifar10.npz").exists():
        source = fl.load("cifar10", root=root)
        images, labels = source.train_images, source.train_labels
        tests, answers = source.test_images, source.test_labels
    else:
        random = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (min(count, 50_000), 3, 32, 32), generator=random, dtype=torch.uint8)
        tests = torch.randint(0, 256, (10_000, 3, 32, 32), generator=random, dtype=torch.uint8)
        labels, answers = torch.arange(len(images)) % 10, torch.arange(len(tests)) % 10
    chosen = torch.arange(count) % len(images)  # beyond 50,000 they come again
    arrays = [
        images[chosen].movedim(1, 3).numpy(),
        labels[chosen].numpy(),
        tests.movedim(1, 3).numpy(),
        answers.numpy(),
    ]
    name = "cifar10-benchmark" if (root / "cifar10.npz").exists() else "random-benchmark"
    source = Source.from_arrays(name, *arrays, class_names=[str(i) for i in range(10)])
    return source.federate(partition or fl.IID(), clients=clients, augment=fl.Augmentation(crop=4, flip=True))


def bare(run: fl.Run, round: int, device: torch.device) -> Callable[[], float]:
    """A tight loop of forward, backward and SGD over the batches of a round; returns its seconds.

    Batches lie ready, in the run's memory format; SAM's kind takes two passes. No client, no server, no copy. As many
    threads as a client has, or all, where a client is trained on each core.
    """
    data, algorithm, cohort = run.data, run.experiment.algorithm, run.cohort
    layout = torch.channels_last if cohort.channels_last else torch.contiguous_format
    clients = run.federation.sample(round)
    streams = [("train", round, client) for client in clients]
    drawn = plan(data, [data.train[c] for c in clients], streams, 0, algorithm.epochs, algorithm.batch_size)
    ready: list[tuple[Tensor, Tensor]] = []
    for c, e, s in np.ndindex(drawn.index.shape[:3]):
        kept = drawn.weight[c, e, s] > 0
        index = torch.from_numpy(drawn.index[c, e, s][kept]).to(device)
        draws = {key: torch.from_numpy(value[c, e, s][kept]).to(device) for key, value in drawn.draws.items()}
        images = data.prepared(index, draws)
        if kept.any():
            ready.append((images.contiguous(memory_format=layout), data.labels[index]))
    model = run.model().to(memory_format=layout)  # type: ignore[call-overload]
    trained = list((model if algorithm.train == "all" else getattr(model, algorithm.train)).parameters())
    for value in model.parameters():
        value.requires_grad_(any(value is one for one in trained))
    passes = 1 if algorithm.local.kind == "sgd" else 2

    def loop() -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(cohort.threads if cohort.workers == 1 else threads)
        wait(device)
        start = time.perf_counter()
        for images, labels in ready:
            for _ in range(passes):
                grads = torch.autograd.grad(F.cross_entropy(model(images), labels), trained)
            with torch.no_grad():
                for value, grad in zip(trained, grads, strict=True):
                    value -= 1e-4 * grad
        wait(device)
        torch.set_num_threads(threads)
        return time.perf_counter() - start

    return loop


def wait(device: torch.device) -> None:
    """Let the device come to rest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> float:
    """Floating-point operations a second of this device in float32: the best of a product and a convolution."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.randn(side, side, device=device)
    images, kernel = torch.randn(64, 64, 32, 32, device=device), torch.randn(64, 64, 3, 3, device=device)
    ways: list[tuple[Callable[[], Tensor], float]] = [
        (lambda: a @ a, 2.0 * side**3),
        (lambda: F.conv2d(images, kernel, padding=1), 2.0 * 64 * 9 * images.numel()),
    ]
    best = 0.0
    for way, operations in ways:
        for _ in range(12):
            wait(device)
            start = time.perf_counter()
            way()
            wait(device)
            best = max(best, operations / (time.perf_counter() - start))
    return best


def memory(device: torch.device) -> float:
    """Peak MiB so far: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def passes(model: nn.Module, shape: tuple[int, ...], algorithm: fl.Algorithm) -> float:
    """Floating-point operations of training on a sample: 2 a multiply-accumulate, forward and twice that backward."""
    return 6.0 * fl.models.macs(model, shape) * (1 if algorithm.local.kind == "sgd" else 2)
