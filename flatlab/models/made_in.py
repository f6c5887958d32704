"""Tensors that a network or loss makes without a dtype have the precision in which it is measured.

`torch.ones(3)` in a forward takes torch's default dtype, which belongs to the whole process: set for a measurement in
float64 it would change what other threads train meanwhile. A mode belongs to one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What draws or fills: asked for the dtype at once, so that nothing is drawn twice.
FILLED = frozenset([
    torch.empty, torch.ones, torch.zeros, torch.eye, torch.linspace, torch.logspace, torch.rand, torch.randn,
    torch.empty_strided, torch.empty_permuted, torch.bartlett_window, torch.blackman_window, torch.hamming_window,
    torch.hann_window, torch.kaiser_window,
])  # fmt: skip
READ = frozenset([torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor, torch.full, torch.arange])
SAID = frozenset([Tensor.float, Tensor.to, Tensor.type])  # a dtype is given, if not by its name


class MadeIn(TorchFunctionMode):
    """Inside the block, in this thread, `dtype` takes the place of torch's default where a tensor is made of none."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") is not None or kwargs.get("out") is not None:
            return func(*args, **kwargs)
        if func in FILLED:
            return func(*args, **{**kwargs, "dtype": self.dtype})
        made = func(*args, **kwargs)
        usual = isinstance(made, Tensor) and made.dtype == torch.get_default_dtype()
        if not usual or func in SAID or any(_floats(value) for value in (args, *kwargs.values())):
            return made
        if func in READ:  # `torch.full((2,), 1)` is made of whole numbers, and stays so
            return func(*args, **{**kwargs, "dtype": self.dtype})
        if not any(isinstance(value, Tensor) for value in args):
            return made
        # Whole numbers became floats: `torch.arange(8) / 3`, `positions.sqrt()`.
        return func(*(v.to(self.dtype) if isinstance(v, Tensor) else v for v in args), **kwargs)


def made_in(dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """`MadeIn`, or nothing where `dtype` is what a measurement's frame has as torch's default anyway."""
    return contextlib.nullcontext() if dtype == torch.get_default_dtype() else MadeIn(dtype)


def _floats(value: Any) -> bool:
    """Whether there is a dtype of floats in what an operation is given: a tensor's, an array's."""
    if isinstance(value, (list, tuple)):
        return any(map(_floats, value))
    return (isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())) or (
        isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fc"
    )
