"""A device for tests on machines without a GPU: torch's `meta`, watched.

Its tensors have shapes but no numbers. Every operation is looked at: one that mixes them with tensors of the host is
the mistake that only a GPU would show; one that needs a number, or copies between host and device, makes a GPU wait,
and cannot be recorded as a graph. Where a number is needed, it is 1.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "meta"
GATHERS = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")  # indices may come from the host
FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


class Watch(TorchDispatchMode):
    """Notes what a GPU would refuse (`mixed`) and what it would be waited for (`waits`): (operation, place in flatlab).

    What an operation does is told by the devices of what goes in and out and by torch's own tags, not by which
    operations one version of torch makes of a call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[tuple[str, str]] = []
        self.waits: list[tuple[str, str]] = []

    def clear(self) -> None:
        self.mixed.clear()
        self.waits.clear()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name, wait = kwargs or {}, func.name(), self._wait
        leaves = _leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        away = any(tensor.device.type == DEVICE for tensor in tensors)
        target = next((leaf.type for leaf in leaves if isinstance(leaf, torch.device)), None)
        gathers = name.partition(".")[0] in GATHERS
        if away and torch.Tag.data_dependent_output in func.tags:
            wait(name)
            return {torch.bool: True, torch.int64: 1}.get(tensors[0].dtype, 1.0)
        if away and torch.Tag.dynamic_output_shape in func.tags and not gathers:
            wait(name)
        if away and target == "cpu":
            wait(name)
            return torch.ones(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        if name == "aten::copy_" and tensors[0].device != tensors[1].device:
            wait(name)
            return tensors[0] if tensors[0].device.type == DEVICE else tensors[0].fill_(1)
        if len(devices) > 1:
            wait(name) if gathers else self.mixed.append((name, _place()))
        result = _result(func, args, kwargs) if away else func(*args, **kwargs)
        if target == DEVICE and tensors and not away:
            wait(name)
        return result

    def _wait(self, name: str) -> None:
        self.waits.append((name, _place()))


class _Calls(TorchFunctionMode):
    """What torch does before it dispatches: numbers made into a tensor of the device, and a tensor into numbers."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.tolist and args[0].device.type == DEVICE:
            return args[0].cpu().tolist()
        result = func(*args, **kwargs)
        if func in FROM_NUMBERS and result.device.type == DEVICE:
            numbers = (*args, *kwargs.values())[func is torch.Tensor.new_tensor]
            if not isinstance(numbers, torch.Tensor):  # a tensor is copied, which `Watch` sees
                self.watch._wait(func.__name__)
        return result


def _result(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation makes of tensors without numbers: torch works it out in Python, at length; here, once a kind.

    Only of operations that make one new tensor: what changes its arguments, or is a view of them, is done each time.
    """
    new = _MAKES_ONE.get(func)
    if new is None:
        made = func._schema.returns
        alone = len(made) == 1 and str(made[0].type) == "Tensor" and made[0].alias_info is None
        new = _MAKES_ONE[func] = alone and not func._schema.is_mutable
    key = _kind((func, args, kwargs)) if new else None
    if key is None:
        return func(*args, **kwargs)
    if key not in _MADE:
        result = func(*args, **kwargs)
        plain = type(result) is torch.Tensor and result.device.type == DEVICE and result.layout == torch.strided
        if not plain or result._is_view() or any(result is leaf for leaf in _leaves((args, kwargs))):
            _MAKES_ONE[func] = False
            return result
        _MADE[key] = (result.shape, result.stride(), result.dtype)
        return result
    shape, stride, dtype = _MADE[key]
    return torch.empty_strided(shape, stride, dtype=dtype, device=DEVICE)


_MAKES_ONE: dict[Any, bool] = {}
_MADE: dict[Any, tuple[Any, ...]] = {}


def _kind(nest: Any) -> Any:
    """All that the result's shape and type can depend on; None if there is a tensor of the host, which has numbers."""
    if isinstance(nest, torch.Tensor):
        return (nest.shape, nest.stride(), nest.dtype) if nest.device.type == DEVICE else None
    if isinstance(nest, dict):
        nest = tuple(nest.items())
    if not isinstance(nest, list | tuple):
        return type(nest), nest
    parts = tuple(map(_kind, nest))
    return None if None in parts else parts


def _leaves(nest: Any) -> list[Any]:
    if isinstance(nest, dict):
        nest = nest.values()
    elif not isinstance(nest, list | tuple):
        return [nest]
    found = []
    for part in nest:
        if isinstance(part, list | tuple | dict):
            found += _leaves(part)
        else:
            found.append(part)
    return found


def _place() -> str:
    frame = sys._getframe(1)
    while frame is not None and "/flatlab/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "outside flatlab"


@contextlib.contextmanager
def elsewhere(monkeypatch) -> Iterator[Watch]:
    """Inside the block, everything is watched."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, *a, **k: autocast("cpu", *a, **k))  # meta has none
    with Watch() as watch, _Calls(watch):
        yield watch


def moved(data):
    """The data with its tensors on the watched device, unchecked: what is checked are numbers."""
    made = copy.copy(data)
    for name in ("images", "labels", "holdout"):
        object.__setattr__(made, name, getattr(data, name).to(DEVICE))
    object.__setattr__(made, "scale", tuple(part.to(DEVICE) for part in data.scale))
    for name in ("train", "test"):
        object.__setattr__(made, name, tuple(part.to(DEVICE) for part in getattr(data, name)))
    return made
