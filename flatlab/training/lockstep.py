"""Several runs of one shape, round by round: their clients are computed together, each as its own run says.

On a GPU the runs of a table (seeds, learning rates, rho, alpha, partitions) then fill the device.
Servers, schedules, averages and records stay each run's own, and so does a failure.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..algorithms import ASAM, SAM, SGD, Algorithm
from ..models import frame
from .diverged import Diverged
from .experiment import Experiment
from .interrupt import soft_interrupt
from .round import Federation
from .run import Run
from .start import reuse_rounds
from .state import State
from .work import Trained, mapped

# Settings that clients of one batch may have different values of, where all of them use it.
NUMBERS = ("momentum", "weight_decay", "clip", "mu")
LOCAL_NUMBERS = {SGD: (), SAM: ("rho",), ASAM: ("rho", "eta")}
SERVER_SIDE = ("kind", "lr", "schedule", "share", "aggregation", "server", "swa", "server_data", "topology")


def shape(experiment: Experiment) -> str:
    """Experiments of equal shape can be trained together: images, network, local steps and what they use."""
    data, algorithm = experiment.data, experiment.algorithm
    settings = {name: getattr(algorithm, name) for name in type(algorithm).model_fields if name not in SERVER_SIDE}
    if not _own_step(type(algorithm)):
        for name in NUMBERS:
            settings[name] = bool(settings[name])
        local, varying = algorithm.local, LOCAL_NUMBERS.get(type(algorithm.local), ())
        fields = type(local).model_fields
        settings["local"] = {name: getattr(local, name) for name in fields if name not in varying}
    steps = (type(algorithm).__qualname__ if _own_step(type(algorithm)) else "", settings)
    alone = experiment.id if experiment.world is not None else ""  # bad clients of another run train on other images
    images = f"{data.name} {data.shrink} {data.augmentation} {data.normalise}"
    return f"{alone} {images} {experiment.model} {experiment.task!r} {experiment.code} {steps}"


def train_together(
    runs: Sequence[Run], wait: float = 0.0, stopped: Callable[[], bool] = lambda: False
) -> dict[str, BaseException]:
    """Train runs of one shape to their ends; the errors of those that failed, by run.

    Args:
        runs: of equal `shape`, on one device.
        wait: seconds to wait for a run that somebody else trains.
        stopped: asked after each round whether to end.

    Raises:
        RunBusy: if somebody still trains one of them.
        KeyboardInterrupt: after the round in flight.
    """
    errors: dict[str, BaseException] = {}
    stop = threading.Event()
    with contextlib.ExitStack() as held:
        for run in runs:
            reuse_rounds(run)
            held.enter_context(run.held(wait))
        held.enter_context(soft_interrupt(stop, lambda: "stopped after the round in flight"))
        while active := [run for run in runs if not run.done and run.id not in errors]:
            for batch in _batches(active):
                start = time.perf_counter()
                trained = _trained([run.federation for run in batch], [run.state() for run in batch])
                seconds = (time.perf_counter() - start) / len(batch)
                for run, chunks in zip(batch, trained, strict=True):
                    try:
                        run.step(chunks, seconds)
                    except (Diverged, OSError) as error:
                        errors[run.id] = error
            if stop.is_set() or stopped():
                break
    return errors


def _batches(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs whose clients all hold as many samples together, those whose clients hold unequally many together.

    Runs go on as they began: other digits, or another engine, are computed apart. Among unequal ones a client's last
    samples are padded, which rounds in another way: so no run's numbers depend on its company.
    """
    together: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        algorithm, holders = run.experiment.algorithm, run.federation.holders
        plain = not algorithm.pooled and algorithm.server_data is None  # then they are counted already
        counts = run.data.holdings if plain else frozenset(map(len, holders))
        begun = run.round if algorithm.local_steps else 0  # where in its epochs a round begins
        held = next(iter(counts)) if len(counts) == 1 else 0
        way = run.cohort.way, run.cohort.precision
        images = run.data.origin, run.data.mean, run.data.std  # indices are of one order of images, alike normalised
        together.setdefault((held, begun, *images, *way), []).append(run)
    return list(together.values())


@frame()
def _trained(federations: list[Federation], states: list[State]) -> list[list[Trained]]:
    """The next round's local training of all federations, in one call of the first one's cohort."""
    orders = [run.orders(state, run.sample(state.round)) for run, state in zip(federations, states, strict=True)]
    counts = [len(order.indices) for order in orders]

    def each(values: Iterable[Any]) -> list[Any]:
        return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]

    def joined(*values: torch.Tensor) -> torch.Tensor:
        return torch.cat(values)

    begun = [
        run.cohort.started(state.params, order.own, slice(0, count))
        for run, state, order, count in zip(federations, states, orders, counts, strict=True)
    ]
    memory, received = (mapped(joined, *(getattr(order, part) for order in orders)) for part in ("memory", "received"))
    trained: list[list[Trained]] = [[] for _ in federations]
    for chunk in federations[0].cohort.train(
        each(run.experiment.algorithm for run in federations),
        states[0].params,
        [index for order in orders for index in order.indices],
        [stream for order in orders for stream in order.streams],
        seed=each(order.seed for order in orders),
        lr=each(order.lr for order in orders),
        own=mapped(joined, *begun),
        memory=memory,
        received=received,
    ):
        first = 0
        for chunks, count in zip(trained, counts, strict=True):
            rows = [row for row, place in enumerate(chunk.clients) if first <= place < first + count]
            if rows:
                chunks.append(_part(chunk, rows, first))
            first += count
    return trained


def _part(chunk: Trained, rows: list[int], first: int) -> Trained:
    """Some clients of a chunk, numbered from the first of their run."""
    where = slice(rows[0], rows[-1] + 1)  # a run's clients stand together
    params, message = (mapped(lambda value: value[where], part) for part in (chunk.params, chunk.message))
    return Trained([chunk.clients[row] - first for row in rows], chunk.epoch, params, message, chunk.loss[where])


def _own_step(kind: type[Algorithm]) -> bool:
    """Whether a user's class changes what a client does; it may then look at its settings."""
    hooks = ("memory", "init", "step", "descend", "finish")
    return any(getattr(kind, name) is not getattr(Algorithm, name) for name in hooks)
