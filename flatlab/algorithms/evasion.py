"""Images that a model errs on: white-box attacks within a ball of pixels, for measurements and for local training.

x' = x + d with |d| <= eps in each pixel, and x' a picture again: in 0..1. The federation hands every client the
weights, so whoever attacks can differentiate. Images are normalised, x = (pixel - mean) / std: ball and range are
scaled by channel, nothing is turned back. Under batch statistics a batch is attacked jointly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..declare import Family, setting

Slope = Callable[[Tensor], Tensor]  # images -> gradient of their loss by them


class Evasion(Family):
    """A kind of attack on images. Your own: subclass it, give it a `kind`, define `perturbed`."""

    eps: float = setting(8 / 255, "largest change of a pixel, in 0..1", ge=0, le=1, span=(0.0, 0.3))

    @property
    def gradients(self) -> int:
        """What an attack costs, in gradients of a batch."""
        return 1

    @property
    def draws(self) -> int:
        """How many random starts a measurement tries; 0: it starts at the images."""
        return 0

    def perturbed(
        self, slope: Slope, images: Tensor, scale: tuple[Tensor, Tensor], start: Tensor | None = None
    ) -> Tensor:
        """The attacked images.

        Args:
            slope: the gradient of the loss by the images.
            images: normalised, [batch, C, H, W].
            scale: mean and std [C], by which they are.
            start: in -1..1, where in the ball to begin; None: at the images.
        """
        raise NotImplementedError

    def walked(
        self, slope: Slope, images: Tensor, scale: tuple[Tensor, Tensor], start: Tensor | None, steps: int, step: float
    ) -> Tensor:
        """So many steps along the sign of the gradient, each put back into the ball and into the range of pixels."""
        mean, std = (value.view(-1, 1, 1) for value in scale)
        radius = self.eps / std
        # An image at the edge of the range stays where it is, however its own normalisation was rounded.
        low = torch.maximum(images - radius, torch.minimum(images, -mean / std))
        high = torch.minimum(images + radius, torch.maximum(images, (1 - mean) / std))

        def inside(value: Tensor) -> Tensor:
            return torch.minimum(torch.maximum(value, low), high)

        at = images if start is None else inside(images + start * radius)
        for _ in range(steps):
            at = inside(at + step / std * slope(at).sign())
        return at


class FGSM(Evasion):
    """The fast gradient sign method: x + eps sign(gradient of the loss by x), kept within the range of pixels.

    On logits that are linear in x no other attack within the ball does more harm.

    Source: Goodfellow, Shlens and Szegedy, Explaining and Harnessing Adversarial Examples (1412.6572).

    >>> fl.evade(run, fl.FGSM(eps=0.1)).frame[["attack", "eps"]].values.tolist()
    [['none', 0.0], ['fgsm', 0.1]]
    """

    kind: Literal["fgsm"] = "fgsm"

    def perturbed(
        self, slope: Slope, images: Tensor, scale: tuple[Tensor, Tensor], start: Tensor | None = None
    ) -> Tensor:
        """One step of length eps, from the images themselves."""
        return self.walked(slope, images, scale, None, 1, self.eps)


class PGD(Evasion):
    """Projected gradient descent: steps along the gradient's sign, each projected to the ball and the range of pixels.

    An image counts as right only if it is under every restart. Training (`Algorithm.adversarial`) starts at the images,
    which draws nothing.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (1706.06083).

    >>> robust = fl.FedAvg(adversarial=fl.PGD(eps=0.1, step=0.05, steps=3))
    >>> robust.name, robust.gradients_per_step
    ('FedAvg PGD', 4)
    """

    kind: Literal["pgd"] = "pgd"
    step: float = setting(2 / 255, "length of a step, in 0..1", gt=0, le=1, span=(0.001, 0.1))
    steps: int = setting(10, "how many steps", ge=1, le=10_000, span=(1, 40))
    restarts: int = setting(1, "random starts, of which the worst counts; 0: from the image itself", ge=0, le=1000)

    @property
    def gradients(self) -> int:
        """One a step."""
        return self.steps

    @property
    def draws(self) -> int:
        """The restarts."""
        return self.restarts

    def perturbed(
        self, slope: Slope, images: Tensor, scale: tuple[Tensor, Tensor], start: Tensor | None = None
    ) -> Tensor:
        """All steps, from a start in the ball."""
        return self.walked(slope, images, scale, start, self.steps, self.step)
