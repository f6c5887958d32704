"""The loss at many points of weight space, one forward pass over the samples each.

A copy of the network keeps all selected weights in one vector, which is overwritten point by point; the samples lie
ready in batches, in the memory format that the rule of `flatlab.training.pace` gives (the 4-conv net: twice as fast
channels-last on a CPU). On a GPU many points go through the network as one batch (`torch.func.vmap`); on a CPU that is
two to three times slower than one after another. There each core measures a point of its own, with a copy of its own:
cores that share one point's layers wait for each other at every one of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from ..models import frame
from ..training.device import keep_freed_memory
from ..training.objective import mappable
from ..training.threads import cores, side_by_side
from .fused import fuse, remember
from .network_calls import call, scripted
from .objective import Target

CHUNK = {"cpu": 64, "cuda": 512}


class Scores(NamedTuple):
    """Per-sample losses `[points, n]`, and the accuracy on all samples, a number a point."""

    losses: Tensor
    accuracies: list[float]


class _Copy:
    """A network whose selected parameters are pieces of one vector, and its buffers as they were."""

    def __init__(self, target: Target, model: nn.Module) -> None:
        self.model, self.vector = model, target.flat(target.weights).clone()
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        for name, piece in target.shaped(self.vector).items():
            parameters[name].data = piece
        self.buffers = {name: (buffer, buffer.clone()) for name, buffer in buffers.items()}

    def move(self, vector: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Go to other weights, and to the buffers given; the others are as they were."""
        self.vector.copy_(vector)
        for name, (buffer, first) in self.buffers.items():
            buffer.copy_(buffers.get(name, first))


class Points:
    """Measures a target's loss at weight vectors; the target and its model stay as they are.

    It is the target's own function, the one that is differentiated for the Hessian: where layers keep running
    statistics these are constants on the way (or each batch's own, see `Target`).

    Args:
        target: the samples, the network, and the parameters that vary.
        stack: how many points to measure as one batch; 16 on a GPU, 1 on a CPU and for networks that torch does not
            stack: scripted and recurrent ones, and code of one's own that it has no rule for.
        layout: memory format of the images, as in `about`; None takes the rule's (they differ in rounding).

    Attributes:
        at_once: how many points `measure` is best given at a time.
    """

    def __init__(self, target: Target, stack: int | None = None, layout: str | None = None) -> None:
        if target.device.type == "cpu":
            keep_freed_memory()
        self.target = target
        self.model = copy.deepcopy(target.model)
        whole = mappable(self.model) and not scripted(self.model)
        self.stack = 1 if not whole else stack or (16 if target.device.type == "cuda" else 1)
        spans = target.spans(CHUNK.get(target.device.type, 64))
        alone = self.stack == 1 and target.device.type == "cpu"
        if alone:
            fuse(self.model)
        self.format = getattr(torch, layout) if layout else target.layout
        self.batches = [target.images[span].contiguous(memory_format=self.format) for span in spans]
        if alone:
            remember(self.model, self.batches, self.format)
        self.labels = [target.labels[span] for span in spans]
        at_once = cores() if alone else 1
        models = [self.model, *(copy.deepcopy(self.model) for _ in range(at_once - 1))]
        self.copies = [_Copy(target, model) for model in models]
        self._free = SimpleQueue[_Copy]()
        for ready in self.copies:
            self._free.put(ready)
        if self.stack > 1 and not self._stackable():
            self.stack = 1
        self.at_once = max(self.stack, at_once)

    @property
    def about(self) -> dict[str, Any]:
        """How the points are measured, to be added to the target's own `about`."""
        return {"memory format": str(self.format).removeprefix("torch.")}

    @frame()
    @torch.no_grad()
    def measure(self, vectors: Sequence[Tensor], buffers: Mapping[str, Tensor] | None = None) -> Scores:
        """The scores at weight vectors, each `[target.size]`, with other buffers than the target's where given."""
        if self.stack > 1 and not buffers:
            groups = [
                torch.stack(list(vectors[start : start + self.stack])) for start in range(0, len(vectors), self.stack)
            ]
            measured = [self._together(group) for group in groups]
            return Scores(
                torch.cat([part.losses for part in measured]), [a for part in measured for a in part.accuracies]
            )

        def alone(tool: _Copy, vector: Tensor) -> tuple[Tensor, float]:
            return self._alone(tool, vector, buffers or {})

        # With one thread each, also one alone: values must not depend on how many are asked for together.
        points = list(side_by_side(alone, self._free, min(len(vectors), len(self.copies)), vectors, "point"))
        return Scores(torch.stack([losses for losses, _ in points]), [accuracy for _, accuracy in points])

    def table(
        self, vectors: Sequence[Tensor], origin: Tensor | None = None, buffers: Mapping[str, Tensor] | None = None
    ) -> list[dict[str, float]]:
        """Of each point: mean `loss`, `accuracy` (NaN where the loss is not finite), and `loss_error`, the standard
        error over the samples; with the losses `[n]` of an origin also `rise_error`, that of the difference to it.
        """
        # Each row alone: torch adds up several in another order than one, and how many come at once is up to the cores.
        return [_row(*scores, origin) for scores in zip(*self.measure(vectors, buffers), strict=True)]

    @torch.no_grad()  # which holds for a thread, and this runs on several
    def _alone(self, tool: _Copy, vector: Tensor, buffers: Mapping[str, Tensor]) -> tuple[Tensor, float]:
        tool.move(vector, buffers)
        losses, counts = [], []
        for images, labels in zip(self.batches, self.labels, strict=True):
            logits = call(tool.model, {}, images)
            losses.append(self.target.losses_of(logits, labels))
            counts.append(self.target.counts(logits, labels))
        return torch.cat(losses), self.target.accuracy(counts)

    @frame()
    @torch.no_grad()
    def _stackable(self) -> bool:
        """Whether torch has a rule for the network's code at several points as one batch."""
        try:
            self._stacked(self.copies[0].vector.detach().expand(2, -1), self.batches[0][:2])
        except (RuntimeError, ValueError):
            return False
        return True

    def _stacked(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Outputs [points, images, ...]."""

        def logits_at(vector: Tensor, images: Tensor) -> Tensor:
            return call(self.model, self.target.shaped(vector), images)

        return vmap(logits_at, in_dims=(0, None))(vectors, images)

    def _together(self, vectors: Tensor) -> Scores:
        losses, counts = [], []
        for images, labels in zip(self.batches, self.labels, strict=True):
            logits = self._stacked(vectors, images)
            losses.append(torch.stack([self.target.losses_of(point, labels) for point in logits]))
            counts.append([self.target.counts(point, labels) for point in logits])
        return Scores(torch.cat(losses, 1), [self.target.accuracy(point) for point in zip(*counts, strict=True)])


def _row(losses: Tensor, accuracy: float, origin: Tensor | None) -> dict[str, float]:
    losses, count = losses.double(), len(losses)
    mean = losses.mean().item()
    # Outputs that are no numbers would be scored as the first class.
    row = {"loss": mean, "accuracy": accuracy if math.isfinite(mean) else math.nan}
    spread = {"loss_error": losses} | ({} if origin is None else {"rise_error": losses - origin.double()})
    one = count < 2  # of which nothing tells how they scatter
    return row | {name: math.nan if one else part.std().item() / count**0.5 for name, part in spread.items()}
