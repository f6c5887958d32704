"""How a local step gets its gradient: plain SGD, or SAM and ASAM, which look at the loss a little uphill first.

A `Local` is a pure function of one client: it is given `gradient(params) -> (gradients, loss)` on the step's batch and
returns the gradients to descend along, with the loss at `params`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..declare import Family, SettingError, setting

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
        return each("add", params, stretched(grads, self.rho))


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
        stretch = self.stretch(params)
        scaled = grads | each("mul", stretch, grads)
        scale = self.rho / (joint_norm(scaled) + TINY)
        plain = {name: value for name, value in scaled.items() if name not in stretch}
        shift = each("mul", plain, scale) | each("mul", each("mul", stretch, scale), scaled)
        return each("add", params, shift)

    def stretch(self, params: Params) -> Params:
        """T of the tensors that have another than 1."""
        if self.variant == "elementwise":
            return each("abs", params)
        weights = {name: value for name, value in params.items() if "weight" in name}  # `weight_ih_l0` of an LSTM, too
        return each("add", each("abs", weights), self.eta)


def pair(where: str, made: Any, first: type, needs: str) -> tuple[Any, Any]:
    """What a hook returned, if it is two things, the first of them of a kind.

    Raises:
        SettingError: that begins with `where`, and tells what is needed.
    """
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], first)):
        raise SettingError(f"{where} returned {type(made).__name__}", allowed=f"needs {needs}")
    return made


def refuse_other_names(where: str, given: Collection[str], wanted: Collection[str]) -> None:
    """Refuse names that differ from those wanted."""
    extra, missing = sorted(set(given) - set(wanted)), sorted(set(wanted) - set(given))
    if extra or missing:
        wrong = [f"{word} {', '.join(names[:5])}" for word, names in (("has", extra), ("lacks", missing)) if names]
        told = f"needs {', '.join(sorted(wanted)[:10]) or 'nothing'}"
        raise SettingError(f"{where} {' and '.join(wrong)}", allowed=told)


def refuse_unlike(where: str, given: Any, wanted: Params) -> None:
    """Refuse tensors of other names, shapes or types than those wanted: torch would stretch some, and drop others.

    Raises:
        SettingError: that begins with `where`, and tells what is needed.
    """
    if not isinstance(given, dict):
        raise SettingError(f"{where} is {type(given).__name__}", allowed="needs {name: tensor}")
    if given.keys() != wanted.keys():
        refuse_other_names(where, given, wanted)
    for name, like in wanted.items():
        value = given[name]
        if not isinstance(value, Tensor):
            raise SettingError(f"{where}[{name!r}] is {type(value).__name__}", allowed="needs a tensor")
        if value.shape != like.shape:
            raise SettingError(
                f"{where}[{name!r}] has shape {tuple(value.shape)}", allowed=f"needs {tuple(like.shape)}"
            )
        if value.dtype != like.dtype:
            raise SettingError(f"{where}[{name!r}] is {value.dtype}", allowed=f"needs {like.dtype}")


def joint_norm(tensors: Params) -> Tensor:
    """Euclidean norm of all tensors taken as one vector."""
    return torch.stack([value.sum() for value in each("mul", tensors, tensors).values()]).sum().sqrt()


def stretched(direction: Params, length: float | Tensor) -> Params:
    """The direction, all tensors taken as one vector, at a length; 0 stays 0."""
    return each("mul", direction, length / (joint_norm(direction) + TINY))


def plus(values: Params, others: Params, factor: float | Tensor) -> Params:
    """The sums value + factor x other, in one pass over memory, unless the factor is a tensor."""
    if isinstance(factor, Tensor):
        return each("add", values, each("mul", others, factor))
    return each("add", values, others, alpha=factor)


def each(operation: str, values: Params, *others: Params | float | Tensor, **options: float) -> Params:
    """One of torch's operations on each tensor, and on the others' of the same name; on CUDA in one kernel for all.

    >>> fl.algorithms.local.each("add", {"weight": torch.zeros(2)}, {"weight": torch.ones(2)}, alpha=3.0)
    {'weight': tensor([3., 3.])}
    """
    if not values:
        return {}
    first, numbers = next(iter(values.values())), [other for other in others if isinstance(other, Tensor)]
    rows = [[other[name] for name in values] if isinstance(other, dict) else other for other in others]
    mapped = torch._C._functorch.is_functorch_wrapped_tensor(first)  # by vmap, which has no rule for these
    if first.is_cuda and not mapped and all(number.dim() == 0 for number in numbers):
        made = getattr(torch, f"_foreach_{operation}")([*values.values()], *rows, **options)
        return dict(zip(values, made, strict=True))
    single = getattr(torch, operation)
    return {
        name: single(value, *(row[place] if isinstance(row, list) else row for row in rows), **options)
        for place, (name, value) in enumerate(values.items())
    }
