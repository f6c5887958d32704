"""How a measurement calls a network: every one of this package does it through this file, so all see one function.

A user's network may be in bfloat16, wrapped in `DataParallel`, scripted, keep running statistics, or return more than
logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from ..declare import SettingError
from ..models import BatchStatNorm, copied, plain_recurrence, stateless
from ..models.made_in import made_in
from ..tasks import Classification

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSIFICATION = Classification()
WRAPPERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of classification, of each sample: `[n, classes]`, `[n]` -> `[n]`."""
    return CLASSIFICATION.losses(logits, labels)


def plain(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel, AveragedModel or `torch.compile`: they only call it."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@torch.no_grad()
def own_copy(model: nn.Module, dtype: torch.dtype, statistics: str = "stored") -> nn.Module:
    """A copy of a plain network in evaluation mode and this precision, without gradients.

    Args:
        model: the network.
        dtype: of its parameters and buffers.
        statistics: "stored" normalises with running statistics as they are; "batch" lets layers that keep such take
            those of each batch instead.

    Raises:
        SettingError: for a scripted network, whose layers cannot be exchanged, with "batch".
    """
    if statistics == "batch" and scripted(model):
        reason = "a ScriptModule's layers are fixed; give the network that it was made of"
        raise SettingError("statistics", statistics, reason)
    own = copied(model) if statistics == "stored" else stateless(model)
    for layer in own.modules():
        if isinstance(layer, _InstanceNorm) and statistics == "batch":
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    for weight in own.parameters():  # a ScriptModule has no requires_grad_ of its own
        weight.requires_grad_(False)
    return own.eval().to(dtype)


def precision(model: nn.Module) -> torch.dtype:
    """In what a network is measured by default: its own precision, but float32 for those of fewer digits."""
    kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    return torch.float64 if torch.float64 in kinds else torch.float32


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether a sample's output depends on the batch it is in, in evaluation mode."""
    return any(
        isinstance(layer, BatchStatNorm) or (isinstance(layer, _BatchNorm) and layer.running_mean is None)
        for layer in model.modules()
    )


def normalisation(model: nn.Module, statistics: str) -> str:
    """How a network normalises, in words; `statistics` as for `own_copy`."""
    if uses_batch_statistics(model):
        return "batch statistics" + ", re-estimated in place of the running ones" * (statistics == "batch")
    if any(isinstance(layer, _NormBase) and layer.running_mean is not None for layer in model.modules()):
        return "running statistics, as stored"
    kinds = {type(layer).__name__ for layer in model.modules() if type(layer).__name__.endswith("Norm")}
    return ", ".join(sorted(kinds)) or "none"


def scripted(model: nn.Module) -> bool:
    """Whether a network is, or holds, a TorchScript module."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def call(model: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The network's output at other parameters and buffers: logits alone, differentiable in what is given.

    What its forward makes without a dtype, as `torch.ones(3)`, has that of the images, whatever is torch's default.

    A scripted network gets them for the time of the call, since torch's `functional_call` takes none: give each thread
    its own copy.
    """
    with plain_recurrence(model), made_in(images.dtype):
        return logits_of(_output(model, tensors, images))


def _output(model: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> Any:
    if not scripted(model):
        return functional_call(model, dict(tensors), (images,))
    modules = dict(model.named_modules())
    owners = {name: modules[name.rpartition(".")[0]] for name in tensors}
    slots = {name: owner for name, owner in owners.items() if isinstance(owner, torch.jit.ScriptModule)}
    kept = {name: getattr(owner, name.rpartition(".")[2]) for name, owner in slots.items()}
    try:
        for name, owner in slots.items():
            setattr(owner, name.rpartition(".")[2], tensors[name])
        if isinstance(model, torch.jit.ScriptModule):
            return model(images)
        return functional_call(model, {k: v for k, v in tensors.items() if k not in slots}, (images,))
    finally:
        for name, owner in slots.items():
            setattr(owner, name.rpartition(".")[2], kept[name])


def logits_of(output: Any) -> Tensor:
    """The logits in what a network returns: a tensor; the first of a tuple; "logits" or "out" of a dict, or its only
    entry.

    Raises:
        SettingError: if there is no telling which.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        tensors = {str(name): value for name, value in output.items() if isinstance(value, Tensor)}
        named: list[str] = [name for name in ("logits", "out") if name in tensors] or list(tensors)
        if len(named) == 1 or named[:1] == ["logits"]:
            return tensors[named[0]]
        reason = f"its output has {', '.join(map(repr, output))}; one must be called 'logits'"
        raise SettingError("model", allowed=reason)
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    if isinstance(logits := getattr(output, "logits", None), Tensor):
        return logits
    reason = f"its output is {type(output).__name__}; logits, a tuple of them first, or a dict is needed"
    raise SettingError("model", allowed=reason)
