"""The loss at many points of weight space, one forward pass over the samples each.

A copy of the network keeps all selected weights in one vector, which is overwritten point by point; the samples lie
ready in batches, in the memory format that is faster for this network (the 4-conv net: twice as fast channels-last on a
CPU). On a GPU many points go through the network as one batch (`torch.func.vmap`); on a CPU that is two to three times
slower than one after another. There each core measures a point of its own, with a copy of its own: cores that share
one point's layers wait for each other at every one of them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from flatlab.geometry.fused import fuse, remember
from flatlab.geometry.target import Target
from flatlab.training.engine import keep_freed_memory
from flatlab.training.threads import side_by_side

CHUNK = {"cpu": 64, "cuda": 512}


class Scores(NamedTuple):
    """Per-sample losses `[points, n]` and whether each sample is classified rightly (bool `[points, n]`)."""

    losses: Tensor
    hits: Tensor


class _Copy:
    """A network whose selected parameters are pieces of one vector."""

    def __init__(self, target: Target, model: nn.Module) -> None:
        self.model, self.vector = model, target.flat(target.weights).clone()
        for name, piece in target.shaped(self.vector).items():
            model.get_parameter(name).data = piece


class Points:
    """Measures a target's loss at weight vectors; the target and its model stay as they are.

    Running statistics of BatchNorm layers are taken anew at every point, over all samples in one extra forward pass
    (the stored ones belong to other weights and distort the surface); batch statistics need nothing.

    Args:
        target: the samples, the network, and the parameters that vary.
        stack: how many points to measure as one batch; 16 on a GPU, 1 on a CPU and with running statistics.
        layout: memory format of the images, as in `about`; None takes the one that a short measurement finds faster
            (they differ in rounding).

    Attributes:
        at_once: how many points `measure` is best given at a time.
    """

    def __init__(self, target: Target, stack: int | None = None, layout: str | None = None) -> None:
        if target.device.type == "cpu":
            keep_freed_memory()
        self.target = target
        self.model = copy.deepcopy(target.model)
        self.running = [
            layer for layer in self.model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        self.stack = 1 if self.running else stack or (16 if target.device.type == "cuda" else 1)
        spans = target.spans(CHUNK.get(target.device.type, 64))
        alone = self.stack == 1 and target.device.type == "cpu"
        if alone:
            fuse(self.model)
        self.format = getattr(torch, layout) if layout else self._faster_format(target.images[spans[0]])
        self.batches = [target.images[span].contiguous(memory_format=self.format) for span in spans]
        if alone:
            remember(self.model, self.batches, self.format)
        self.labels = [target.labels[span] for span in spans]
        cores = torch.get_num_threads() if alone and not self.running else 1
        models = [self.model, *(copy.deepcopy(self.model) for _ in range(cores - 1))]
        self.copies = [_Copy(target, model) for model in models]
        self._free = SimpleQueue[_Copy]()
        for one in self.copies:
            self._free.put(one)
        self.at_once = max(self.stack, cores)

    @property
    def about(self) -> dict[str, Any]:
        """How the points are measured, to be added to the target's own `about`."""
        said = {"memory format": str(self.format).removeprefix("torch.")}
        if self.running:
            said["normalisation"] = "running statistics, taken anew at every point over the samples shown"
        return said

    @torch.no_grad()
    def measure(self, vectors: Sequence[Tensor]) -> Scores:
        """The scores at weight vectors, each `[target.size]`."""
        if self.stack > 1:
            groups = [
                torch.stack(list(vectors[start : start + self.stack])) for start in range(0, len(vectors), self.stack)
            ]
            found = [self._together(group) for group in groups]
            return Scores(*(torch.cat(part) for part in zip(*found, strict=True)))
        if min(len(vectors), len(self.copies)) > 1:
            found = list(side_by_side(self._alone, self._free, len(self.copies), vectors, "point"))
        else:
            found = [self._alone(self.copies[0], vector) for vector in vectors]
        return Scores(*(torch.stack(part) for part in zip(*found, strict=True)))

    @torch.no_grad()  # which holds for a thread, and this runs on several
    def _alone(self, one: _Copy, vector: Tensor) -> tuple[Tensor, Tensor]:
        one.vector.copy_(vector)
        if self.running:
            self._refresh()
        losses, hits = [], []
        for images, labels in zip(self.batches, self.labels, strict=True):
            logits = one.model(images)
            losses.append(self.target.losses(logits, labels))
            hits.append(logits.argmax(1) == labels)
        return torch.cat(losses), torch.cat(hits)

    def _together(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        def logits_at(vector: Tensor, images: Tensor) -> Tensor:
            return functional_call(self.model, self.target.shaped(vector), (images,))

        losses, hits = [], []
        for images, labels in zip(self.batches, self.labels, strict=True):
            logits = vmap(logits_at, in_dims=(0, None))(vectors, images)
            losses.append(torch.stack([self.target.losses(point, labels) for point in logits]))
            hits.append(logits.argmax(2) == labels)
        return torch.cat(losses, 1), torch.cat(hits, 1)

    def _refresh(self) -> None:
        for layer in self.running:
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
            layer.train()
        for images in self.batches:
            self.model(images)
        for layer in self.running:
            layer.eval()

    @torch.no_grad()
    def _faster_format(self, images: Tensor) -> torch.memory_format:
        def seconds(layout: torch.memory_format) -> float:
            laid = images.contiguous(memory_format=layout)
            remember(self.model, [laid], layout)
            times = []
            for _ in range(4):
                start = time.perf_counter()
                self.model(laid)
                times.append(time.perf_counter() - start)
            return min(times[1:])

        if images.dim() != 4 or images.device.type != "cpu":
            return torch.contiguous_format
        return min((torch.channels_last, torch.contiguous_format), key=seconds)
