"""Runs an algorithm's pure functions for many clients: as one batch under vmap, or one client (on each core) by one.

All ways see the same batches and give the same numbers up to the order of floating-point sums.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Literal

import torch
from torch import Tensor

from ..algorithms import Algorithm, Params, Slots
from ..data import FederatedDataset
from ..models import Model, names
from ..tasks import Classification, Task
from .batches import Plan, plan, samples_a_step, step_counts
from .cuda_graph import Recordings
from .device import Precision, computing_in, filling, fitting
from .objective import mappable
from .sequential import Watch, loop, own_step
from .step_by_step import Turns
from .threads import Item, Result, computing_with, side_by_side
from .vmapped import eager, stacked_step, unstackable
from .work import Epochs, Trained, Work, finished, in_a_row, mapped

log = logging.getLogger("flatlab")

Engine = Literal["auto", "graph", "batch", "loop"]
Name = tuple[str | int, ...]
Chunk = Callable[[int, int], Work]  # what the clients from one to another are to do


@dataclass(frozen=True)
class Cohort:
    """How clients are computed; none of it changes what is computed, but for rounding.

    Args:
        model: gives the architecture; its own weights are never used or changed.
        data: on the device to compute on.
        engine: "loop", "batch" (vmap), "graph" (each one's step recorded as a CUDA graph; on other devices it is only
            run on the tensors that a graph would use), or "auto": "loop" on a CPU, where it is faster, and for networks
            and tasks that torch does not stack: with recurrent layers, or with code of their own that it has no rule
            for; else "graph" on CUDA.
        chunk: clients computed at a time by "batch" and "graph"; None: as many as fit the memory budget.
        channels_last: memory format of the loop.
        threads: torch threads inside a step of training; they decide how sums round.
        workers: clients that the loop trains or scores at a time with one thread each; they change nothing.
        precision: "float32"; "tf32" rounds the inputs of products to 10 bits on CUDA (elsewhere it is float32);
            "bfloat16" computes layers in bfloat16, norms, losses and updates in float32.
        task: says the loss.
    """

    model: Model
    data: FederatedDataset
    engine: Engine = "auto"
    chunk: int | None = None
    channels_last: bool = False
    threads: int = 1
    workers: int = 1
    precision: Precision = "float32"
    task: Task = field(default_factory=Classification)
    recordings: Recordings = field(default_factory=Recordings, compare=False, repr=False)
    planned: dict[Any, Plan] = field(default_factory=dict, compare=False, repr=False)
    fitting: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # clients, by batch size

    def on(self, data: FederatedDataset) -> Cohort:
        """The same way of computing on other data."""
        return replace(self, data=data, recordings=Recordings(), planned={}, fitting={})

    def precise(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block this thread computes in `precision`, on CUDA with repeatable kernels."""
        return computing_in(self.precision, self.data.images.device.type)

    @property
    def way(self) -> Literal["graph", "batch", "loop"]:
        """The engine, decided."""
        if self.engine != "auto":
            return self.engine
        device = self.data.images.device.type
        if device == "cpu" or not mappable(self.model) or self.refusal:
            return "loop"
        return "graph" if device == "cuda" else "batch"

    @functools.cached_property
    def refusal(self) -> str | None:
        """Why clients of this network and task cannot be one batch; None if they can."""
        return unstackable(self.model, self.task, self.data, self.precise())

    @functools.cached_property
    def filling(self) -> int:
        """Images to score at a time at least."""
        return filling(self.model, self.data)

    @property
    def batched(self) -> bool:
        """Whether clients are computed as one batch."""
        return self.way != "loop"

    def train(
        self,
        algorithm: Algorithm | Sequence[Algorithm],
        params: Params,
        indices: Sequence[Tensor],
        streams: Sequence[Name],
        *,
        seed: int | Sequence[int],
        lr: float | Sequence[float],
        part: str | None = None,
        own: Params | None = None,
        memory: Slots | None = None,
        received: Slots | None = None,
        every_epoch: bool = False,
        watch: Watch | None = None,
    ) -> Iterator[Trained]:
        """Local training of clients that hold the samples `indices`.

        Args:
            algorithm: whose `init`, `step`, `finish`, `epochs` and `batch_size` apply, or one for each client: of one
                kind, with numbers of their own.
            params: all parameters, as the server sends them.
            indices: per client, the positions of its samples in `data.images`.
            streams: per client, the name of its random stream.
            seed: seed of the streams, or one for each client.
            lr: learning rate, or one for each client.
            part: part to train; the algorithm's unless given.
            own: parameters that each client has for itself, [clients, ...]; they replace those received.
            memory: what each client kept from before, [clients, ...], where the algorithm has a memory.
            received: what the server sends besides the model, [clients, ...].
            every_epoch: yield after each epoch, not only after the last.
            watch: told of each step of a single client, which is then trained by plain autograd.
        """
        algorithms = tuple(algorithm) if isinstance(algorithm, Sequence) else (algorithm,) * len(indices)
        trained = set(names(self.model, part or algorithms[0].train))
        rates = next(iter(params.values())).new_tensor(lr).expand(len(indices))
        steps = torch.tensor(step_counts(algorithms[0], indices)).to(self.data.images.device)

        def work(start: int, stop: int) -> Work:
            rows = slice(start, min(stop, len(indices)))
            seeds = seed if isinstance(seed, int) else seed[rows]
            drawn = self.plan(algorithms[0], indices[rows], streams[rows], seeds)
            full = self.started(params, own or {}, rows)
            kept, words = mapped(lambda value: value[rows], (memory or {}, received or {}))
            moving = {name: value for name, value in full.items() if name in trained}
            frozen = {name: value for name, value in full.items() if name not in trained}
            return Work(moving, frozen, kept, words, steps[rows], drawn, rates[rows], algorithms[rows])

        alone = not self.batched or watch is not None
        engine = functools.partial(self._one_by_one, watch=watch) if alone else self._stacked
        yield from engine(algorithms, work, indices, every_epoch)

    def started(self, params: Params, own: Params, rows: slice) -> Params:
        """All parameters as these clients begin with them, in the model's order: joint norms add up in it."""
        count = rows.stop - rows.start
        return {
            name: own[name][rows] if name in own else params[name].unsqueeze(0).expand(count, *params[name].shape)
            for name in names(self.model)
        }

    def _one_by_one(
        self,
        algorithms: tuple[Algorithm, ...],
        work: Chunk,
        indices: Sequence[Tensor],
        every_epoch: bool,
        watch: Watch | None,
    ) -> Iterator[Trained]:
        """Each client alone, some side by side on the cores."""
        epochs = algorithms[0].epochs

        def train(model: Model, client: int) -> Iterator[Trained | None]:
            with self.precise():
                begun = work(client, client + 1)
            steps_and_epochs = loop(model, self.data, self.task, begun, self.channels_last, watch)
            ended = 0
            while ended < epochs:
                with self.precise():  # for each step, as another thread may do the next
                    done = next(steps_and_epochs)
                ended = ended if done is None else done[0]
                wanted = done is not None and (every_epoch or ended == epochs)
                yield finished([client], done, begun) if done is not None and wanted else None

        if self.threads == 1 and min(self.workers, len(indices)) > 1:
            turns = Turns(train, self._networks, step_counts(algorithms[0], indices), self.workers, "client")
            yield from itertools.chain.from_iterable(turns.results())
        else:
            for client in range(len(indices)):
                yield from (done for done in self._paced(train(self.model, client)) if done is not None)

    def _stacked(
        self, algorithms: tuple[Algorithm, ...], work: Chunk, indices: Sequence[Tensor], every_epoch: bool
    ) -> Iterator[Trained]:
        """As many clients at a time as fit."""
        epochs, largest, clients, start = algorithms[0].epochs, _largest(algorithms[0], indices), len(indices), 0
        if self.chunk is None and largest not in self.fitting:
            self.fitting[largest] = fitting(self.model, self.data, largest)
        size = self.chunk or self.fitting[largest]
        while start < clients:
            ended = 0
            try:
                begun = work(start, start + min(size, self._alike(algorithms[start:])))
                count = len(begun.drawn.index)
                for done in self._paced(self._epochs(begun)):
                    ended = done[0]
                    if every_epoch or ended == epochs:
                        yield finished(list(range(start, start + count)), done, begun)
            except torch.OutOfMemoryError:
                if min(size, clients) == 1 or (ended and every_epoch):
                    raise
            else:
                start += count
                continue
            self.recordings.clear()  # not above, where the error still holds on to what it met
            torch.cuda.empty_cache()
            size = self.fitting[largest] = max(1, min(size, clients) // 2)
            log.warning("out of memory: going on with %d clients at a time", size)

    def _alike(self, algorithms: tuple[Algorithm, ...]) -> int:
        """How many of the first clients can be one batch: each has a graph of its own, else they are of one algorithm.

        Numbers of their own as tensors would round in another way than the algorithm's own.
        """
        return len(algorithms) if self.way == "graph" else in_a_row(algorithms)[0][1]

    def _epochs(self, work: Work) -> Epochs:
        """After each epoch of these clients as one batch."""
        carry = torch.func.vmap(work.algorithms[0].init)(work.trained, work.memory, work.received, work.steps)
        if self.way == "graph":
            steps = [own_step(self.model, algorithm, self.task, self.data.scale) for algorithm in work.algorithms]
            yield from self.recordings.epochs(steps, self.data, carry, work, (self.precision, self.task))
        else:
            step = stacked_step(self.model, work.algorithms[0], self.task, self.data.scale)
            yield from eager(step, self.data, carry, work)

    def side_by_side(self, work: Callable[[Model, Item], Result], items: Sequence[Item], name: str) -> Iterator[Result]:
        """`work(network, item)` for each item, in order, `workers` at a time, in this cohort's precision.

        Each is computed with one thread and a network of its own, whose parameters may be exchanged meanwhile.
        """

        def precisely(model: Model, item: Item) -> Result:
            with self.precise():
                return work(model, item)

        if min(self.workers, len(items)) > 1:
            yield from side_by_side(precisely, self._networks, self.workers, items, name)
        else:
            alone = SimpleQueue[Model]()
            alone.put(self.model)
            yield from side_by_side(precisely, alone, 1, items, name)

    @functools.cached_property
    def _networks(self) -> SimpleQueue[Model]:
        """A network for each worker: its parameters are exchanged for a client's during a step."""
        networks = SimpleQueue[Model]()
        for _ in range(2 * self.workers - 1):  # see `Turns`
            networks.put(copy.deepcopy(self.model))
        return networks

    def _paced(self, results: Iterator[Result]) -> Iterator[Result]:
        """Each computed in this cohort's precision and number of threads; what is done with it is not."""
        while True:
            with computing_with(self.threads), self.precise():
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result

    def plan(
        self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int | Sequence[int]
    ) -> Plan:
        """The batches of these clients; made ahead of time, it is only handed out."""
        return self.planned.pop(key := _key(algorithm, streams, seed), None) or plan(self.data, indices, *key)

    def prefetch(self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int) -> None:
        """Make the plan of clients that are trained next, all at once, while the device is busy with others."""
        self.planned.clear()
        fit = self.chunk or self.fitting.get(_largest(algorithm, indices), 0)
        if self.way == "graph" and fit >= len(indices):
            self.planned[_key(algorithm, streams, seed)] = self.plan(algorithm, indices, streams, seed)


def _largest(algorithm: Algorithm, indices: Sequence[Tensor]) -> int:
    """Samples in the largest batch."""
    return min(samples_a_step(algorithm), max(len(index) for index in indices))


def _key(algorithm: Algorithm, streams: Sequence[Name], seed: int | Sequence[int]) -> Any:
    """What a plan depends on, on the same data: arguments of `plan`."""
    seeds = seed if isinstance(seed, int) else tuple(seed)
    return tuple(streams), seeds, algorithm.epochs, samples_a_step(algorithm), algorithm.local_steps
