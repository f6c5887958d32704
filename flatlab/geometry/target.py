"""What a measurement of geometry is taken of: a loss as a function of the weights, on fixed samples.

Every number and picture of this package comes from a `Target`, so that the eigenvalue, the landscape and the sharpness
of a model speak of the same weights, the same samples and the same normalisation, and say so in their `about`.

    L(w) = 1/n sum_i loss(f(w; batch of i)_i, y_i)

Without batch statistics the batch does not matter and the samples are visited in chunks of any size. With them
(`BatchStatNorm`, or torch's BatchNorm without running statistics) the batches are part of the function: the samples are
cut, in their order, into batches of a stated size, the last one smaller.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from flatlab.models.norm import BatchStatNorm

PARTS = ("all", "body", "head")
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample: `[n, classes]`, `[n]` -> `[n]`."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, eq=False)
class Target:
    """A model's loss on fixed samples, as a pure function of the selected parameters.

    Build it with `Target.of`. `params` in the methods below is a mapping from parameter names to tensors of their
    shapes, on the target's device; parameters it leaves out stay at the model's weights; None means all of them do.

    Attributes:
        model: its own copy, in evaluation mode, without gradients; never altered.
        images: `[n, C, H, W]` in the model's precision.
        labels: int64 `[n]`.
        names: the selected parameters in the model's order.
        part: "all", "body" or "head".
        batch: the size of the batches whose statistics normalise; None if the batch does not matter.
        losses: per-sample loss, `(logits [n, classes], labels [n]) -> [n]`.
        data: what the samples are called.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    part: str = "all"
    batch: int | None = None
    losses: Loss = cross_entropy
    data: str = "given samples"
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        own = dict(self.model.named_parameters())
        object.__setattr__(self, "weights", {name: own[name].detach() for name in self.names})

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        name: str = "given samples",
        part: str = "all",
        batch: int = 64,
        loss: Loss = cross_entropy,
        dtype: torch.dtype | None = None,
        one_class: bool = False,
    ) -> Self:
        """A target at `model`'s weights; the model itself stays as it is.

        Args:
            model: any network with logits `[n, classes]`; its BatchNorm layers with running statistics use those.
            images: normalised, `[n, C, H, W]`, on the model's device.
            labels: class numbers, `[n]`, on the same device.
            name: what the samples are called in results.
            part: which parameters vary: "all", or those whose names begin with "body." or "head.".
            batch: size of the batches, only for networks that normalise with batch statistics (64 as in FedASAM's code;
                larger ones make Hessian products dearer on a CPU).
            loss: per-sample loss.
            dtype: precision of the measurement; the model's by default.
            one_class: accept samples of one class only (a client may hold no other).

        Raises:
            ValueError: naming what is empty, of one class, not finite, on another device or of the wrong shape.
        """
        _check(model, images, labels, name, batch, one_class)
        names = tuple(key for key, _ in model.named_parameters() if part == "all" or key.startswith(f"{part}."))
        if part not in PARTS or not names:
            raise ValueError(f"part = {part!r}: this model offers {', '.join(_parts(model))}")
        own = copy.deepcopy(model).eval().requires_grad_(False)
        dtype = dtype or next(own.parameters()).dtype
        target = cls(
            model=own.to(dtype),
            images=images.detach().to(dtype),
            labels=labels.long(),
            names=names,
            part=part,
            batch=batch if uses_batch_statistics(own) else None,
            losses=loss,
            data=name,
        )
        _check_outputs(target)
        return target

    def at(self, model: nn.Module) -> Target:
        """The same samples, part, loss and precision at another model's weights."""
        return Target.of(
            model,
            self.images,
            self.labels,
            name=self.data,
            part=self.part,
            batch=self.batch or 64,
            loss=self.losses,
            dtype=self.images.dtype,
            one_class=True,
        )

    @property
    def size(self) -> int:
        """How many numbers the selected parameters hold."""
        return sum(weight.numel() for weight in self.weights.values())

    @property
    def device(self) -> torch.device:
        """Where the model and its samples live."""
        return self.images.device

    @property
    def about(self) -> dict[str, Any]:
        """What this is, in words and numbers, for every result taken of it."""
        return {
            "data": self.data,
            "samples": len(self.labels),
            "loss": getattr(self.losses, "__name__", type(self.losses).__name__),
            "part": self.part,
            "parameters": self.size,
            "normalisation": normalisation(self.model),
            "batch": "free" if self.batch is None else f"fixed batches of {self.batch}, in order",
            "precision": str(self.images.dtype).removeprefix("torch."),
            "device": self.device.type,
        }

    def flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Parameter-shaped tensors as one vector `[size]`, in the order of `names`."""
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def shaped(self, vector: Tensor) -> dict[str, Tensor]:
        """The inverse of `flat` (views of `vector`)."""
        pieces = vector.split([weight.numel() for weight in self.weights.values()])
        return {
            name: piece.view(weight.shape) for (name, weight), piece in zip(self.weights.items(), pieces, strict=True)
        }

    def spans(self, chunk: int) -> list[slice]:
        """How to visit the samples: the fixed batches where they matter, else chunks of `chunk`."""
        step = self.batch or chunk
        return [slice(start, min(start + step, len(self.labels))) for start in range(0, len(self.labels), step)]

    def share(self, params: Mapping[str, Tensor], span: slice) -> Tensor:
        """What the samples of one span add to the mean loss: a differentiable scalar."""
        logits = functional_call(self.model, dict(params), (self.images[span],))
        return self.losses(logits, self.labels[span]).sum() / len(self.labels)

    @torch.no_grad()
    def losses_and_hits(self, params: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Each sample's loss `[n]` and whether it is classified rightly (bool `[n]`), without gradients."""
        # A forward pass is up to twice as fast channels-last on a CPU; a Hessian-vector product is not.
        layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        losses, hits = [], []
        for span in self.spans(64 if self.device.type == "cpu" else 512):
            images = self.images[span].contiguous(memory_format=layout)
            logits = functional_call(self.model, dict(params or {}), (images,))
            losses.append(self.losses(logits, self.labels[span]))
            hits.append(logits.argmax(1) == self.labels[span])
        return torch.cat(losses), torch.cat(hits)

    def loss(self, params: Mapping[str, Tensor] | None = None) -> float:
        """The mean loss."""
        return self.losses_and_hits(params)[0].double().mean().item()

    def gradient(self, params: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The gradient of the mean loss in the selected parameters."""
        point = {**self.weights, **(params or {})}
        leaves = {name: point[name].detach().requires_grad_() for name in self.names}
        total = [torch.zeros_like(leaf) for leaf in leaves.values()]
        for span in self.spans(32 if self.device.type == "cpu" else 512):
            found = torch.autograd.grad(self.share({**point, **leaves}, span), list(leaves.values()), allow_unused=True)
            for sum_, part in zip(total, found, strict=True):
                if part is not None:
                    sum_ += part
        return dict(zip(self.names, total, strict=True))


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether a sample's output depends on the batch it is in, in evaluation mode."""
    return any(
        isinstance(layer, BatchStatNorm) or (isinstance(layer, _BatchNorm) and layer.running_mean is None)
        for layer in model.modules()
    )


def normalisation(model: nn.Module) -> str:
    """How the network normalises, in words."""
    if uses_batch_statistics(model):
        return "batch statistics"
    if any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return "running statistics"
    kinds = {type(layer).__name__ for layer in model.modules() if type(layer).__name__.endswith("Norm")}
    return ", ".join(sorted(kinds)) or "none"


def _parts(model: nn.Module) -> list[str]:
    children = {name for name, _ in model.named_children()}
    return [repr(part) for part in PARTS if part == "all" or part in children]


def _check(model: nn.Module, images: Tensor, labels: Tensor, name: str, batch: int, one_class: bool) -> None:
    if len(images) == 0:
        raise ValueError(f"data ({name}): no samples")
    if labels.dim() != 1 or len(labels) != len(images):
        raise ValueError(f"labels: shape {list(labels.shape)} does not fit {len(images)} images, one label each")
    if not images.is_floating_point():
        raise ValueError(f"images: {images.dtype}; normalised floating-point images are needed")
    if batch < 1:
        raise ValueError(f"batch = {batch}: at least 1 is needed")
    weights = dict(model.named_parameters())
    if not weights:
        raise ValueError("model: it has no parameters")
    devices = {str(tensor.device) for tensor in (*weights.values(), images, labels)}
    if len(devices) > 1:
        place = next(iter(weights.values())).device
        raise ValueError(
            f"model on {place}, data on {images.device}, labels on {labels.device}: all must be on one device; "
            f"move the data with .to({str(place)!r})"
        )
    if not one_class and bool((labels == labels[0]).all()):
        raise ValueError(
            f"data ({name}): all {len(labels)} samples are of class {int(labels[0])}; a loss on one class says "
            "little about a classifier; take more classes, or pass one_class=True if it is meant"
        )
    if not bool(images.isfinite().all()):
        raise ValueError(f"images ({name}): not finite (NaN or infinite values)")
    for key, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ValueError(f"model: parameter {key} is not finite (NaN or infinite values)")


@torch.no_grad()
def _check_outputs(target: Target) -> None:
    logits = target.model(target.images[:2])
    if logits.dim() != 2:
        raise ValueError(f"model: output of shape {list(logits.shape)}; logits [batch, classes] are needed")
    low, high = int(target.labels.min()), int(target.labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels: between {low} and {high}; this model knows classes 0 to {logits.shape[1] - 1}")
    losses = target.losses(logits, target.labels[:2])
    if losses.shape != (len(logits),):
        raise ValueError(f"loss: shape {list(losses.shape)}; one loss a sample is needed (reduction='none')")
