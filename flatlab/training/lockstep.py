"""Several runs of one shape, round by round: their clients share one batch, each under its own run's seed and settings.

On a GPU the runs of a table (seeds, learning rates, rho, alpha, partitions) then cost little more than one of them.
Servers, schedules, averages and records stay each run's own, and so does a failure.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algorithms import ASAM, SAM, SGD, Algorithm
from ..models import names
from .clients import Trained
from .experiment import Experiment
from .interrupt import soft_interrupt
from .round import Diverged, Federation, Orders, State
from .run import Run
from .start import take_up
from .trees import mapped

# Settings that clients of one batch may have different values of, where all of them use it.
NUMBERS = ("momentum", "weight_decay", "clip", "mu")
LOCAL_NUMBERS = {SGD: (), SAM: ("rho",), ASAM: ("rho", "eta")}
SERVER_SIDE = ("kind", "lr", "schedule", "share", "aggregation", "server", "swa", "server_data")


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
    return f"{data.name} {data.augmentation} {data.normalise} {experiment.model} {experiment.code} {steps}"


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
            take_up(run)
            held.enter_context(run.held(wait))
        interrupted = held.enter_context(soft_interrupt(stop))
        while active := [run for run in runs if not run.done and run.id not in errors]:
            start = time.perf_counter()
            found = _trained([run.federation for run in active], [run.state() for run in active])
            seconds = (time.perf_counter() - start) / len(active)
            for run, trained in zip(active, found, strict=True):
                try:
                    run.step(trained, seconds)
                except (Diverged, OSError) as error:
                    errors[run.id] = error
            if stop.is_set() or stopped():
                break
    if interrupted.is_set():
        raise KeyboardInterrupt("stopped after the round in flight")
    return errors


def _trained(federations: list[Federation], states: list[State]) -> list[list[Trained]]:
    """The next round's local training of all federations, in one call of the first one's cohort."""
    orders = [one.orders(state, one.sample(state.round)) for one, state in zip(federations, states, strict=True)]
    counts = [len(one.indices) for one in orders]
    first = federations[0]
    algorithms = [one.experiment.algorithm for one in federations]

    def each(values: list[Any]) -> list[Any]:
        return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]

    own = {
        name: torch.cat([_rows(one, state, name) for one, state in zip(orders, states, strict=True)])
        for name in names(first.model)
    }

    def joined(*values: torch.Tensor) -> torch.Tensor:
        return torch.cat(values)

    memory, received = (mapped(joined, *(getattr(one, part) for one in orders)) for part in ("memory", "received"))
    ends = torch.tensor(counts).cumsum(0).tolist()
    found: list[list[Trained]] = [[] for _ in federations]
    for chunk in first.cohort.train(
        algorithms[0],
        states[0].params,
        [index for one in orders for index in one.indices],
        [stream for one in orders for stream in one.streams],
        seed=each([one.seed for one in orders]),
        lr=each([one.lr for one in orders]),
        own=own,
        memory=memory,
        received=received,
        varied={name: each(values) for name, values in _different(algorithms).items()},
    ):
        for which, (end, count) in enumerate(zip(ends, counts, strict=True)):
            rows = [row for row, place in enumerate(chunk.clients) if end - count <= place < end]
            if rows:
                found[which].append(_part(chunk, rows, end - count))
    return found


def _rows(orders: Orders, state: State, name: str) -> torch.Tensor:
    """A tensor as each client of one run begins with it."""
    shared = state.params[name]
    return orders.own[name] if name in orders.own else shared.expand(len(orders.indices), *shared.shape)


def _part(chunk: Trained, rows: list[int], first: int) -> Trained:
    """Some clients of a chunk, numbered from the first of their run."""
    where = slice(rows[0], rows[-1] + 1)  # a run's clients stand together
    params, message = (mapped(lambda value: value[where], part) for part in (chunk.params, chunk.message))
    return Trained([chunk.clients[row] - first for row in rows], chunk.epoch, params, message, chunk.loss[where])


def _different(algorithms: list[Algorithm]) -> dict[str, list[float]]:
    """The settings that differ, with each algorithm's value."""
    if _own_step(type(algorithms[0])):
        return {}
    values = {name: [getattr(one, name) for one in algorithms] for name in NUMBERS}
    for name in LOCAL_NUMBERS.get(type(algorithms[0].local), ()):
        values[f"local.{name}"] = [getattr(one.local, name) for one in algorithms]
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def _own_step(kind: type[Algorithm]) -> bool:
    """Whether a user's class changes what a client does; it may then look at its settings."""
    hooks = ("memory", "init", "step", "descend", "finish")
    return any(getattr(kind, name) is not getattr(Algorithm, name) for name in hooks)
