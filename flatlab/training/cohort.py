"""Runs an algorithm's pure functions for many clients: as one batch under vmap, or one client after another.

All ways see the same batches and give the same numbers up to the order of floating-point sums.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, Carry, Params
from ..data import FederatedDataset
from ..models import Model, names
from .batches import Batch, Plan, batches, plan
from .convolution import Convolution, as_chosen
from .objective import loss
from .stack import Epochs, Recordings, eager, stacked_step

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
    velocity: Params
    message: Params  # how far the trained part moved
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
        threads: torch threads to compute with on a CPU; None: as many as torch has.
        precision: "float32"; "tf32" rounds the inputs of products to 10 bits on CUDA (elsewhere it is float32);
            "bfloat16" computes layers in bfloat16, norms, losses and updates in float32.
        convolution: how "batch" and "graph" convolve with weights of each client's own; see `convolution`.
    """

    model: Model
    data: FederatedDataset
    engine: Engine = "auto"
    chunk: int | None = None
    channels_last: bool = False
    threads: int | None = None
    precision: Precision = "float32"
    convolution: Convolution = "grouped"
    recordings: Recordings = field(default_factory=Recordings, compare=False, repr=False)
    planned: dict[Any, Plan] = field(default_factory=dict, compare=False, repr=False)

    @contextlib.contextmanager
    def paced(self) -> Iterator[None]:
        """Inside the block torch computes with `threads` threads, in `precision`, on CUDA with repeatable kernels."""
        threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
        fast = self.precision == "tf32"
        device = self.data.images.device.type
        torch.set_num_threads(self.threads or threads)
        torch.set_float32_matmul_precision("high" if fast else "highest")
        try:
            with (
                torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=fast),
                torch.autocast(device, torch.bfloat16, self.precision == "bfloat16", cache_enabled=False),
            ):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(products)

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
        received: Params,
        indices: Sequence[Tensor],
        streams: Sequence[Name],
        *,
        seed: int | Sequence[int],
        lr: float | Sequence[float],
        part: str | None = None,
        own: Params | None = None,
        velocity: Params | None = None,
        every_epoch: bool = False,
        varied: Mapping[str, Sequence[float]] | None = None,
    ) -> Iterator[Trained]:
        """Local training of clients that hold the samples `indices`.

        Args:
            algorithm: whose `init`, `step`, `finish`, `epochs` and `batch_size` apply.
            received: all parameters, as the server sends them.
            indices: per client, the positions of its samples in `data.images`.
            streams: per client, the name of its random stream.
            seed: seed of the streams, or one for each client.
            lr: learning rate, or one for each client.
            part: part to train; the algorithm's unless given.
            own: parameters that each client has for itself, [clients, ...]; they replace those received.
            velocity: momentum kept from before, [clients, ...].
            every_epoch: yield after each epoch, not only after the last.
            varied: settings of the algorithm that differ between clients, with each one's value; see
                `Algorithm.varied`.
        """
        trained_names = set(names(self.model, part or algorithm.train))
        largest = min(algorithm.batch_size, max(len(index) for index in indices))
        size = self._chunk_size(largest, received) if self.batched else 1
        settings = self._settings({"lr": lr, **(varied or {})}, len(indices), received)
        start = 0
        while start < len(indices):
            rows = slice(start, start + size)
            seeds = seed if isinstance(seed, int) else seed[rows]
            drawn = self.plan(algorithm, indices[rows], streams[rows], seeds)
            mine = {name: value[rows] for name, value in (own or {}).items()}
            fast = {name: value[rows] for name, value in (velocity or {}).items()}
            count = len(drawn.index)
            # In the model's order, whatever order a file has: joint norms add up in it.
            full = {
                name: mine[name] if name in mine else received[name].unsqueeze(0).expand(count, *received[name].shape)
                for name in names(self.model)
            }
            trained = {name: value for name, value in full.items() if name in trained_names}
            frozen = {name: value for name, value in full.items() if name not in trained_names}
            here = {name: value[rows] for name, value in settings.items()}
            done = 0
            try:
                with self.paced(), as_chosen(self.convolution):
                    epochs = self._epochs(algorithm, trained, frozen, fast, drawn, here)
                while done < drawn.epochs:
                    with self.paced(), as_chosen(self.convolution):
                        epoch, carry, losses = next(epochs)
                    done = epoch
                    if every_epoch or epoch == drawn.epochs:
                        message = algorithm.finish(carry)
                        rows_done = list(range(start, start + count))
                        yield Trained(rows_done, epoch, carry.params, carry.velocity, message, losses)
            except torch.OutOfMemoryError:
                if size == 1 or (done and every_epoch):
                    raise
                self.recordings.clear()
                torch.cuda.empty_cache()
                size = max(1, size // 2)
                log.warning("out of memory: going on with %d clients at a time", size)
                continue
            start += count

    def plan(
        self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int | Sequence[int]
    ) -> Plan:
        """The batches of these clients; made ahead of time, it is only handed out."""
        key = (tuple(streams), seed if isinstance(seed, int) else tuple(seed), algorithm.epochs, algorithm.batch_size)
        found = self.planned.pop(key, None)
        return found or plan(self.data, indices, streams, seed, algorithm.epochs, algorithm.batch_size)

    def foresee(self, algorithm: Algorithm, indices: Sequence[Tensor], streams: Sequence[Name], seed: int) -> None:
        """Make the plan of clients that are trained next, while the device is busy with others."""
        if self.way == "graph" and self.chunk is None:
            self.planned.clear()
            made = plan(self.data, indices, streams, seed, algorithm.epochs, algorithm.batch_size)
            self.planned[tuple(streams), seed, algorithm.epochs, algorithm.batch_size] = made

    def _settings(self, given: Mapping[str, float | Sequence[float]], count: int, params: Params) -> Params:
        """The settings as tensors [clients]."""
        like = next(iter(params.values()))
        return {
            name: like.new_tensor(value).expand(count) if isinstance(value, float | int) else like.new_tensor(value)
            for name, value in given.items()
        }

    def _epochs(
        self, algorithm: Algorithm, trained: Params, frozen: Params, velocity: Params, drawn: Plan, settings: Params
    ) -> Epochs:
        if not self.batched:
            return self._loop(algorithm, trained, frozen, velocity, drawn, settings)
        carry = torch.func.vmap(algorithm.init)(trained, velocity)
        if self.way == "graph":
            modes = (self.precision, self.convolution)
            return self.recordings.epochs(self.model, algorithm, self.data, carry, frozen, settings, drawn, modes)
        return eager(stacked_step(self.model, algorithm), self.data, carry, frozen, settings, drawn)

    def _loop(
        self, algorithm: Algorithm, trained: Params, frozen: Params, velocity: Params, drawn: Plan, settings: Params
    ) -> Epochs:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        first = {
            key: {name: _laid_out(value[0], layout) for name, value in part.items()}
            for key, part in (("trained", trained), ("frozen", frozen), ("velocity", velocity))
        }
        lr, *others = (float(value) for value in settings.values())
        if others:
            algorithm = algorithm.varied(dict(zip(list(settings)[1:], others, strict=True)))
        carry = algorithm.init(first["trained"], first["velocity"])
        total: Tensor | float = 0.0
        seen: Tensor | float = 0.0
        for epoch in range(drawn.epochs):
            for alone in batches(self.data, drawn, epoch):
                parts: Any = (None if value is None else value[0] for value in alone)
                batch = Batch(*parts)
                batch = batch._replace(images=batch.images.contiguous(memory_format=layout))

                def gradient(params: Params, batch: Batch = batch) -> tuple[Params, Tensor]:
                    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
                    with torch.enable_grad():
                        value = loss(self.model, {**first["frozen"], **leaves}, batch)
                    grads = torch.autograd.grad(value, tuple(leaves.values()))
                    return dict(zip(leaves, grads, strict=True)), value.detach()

                with torch.no_grad():
                    carry, value = algorithm.step(carry, gradient, lr)
                total, seen = total + value * len(batch.labels), seen + len(batch.labels)
            stacked_carry = Carry(*({name: value.unsqueeze(0) for name, value in part.items()} for part in carry))
            yield epoch + 1, stacked_carry, torch.as_tensor(total / seen).reshape(1)

    @functools.cached_property
    def _activations(self) -> int:
        return activations(self.model, self.data.shape)

    def _chunk_size(self, batch_size: int, params: Params) -> int:
        if self.chunk is not None:
            return self.chunk
        device = self.data.images.device
        budget = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2**31
        weights = sum(value.numel() * value.element_size() for value in params.values())
        # Parameters, gradients, momentum, anchor and temporaries; activations kept for the backward pass, and as much
        # again for what the kernels need. Too generous is mended by halving, too careful only costs launches.
        each = 6 * weights + 8 * batch_size * self._activations
        return max(1, int(budget // each))


def activations(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Numbers that the layers of one forward pass of one sample put out."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if not list(module.children()):
            total += output.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with torch.no_grad():
            first = next(model.parameters())
            model(first.new_zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value
