"""What a measurement of geometry is taken of: a loss as a function of the weights, on fixed samples.

Every number and picture of this package comes from a `Target`, so that the eigenvalue, the landscape and the sharpness
of a model speak of the same weights, the same samples and the same normalisation, and say so in their `about`.

    L(w) = 1/n sum_i loss(f(w; batch of i)_i, y_i)

Without batch statistics the batch does not matter and the samples are visited in chunks of any size. With them
(`BatchStatNorm`, torch's BatchNorm without running statistics, whatever else lets an output depend on the batch) the
batches are part of the function: the samples are cut, in their order, into batches of a stated size, the last smaller.
Running statistics of a user's own network are constants as stored, since that is the model that predicts;
`statistics="batch"` lets every batch re-estimate them. Either way all measurements take the same function.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..arguments import with_settings
from ..declare import SettingError
from ..models import copied, frame, stale_gradient
from ..models.made_in import made_in
from ..models.net import within
from ..tasks import Classification, Segmentation, Task, by_sign
from ..training.pace import memory_format
from ..training.threads import computing_with
from .checks import batch_matters, beside, check_derivative, check_outputs, check_parameters, check_samples, tell_alone
from .network_calls import (
    CLASSIFICATION,
    Loss,
    call,
    cross_entropy,
    normalisation,
    own_copy,
    plain,
    precision,
    uses_batch_statistics,
)
from .second_derivatives import NoDerivative, TwiceDifferentiable, explained
from .settings import ObjectiveSettings


@dataclass(frozen=True, eq=False)
class Target:
    """A model's loss on fixed samples, as a pure function of the selected parameters.

    Build it with `Target.of`. `params` in the methods below is a mapping from parameter names to tensors of their
    shapes, on the target's device; parameters it leaves out stay at the model's weights; None means all of them do.

    Attributes:
        model: its own copy, in evaluation mode, without gradients; never altered.
        images: `[n, C, H, W]` in the precision of the measurement.
        labels: int64 `[n]`, or masks `[n, H, W]`.
        settings: which function it is.
        losses: per-sample loss, `(logits [n, classes], labels [n]) -> [n]`.
        batch: the size of the batches whose statistics normalise; None if the batch does not matter.
        data: what the samples are called.
        task: says the loss, unless the settings do, and the accuracy; without what only helps to train.
        weights: the selected parameters by name, in the model's order.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    settings: ObjectiveSettings
    losses: Loss = cross_entropy
    batch: int | None = None
    data: str = "given samples"
    task: Task = CLASSIFICATION
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        chosen = set(within(self.model, self.settings.part))
        weights = {
            name: weight.detach()
            for name, weight in self.model.named_parameters()
            if weight.is_floating_point() and name in chosen
        }
        object.__setattr__(self, "weights", weights)

    @classmethod
    @with_settings(ObjectiveSettings)
    @frame()
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        settings: ObjectiveSettings,
        name: str = "given samples",
        task: Task | None = None,
    ) -> Self:
        """A target at `model`'s weights; the model itself stays as it is.

        Args:
            model: any network with logits `[n, classes]`, alone, first of a tuple, or "logits" (else "out") of a dict;
                one logit `[n]` or `[n, 1]` with a loss of your own. DataParallel, AveragedModel and compiled networks
                are measured as the network inside.
            images: normalised, `[n, C, H, W]`; like the labels they are taken to the model's device.
            labels: class numbers, `[n]`; or masks, `[n, H, W]`, a class for each pixel.
            settings: made of the keyword arguments.
            name: what the samples are called in results.
            task: of the run behind the model, whose loss is measured unless the settings name another; None, or one
                that does not fit the labels: `Classification()`, of masks `Segmentation()`.

        Raises:
            SettingError: naming what is empty, of one class, not finite, on several devices or of the wrong shape; a
                model that is no function of weights and batch (dropout at work, state that changes).
            ValueError: under `inference_mode`.
        """
        model, batch, dense = plain(model), settings.batch, labels.dim() > 2
        asked, own = (settings.loss, None) if isinstance(settings.loss, Task) else (None, settings.loss)
        if asked and asked.dense != dense:
            raise SettingError("loss", asked, f"is of {'masks' if asked.dense else 'labels'}, which {name} are not")
        task = (asked or (task if task and task.dense == dense else Segmentation() if dense else CLASSIFICATION)).plain
        # The function of this name stands for cross-entropy, of which more is known; a subclass may have another loss.
        loss = own or (cross_entropy if type(task) is Classification else task.losses)
        check_parameters(model, settings.part)
        images, labels = beside(model, images, labels)
        check_samples(model, images, labels, name, settings.one_class)
        dtype = settings.precision or precision(model)
        fixed, free = (  # images made under inference_mode cannot enter a gradient, their copies can
            part.detach().clone() if part.is_inference() else part.detach() for part in (labels, images)
        )
        target = cls(
            model=own_copy(model, dtype, settings.statistics),
            images=free.to(dtype),
            labels=fixed.long(),
            settings=settings,
            losses=copied(loss).to(images.device, dtype) if isinstance(loss, nn.Module) else loss,
            data=name,
            task=task,
        )
        check_outputs(target)
        if uses_batch_statistics(target.model) or batch_matters(target):
            object.__setattr__(target, "batch", batch)
        tell_alone(target)
        return target

    def at(self, model: nn.Module) -> Target:
        """The same function and samples at another model's weights."""
        kept = {"dtype": self.images.dtype, "one_class": True, "task": self.task}
        return Target.of(model, self.images, self.labels, name=self.data, **{**self.settings.changed(), **kept})

    @property
    def part(self) -> str:
        """Which parameters vary."""
        return self.settings.part

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
        alone = ", the last of one sample" if self.ends_alone else ""
        return {
            "data": self.data,
            "samples": len(self.labels),
            "loss": self._loss_name,
            "part": self.part,
            "parameters": self.size,
            "normalisation": normalisation(self.model, self.settings.statistics),
            **({"accuracy": "of pixels"} if self.task.dense else {}),
            "batch": "free" if self.batch is None else f"fixed batches of {self.batch}, in order{alone}",
            "precision": str(self.images.dtype).removeprefix("torch."),
            "device": self.device.type,
        }

    @property
    def _loss_name(self) -> str:
        if self.losses == self.task.losses:
            return "cross_entropy of pixels" if isinstance(self.task, Segmentation) else f"of the task {self.task!r}"
        return getattr(self.losses, "__name__", type(self.losses).__name__)

    @property
    def ends_alone(self) -> bool:
        """Whether a batch that belongs to the function holds one sample, normalised with itself alone."""
        return self.batch is not None and (self.batch == 1 or len(self.labels) % self.batch == 1)

    @functools.cached_property
    def layout(self) -> torch.memory_format:
        """The memory format of forward passes alone; second derivatives are no faster channels-last."""
        return memory_format(self.model, self.images, lambda params, images: call(self.model, params, images))

    def flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Parameter-shaped tensors as one vector `[size]`, in the order of `weights`."""
        return torch.cat([tensors[name].reshape(-1) for name in self.weights])

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

    def outputs(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The logits of a batch at other parameters (or buffers), differentiable as often as wanted."""
        with frame(), TwiceDifferentiable():
            return call(self.model, params, images)

    def losses_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each sample's loss `[n]`."""
        if isinstance(self.losses, nn.BCEWithLogitsLoss):
            labels = labels.to(logits.dtype).reshape(logits.shape)
        with made_in(logits.dtype), TwiceDifferentiable():
            losses = self.losses(logits, labels)
        return losses.reshape(-1) if losses.numel() == len(labels) else losses

    def counts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What the task adds up over samples, summed over these, in float64."""
        one = logits.dim() == 1 or logits.shape[1] == 1
        own = self.losses is not cross_entropy and type(self.task) is Classification  # a loss of the user's
        counts = {"accuracy": by_sign(logits, labels)} if one and own else self.task.counts(logits, labels)
        return {name: value.double().sum(0) for name, value in counts.items()}

    def accuracy(self, counts: Sequence[Mapping[str, Tensor]]) -> float:
        """Of all samples, from the counts of each batch; NaN where the task has none."""
        sums = {name: torch.stack([batch[name] for batch in counts]).sum(0) for name in counts[0]}
        return float(self.task.measures(sums, len(self.labels)).get("accuracy", torch.nan))

    @frame()
    @computing_with(1)
    @torch.no_grad()
    def loss(self, params: Mapping[str, Tensor] | None = None) -> float:
        """The mean loss."""
        losses = []
        for span in self.spans(64 if self.device.type == "cpu" else 512):
            images = self.images[span].contiguous(memory_format=self.layout)
            losses.append(self.losses_of(call(self.model, params or {}, images), self.labels[span]))
        return torch.cat(losses).double().mean().item()

    @frame()
    @computing_with(1)
    def gradient(self, params: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The gradient of the mean loss in the selected parameters."""
        point = {**self.weights, **(params or {})}
        leaves = {name: point[name].detach().requires_grad_() for name in self.weights}
        total = [torch.zeros_like(leaf) for leaf in leaves.values()]
        few = self.images[self.spans(2)[0]]
        with explained(self.model, lambda: self.outputs(leaves, few)):
            for span in self.spans(32 if self.device.type == "cpu" else 512):
                for sum_, part in zip(total, self.slope({**point, **leaves}, leaves, span), strict=True):
                    if part is not None:
                        sum_ += part
        return dict(zip(leaves, total, strict=True))

    @frame()
    def slope(
        self, params: Mapping[str, Tensor], leaves: Mapping[str, Tensor], span: slice, again: bool = False
    ) -> tuple[Tensor | None, ...]:
        """What one span adds to the gradient in the leaves, None where it does not depend on one.

        Args:
            params: the point, the leaves among them.
            leaves: tensors that require gradients.
            span: which samples.
            again: record it, to be differentiated again.

        Raises:
            ValueError: if the output depends on no parameter of the network in a way that torch can differentiate.
        """
        self.need_gradients()
        share = self.losses_of(self.outputs(params, self.images[span]), self.labels[span]).sum() / len(self.labels)
        if not share.requires_grad:
            check_derivative(self)
            return (None,) * len(leaves)
        return torch.autograd.grad(share, list(leaves.values()), create_graph=again, allow_unused=True)

    @functools.cached_property
    def _stale(self) -> str | None:
        with frame():
            return stale_gradient(self.model, self.images[self.spans(2)[0]], call)

    def need_gradients(self) -> None:
        """Raise `NoDerivative` where torch would give another network's gradient, silently."""
        if self._stale is not None:
            raise NoDerivative(
                f"model.{self._stale}: torch.utils.checkpoint computes layers again, with other weights than those"
                " measured, or drops their gradients; call them without checkpointing"
            )
