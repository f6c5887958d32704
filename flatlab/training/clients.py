"""Runs an algorithm's pure functions for many clients: as one batch under vmap, or one client (on each core) by one.

All ways see the same batches and give the same numbers up to the order of floating-point sums.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, Carry, Message, Params, Slots
from ..data import FederatedDataset
from ..declare import SettingError
from ..models import Model, exact_products, names
from ..tasks import Classification, Task
from .batches import Plan, plan
from .convolution import Convolution, as_chosen
from .cuda_graph import Recordings
from .sequential import Work, loop
from .step_by_step import Turns
from .threads import Item, Result, computing_with, side_by_side
from .trees import mapped
from .vmapped import eager, stacked_step

log = logging.getLogger("flatlab")

Engine = Literal["auto", "graph", "batch", "loop"]
Precision = Literal["float32", "tf32", "bfloat16"]
Name = tuple[str | int, ...]


@dataclass(frozen=True)
class Trained:
    """A chunk of clients after an epoch; every tensor has a leading client axis."""

    clients: list[int]  # positions in the list that was handed in
    epoch: int  # epochs done, from 1
    params: Params  # the trained part
    message: Message
    loss: Tensor  # [clients] mean training loss over the epochs so far, each step counted by its samples


@dataclass(frozen=True)
class Cohort:
    """How clients are computed; none of it changes what is computed, but for rounding.

    Args:
        model: gives the architecture; its own weights are never used or changed.
        data: on the device to compute on.
        engine: "loop", "batch" (vmap), "graph" (the same, a step recorded as a CUDA graph; on other devices it is only
            run on the tensors that a graph would use), or "auto": "loop" on a CPU, where it is faster, "graph" on CUDA.
        chunk: clients computed at a time by "batch" and "graph"; None: as many as fit the memory budget.
        channels_last: memory format of the loop.
        threads: torch threads inside a step of training; they decide how sums round.
        workers: clients that the loop trains or scores at a time with one thread each; they change nothing.
        precision: "float32"; "tf32" rounds the inputs of products to 10 bits on CUDA (elsewhere it is float32);
            "bfloat16" computes layers in bfloat16, norms, losses and updates in float32.
        convolution: how "batch" and "graph" convolve with weights of each client's own; see `convolution`.
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
    convolution: Convolution = "grouped"
    task: Task = field(default_factory=Classification)
    recordings: Recordings = field(default_factory=Recordings, compare=False, repr=False)
    planned: dict[Any, Plan] = field(default_factory=dict, compare=False, repr=False)
    fitting: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # clients, by batch size

    @contextlib.contextmanager
    def paced(self) -> Iterator[None]:
        """Inside the block torch computes one thing alone, in this cohort's precision and number of threads."""
        with computing_with(self.threads), self.precise():
            yield

    @contextlib.contextmanager
    def precise(self) -> Iterator[None]:
        """Inside the block this thread computes in `precision`, on CUDA with repeatable kernels."""
        fast = self.precision == "tf32"
        device = self.data.images.device.type
        with contextlib.ExitStack() as modes:
            if device == "cpu":
                modes.enter_context(exact_products())
            if device == "cuda":
                modes.enter_context(torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=fast))
                products = torch.get_float32_matmul_precision()
                torch.set_float32_matmul_precision("high" if fast else "highest")
                modes.callback(torch.set_float32_matmul_precision, products)
            low = self.precision == "bfloat16"
            modes.enter_context(torch.autocast(device, torch.bfloat16, low, cache_enabled=False))
            yield

    @property
    def way(self) -> Literal["graph", "batch", "loop"]:
        """The engine, decided."""
        if self.engine != "auto":
            return self.engine
        device = self.data.images.device.type
        return "graph" if device == "cuda" else "loop" if device == "cpu" else "batch"

    @property
    def batched(self) -> bool:
        """Whether clients are computed as one batch."""
        return self.way != "loop"

    def train(
        self,
        algorithm: Algorithm,
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
        varied: Mapping[str, Sequence[float]] | None = None,
    ) -> Iterator[Trained]:
        """Local training of clients that hold the samples `indices`.

        Args:
            algorithm: whose `init`, `step`, `finish`, `epochs` and `batch_size` apply.
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
            varied: settings of the algorithm that differ between clients, with each one's value; see
                `Algorithm.varied`.
        """
        trained = set(names(self.model, part or algorithm.train))
        settings = self._settings({"lr": lr, **(varied or {})}, len(indices), params)

        steps = self._steps(algorithm, indices)

        def chunk(start: int, stop: int) -> Work:
            rows = slice(start, min(stop, len(indices)))
            seeds = seed if isinstance(seed, int) else seed[rows]
            drawn = self.plan(algorithm, indices[rows], streams[rows], seeds)
            count = len(drawn.index)
            # In the model's order, whatever order a file has: joint norms add up in it.
            full = {
                name: own[name][rows]
                if own and name in own
                else params[name].unsqueeze(0).expand(count, *params[name].shape)
                for name in names(self.model)
            }
            return Work(
                {name: value for name, value in full.items() if name in trained},
                {name: value for name, value in full.items() if name not in trained},
                mapped(lambda value: value[rows], memory or {}),
                mapped(lambda value: value[rows], received or {}),
                steps[rows],
                drawn,
                {name: value[rows] for name, value in settings.items()},
            )

        if self.batched:
            largest = min(_samples_a_step(algorithm), max(len(index) for index in indices))
            if self.chunk is None and largest not in self.fitting:
                self.fitting[largest] = self._fitting(largest, params)
            yield from self._stacked(algorithm, chunk, len(indices), largest, every_epoch)
            return

        def train(model: Model, client: int) -> Iterator[Trained | None]:
            with self.precise():
                work = chunk(client, client + 1)
            steps_and_epochs = loop(model, self.data, algorithm, self.task, work, self.channels_last)
            ended = 0
            while ended < algorithm.epochs:
                with self.precise():  # for each step, as another thread may do the next
                    done = next(steps_and_epochs)
                ended = ended if done is None else done[0]
                wanted = done is not None and (every_epoch or ended == algorithm.epochs)
                yield _trained(algorithm, [client], done, work) if done is not None and wanted else None

        if self.threads == 1 and min(self.workers, len(indices)) > 1:
            turns = Turns(train, self._networks, steps.tolist(), self.workers, "client")
            yield from itertools.chain.from_iterable(turns.results())
        else:
            for client in range(len(indices)):
                yield from (done for done in self._paced(train(self.model, client)) if done is not None)

    def _stacked(
        self, algorithm: Algorithm, chunk: Callable[[int, int], Work], clients: int, largest: int, every_epoch: bool
    ) -> Iterator[Trained]:
        """As many clients at a time as fit."""
        size = self.chunk or self.fitting[largest]
        start = 0
        while start < clients:
            done = 0
            try:
                work = chunk(start, start + size)
                count = len(work.drawn.index)
                with self.paced():
                    carry = torch.func.vmap(algorithm.init)(work.trained, work.memory, work.received, work.steps)
                    step = stacked_step(self.model, algorithm, self.task)
                    modes = (self.precision, self.convolution, self.task)
                    epochs = (
                        self.recordings.epochs(algorithm, step, self.data, carry, work, modes)
                        if self.way == "graph"
                        else eager(step, self.data, carry, work)
                    )
                for found in self._paced(epochs):
                    done = found[0]
                    if every_epoch or done == algorithm.epochs:
                        yield _trained(algorithm, list(range(start, start + count)), found, work)
            except torch.OutOfMemoryError:
                if min(size, clients) == 1 or (done and every_epoch):
                    raise
                self.recordings.clear()
                torch.cuda.empty_cache()
                size = self.fitting[largest] = max(1, min(size, clients) // 2)
                log.warning("out of memory: going on with %d clients at a time", size)
                continue
            start += count

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
        made = SimpleQueue[Model]()
        for _ in range(2 * self.workers - 1):  # see `Turns`
            made.put(copy.deepcopy(self.model))
        return made

    def _paced(self, results: Iterator[Result]) -> Iterator[Result]:
        """Each computed at this cohort's pace; what is done with it is not."""
        while True:
            with self.paced(), as_chosen(self.convolution if self.batched else "grouped"):
                try:
                    found = next(results)
                except StopIteration:
                    return
            yield found

    def plan(
        self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int | Sequence[int]
    ) -> Plan:
        """The batches of these clients; made ahead of time, it is only handed out."""
        found = self.planned.pop(_key(algorithm, streams, seed), None)
        return found or plan(self.data, indices, streams, seed, algorithm.epochs, _samples_a_step(algorithm))

    def _steps(self, algorithm: Algorithm, indices: Sequence[Tensor]) -> Tensor:
        """[clients] how many steps each takes."""
        size = _samples_a_step(algorithm)
        counts = [algorithm.epochs * math.ceil(len(index) / size) for index in indices]
        if max(counts, default=0) > torch.iinfo(torch.int64).max:
            raise SettingError("epochs", algorithm.epochs, "more steps than can be counted")
        return torch.tensor(counts).to(self.data.images.device)

    def foresee(self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int) -> None:
        """Make the plan of clients that are trained next, all at once, while the device is busy with others."""
        self.planned.clear()
        largest = min(_samples_a_step(algorithm), max(len(index) for index in indices))
        if self.way == "graph" and (self.chunk or self.fitting.get(largest, 0)) >= len(indices):
            self.planned[_key(algorithm, streams, seed)] = self.plan(algorithm, indices, streams, seed)

    def _settings(self, given: Mapping[str, float | Sequence[float]], count: int, params: Params) -> Params:
        """The settings as tensors [clients]."""
        like = next(iter(params.values()))
        return {
            name: like.new_tensor(value).expand(count) if isinstance(value, float | int) else like.new_tensor(value)
            for name, value in given.items()
        }

    @functools.cached_property
    def _activations(self) -> int:
        return activations(self.model, self.data.shape)

    def _fitting(self, batch_size: int, params: Params) -> int:
        """How many clients should fit: by the memory there is, not by what is free today, which would change sums."""
        device = self.data.images.device
        budget = torch.cuda.mem_get_info(device)[1] // 2 if device.type == "cuda" else 2**31
        weights = sum(value.numel() * value.element_size() for value in params.values())
        # Parameters, gradients, momentum, anchor and temporaries; activations kept for the backward pass, and as much
        # again for what the kernels need. Too generous is mended by halving, too careful only costs launches.
        each = 6 * weights + 8 * batch_size * self._activations
        return max(1, int(budget // each))


def _samples_a_step(algorithm: Algorithm) -> int:
    return algorithm.batch_size * algorithm.batches_per_step


def _key(algorithm: Algorithm, streams: Sequence[Name], seed: int | Sequence[int]) -> Any:
    """What a plan depends on, on the same data."""
    seeds = seed if isinstance(seed, int) else tuple(seed)
    return tuple(streams), seeds, algorithm.epochs, _samples_a_step(algorithm)


def _trained(algorithm: Algorithm, clients: list[int], done: tuple[int, Carry, Tensor], work: Work) -> Trained:
    epoch, carry, losses = done
    message = torch.func.vmap(algorithm.finish)(carry, work.settings["lr"])
    return Trained(clients, epoch, carry.params, message, losses)


def activations(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Numbers that the layers of one forward pass of one sample put out."""
    total = 0

    def numbers(output: Any) -> int:  # a recurrent layer puts out a state, too
        parts = output if isinstance(output, tuple | list) else ()
        return output.numel() if isinstance(output, Tensor) else sum(map(numbers, parts))

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        if not list(module.children()):
            total += numbers(output)

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with torch.no_grad():
            first = next(model.parameters())
            model(first.new_zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return total
