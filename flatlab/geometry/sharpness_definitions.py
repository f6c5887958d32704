"""What the literature calls the flatness of a minimum: each function is one definition with its source."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..declare import SettingError
from ..models import frame
from ..streams import stream
from .checks import check_derivative
from .network_calls import cross_entropy
from .objective import Target
from .second_derivatives import explained, need_second


class Value(NamedTuple):
    """A number and its error bar (NaN where there is none to state)."""

    value: float
    error: float = float("nan")


def ascent(target: Target, rho: float, steps: int = 1, scale: Tensor | None = None) -> Value:
    """The largest rise found within a distance: max L(w + e) - L(w), |e / T| <= rho, the loss being the samples' mean.

    T = 1 is SAM's sharpness (Foret et al., 2021, arXiv 2010.01412), T = |w| element by element the adaptive one (Kwon
    et al., ASAM, 2021, arXiv 2102.11600), which stays the same under rescaling. One step is e = rho T^2 g / |T g|; more
    are as long, each brought back into the ball, and the best point counts. A loss or gradient that is not finite ends
    the search: the rise is then infinite or NaN.

    Args:
        target: loss, samples and weights.
        rho: radius of the ball.
        steps: gradients spent.
        scale: T, `[target.size]`; None is 1.
    """
    weights = target.flat(target.weights)
    scale = torch.ones_like(weights) if scale is None else scale
    best, shift = 0.0, torch.zeros_like(weights)
    start = target.loss()
    for _ in range(steps):
        uphill = scale * target.flat(target.gradient(target.shaped(weights + scale * shift)))
        length = torch.linalg.vector_norm(uphill).item()
        if not math.isfinite(length):
            return Value(float("nan"))
        if length == 0:
            break
        shift = shift + uphill * (rho / length)
        shift = shift * min(1.0, rho / torch.linalg.vector_norm(shift).item())
        rise = target.loss(target.shaped(weights + scale * shift)) - start
        if not math.isfinite(rise):
            return Value(rise)
        best = max(best, rise)
    return Value(best)


def average(target: Target, sigma: float, draws: int = 10, seed: int = 0, scale: Tensor | None = None) -> Value:
    """The mean rise under random noise: E L(w + d) - L(w), d ~ N(0, sigma^2 diag(T^2)).

    T = 1 (about sigma^2 tr(H) / 2), or T = |w|, which stays the same under rescaling (Andriushchenko et al., 2023,
    arXiv 2302.07011). Each draw is used with both signs, which removes the slope's part.

    Args:
        target: loss, samples and weights.
        sigma: standard deviation of the noise, in units of T.
        draws: pairs of points; the error stated is the standard error over them.
        seed: names the noise.
        scale: T, `[target.size]`; None is 1.
    """
    weights, start, rises = target.flat(target.weights), target.loss(), []
    for number in range(draws):
        noise = stream(seed, "sharpness noise", number).standard_normal(target.size, dtype=np.float32)
        shift = sigma * torch.from_numpy(noise).to(weights)
        shift = shift if scale is None else shift * scale
        both = [target.loss(target.shaped(weights + sign * shift)) for sign in (1, -1)]
        rises.append(sum(both) / 2 - start)
    return Value(float(np.mean(rises)), float(np.std(rises, ddof=1) / draws**0.5) if draws > 1 else float("nan"))


def fisher_rao(target: Target) -> Value:
    """The squared Fisher-Rao norm w^T F w (Liang et al., 2019, arXiv 1711.01530), F being the Fisher matrix.

    F takes labels from the model's own distribution, so w^T F w is the mean over samples of Var_{y ~ p} [dz_y], where
    dz = J w is the derivative of the logits along w. J w is the derivative of u -> J^T u along w, so it needs backward
    passes only, which torch has for more operations than forward derivatives. Exact; unchanged under rescaling.
    """
    _needs_cross_entropy(target, "fisher_rao")
    total = 0.0
    for span in target.spans(64):
        logits, change = _along_weights(target, span)
        p = logits.softmax(1)
        total += (p * (change - (p * change).sum(1, keepdim=True)).square()).sum().item()
    return Value(total / len(target.labels))


@frame()
def _along_weights(target: Target, span: slice) -> tuple[Tensor, Tensor]:
    """The logits of one span, and their derivative along the selected weights, both detached.

    J w = d/du <J^T u, w>: two backward passes (the first is linear in u).

    Raises:
        NoDerivative: naming an operation that torch cannot differentiate so.
    """
    target.need_gradients()
    leaves = {name: weight.detach().requires_grad_() for name, weight in target.weights.items()}
    logits = target.outputs(leaves, target.images[span])
    if not logits.requires_grad:
        check_derivative(target)
        return logits, torch.zeros_like(logits)
    with explained(target.model, lambda: target.outputs(leaves, target.images[span])):
        u = torch.zeros_like(logits, requires_grad=True)
        pulled = torch.autograd.grad(logits, list(leaves.values()), u, create_graph=True, allow_unused=True)
        along = {name: part for name, part in zip(leaves, pulled, strict=True) if part is not None}
        need_second(along.values())
        (change,) = torch.autograd.grad(list(along.values()), u, [target.weights[name] for name in along])
    return logits.detach(), change


@frame()
@torch.no_grad()
def relative_flatness(target: Target) -> Value:
    """Relative flatness of the head: sum_st <w_s, w_t> tr(H_st), s, t classes (Petzka et al., 2021, arXiv 2001.00939).

    H_st is the block of the loss's Hessian that belongs to the rows s and t of the last, linear layer. For
    cross-entropy it is E [phi phi^T (p_s [s=t] - p_s p_t)] with the features phi, so the sum is
    E |phi|^2 (sum_s p_s |w_s|^2 - |sum_s p_s w_s|^2). Exact; unchanged when a layer before is rescaled.

    Raises:
        SettingError: if the model is no body with a linear head, the part measured lacks it, or the loss is another.
    """
    _needs_cross_entropy(target, "relative_flatness")
    model: Any = target.model
    if not has_linear_head(target):
        reason = "it is defined at a linear layer; the model needs a body and a linear head"
        raise SettingError("relative_flatness", allowed=reason)
    if "head.weight" not in target.weights:
        reason = f"it is of the head's weights, which part = {target.about['part']!r} leaves out"
        raise SettingError("relative_flatness", allowed=reason)
    weight, total = model.head.weight, 0.0
    for span in target.spans(64):
        features = model.body(target.images[span])
        p = model.head(features).softmax(1)
        spread = p @ weight.square().sum(1) - (p @ weight).square().sum(1)
        total += (features.square().sum(1) * spread).sum().item()
    return Value(total / len(target.labels))


@frame()
@torch.no_grad()
def has_linear_head(target: Target) -> bool:
    """Whether the model is `head(body(images))` with a linear head, and not only has parts of these names."""
    model: Any = target.model
    if not (hasattr(model, "body") and isinstance(getattr(model, "head", None), nn.Linear)):
        return False
    few = target.images[:2]
    try:
        features = model.body(few)
        logits = model.head(features)
    except (RuntimeError, TypeError):
        return False
    whole = target.outputs({}, few)
    flat = features.shape[1:] == (model.head.in_features,)  # a user's context enters the head, too
    return flat and logits.shape == whole.shape and torch.allclose(logits, whole, rtol=1e-3, atol=1e-5)


def _needs_cross_entropy(target: Target, measure: str) -> None:
    if target.losses is not cross_entropy:
        raise SettingError(measure, allowed="defined here for cross-entropy only, not for another loss")
