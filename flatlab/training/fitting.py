"""How many clients fit into memory as one batch: by the memory there is, not by what is free today, which would change
sums. Too generous is mended by halving, too careful only costs launches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data import FederatedDataset


def fitting(model: nn.Module, data: FederatedDataset, batch_size: int) -> int:
    """How many clients should fit: on a GPU into half of its memory, else into 2 GiB."""
    device = data.images.device
    budget = torch.cuda.mem_get_info(device)[1] // 2 if device.type == "cuda" else 2**31
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    # Parameters, gradients, momentum, anchor and temporaries; activations kept for the backward pass, and as much again
    # for what the kernels need.
    return max(1, int(budget // (6 * weights + 8 * batch_size * activations(model, data.shape))))


def activations(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Numbers that the layers of one forward pass of one sample put out."""
    total = 0

    def numbers(output: Any) -> int:  # a recurrent layer puts out a state, too
        parts = output if isinstance(output, tuple | list) else ()
        return output.numel() if isinstance(output, Tensor) else sum(map(numbers, parts))

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        if not list(module.children()):
            total += numbers(output)

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with torch.no_grad():
            first = next(model.parameters())
            model(first.new_zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return total
