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

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"
COPIES = ("aten::copy_", "aten::_to_copy", "aten::lift_fresh")
GATHERS = ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_")  # indices may come from the host
SIZED_BY_VALUES = ("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::repeat_interleave.Tensor")


class Watch(TorchDispatchMode):
    """Notes what a GPU would refuse (`mixed`) and what it would be waited for (`waits`): (operation, place in flatlab)."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[tuple[str, str]] = []
        self.waits: list[tuple[str, str]] = []

    def clear(self) -> None:
        self.mixed.clear()
        self.waits.clear()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.name()
        if name == "aten::_to_copy" and not isinstance(args[0], torch.Tensor):
            args = (torch.tensor(args[0]), *args[1:])  # a Python number that meets a tensor
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = {tensor.device.type for tensor in tensors if tensor.dim()}
        both = len(there) > 1
        if both and name not in COPIES:
            (self.waits if name in GATHERS else self.mixed).append((name, _place()))
        if name in SIZED_BY_VALUES and DEVICE in there:
            self.waits.append((name, _place()))
        if name == "aten::_local_scalar_dense" and tensors[0].device.type == DEVICE:
            self.waits.append((name, _place()))
            return {torch.bool: True, torch.int64: 1}.get(tensors[0].dtype, 1.0)
        if name == "aten::_to_copy" and str(kwargs.get("device")) == "cpu" and tensors[0].device.type == DEVICE:
            self.waits.append((name, _place()))
            return torch.ones(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        if name == "aten::copy_" and both:
            self.waits.append((name, _place()))
            if tensors[0].device.type == "cpu":
                return tensors[0].fill_(1)
        found = func(*args, **kwargs)
        moved = name == "aten::_to_copy" and tensors and found.device != tensors[0].device
        if moved or (name == "aten::lift_fresh" and found.device.type == DEVICE):
            self.waits.append((name, _place()))
        return found


class _Lists(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.tolist and args[0].device.type == DEVICE:
            return args[0].cpu().tolist()
        return func(*args, **(kwargs or {}))


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
    with Watch() as watch, _Lists():
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
