"""Runs an algorithm's pure functions for many clients: as one batch under vmap, or one client after another.

Both ways see the same batches and give the same numbers up to the order of floating-point sums.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, Carry, Params
from ..data import FederatedDataset
from ..models import Model, names
from .batches import Batch, Plan, batches, plan
from .objective import loss

log = logging.getLogger("flatlab")

Engine = Literal["auto", "batch", "loop"]
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
    """How clients are computed; none of it changes what is computed.

    Args:
        model: gives the architecture; its own weights are never used or changed.
        data: on the device to compute on.
        engine: "batch" (vmap), "loop", or "auto": "loop" on a CPU, where it is faster, "batch" elsewhere.
        chunk: clients computed at a time by "batch"; None: as many as fit the memory budget.
        channels_last: memory format of the loop.
        threads: torch threads to compute with on a CPU; None: as many as torch has.
    """

    model: Model
    data: FederatedDataset
    engine: Engine = "auto"
    chunk: int | None = None
    channels_last: bool = False
    threads: int | None = None

    @contextlib.contextmanager
    def paced(self) -> Iterator[None]:
        """Inside the block torch computes with `threads` threads; on CUDA in full float32, with repeatable kernels."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            with torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=False):
                yield
        finally:
            torch.set_num_threads(before)

    @property
    def batched(self) -> bool:
        """Whether clients are computed as one batch."""
        return self.engine == "batch" or (self.engine == "auto" and self.data.images.device.type != "cpu")

    def train(
        self,
        algorithm: Algorithm,
        received: Params,
        indices: Sequence[Tensor],
        streams: Sequence[Name],
        *,
        seed: int,
        lr: float,
        part: str | None = None,
        own: Params | None = None,
        velocity: Params | None = None,
        every_epoch: bool = False,
    ) -> Iterator[Trained]:
        """Local training of clients that hold the samples `indices`.

        Args:
            algorithm: whose `init`, `step`, `finish`, `epochs` and `batch_size` apply.
            received: all parameters, as the server sends them.
            indices: per client, the positions of its samples in `data.images`.
            streams: per client, the name of its random stream.
            seed: seed of the streams.
            lr: learning rate.
            part: part to train; the algorithm's unless given.
            own: parameters that each client has for itself, [clients, ...]; they replace those received.
            velocity: momentum kept from before, [clients, ...].
            every_epoch: yield after each epoch, not only after the last.
        """
        trained_names = set(names(self.model, part or algorithm.train))
        largest = min(algorithm.batch_size, max(len(index) for index in indices))
        size = self._chunk_size(largest, received) if self.batched else 1
        start = 0
        while start < len(indices):
            rows = slice(start, start + size)
            drawn = plan(self.data, indices[rows], streams[rows], seed, algorithm.epochs, algorithm.batch_size)
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
            work = self._batch if self.batched else self._loop
            epochs = work(algorithm, trained, frozen, fast, drawn, lr)
            done = 0
            try:
                while done < drawn.epochs:
                    with self.paced():
                        epoch, carry, losses = next(epochs)
                    done = epoch
                    if every_epoch or epoch == drawn.epochs:
                        message = algorithm.finish(carry)
                        rows_done = list(range(start, start + count))
                        yield Trained(rows_done, epoch, carry.params, carry.velocity, message, losses)
            except torch.OutOfMemoryError:
                if size == 1 or (done and every_epoch):
                    raise
                torch.cuda.empty_cache()
                size = max(1, size // 2)
                log.warning("out of memory: going on with %d clients at a time", size)
                continue
            start += count

    def _batch(
        self, algorithm: Algorithm, trained: Params, frozen: Params, velocity: Params, drawn: Plan, lr: float
    ) -> Iterator[tuple[int, Carry, Tensor]]:
        def one(carry: Carry, frozen: Params, batch: Batch) -> tuple[Carry, Tensor]:
            def objective(params: Params) -> Tensor:
                return loss(self.model, {**frozen, **params}, batch)

            moved, value = algorithm.step(carry, torch.func.grad_and_value(objective), lr)
            if batch.weight is None:
                return moved, value
            # A client whose samples are used up waits for the others.
            active = batch.weight.sum() > 0
            params, speed = (
                {name: torch.where(active, new[name], value) for name, value in old.items()}
                for old, new in ((carry.params, moved.params), (carry.velocity, moved.velocity))
            )
            return Carry(params, speed, carry.anchor), value

        carry = torch.func.vmap(algorithm.init)(trained, velocity)
        total: Tensor | float = 0.0
        seen: Tensor | float = 0.0
        for epoch in range(drawn.epochs):
            for batch in batches(self.data, drawn, epoch):
                samples = _samples(batch)
                carry, value = torch.func.vmap(one, in_dims=(0, 0, stacked(batch)))(carry, frozen, batch)
                total, seen = total + value.detach() * samples, seen + samples
            yield epoch + 1, carry, torch.as_tensor(total / seen)

    def _loop(
        self, algorithm: Algorithm, trained: Params, frozen: Params, velocity: Params, drawn: Plan, lr: float
    ) -> Iterator[tuple[int, Carry, Tensor]]:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        first = {
            key: {name: _laid_out(value[0], layout) for name, value in part.items()}
            for key, part in (("trained", trained), ("frozen", frozen), ("velocity", velocity))
        }
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

    def _chunk_size(self, batch_size: int, params: Params) -> int:
        if self.chunk is not None:
            return self.chunk
        device = self.data.images.device
        budget = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2**31
        weights = sum(value.numel() * value.element_size() for value in params.values())
        # Parameters, gradients, momentum, anchor and temporaries; activations kept for the backward pass, and as much
        # again for what the kernels need. Too generous is mended by halving, too careful only costs launches.
        each = 6 * weights + 8 * batch_size * activations(self.model, self.data.shape)
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


def stacked(batch: Batch) -> Batch:
    """`in_dims` of a batch with a leading client axis: fields that are None have none."""
    axes: Any = (None if value is None else 0 for value in batch)
    return Batch(*axes)


def _samples(batch: Batch) -> Tensor | int:
    return batch.labels.shape[-1] if batch.weight is None else batch.weight.sum(-1)


def _laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value
