"""Networks differentiated twice: equal forms of operations whose gradient torch cannot differentiate again.

Of torch's layers, activations, pools, norms and losses these lack a second derivative on a CPU (torch 2.14):
hardsigmoid, attention by its fused kernels, the multi-class margin loss; weighted embedding bags, CTC, the margin of
several labels and, in torch 2.11, grid_sample have no equal form here. That of weight_norm is silently wrong: it takes
the norms for constants. What still cannot be differentiated is named with the module that does it.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class NoDerivative(ValueError):
    """A network or loss cannot be differentiated as often as a measure needs; the message says what is in the way."""


class TwiceDifferentiable(TorchFunctionMode):
    """Inside the block, in this thread, operations without a second derivative run in an equal form that has one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.multi_head_attention_forward:
            return _heads(*args, **kwargs)
        return EQUAL_FORMS.get(func, func)(*args, **kwargs)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V, written out; a row that may look at nothing gives zeros."""
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    blind = (scores == -math.inf).all(-1, keepdim=True)
    shares = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    return F.dropout(shares, dropout_p) @ value if dropout_p else shares @ value


def _heads(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    # Asked for its weights, torch writes attention out itself.
    output, shares = F.multi_head_attention_forward(*args, **{**kwargs, "need_weights": True})
    return output, shares if kwargs.get("need_weights", True) else None


def _multi_margin(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """sum_{j != y} w_y max(0, margin - x_y + x_j)^p / classes."""
    if reduction != "none" or size_average is not None or reduce is not None or input.dim() != 2:
        return F.multi_margin_loss(input, target, p, margin, weight, size_average, reduce, reduction)
    own = input.gather(1, target[:, None])
    parts = (margin - own + input).clamp(min=0) ** p
    losses = parts.scatter(1, target[:, None], 0.0).sum(1) / input.shape[1]
    return losses if weight is None else losses * weight[target]


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Direction times length, v g / |v|, the norm over all dimensions but one (-1: over all)."""
    others = [axis for axis in range(v.dim()) if dim == -1 or axis != dim % v.dim()]
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1))


EQUAL_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.hardsigmoid: _hardsigmoid,
    F.scaled_dot_product_attention: _attention,
    F.multi_margin_loss: _multi_margin,
    getattr(torch, "_weight_norm", _weight_norm): _weight_norm,  # what both of torch's weight_norm call
}
SIGNS = (
    r"derivative for (?:aten::)?(\w+) is not implemented",
    r"marked with (@once_differentiable)",
    r"(Checkpointing) is not compatible with",
    r"(torch\.utils\.checkpoint)",
    r"(torch\.compile) with aot_autograd does not currently support double backward",
    r"(cudnn RNN) backward can only be called in training mode",
    r"the derivative of '(\w+)' is not implemented",
)


@contextlib.contextmanager
def explained(model: nn.Module, forward: Callable[[], object]) -> Iterator[None]:
    """Inside the block, what torch cannot differentiate twice is named: operation, module and remedy.

    Args:
        model: the network.
        forward: computes its output, recording gradients.

    Raises:
        NoDerivative: in place of torch's error.
        RuntimeError: torch's own, where it is another.
    """
    try:
        yield
    except RuntimeError as error:
        operation = next((match[1] for sign in SIGNS if (match := re.search(sign, str(error)))), None)
        if operation is None:
            raise
        where = _where(model, operation, forward)
        if "heckpoint" in operation:
            reason = "computes layers again, with other weights than those measured; call them without checkpointing"
            raise NoDerivative(f"model: {operation} in {where} {reason}") from error
        raise NoDerivative(
            f"model: {operation} in {where} has no second derivative in torch; the Hessian and fisher_rao need one. "
            "Replace it by an equal form of plain operations, or take what needs none: landscapes, paths, and of the "
            "sharpness measures sam, asam, average"
        ) from error


def need_second(gradients: Iterable[Tensor]) -> None:
    """Raise if the way back from recorded gradients meets a function marked `once_differentiable`.

    Torch raises there only in `backward`; `autograd.grad` takes the function's gradient for a constant, silently.

    Raises:
        RuntimeError: naming it, as torch does.
    """
    for node in _way_back(gradients, set()):
        if node.name() == "torch::autograd::Error":
            raise RuntimeError("a function is marked with @once_differentiable")


def _way_back(tensors: Iterable[Tensor], seen: set[Any]) -> Iterator[Any]:
    """Autograd's nodes from tensors back to those `seen`, once each (not told by ids, which are given anew)."""
    waiting = [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def _where(model: nn.Module, operation: str, forward: Callable[[], object]) -> str:
    """The innermost module whose output was computed by the operation, by name and kind."""
    wanted = operation.replace("_", "").lower()
    places: list[str] = []

    def listen(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not places and _computed_by(output, inputs, wanted):
                places.append(f"{name or 'the network'} ({type(module).__name__})")

        return look

    handles = [
        module.register_forward_hook(listen(name))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return places[0] if places else f"{type(model).__name__} or its loss"


def _computed_by(output: Any, inputs: Any, wanted: str) -> bool:
    ends: set[Any] = {tensor.grad_fn for tensor in inputs if isinstance(tensor, Tensor)}
    outputs = output if isinstance(output, (tuple, list)) else [output]
    for node in _way_back((tensor for tensor in outputs if isinstance(tensor, Tensor)), ends):
        name = node.name()
        custom = name.endswith("Backward")  # torch's own end in a number
        if name.rstrip("0123456789").lower() == wanted or (
            custom and wanted in ("@oncedifferentiable", "checkpointing")
        ):
            return True
    return False
