"""Two ways to convolve with weights that each client has for itself, of which the faster depends on GPU and network.

Under `torch.func.vmap` a convolution with batched weights becomes one grouped convolution, a group a client. As a
matrix product, the patches of a client's images are laid out as columns and multiplied by its weights, one batched
product for all clients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Convolution = Literal["grouped", "matrix"]


def as_chosen(convolution: Convolution) -> contextlib.AbstractContextManager[Any]:
    """Inside the block two-dimensional convolutions are computed this way."""
    return _AsProducts() if convolution == "matrix" else contextlib.nullcontext()


class _AsProducts(TorchFunctionMode):
    """Sends each convolution that `convolved` can do there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d:
            return convolved(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | str | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv2d`, as a matrix product; grouped and dilated ones are left to torch.

    Args:
        input: [batch, channels, height, width].
        weight: [filters, channels, rows, columns].
        bias: as there.
        stride: as there.
        padding: as there.
        dilation: as there.
        groups: as there.
    """
    if groups != 1 or isinstance(padding, str) or pair(dilation) != (1, 1) or input.dim() != 4:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    filters, _, *kernel = weight.shape
    batch, _, *size = input.shape
    steps, margins = pair(stride), pair(padding)
    height, width = (
        (length + 2 * margin - side) // step + 1
        for length, margin, side, step in zip(size, margins, kernel, steps, strict=True)
    )
    patches = F.unfold(
        input, tuple(kernel), padding=margins, stride=steps
    )  # [batch, channels x kernel, height x width]
    columns = patches.transpose(0, 1).flatten(1)  # a filter is a row: one product for all images
    product = weight.flatten(1) @ columns
    if bias is not None:
        product = product + bias[:, None]
    return product.reshape(filters, batch, height, width).transpose(0, 1)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """A size as torch's layers take it, one number for both directions or two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
