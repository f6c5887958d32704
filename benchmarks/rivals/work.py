"""The work that all contestants do: setups, networks, arrays, augmentation, timing. Needs numpy and torch only.

The driver writes three files once, which all read: `cifar10.npz` (images and labels, flatlab's layout; only the images
that some client holds), `partition.npz` (who holds which) and `weights.npz` (the network before the first round).
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PAD = 4


@dataclass(frozen=True)
class Work:
    """What is trained; `rounds` are timed, and follow one round that warms up."""

    setup: str
    rounds: int
    population: int  # clients that hold images
    cohort: int  # clients of a round
    each: int  # images of a client
    epochs: int
    batch: int
    test_every: int  # rounds between tests in the published work; a timed round pays for so many-th of a test
    augment: bool  # crop 4 and flip
    tests: int = 10_000  # images of the test set
    lr: float = 0.1
    test_batch: int = 500
    seed: int = 0
    folder: str = ""

    @property
    def samples(self) -> int:
        """Sample passes of a round."""
        return self.cohort * self.each * self.epochs

    @property
    def total(self) -> int:
        """Rounds to train, with the one that warms up."""
        return self.rounds + 1

    def tested(self, round: int) -> bool:
        """Whether the test set is due after `round` (from 1): as published, at least once."""
        return round % min(self.test_every, self.total) == 0

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


# A: pfl-research's CIFAR-10 benchmark (without its dropout). B: BlazeFL's small CNN.
FULL = {
    "A": Work("A", 1499, population=1000, cohort=50, each=50, epochs=1, batch=10, test_every=10, augment=False),
    "B": Work("B", 5, population=100, cohort=100, each=500, epochs=5, batch=50, test_every=1, augment=True),
}
SMALL = {
    "A": Work("A", 3, population=200, cohort=20, each=50, epochs=1, batch=10, test_every=10, augment=False, tests=2000),
    "B": Work("B", 3, population=16, cohort=16, each=500, epochs=2, batch=50, test_every=1, augment=True, tests=2000),
}


class CnnA(nn.Module):
    """Two 3x3 convolutions without padding, pool, two linear layers: 1,626,442 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3)
        self.hidden, self.last = nn.Linear(64 * 14 * 14, 128), nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        seen = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(images)))), 2)
        return self.last(F.relu(self.hidden(seen.flatten(1))))


class CnnB(nn.Module):
    """Two 5x5 convolutions with pools, three linear layers: 62,006 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.hidden1, self.hidden2, self.last = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        seen = F.max_pool2d(F.relu(self.conv1(images)), 2)
        seen = F.max_pool2d(F.relu(self.conv2(seen)), 2)
        return self.last(F.relu(self.hidden2(F.relu(self.hidden1(seen.flatten(1))))))


NETWORKS = {"A": CnnA, "B": CnnB}


def device() -> torch.device:
    """CUDA where it is there, else the CPU; the same choice for everybody."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# What the driver writes


def prepare(work: Work, root: Path, folder: Path) -> tuple[Work, str]:
    """Write the three files to `folder`; returns the work that names it, and what the images are."""
    rng = np.random.default_rng(work.seed)
    classes, count = 10, work.population * work.each
    real = (root / "cifar10.npz").exists()
    if real:
        with np.load(root / "cifar10.npz") as file:
            images, labels = file["train_images"], file["train_labels"]
            test_images, test_labels, names = file["test_images"], file["test_labels"], file["class_names"]
    else:
        images = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
        test_images = rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8)
        labels, test_labels = np.arange(50_000) % classes, np.arange(10_000) % classes
        names = np.array([str(label) for label in range(classes)])
    if work.setup == "A":
        dealt = rng.permutation(len(labels))[:count].reshape(work.population, work.each)
    else:  # 200 pieces of the images sorted by class, two a client; the clients that are left out hold the others
        pieces = np.argsort(labels, kind="stable").reshape(200, -1)
        dealt = rng.permuted(pieces[rng.permutation(200)].reshape(100, -1), axis=1)[: work.population]
    held = np.sort(dealt.reshape(-1))
    np.savez(
        folder / "cifar10.npz",
        train_images=images[held],
        train_labels=labels[held].astype(np.int64),
        test_images=test_images[: work.tests],
        test_labels=test_labels[: work.tests].astype(np.int64),
        class_names=names,
    )
    np.savez(folder / "partition.npz", clients=np.searchsorted(held, dealt))
    torch.manual_seed(work.seed)
    np.savez(folder / "weights.npz", **{k: v.numpy() for k, v in NETWORKS[work.setup]().state_dict().items()})
    return Work(**{**work.to_json(), "folder": str(folder)}), "cifar10" if real else "random images"


# What contestants read


def network(work: Work) -> nn.Module:
    """The network with the weights that everybody starts from."""
    net = NETWORKS[work.setup]()
    with np.load(Path(work.folder) / "weights.npz") as file:
        net.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    return net


@functools.cache
def clients(folder: str) -> np.ndarray:
    """The images of each client, int [population, each]."""
    with np.load(Path(folder) / "partition.npz") as file:
        return file["clients"]


@functools.cache
def raw(folder: str) -> dict[str, np.ndarray]:
    """train_images, train_labels, test_images, test_labels; images are uint8 [N, 32, 32, 3]."""
    with np.load(Path(folder) / "cifar10.npz") as file:
        return {name: file[name] for name in file.files if name != "class_names"}


@functools.cache
def tensors(folder: str, part: str) -> tuple[Tensor, Tensor]:
    """Normalised images, float32 [N, 3, 32, 32], and labels, of "train" or "test"; in memory, on the device."""
    images = torch.from_numpy(raw(folder)[f"{part}_images"]).to(device()).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(value, device=device()).view(3, 1, 1) for value in (MEAN, STD))
    return images.sub_(mean).div_(std).contiguous(), torch.from_numpy(raw(folder)[f"{part}_labels"]).to(device())


def client_tensors(work: Work, client: int) -> tuple[Tensor, Tensor]:
    """A client's images and labels."""
    index = torch.from_numpy(clients(work.folder)[client]).to(device())
    images, labels = tensors(work.folder, "train")
    return images[index], labels[index]


def augment(images: Tensor) -> Tensor:
    """A random crop of each image after 4 black pixels on all sides, and a flip of every other one; on batches."""
    count, channels, height, width = images.shape
    black = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=images.device)
    canvas = black.view(1, -1, 1, 1).repeat(count, 1, height + 2 * PAD, width + 2 * PAD)
    canvas[:, :, PAD:-PAD, PAD:-PAD] = images
    top, left = torch.randint(2 * PAD + 1, (2, count), device=images.device)
    rows = torch.arange(height, device=images.device) + top[:, None]
    columns = torch.arange(width, device=images.device)
    columns = torch.where(torch.rand(count, 1, device=images.device) < 0.5, columns.flip(0), columns) + left[:, None]
    source = (rows[:, :, None] * canvas.shape[3] + columns[:, None]).view(count, 1, -1).expand(-1, channels, -1)
    return canvas.flatten(2).gather(2, source).view(images.shape)


def batches(work: Work, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch in random order, augmented if the work says so."""
    for index in torch.randperm(len(labels), device=labels.device).split(work.batch):
        yield augment(images[index]) if work.augment else images[index], labels[index]


def accuracy(work: Work, net: nn.Module) -> float:
    """On the test set."""
    net.eval()
    right = 0
    with torch.no_grad():
        for images, labels in zip(*(part.split(work.test_batch) for part in tensors(work.folder, "test")), strict=True):
            right += int((net(images).argmax(1) == labels).sum())
    net.train()
    return right / len(tensors(work.folder, "test")[1])


def typical(call: Callable[[], object]) -> float:
    """Seconds of a call: of thirty the eleventh, which what else the machine does hardly touches."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[10]


def pace(work: Work) -> int:
    """Let torch use one thread or all, whichever is faster for this network; a favour to those who do not choose."""
    everything = torch.get_num_threads()
    if device().type == "cuda" or everything == 1:
        return everything
    net, labels = network(work), torch.zeros(work.batch, dtype=torch.int64)
    images = torch.randn(work.batch, 3, 32, 32)

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return typical(lambda: F.cross_entropy(net(images), labels).backward())

    chosen = min((1, everything), key=seconds)
    torch.set_num_threads(chosen)
    return chosen


class Clock:
    """Seconds of training and of testing, round by round: `train()` after the one, `test(accuracy)` after the other."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []
        self.last = time.perf_counter()

    def start(self) -> None:
        """Training begins: what was before is start-up."""
        self.last = time.perf_counter()

    def train(self) -> None:
        """The round's training and aggregation are done."""
        self.rounds.append({"train": self._lap()})

    def test(self, accuracy: float) -> None:
        """Its test is done."""
        self.rounds[-1] |= {"test": self._lap(), "accuracy": accuracy}

    def _lap(self) -> float:
        if device().type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        return passed


def contest(run: Callable[[Work, dict[str, Any]], dict[str, Any] | None]) -> None:
    """The main of a contestant: read the file of settings, run, write the result beside it.

    `run(work, options)` returns rounds (a clock's), samples in all rounds, the tensors of the final network in the
    network's order, and what is to be told; or None, in a process that has nothing to tell.
    """
    path = Path(sys.argv[1])
    settings = json.loads(path.read_text())
    begun = time.time()
    found = run(Work(**settings["work"]), settings["options"])
    if found is not None:
        final = [value.detach().cpu().numpy() for value in found.pop("final")]
        np.savez(path.with_suffix(".npz"), *final)
        found |= {"parameters": sum(value.size for value in final)}
        found |= {"torch": torch.__version__, "seconds_in_all": time.time() - begun}
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found))
        os.replace(part, path.with_suffix(".result"))
