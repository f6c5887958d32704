"""The device to compute on: which, in which precision, how many clients fit into it, how many images fill it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import FederatedDataset
from ..declare import SettingError
from ..models import BatchStatNorm, cuda_kernels, foreign, usual_switches

SCORED_BYTES = 2**30  # activations of the images that a GPU scores at a time

Precision = Literal["float32", "tf32", "bfloat16"]


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """`auto` is CUDA where it is there, else Apple's mps where it works, else the CPU.

    Raises:
        SettingError: if the device named is not there.
    """
    if str(name) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise SettingError("device", name, "must be auto, cpu, cuda, cuda:N or mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise SettingError("device", name, "not on this machine; use device='auto' or 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError("device", name, f"this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


@contextlib.contextmanager
def computing_in(precision: Precision, device: str) -> Iterator[None]:
    """Inside the block this thread computes in a precision on a kind of device, on CUDA with repeatable kernels."""
    kernels = cuda_kernels(fast=precision == "tf32") if device == "cuda" else contextlib.nullcontext()
    halved = torch.autocast(device, torch.bfloat16, precision == "bfloat16", cache_enabled=False)
    with usual_switches(), kernels, halved:
        yield


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of freed memory instead of giving it back to the kernel at once.

    By default glibc returns every large block, and a forward pass then spends up to half its time on getting zeroed
    pages for its activations again (measured: `cnn4`, eight batches of 64 CIFAR images, .44 s against .27 s). Other C
    libraries have no such switch.
    """
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)


def fitting(model: nn.Module, data: FederatedDataset, batch_size: int) -> int:
    """How many clients should fit as one batch: on a GPU into half of its memory, else into 2 GiB.

    By the memory there is, not by what is free today, which would change sums. Too generous is mended by halving, too
    careful only costs launches.
    """
    device = data.images.device
    budget = torch.cuda.mem_get_info(device)[1] // 2 if device.type == "cuda" else 2**31
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    # Parameters, gradients, momentum, anchor and temporaries; activations kept for the backward pass, and as much again
    # for what the kernels need.
    return max(1, int(budget // (6 * weights + 8 * batch_size * activations(model, data.shape))))


def filling(model: nn.Module, data: FederatedDataset) -> int:
    """How many images a GPU is to score at a time at least; 1 elsewhere, and where outputs may depend on the batch.

    They do with batch statistics, and may in a layer of a user's own.
    """
    together = (BatchStatNorm, _BatchNorm, torch.jit.ScriptModule)  # the last may be of any code
    by_batch = any(isinstance(part, together) for part in model.modules())
    if data.images.device.type != "cuda" or by_batch or foreign(*model.modules()):
        return 1
    return max(1, SCORED_BYTES // (4 * activations(model, data.shape)))


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
