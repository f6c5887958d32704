"""What is predicted, and how it is scored: the one place that says cross-entropy and accuracy.

Your own: subclass `Task`, give it a `kind`, define `losses` and `scores`; then `fl.train(..., task=MyTask())`. Both
look at samples one by one, so that padding can be left out, and clients can share a batch.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from .declare import Family, SettingError


class Task(Family):
    """A kind of task. Losses are minimised; losses and scores go on record as means over samples."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            outputs: of the network, [n, ...].
            targets: [n, ...]; a data set's labels are int64 [n].

        Returns:
            [n], differentiable in `outputs`.
        """
        raise NotImplementedError

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """By name, how good each sample's prediction is, [n]: its mean over samples goes on record."""
        raise NotImplementedError

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
        """Whether the class is right, [n]; of a network with one logit, whether its sign is."""
        if outputs.dim() == 1 or outputs.shape[1] == 1:
            return {"accuracy": (outputs.reshape(-1) > 0) == (targets > 0)}
        return {"accuracy": outputs.argmax(1) == targets}

    def check(self, outputs: Tensor, classes: int) -> None:
        """Needs a logit for each class."""
        if outputs.dim() != 2 or outputs.shape[1] < classes:
            raise SettingError(
                "model", allowed=f"gives {tuple(outputs.shape)} for two images; needs (2, at least {classes} classes)"
            )
