"""Each client's step on tensors that stay where they are: on CUDA recorded once as a graph and replayed.

Gathering and augmentation are part of it, so that Python launches one thing a step and client. A graph for each
client: its numbers do not depend on who else is computed, and a convolution of one network's weights has faster kernels
than one in groups. They are replayed side by side. In one graph with a branch for each they would wait for each other:
some of cuDNN's convolutions use a stream of its own besides, which all branches of a graph would share.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Carry
from ..data import FederatedDataset
from .batches import Batch, Plan
from .sequential import Own
from .work import Epochs, Work, counted, in_a_row, leaves, mapped, pairs

log = logging.getLogger("flatlab")

WARM_UPS = 2  # steps before the recording: libraries choose kernels and take workspace in the first ones
LANES = 16  # clients side by side (H200, 60 clients of `lenet`: 303 ms with 2, 174 with 8, 170 with 16)
ROW = 128  # numbers
Arrays = dict[str, tuple[np.ndarray, torch.dtype]]  # [clients, epochs, steps, ...], and as what a step takes them
Replay = Callable[[], object]


class Recorded:
    """Steps on tensors with a fixed place, for any number of epochs of one shape.

    Args:
        steps: each client's, from `own_step`.
        data: on the device to compute on.
        carry, work: examples of what `epochs` will be given; only their shapes matter.
        capacity: steps of an epoch to make room for, at least those of `work`.
    """

    def __init__(self, steps: Sequence[Own], data: FederatedDataset, carry: Carry, work: Work, capacity: int) -> None:
        self.steps, self.data = steps, data
        self.device = data.images.device
        clients, _, needed, self.size = work.drawn.index.shape
        self.capacity = max(needed, capacity)
        self.tail = tail(work.drawn, data)
        self.carry, self.frozen, self.lr = (mapped(_rows, tree) for tree in (carry, work.frozen, work.lr))
        self.plan = {
            name: torch.zeros((clients, self.capacity, *value.shape[3:]), dtype=kind, device=self.device)
            for name, (value, kind) in _arrays(work.drawn, data).items()
        }
        self.at = torch.zeros(clients, dtype=torch.int64, device=self.device)
        self.total, self.seen = (torch.zeros_like(self.lr) for _ in range(2))
        lanes = min(clients, LANES) if self.device.type == "cuda" else 0
        self._lanes = [torch.cuda.Stream(self.device) for _ in range(lanes)]
        self._pools = [torch.cuda.graph_pool_handle() for _ in range(lanes)]  # of graphs that never run at once
        self._replay: dict[int, list[Replay]] = {}

    def epochs(self, carry: Carry, work: Work) -> Epochs:
        """As `eager`."""
        for fixed, given in ((self.carry, carry), (self.frozen, work.frozen), (self.lr, work.lr)):
            _refill(fixed, given)
        self.total.zero_()
        self.seen.zero_()
        arrays, steps = _arrays(work.drawn, self.data), work.drawn.index.shape[2]
        for epoch in range(work.drawn.epochs):
            self._load(arrays, epoch, steps)
            try:
                for _ in range(steps - bool(self.tail)):
                    self._run(self.size)
                if self.tail:
                    self._run(self.tail)
            finally:  # also after an error: what comes next may write where these read
                for lane in self._lanes:
                    torch.cuda.current_stream(self.device).wait_stream(lane)
            yield epoch + 1, mapped(torch.clone, self.carry), self.total / self.seen

    def _load(self, arrays: Arrays, epoch: int, steps: int) -> None:
        self.at.zero_()
        for name, (value, kind) in arrays.items():
            drawn = torch.from_numpy(np.ascontiguousarray(value[:, epoch])).to(kind)
            if self.device.type == "cuda":
                drawn = drawn.pin_memory()
            self.plan[name][:, :steps].copy_(drawn, non_blocking=True)
        for lane in self._lanes:
            lane.wait_stream(torch.cuda.current_stream(self.device))

    def _run(self, kept: int) -> None:
        """A step of each client on the first `kept` places of its batch."""
        if kept not in self._replay:
            self._replay[kept] = self._record(kept)
        for client, replay in enumerate(self._replay[kept]):
            with self._in_lane(client):
                replay()

    def _in_lane(self, client: int) -> contextlib.AbstractContextManager[Any]:
        """Where a client is computed: on CUDA some side by side."""
        return torch.cuda.stream(self._lanes[client % LANES]) if self._lanes else contextlib.nullcontext()

    def _record(self, kept: int) -> list[Replay]:
        steps: list[Replay] = [functools.partial(self._step, client, kept) for client in range(len(self.steps))]
        if not self._lanes:
            return steps
        changed = [*leaves(_changing(self.carry)), self.at, self.total, self.seen]
        torch.cuda.synchronize(self.device)
        before = [value.clone() for value in changed]
        for _ in range(WARM_UPS):
            steps[0]()
            torch._foreach_copy_(changed, before)
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # while a graph is recorded nothing can be given back
        try:
            return [self._recording(client, step) for client, step in enumerate(steps)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # A network of the user's may do what a graph cannot hold (look at a value, copy from the host).
            log.warning("this step cannot be recorded as a CUDA graph (%s): going on without", error)
            self._lanes.clear()
            return steps

    def _recording(self, client: int, step: Replay) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with self._in_lane(client):
            graph.capture_begin(self._pools[client % LANES])
            try:
                step()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # it says that the capture failed
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph.replay

    @torch.no_grad()
    def _step(self, client: int, kept: int) -> None:
        """One client's step."""
        at = self.at[client : client + 1]
        now = {name: value[client].index_select(0, at) for name, value in self.plan.items()}
        index = now.pop("index")[:, :kept]
        partner, share, weight = (now.pop(name, None) for name in ("partner", "share", "weight"))
        draws = {name: value[:, :kept] for name, value in now.items()}
        batch = Batch(
            self.data.prepared(index, draws)[0],
            self.data.targets(index, draws)[0],
            None if weight is None else weight[0],
            None if partner is None else partner[0, :kept],
            None if share is None else share[0],
        )
        carry, frozen = mapped(lambda value: value[client], (self.carry, self.frozen))
        _, moved, value = self.steps[client](carry, frozen, self.lr[client], batch)
        moved, samples = counted(carry, moved), kept if batch.weight is None else batch.weight.sum()
        if isinstance(samples, Tensor):  # a client whose samples are used up waits for the others
            active = samples > 0
            moved = mapped(lambda old, new: torch.where(active, new, old), carry, moved)
        _refill(_changing(carry), _apart(carry, _changing(moved)))
        self.total[client] += value * samples
        self.seen[client] += samples
        at += 1


class Recordings:
    """Recorded steps by the shape of their work; the last few are kept, as each holds memory on the device."""

    KEPT = 6

    def __init__(self) -> None:
        self._recorded: dict[Any, Recorded] = {}

    def epochs(
        self,
        steps: Sequence[Own],
        data: FederatedDataset,
        carry: Carry,
        work: Work,
        modes: tuple[Any, ...],
    ) -> Epochs:
        """As `eager`; steps of the same shape and algorithms under the same `modes` are recorded once."""
        drawn = work.drawn
        capacity = -(-max(data.holdings) // drawn.index.shape[3])
        shape = tuple((name, value[:, :, 0].shape[2:]) for name, (value, _) in _arrays(drawn, data).items())
        kept = [(slot, *values) for part in (carry.memory, carry.received) for slot, values in part.items()]
        names = (*carry.params, *kept)
        key = (*in_a_row(work.algorithms), names, shape, tail(drawn, data), modes)
        recorded = self._recorded.pop(key, None)
        if recorded is None or recorded.capacity < drawn.index.shape[2]:
            recorded = Recorded(steps, data, carry, work, capacity)
        self._recorded[key] = recorded
        while len(self._recorded) > self.KEPT:
            self._recorded.pop(next(iter(self._recorded)))
        return recorded.epochs(carry, work)

    def __len__(self) -> int:
        return len(self._recorded)

    def clear(self) -> None:
        """Forget all, and give their memory back."""
        self._recorded.clear()


def _changing(carry: Carry) -> tuple[Any, ...]:
    """What a step may change; the rest stays as the client received it."""
    return carry.params, carry.velocity, carry.memory, carry.step


def _apart(carry: Carry, moved: Any) -> Any:
    """What a step gave, with copies of what it handed on under another name, as that place is written to as well."""
    homes = {place.data_ptr() for place in leaves(carry)}

    def copied(value: Tensor, place: Tensor) -> Tensor:
        return value.clone() if value.data_ptr() in homes and value.data_ptr() != place.data_ptr() else value

    return mapped(copied, moved, _changing(carry))


def _rows(value: Tensor) -> Tensor:
    """A copy in which each client's row begins as a tensor of its own would: libraries choose kernels by that, too."""
    row = -(-value[0].numel() // ROW) * ROW
    shape = value.shape[1:]
    strides = (row, *(math.prod(shape[place + 1 :]) for place in range(len(shape))))
    return torch.empty_strided(value.shape, strides, dtype=value.dtype, device=value.device).copy_(value)


def _refill(fixed: Any, given: Any) -> None:
    """Copy the leaves of one tree into another of the same shape."""
    both = list(pairs(fixed, given))
    if both:
        torch._foreach_copy_([place for place, _ in both], [value for _, value in both])


def tail(drawn: Plan, data: FederatedDataset) -> int:
    """Samples of the last step where all clients end alike with a smaller one; 0 where none or not all do."""
    if not _equal(drawn, data):
        return 0
    kept = int(drawn.weight[0, 0, -1].sum())
    return 0 if kept == drawn.weight.shape[3] else kept


def _equal(drawn: Plan, data: FederatedDataset) -> bool:
    """Whether all clients have equally many samples; also those that happen not to be among these, whose company would
    change how numbers round. What no client holds is a pool of all.
    """
    weight, held = drawn.weight[:, 0], data.holdings
    if drawn.runs_on:  # a smaller batch may stand in the midst
        return len(held) == 1 and bool((weight == weight[0]).all() and weight[0, :-1].all())
    counts = set(weight.sum((1, 2)).tolist())
    return len(counts) == 1 and (len(held) == 1 or not counts & held)


def _arrays(drawn: Plan, data: FederatedDataset) -> Arrays:
    """What a step needs of a plan; the weights only if some client's places are padded when another's are not."""
    arrays: Arrays = {"index": (drawn.index, torch.int64)}
    if not _equal(drawn, data):
        arrays["weight"] = (drawn.weight, torch.float32)
    if drawn.partner is not None and drawn.share is not None:
        arrays |= {"partner": (drawn.partner, torch.int64), "share": (drawn.share, torch.float32)}
    for name, value in drawn.draws.items():
        arrays[name] = (value, torch.from_numpy(value[:0]).dtype)
    return arrays
