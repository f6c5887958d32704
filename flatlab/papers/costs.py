"""What a run costs before it is trained: gradients of samples, forward passes, seconds, bytes on disk.

A local step on b samples takes `gradients(experiment) * b` gradients; scoring n samples takes n forward passes, a third
of a gradient each. Seconds come from runs of the same network that this machine has finished (kept in the archive), or
from a stated rate of arithmetic.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data import load
from ..declare import SettingError
from ..models import Model, ModelSpec, build, names
from ..training import Experiment
from ..training.hooks import megabytes, traffic
from .archive import Archive, gradients, machine, network_key

# Train images, test images, shape, classes of the data sets that the papers use.
_KNOWN = {
    "digits": (1438, 359, (1, 8, 8), 10),
    "mnist": (60_000, 10_000, (1, 28, 28), 10),
    "cifar10": (50_000, 10_000, (3, 32, 32), 10),
    "cifar100": (50_000, 10_000, (3, 32, 32), 100),
    "digit_styles": (1439, 358, (1, 8, 8), 10),
    "digit_scenes": (180, 64, (1, 24, 32), 4),
    "pacs64": (7993, 1998, (3, 64, 64), 7),
    "camvid240": (367, 233, (3, 180, 240), 11),
    "femnist": (14_708, 4088, (1, 28, 28), 62),
}
# Stated where nothing was measured: arithmetic of training on one core, and what a step costs besides.
CORE_FLOPS, STEP_SECONDS = 6e10, 2e-3
GPU_FLOPS = 5e12
STATES = 4  # states that a run keeps at least: the last two, the best, SWA's start


class Cost(NamedTuple):
    """Of one run, or summed."""

    samples: float = 0.0  # passed in training, each epoch anew
    gradients: float = 0.0
    forwards: float = 0.0  # of scoring
    seconds: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(own + theirs for own, theirs in zip(self, other, strict=True)))


class Speed:
    """Seconds of runs on this machine.

    Args:
        archive: kept runs, of which those of this machine tell the speed of their networks.
        gradients_per_second: of all networks, instead.
        device: "cpu" or "cuda", for networks that were never measured.
    """

    def __init__(
        self, archive: Archive | None = None, gradients_per_second: float | None = None, device: str = "cpu"
    ) -> None:
        if gradients_per_second is not None and not gradients_per_second > 0:
            raise SettingError("samples_per_second", gradients_per_second, "must be positive")
        self._stated, self._device = gradients_per_second, device
        self._measured: Mapping[str, float] = {}
        if archive is not None:
            here = machine({"device": torch.cuda.get_device_name()} if device == "cuda" else {})["name"]
            known = {key: [rate for name, rate in rates if name == here] for key, rates in archive.speeds().items()}
            self._measured = {key: float(np.median(rates)) for key, rates in known.items() if rates}

    def rate(self, experiment: Experiment) -> tuple[float, str]:
        """Gradients of samples a second, and where the number comes from."""
        if self._stated is not None:
            return self._stated, "stated by the user"
        measured = self._measured.get(network_key(experiment.to_dict()))
        if measured is not None:
            return measured, "measured on this machine"
        flops = training_flops(experiment)
        if self._device == "cuda":
            return GPU_FLOPS / flops, f"{GPU_FLOPS:g} FLOP/s stated"
        cores = os.cpu_count() or 1
        each = flops / CORE_FLOPS + STEP_SECONDS / experiment.algorithm.batch_size
        return cores / each, f"{CORE_FLOPS:g} FLOP/s a core stated"


def cost(experiment: Experiment, speed: Speed, first: int = 0) -> Cost:
    """The cost of a run's rounds after `first`."""
    train, test, _, _ = sizes(experiment)
    rounds = experiment.rounds
    first = max(first, experiment.parent.round if experiment.parent else 0)
    samples = (rounds - first) * samples_a_round(experiment)
    if (held := experiment.algorithm.server_data) is not None and held.train != "none":
        samples += (rounds - first) * held.share * train
    scored = sum(
        experiment.evaluation.holdout_due(number, rounds) + experiment.evaluation.clients_due(number, rounds)
        for number in range(first + 1, rounds + 1)
    )
    passes, forwards = samples * gradients(experiment), float(scored * test)
    rate, _ = speed.rate(experiment)
    states = STATES + rounds // checkpoint_every(experiment)
    return Cost(samples, passes, forwards, (passes + forwards / 3) / rate, states * state_bytes(experiment))


def samples_a_round(experiment: Experiment) -> float:
    """What the clients of a round train on, each epoch anew, if all hold as many samples."""
    clients = 1 if experiment.algorithm.pooled else experiment.data.clients or 1
    algorithm, train = experiment.algorithm, sizes(experiment)[0]
    epochs: float = algorithm.epochs
    if algorithm.local_steps is not None:
        epochs = algorithm.local_steps / math.ceil(
            train / clients / (algorithm.batch_size * algorithm.batches_per_step)
        )
    return epochs * experiment.cohort_size(clients) * train / clients


def megabytes_a_round(experiment: Experiment) -> float:
    """What is sent in a round, to and from a server or along the edges of a topology, on average; 10^6 bytes."""
    numbers = traffic(_network(*_network_of(experiment))[1], experiment.algorithm)
    clients = experiment.cohort_size(experiment.data.clients or 1)
    rounds = range(experiment.rounds if experiment.algorithm.topology else 1)
    return math.fsum(megabytes(experiment.algorithm, numbers, clients, experiment.seed, r) for r in rounds) / len(
        rounds
    )


def tuning_cost(experiment: Experiment, epochs: int, speed: Speed, clients: int | None = None) -> Cost:
    """The cost of fine-tuning all clients, or so many."""
    train, test, _, _ = sizes(experiment)
    share = 1.0 if clients is None else clients / (experiment.data.clients or 1)
    gradients_, forwards = share * epochs * train, share * (epochs + 1) * test
    rate, _ = speed.rate(experiment)
    return Cost(gradients_, gradients_, forwards, (gradients_ + forwards / 3) / rate)


def sizes(experiment: Experiment) -> tuple[int, int, tuple[int, int, int], int]:
    """Train images that clients hold, test images, shape, classes; a data set of the user's own is loaded for it."""
    name, by = experiment.data.name, experiment.data.shrink
    if name not in _KNOWN:
        source = load(name).shrunk(by)
        shape = (int(source.images.shape[1]), int(source.images.shape[2]), int(source.images.shape[3]))
        return source.n_train, len(source.labels) - source.n_train, shape, len(source.class_names)
    train, test, (channels, height, width), classes = _KNOWN[name]
    if isinstance(held := getattr(experiment.data.partition, "sizes", None), tuple):
        train = sum(held)
    return train, test, (channels, height // by, width // by), classes


def training_flops(experiment: Experiment) -> float:
    """Arithmetic of a gradient on one sample: three forward passes, about."""
    return 3.0 * _network(*_network_of(experiment))[0]


def checkpoint_every(experiment: Experiment) -> int:
    """Rounds between states that are kept for good: eight of a run, or none where clients keep something."""
    eighths = experiment.rounds // (8 if experiment.rounds % 8 == 0 else 4)  # SWA starts after six of eight
    return experiment.rounds if _numbers_kept(experiment) else max(1, eighths)


def state_bytes(experiment: Experiment) -> float:
    """Of one stored state: the model, its average, and what clients keep."""
    model = _network(*_network_of(experiment))[1]
    whole, averages = sum(value.numel() for value in model.parameters()), experiment.algorithm.swa is not None
    return 4.0 * (whole * (1 + averages) + (experiment.data.clients or 1) * _numbers_kept(experiment))


def _numbers_kept(experiment: Experiment) -> int:
    """Numbers that each client keeps from round to round: parts that are not shared, and the algorithm's memory."""
    algorithm, model = experiment.algorithm, _network(*_network_of(experiment))[1]
    params = dict(model.named_parameters())
    trained = {name: params[name].detach() for name in names(model, algorithm.train)}
    shared = () if algorithm.share == "none" or algorithm.topology else names(model, algorithm.share)
    memory = {} if algorithm.pooled else algorithm.memory(trained)
    own = sum(value.numel() for name, value in trained.items() if name not in shared)
    return own + sum(value.numel() for slot in memory.values() for value in slot.values())


def _network_of(experiment: Experiment) -> tuple[str, tuple[int, int, int], int]:
    _, _, shape, classes = sizes(experiment)
    return experiment.model.to_json(), shape, classes


@lru_cache(maxsize=64)
def _network(spec: str, shape: tuple[int, int, int], classes: int) -> tuple[float, Model]:
    """FLOP of a forward pass of one image, and the network without its numbers."""
    model = build(ModelSpec.from_json(spec), shape, classes)
    batch = 2  # batch statistics need more than one
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, *shape))
    return counter.get_total_flops() / batch, model.to("meta")


def hours(seconds: float) -> str:
    """Seconds as a person reads them."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
