"""Weights and networks to and from plain torch.

run.model().save("babu.safetensors")       # or .pth, .pt: a state dict
fl.train(algorithm, data, init="babu.pth")  # a run that begins with these weights
net = fl.models.plain(run.model())          # the same network of torch's own modules
"""

from __future__ import annotations

import copy
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..declare import SettingError, shown
from ..files import user_path, write_atomically
from .norm import BatchStatNorm

TORCH = (".pth", ".pt")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training scripts keep weights


def write(module: nn.Module, path: str | Path) -> Path:
    """Write a module's weights, whole or not at all; the ending says how.

    Raises:
        SettingError: for another ending.
    """
    path = user_path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    if path.suffix == ".safetensors":
        content = safetensors.torch.save(tensors)
    elif path.suffix in TORCH:
        torch.save(tensors, file := io.BytesIO())
        content = file.getvalue()
    else:
        raise SettingError("path", str(path), f"must end in .safetensors, {' or '.join(TORCH)}")
    write_atomically(path, content)
    return path


def weights(source: str | Path | nn.Module | Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a file, a module or a state dict, by name, in float32 on the CPU.

    Args:
        source: a `.safetensors` file, or a `.pth` or `.pt` file with a state dict (or a dictionary that holds one as
            "state_dict" or "model"), read without running code from it; or a module; or a state dict.

    Raises:
        FileNotFoundError: if there is no such file.
        SettingError: if it holds anything but tensors of real numbers.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    values: Any = source if isinstance(source, Mapping) else _read(user_path(source, "init"))
    for name in WRAPPERS:
        values = values[name] if isinstance(values, Mapping) and isinstance(values.get(name), Mapping) else values
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        raise SettingError("init", allowed=f"{shown(source)} holds no state dict, tensors by their names")
    if other := next((name for name, value in values.items() if value.is_complex()), None):
        raise SettingError("init", allowed=f"its {other} is complex; weights are real numbers")
    return {str(name): value.detach().to("cpu", torch.float32).clone() for name, value in values.items()}


def plain(model: nn.Module) -> nn.Sequential:
    """A copy of a `Model` in torch's own modules alone, to trace, to export, or to use where flatlab is not installed.

    Names and outputs are the same. A norm of batch statistics becomes `nn.BatchNorm2d(track_running_stats=False)`.

    >>> net = fl.models.plain(run.model())
    >>> images, _ = run.data.samples("holdout", limit=8)
    >>> torch.equal(net(images), run.model()(images)), list(net.state_dict()) == list(run.model().state_dict())
    (True, True)
    """
    copied = copy.deepcopy(model)
    for parent in list(copied.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, BatchStatNorm):
                norm = nn.BatchNorm2d(
                    part.channels, part.eps, affine=part.weight is not None, track_running_stats=False
                )
                norm.weight, norm.bias = part.weight, part.bias  # type: ignore[assignment]
                parent.register_module(name, norm)
    return nn.Sequential(OrderedDict(copied.named_children()))


def _read(path: Path) -> Any:
    content = path.read_bytes()
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingError("init", str(path), f"holds no weights that can be read safely: {reason}") from None
