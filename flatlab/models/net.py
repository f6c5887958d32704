"""A model is a body, then a head; here are the pair, the names of its parameters, and the arithmetic it costs."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..declare import SettingError
from ..streams import torch_stream
from .context import usual_switches
from .exchange import write
from .made_in import made_in

PARTS = ("all", "body", "head", "norms", "context")


class Model(nn.Module):
    """`head(body(x))`, a pure function of parameters and batch: no buffer changes, nothing is drawn.

    Its only children are `body`, images [batch, C, H, W] to features [batch, features], and `head`, features to logits
    [batch, classes]; so the parts are the prefixes "body." and "head." of the parameters' names. Of a dense network,
    such as "segnet", features and logits are maps [batch, features, h, w] and [batch, classes, H, W].

    >>> model = run.model()
    >>> features = model.body(run.data.samples("holdout", limit=5)[0])
    >>> model.head(features).shape
    torch.Size([5, 10])
    """

    made_by = "flatlab.models.split(module, head=...)"  # for messages to who gives another thing

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, C, H, W]."""
        return self.head(self.body(x))

    def save(self, path: str | Path) -> Path:
        """Write the weights: `.safetensors`, or a state dict of torch, `.pth` or `.pt`; `train(init=path)` reads it.

        >>> path = run.model().save("weights.safetensors")
        >>> fl.train(fl.FedBABU(), data, "lenet", rounds=1, init=path).experiment.initial is None
        False
        """
        return write(self, path)


def names(model: Model, part: str = "all") -> tuple[str, ...]:
    """The names of the parameters in a part, in the model's order.

    Args:
        model: the network.
        part: "all", "body", "head", "norms" (weights and biases of normalisations, told by the modules' types),
            "context" (see `with_context`), or "a-b": those in a that are not in b.

    Raises:
        SettingError: if there is no such part, or the network has nothing there.
    """
    if not set(part.split("-", 1)) <= set(PARTS):
        told = f"needs one of {', '.join(PARTS)}, or a-b: a without b"
        raise SettingError("part", part, told)
    if not (held := within(model, part)):
        raise SettingError("part", part, "this network has no parameters there")
    return held


def within(module: nn.Module, part: str) -> tuple[str, ...]:
    """As `names`, of any module, of which a part may also be what is under a name; nothing where there is nothing."""
    held = tuple(name for name, _ in module.named_parameters())
    if part == "all":
        return held
    if under := tuple(name for name in held if name.startswith(f"{part}.")):
        return under
    if part == "norms":
        norms = (place for place in module.named_modules() if any(map(_is_norm, type(place[1]).__mro__)))
        chosen = {
            f"{name}.{own}".lstrip(".") for name, norm in norms for own, _ in norm.named_parameters(recurse=False)
        }
    elif part == "context":
        chosen = {name for name in held if name.rpartition(".")[2] == "context" and name.startswith("head.")}
    elif "-" in part:
        whole, less = part.split("-", 1)
        chosen = set(within(module, whole)) - set(within(module, less))
    else:
        chosen = set()
    return tuple(name for name in held if name in chosen)


def _is_norm(kind: type) -> bool:
    return re.search(r"Norm(\dd)?$", kind.__name__) is not None


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a network that keeps computed tensors: `nn.utils.weight_norm` and `spectral_norm` keep the
    last weight, which `copy.deepcopy` refuses. `DataParallel` inside only calls its network, as on a CPU: what it
    scatters over GPUs has no rule for many networks at once.
    """
    parts = (value for part in module.modules() for value in vars(part).values())
    memo = {id(value): value.detach().clone() for value in parts if isinstance(value, Tensor) and not value.is_leaf}
    made = copy.deepcopy(module, memo)
    for part in made.modules():
        if isinstance(part, nn.DataParallel):
            part.device_ids = []
    return made


def macs(model: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulates of the convolution and linear layers in one forward pass of one sample [C, H, W].

    Counts modules (`nn.Conv1d` to `nn.Conv3d`, `nn.Linear`) each time they run; norms, pools, biases and what a
    forward calls as a bare function cost nothing here, as in the papers' tables.
    """
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * math.prod(cast(Tensor, layer.weight).shape[1:])

    first = next(model.parameters())
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with usual_switches(), torch.no_grad(), made_in(first.dtype):
            model(first.new_zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    return total


def stale_gradient(
    model: nn.Module, images: Tensor, outputs: Callable[[nn.Module, dict[str, Tensor], Tensor], Tensor]
) -> str | None:
    """A parameter whose gradient is not that of the weights which are handed to the network; None if all are right.

    `torch.utils.checkpoint` computes layers again on the way back, when the network has its own weights again; in its
    reentrant form it drops gradients where images need none. Torch says nothing, or warns.

    Args:
        model: a network; those of torch's, torchvision's and flatlab's modules alone are known to be right.
        images: some that it takes.
        outputs: its outputs at parameters.
    """
    known = ("torch.", "torchvision.", "flatlab.")
    own = (not type(module).__module__.startswith(known) for module in model.modules())
    if not any(own) and not any(getattr(module, "memory_efficient", False) for module in model.modules()):  # DenseNet
        return None
    moved, random = copied(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.mul_(0.5 + 0.5 * torch.rand(weight.shape, generator=random).to(weight))
    weights = {name: weight.requires_grad_() for name, weight in moved.named_parameters() if weight.is_floating_point()}
    handed = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    free = images.detach().clone().requires_grad_()

    def total(network: nn.Module, params: dict[str, Tensor], batch: Tensor) -> Tensor:
        with torch_stream(0, "probe"):
            return outputs(network, params, batch).square().sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            total(moved, {}, free * 1).backward()  # a layer may work in place
        except RuntimeError:  # whatever else is wrong
            return None
        try:
            value = total(model, handed, images.clone()) + 0 * sum(weight.sum() for weight in handed.values())
            given = torch.autograd.grad(value, list(handed.values()))
        except RuntimeError:  # reentrant
            return next(iter(weights))
    right = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights.values()]
    scale = 1e-3 * max((float(gradient.abs().max()) for gradient in right if gradient.numel()), default=0.0)
    if not math.isfinite(scale):  # it overflows, which is for others to tell
        return None
    for name, first, second in zip(weights, given, right, strict=True):
        if not torch.allclose(first, second, rtol=0.0, atol=scale, equal_nan=True):
            return name
    return None


def need_weights(model: nn.Module) -> None:
    """Raise for lazy layers that have seen no images yet.

    Raises:
        SettingError: naming the layer, and what to do.
    """
    for name, layer in model.named_modules():
        if any(isinstance(value, nn.UninitializedParameter) for value in layer.parameters(recurse=False)):
            raise SettingError(
                f"model.{name}",
                allowed=f"a {type(layer).__name__} has no weights before its first forward pass; call the network on a"
                " batch of images first: model(torch.zeros(2, C, H, W))",
            )
