"""The device to compute on, in which precision, and what its process does with freed memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Literal

import torch

from ..declare import SettingError
from ..models import cuda_kernels, usual_switches

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
    with contextlib.ExitStack() as modes:
        modes.enter_context(usual_switches())
        if device == "cuda":
            modes.enter_context(cuda_kernels(fast=precision == "tf32"))
        modes.enter_context(torch.autocast(device, torch.bfloat16, precision == "bfloat16", cache_enabled=False))
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
