"""How a local step gets its gradient: plain SGD, or SAM and ASAM, which look at the loss a little uphill first.

A `Local` is a pure function of one client: it is given `gradient(params) -> (gradients, loss)` on the step's batch and
returns the gradients to descend along, with the loss at `params`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..declare import Family, setting

Params = dict[str, Tensor]
Slots = dict[str, Params]  # tensors under a name of their own: a server's momentum, what a client remembers
Gradient = Callable[[Params], tuple[Params, Tensor]]

TINY = 1e-16  # keeps a zero gradient from dividing by zero, as the official FedSAM code does


class Local(Family):
    """A kind of local step. Your own: subclass it, give it a `kind`, define `gradient`."""

    gradients_per_step: ClassVar[int] = 1

    def gradient(self, at: Gradient, params: Params) -> tuple[Params, Tensor]:
        """Gradients to descend along at `params`, and the loss there."""
        raise NotImplementedError


class SGD(Local):
    """The gradient of the batch as it is.

    >>> fl.FedBABU(local=fl.SGD()) == fl.FedBABU()
    True
    """

    kind: Literal["sgd"] = "sgd"

    def gradient(self, at: Gradient, params: Params) -> tuple[Params, Tensor]:
        """One backward pass."""
        return at(params)


class SAM(Local):
    """Sharpness-aware minimisation: the gradient at w + rho g / ||g||, one norm over all trained tensors.

    Source: Foret et al. (2010.01412); as a client step: Caldarola et al. (2203.11834, FedSAM) and their official code.

    >>> w, g = {"weight": torch.zeros(2)}, {"weight": torch.tensor([3.0, 4.0])}
    >>> fl.SAM(rho=0.05).perturbed(w, g)["weight"]
    tensor([0.0300, 0.0400])
    """

    kind: Literal["sam"] = "sam"
    gradients_per_step: ClassVar[int] = 2
    rho: float = setting(0.05, "radius of the ascent step", ge=0, span=(0.0, 1.0))

    def gradient(self, at: Gradient, params: Params) -> tuple[Params, Tensor]:
        """Two backward passes on the same batch (and the same Mixup draw)."""
        grads, loss = at(params)
        return at(self.perturbed(params, grads))[0], loss

    def perturbed(self, params: Params, grads: Params) -> Params:
        """The point to take the second gradient at."""
        shift = stretched(grads, self.rho)
        return {name: value + shift[name] for name, value in params.items()}


class ASAM(SAM):
    """Adaptive SAM: the radius scales with each weight, so that rescaling a layer changes nothing.

    With T = |w| + eta for tensors whose name holds "weight" and T = 1 for others (biases), the ascent is
    rho T² g / ||T g||.

    Source: Kwon et al. (2102.11600); as a client step: Caldarola et al. (2203.11834, FedASAM) and their official code.
    `variant="elementwise"` is what many libraries call adaptive SAM: T = |w| for every tensor, without eta.

    >>> w, g = {"weight": torch.tensor([1.0, 10.0])}, {"weight": torch.tensor([1.0, 1.0])}
    >>> fl.ASAM(rho=0.5, eta=0.0).perturbed(w, g)["weight"] - w["weight"]  # rho T² g / ||T g||
    tensor([0.0498, 4.9752])
    """

    kind: Literal["asam"] = "asam"  # type: ignore[assignment]  # a kind of its own, told apart by name
    rho: float = setting(0.5, "radius of the ascent step, in units of the scaled weights", ge=0, span=(0.0, 2.0))
    eta: float = setting(0.2, "added to |w|, so that small weights move too", ge=0, span=(0.0, 1.0))
    variant: Literal["paper", "elementwise"] = setting("paper", "which scale T: the paper's, or |w| for every tensor")

    def perturbed(self, params: Params, grads: Params) -> Params:
        """The point to take the second gradient at."""
        scaled = {name: self.stretch(name, value) * grads[name] for name, value in params.items()}
        scale = self.rho / (joint_norm(scaled) + TINY)
        return {name: value + scale * self.stretch(name, value) * scaled[name] for name, value in params.items()}

    def stretch(self, name: str, value: Tensor) -> Tensor | float:
        """T of one tensor."""
        if self.variant == "elementwise":
            return value.abs()
        return value.abs() + self.eta if "weight" in name else 1.0  # `weight_ih_l0` of an LSTM, too


def joint_norm(tensors: Params) -> Tensor:
    """Euclidean norm of all tensors taken as one vector."""
    return torch.stack([value.pow(2).sum() for value in tensors.values()]).sum().sqrt()


def stretched(direction: Params, length: float | Tensor) -> Params:
    """The direction, all tensors taken as one vector, at a length; 0 stays 0."""
    scale = length / (joint_norm(direction) + TINY)
    return {name: scale * value for name, value in direction.items()}
