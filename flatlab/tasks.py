"""What is predicted, and how it is scored: the one place that says cross-entropy and accuracy.

Your own: subclass `Task`, give it a `kind`, define `losses` and `scores`; then `fl.train(..., task=MyTask())`. Both
look at samples one by one, so that padding can be left out, and clients can share a batch. A score that is no mean over
samples is made of sums over them: see `counts` and `measures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .declare import Family, SettingError, setting


class Task(Family):
    """A kind of task. Losses are minimised; losses and scores go on record as means over samples.

    Attributes:
        dense: whether the targets are a data set's masks, a class for each pixel, and not its labels.
    """

    dense: ClassVar[bool] = False

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            outputs: of the network, [n, ...].
            targets: [n, ...]; a data set's labels are int64 [n].

        Returns:
            [n], differentiable in `outputs`. What `torch.func.vmap` has no rule for (looking at a value, `F.one_hot`)
            works, but on CUDA clients are then computed one by one.
        """
        raise NotImplementedError

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """By name, how good each sample's prediction is, [n]: its mean over samples goes on record."""
        raise NotImplementedError

    def accuracy(self, outputs: Tensor, targets: Tensor, asked: str) -> Tensor:
        """The score of that name, [n].

        Raises:
            SettingError: if there is none; it names what `asked` for one.
        """
        scores = self.scores(outputs, targets)
        if "accuracy" not in scores:
            named = ", ".join(scores) or "none"
            raise SettingError("task", self.kind, f"{asked} needs a score called accuracy; its scores are: {named}")
        return scores["accuracy"]

    def counts(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """By name, what is added up over the samples of a set, [n, ...]: the scores, unless a task says otherwise."""
        return self.scores(outputs, targets)

    def measures(self, sums: Mapping[str, Tensor], count: int | Tensor) -> dict[str, Tensor]:
        """What goes on record of a set: the means, unless a task says otherwise.

        Args:
            sums: of the counts, float64 [...]; those of several sets have a leading axis.
            count: samples of the set, or of each.
        """
        return {name: value / count for name, value in sums.items()}

    def rows(self, outputs: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """What is classified, a row each: outputs (or features) [n, d] and targets [n] as they are."""
        return outputs, targets

    @property
    def plain(self) -> Self:
        """The task whose loss is measured: without what only helps to train."""
        return self

    def check(self, outputs: Tensor, classes: int) -> None:
        """Refuse a network whose outputs for two samples do not fit a data set of so many classes.

        Raises:
            SettingError: naming the shape that is needed.
        """


class Classification(Task):
    """Cross-entropy of the softmax, and accuracy: the share of samples whose largest logit is their class's.

    -log(exp(z_y) / sum_c exp(z_c)) for logits z [classes] and the class y.

    >>> fl.Classification().scores(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    {'accuracy': tensor([ True, False])}
    """

    kind: Literal["classification"] = "classification"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy: [n, classes], [n] -> [n]."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Whether the class is right, [n]; of one logit under a subclass's own losses, whether its sign is."""
        if type(self).losses is not Classification.losses and (outputs.dim() == 1 or outputs.shape[1] == 1):
            return {"accuracy": by_sign(outputs, targets)}
        return {"accuracy": outputs.argmax(1) == targets}

    def check(self, outputs: Tensor, classes: int) -> None:
        """Needs a logit for each class."""
        if outputs.dim() != 2 or outputs.shape[1] < classes:
            raise SettingError(
                "model", allowed=f"gives {tuple(outputs.shape)} for two images; needs (2, at least {classes} classes)"
            )


class Segmentation(Task):
    """A class for each pixel. A sample is an image: its loss is the mean of its pixels' cross-entropies.

    Pixels of the class `void`, and those whose mask has a value beyond the classes, enter neither loss nor score; an
    image of nothing else has loss 0. With `weights` the mean over pixels i is sum_i w(y_i) l_i / sum_i w(y_i); with
    `hard` it is over the largest w(y_i) l_i of each image. Measurements of geometry take the plain loss, without both.

    Scores are made of the confusion C (rows: truth) of all pixels of a set, never of means over batches, images or
    clients: `accuracy` = sum_c C_cc / sum C, and `miou`, the mean of C_cc / (row_c + column_c - C_cc) over the classes
    that the set's truth has.

    >>> task = fl.Segmentation(void=11)
    >>> found = task.measures({"confusion": torch.tensor([[3.0, 1.0], [1.0, 5.0]])}, 2)
    >>> {name: round(float(value), 4) for name, value in found.items()}
    {'accuracy': 0.8, 'miou': 0.6571}
    """

    dense: ClassVar[bool] = True
    kind: Literal["segmentation"] = "segmentation"
    void: int | None = setting(None, "a class that counts for nothing, as mask values beyond the classes do", ge=0)
    hard: float = setting(1.0, "share of each image's pixels that is trained on, those of the largest loss", gt=0, le=1)
    weights: tuple[Annotated[float, Field(ge=0)], ...] = setting(
        (), "of the classes in the loss that is trained; none: all alike"
    )

    @property
    def plain(self) -> Self:
        """Without `hard` and `weights`."""
        return self.replace(hard=1.0, weights=())

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """[n, classes, ...], [n, ...] -> [n]; without further axes each sample is one pixel."""
        truth, real = self._truth(targets, outputs.shape[1])
        each = -outputs.log_softmax(1).gather(1, truth.unsqueeze(1)).squeeze(1)
        share = real.to(each.dtype)
        if self.weights:  # as a sum: numbers from the host would keep a step from being recorded as a CUDA graph
            share = sum(((truth == label) * weight for label, weight in enumerate(self.weights)), 0 * share) * real
        each, share = (_by_image(part) for part in (torch.where(real, each * share, 0), share))
        if self.hard < 1:
            most = max(1, math.ceil(self.hard * each.shape[1] - 1e-3))
            wanted = (self.hard * _by_image(real).sum(1, keepdim=True) - 1e-3).ceil().clamp(min=1)
            order = each.masked_fill(~real.reshape(each.shape), -1).topk(most, 1).indices
            kept = torch.arange(most, device=each.device) < wanted
            each, share = (torch.where(kept, part.gather(1, order), 0) for part in (each, share))
        return each.sum(1) / share.sum(1).clamp(min=torch.finfo(each.dtype).tiny)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The share of each image's pixels that is right, [n]: for who looks at images one by one."""
        truth, real = self._truth(targets, outputs.shape[1])
        right = _by_image((outputs.argmax(1) == truth) & real).sum(1)
        return {"accuracy": right / _by_image(real).sum(1).clamp(min=1)}

    def counts(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The confusion of each image, [n, classes, classes]."""
        classes = outputs.shape[1]
        truth, real = self._truth(targets, classes)
        place = _by_image(truth * classes + outputs.argmax(1))
        each = real.reshape(place.shape).float()  # which counts to 2^24; bfloat16 would to 256
        sums = each.new_zeros(len(real), classes**2).scatter_add(1, place, each)
        return {"confusion": sums.reshape(len(real), classes, classes)}

    def measures(self, sums: Mapping[str, Tensor], count: int | Tensor) -> dict[str, Tensor]:
        """Pixel accuracy and mIoU of one confusion, or of several."""
        confusion = sums["confusion"]
        right = confusion.diagonal(dim1=-2, dim2=-1).sum(-1)
        return {"accuracy": right / confusion.sum((-2, -1)), "miou": class_scores(confusion)["iou"].nanmean(-1)}

    def rows(self, outputs: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """The pixels that have a class: [n, d, h, w], [n, H, W] -> [pixels, d], [pixels]; maps as large as masks.

        Interpolating is linear, and so is a head of 1x1 convolutions: they may change places.
        """
        if outputs.shape[2:] != targets.shape[1:]:
            outputs = F.interpolate(outputs, targets.shape[1:], mode="bilinear")
        truth, real = self._truth(targets, classes)
        return outputs.movedim(1, -1)[real], truth[real]

    def check(self, outputs: Tensor, classes: int) -> None:
        """Needs a map of logits for each class, and no more: a mask's value beyond the classes is void."""
        if outputs.dim() != 4 or outputs.shape[1] != classes:
            said = f"gives {tuple(outputs.shape)} for two images; needs (2, {classes} classes, height, width)"
            raise SettingError("model", allowed=f"{said}, as 'segnet' does")
        if self.weights and len(self.weights) != classes:
            raise SettingError("task.weights", self.weights, f"needs {classes} numbers, one for each class")

    def _truth(self, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """The class of each pixel, 0 where it has none, and whether it has one."""
        real = (targets >= 0) & (targets < classes)
        if self.void is not None:
            real = real & (targets != self.void)
        return torch.where(real, targets, 0).long(), real


TAKEN = {"loss", "run", "name", "seed", "round", "client", "epoch", "samples"}  # columns beside the scores


def check_scores(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a task whose losses or counts of some samples are no number (or array) for each of them.

    A mean over the batch would be added up with others', and divided by the samples once more.

    Args:
        task: whose.
        outputs: of the network, [n, ...].
        targets: [n, ...].

    Raises:
        SettingError: naming the method, what it gave, and what is needed; or a score's name that is taken.
    """
    count, said = len(targets), f"{type(task).__name__}"
    losses, counts = task.losses(outputs, targets), task.counts(outputs, targets)
    if not isinstance(losses, Tensor) or losses.shape != (count,) or not losses.is_floating_point():
        told = f"needs the loss of each, floating [{count}], no mean over them (in torch: reduction='none')"
        raise SettingError(f"{said}.losses gives {_look(losses)} for {count} samples", allowed=told)
    for name, value in counts.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (count,):
            told = f"needs a number, or an array, for each: [{count}, ...], no mean over them"
            raise SettingError(f"{said}.scores or counts[{name!r}] is {_look(value)} for {count} samples", allowed=told)
    measures = task.measures({name: value.double().sum(0) for name, value in counts.items()}, count)
    if taken := sorted(TAKEN & (counts.keys() | measures.keys())):
        raise SettingError(f"{said}: a score named {taken[0]!r}", allowed="that is something else: name it otherwise")


def _look(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def by_sign(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the sign of one logit, [n] or [n, 1], is that of the class: 0 or 1, or -1 or 1; bool [n]."""
    return (outputs.reshape(-1) > 0) == (targets > 0)


def _by_image(values: Tensor) -> Tensor:
    """[n, ...] as [n, pixels]; n may be 0, and without further axes each is one pixel."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def class_scores(confusion: Tensor) -> dict[str, Tensor]:
    """Of a confusion [..., classes, classes], rows truth, by class [..., classes], NaN for one that the truth lacks.

    iou is C_cc / (row_c + column_c - C_cc), recall C_cc / row_c, precision C_cc / column_c, share row_c / sum C.
    """
    right, truth, said = confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), confusion.sum(-2)
    there: Any = truth > 0
    scores = {"iou": right / (truth + said - right), "recall": right / truth, "precision": right / said}
    scores = {name: torch.where(there, value, torch.nan) for name, value in scores.items()}
    return scores | {"share": truth / truth.sum(-1, keepdim=True)}
