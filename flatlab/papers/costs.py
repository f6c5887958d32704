"""What a run costs before it is trained: gradients of samples, forward passes, seconds, bytes on disk.

A local step on b samples takes `gradients(experiment) * b` gradients, scoring n samples n forward passes; how many
gradients a machine computes in a second, `speeds` knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data import Consecutive, Domains, load
from ..models import Model, ModelSpec, build, names
from ..training import Experiment
from ..training.hooks import megabytes, traffic
from .archive import gradients

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
Rate = tuple[float, str]  # gradients of samples a second, and where the number comes from
Speed = Callable[[Experiment], Rate]
FORWARD = 0.45  # gradients: a pass with its scores, as kept runs of all networks have it on two cores
STATES = 4  # states that a run keeps at least: the last two, the best, SWA's start


class Images(NamedTuple):
    """How many there are, and of which kind."""

    train: int  # that clients hold
    holdout: int  # on which the global model is scored, those of unseen groups included
    tests: int  # of all clients together
    shape: tuple[int, int, int]
    classes: int


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


def cost(experiment: Experiment, speed: Speed, first: int = 0) -> Cost:
    """The cost of a run's rounds after `first`."""
    images, evaluation, rounds = sizes(experiment), experiment.evaluation, experiment.rounds
    numbers = range(max(first, experiment.parent.round if experiment.parent else 0) + 1, rounds + 1)
    samples = len(numbers) * samples_a_round(experiment)
    if (held := experiment.algorithm.server_data) is not None and held.train != "none":
        samples += len(numbers) * held.share * images.train
    forwards = float(sum(evaluation.clients_due(number, rounds) for number in numbers) * images.tests)
    if set(names(_meta(experiment), experiment.algorithm.train)) <= _shared(experiment):  # else no model is global
        forwards += sum(evaluation.holdout_due(number, rounds) for number in numbers) * images.holdout
    spent = spending(experiment, speed, samples * gradients(experiment), forwards)
    states = STATES + rounds // checkpoint_every(experiment)
    return spent._replace(samples=samples, bytes=states * state_bytes(experiment))


def spending(experiment: Experiment, speed: Speed, gradients: float, forwards: float = 0.0) -> Cost:
    """What so many gradients and forward passes cost."""
    return Cost(0.0, gradients, forwards, (gradients + FORWARD * forwards) / speed(experiment)[0])


def samples_a_round(experiment: Experiment) -> float:
    """What the clients of a round train on, each epoch anew, if all hold as many samples."""
    algorithm, train = experiment.algorithm, sizes(experiment).train
    clients = 1 if algorithm.pooled else experiment.data.clients or 1
    held = train / clients
    if algorithm.server_data is not None and algorithm.server_data.clients:  # the public samples that it lacks
        held += algorithm.server_data.share * (train - held)
    epochs: float = algorithm.epochs
    if algorithm.local_steps is not None:
        epochs = algorithm.local_steps / math.ceil(held / (algorithm.batch_size * algorithm.batches_per_step))
    return epochs * experiment.cohort_size(clients) * held


def megabytes_a_round(experiment: Experiment) -> float:
    """What is sent in a round, to and from a server or along the edges of a topology, on average; 10^6 bytes."""
    numbers = traffic(_meta(experiment), experiment.algorithm)
    clients = experiment.cohort_size(experiment.data.clients or 1)
    rounds = range(experiment.rounds if experiment.algorithm.topology else 1)
    return math.fsum(megabytes(experiment.algorithm, numbers, clients, experiment.seed, r) for r in rounds) / len(
        rounds
    )


def sizes(experiment: Experiment) -> Images:
    """What an experiment's data come to, on average; a data set of the user's own is loaded for it."""
    name, by, partition = experiment.data.name, experiment.data.shrink, experiment.data.partition
    clients = experiment.data.clients or 1
    if name not in _KNOWN:
        source = load(name).shrunk(by)
        channels, height, width = map(int, source.images.shape[1:])
        train, test = source.n_train, len(source.labels) - source.n_train
        return Images(train, test, test, (channels, height, width), len(source.class_names))
    train, test, (channels, height, width), classes = _KNOWN[name]
    holdout, tests = test, (getattr(partition, "test_size", None) or test / clients) * clients
    if isinstance(held := getattr(partition, "sizes", None), tuple):
        train = sum(held)
    if isinstance(partition, Domains):  # all images of unseen domains are scored
        seen = clients / (clients + len(partition.unseen) * partition.clients_per_domain)
        holdout, train, tests = test + round((1 - seen) * train), round(seen * train), seen * test
    if isinstance(partition, Consecutive):  # clients' tests are the last of their own images
        train, tests = round((1 - partition.test) * train), partition.test * train
    return Images(train, holdout, round(tests), (channels, height // by, width // by), classes)


def training_flops(experiment: Experiment) -> float:
    """Arithmetic of a gradient on one sample: three forward passes, about."""
    return 3.0 * _network(*_network_of(experiment))[0]


def checkpoint_every(experiment: Experiment) -> int:
    """Rounds between states that are kept for good: eight of a run, or none where clients keep something."""
    eighths = experiment.rounds // (8 if experiment.rounds % 8 == 0 else 4)  # SWA starts after six of eight
    return experiment.rounds if _numbers_kept(experiment) else max(1, eighths)


def stored_rounds(experiment: Experiment) -> set[int]:
    """Rounds whose states a run surely has once it is done: another one can go on from these alone.

    The state with its best scores is stored, too, but which that is nobody knows before.
    """
    swa, rounds = experiment.algorithm.swa, experiment.rounds
    average = set() if swa is None else {swa.first(rounds)}
    return {*range(0, rounds, checkpoint_every(experiment)), rounds, *average}


def state_bytes(experiment: Experiment) -> float:
    """Of one stored state: the model, its average, and what clients keep."""
    whole = sum(value.numel() for value in _meta(experiment).parameters())
    averages = experiment.algorithm.swa is not None
    return 4.0 * (whole * (1 + averages) + (experiment.data.clients or 1) * _numbers_kept(experiment))


def _numbers_kept(experiment: Experiment) -> int:
    """Numbers that each client keeps from round to round: parts that are not shared, and the algorithm's memory."""
    algorithm, model = experiment.algorithm, _meta(experiment)
    params = dict(model.named_parameters())
    trained = {name: params[name].detach() for name in names(model, algorithm.train)}
    shared = () if algorithm.topology else _shared(experiment)
    memory = {} if algorithm.pooled else algorithm.memory(trained)
    own = sum(value.numel() for name, value in trained.items() if name not in shared)
    return own + sum(value.numel() for slot in memory.values() for value in slot.values())


def _shared(experiment: Experiment) -> set[str]:
    share = experiment.algorithm.share
    return set() if share == "none" else set(names(_meta(experiment), share))


def _meta(experiment: Experiment) -> Model:
    return _network(*_network_of(experiment))[1]


def _network_of(experiment: Experiment) -> tuple[str, tuple[int, int, int], int]:
    images = sizes(experiment)
    return experiment.model.to_json(), images.shape, images.classes


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
