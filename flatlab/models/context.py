"""What a program has switched on around a computation, and what must not change its numbers."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..declare import SettingError

_CUDA, _KINDS, _TINY = torch.backends.cuda, ("matmul", "conv", "rnn"), sys.float_info.min


def _switch(module: Any, name: str, usual: Any) -> tuple[Callable[[], Any], Callable[[Any], object], Any]:
    return functools.partial(getattr, module, name), functools.partial(setattr, module, name), usual


# What torch knows for the whole process, not for a thread: how to read it, how to set it, and what it is here, most as
# in a new process (of digits float32's own: `torch.set_float32_matmul_precision("medium")` takes fewer on a CPU, too).
_SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Any]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    "oneDNN": _switch(torch.backends.mkldnn, "enabled", True),
    "oneDNN deterministic": _switch(torch.backends.mkldnn, "deterministic", False),
    **{f"digits of {k}": _switch(getattr(torch.backends.mkldnn, k), "fp32_precision", "ieee") for k in _KINDS},
    # other kernels where nothing is differentiated, unless a `TorchFunctionMode` (a default device, say) is there
    "fast path": (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False),
    **{
        f"{k} attention": (getattr(_CUDA, f"{k}_sdp_enabled"), getattr(_CUDA, f"enable_{k}_sdp"), True)
        for k in ("flash", "mem_efficient", "math")
    },
}


class _Process:
    """The switches while threads compute inside `usual_switches`, and what they were before."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.before: dict[str, Any] = {}

    def enter(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = {name: read() for name, (read, _, usual) in _SWITCHES.items()}
                self._set({name: usual for name, (_, _, usual) in _SWITCHES.items()})
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self._set(self.before)

    def _set(self, wanted: dict[str, Any]) -> None:
        for name, value in wanted.items():
            read, put, _ = _SWITCHES[name]
            if read() != value:
                put(value)


_PROCESS = _Process()


@contextlib.contextmanager
def usual_switches() -> Iterator[None]:
    """Inside the block torch computes as in a new process, whatever the program has switched on around it.

    So neither default device and dtype, nor oneDNN or kernels of attention switched off, nor fewer digits of products,
    nor flushed denormal numbers change a bit. The program's choices hold again once no thread is inside.
    """
    flushed, elsewhere = _TINY / 2 == 0, torch.empty(0).device.type != "cpu"  # in this thread
    _PROCESS.enter()
    try:
        if flushed:
            torch.set_flush_denormal(False)
        with torch.device("cpu") if elsewhere else contextlib.nullcontext():
            yield
    finally:
        if flushed:
            torch.set_flush_denormal(True)
        _PROCESS.leave()


def plain_attention() -> contextlib.AbstractContextManager[None]:
    """Inside the block attention is products and a softmax, not one kernel.

    Those kernels have no rule for `torch.func.vmap`, which then computes one after another and complains; the gradients
    of CUDA's add up in any order.
    """
    return sdpa_kernel(SDPBackend.MATH)


@contextlib.contextmanager
def cuda_kernels(fast: bool = False) -> Iterator[None]:
    """Inside the block CUDA computes with repeatable kernels, in float32's own digits or, `fast`, in those of TF32."""
    products = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=fast)
    with cudnn, plain_attention():
        torch.set_float32_matmul_precision("high" if fast else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(products)


def foreign(*parts: object) -> bool:
    """Whether the code of any of these layers (or of a task) is neither torch's nor flatlab's."""
    return any(type(part).__module__.partition(".")[0] not in ("torch", "flatlab") for part in parts)


def recurrent(model: nn.Module) -> bool:
    """Whether a network holds an RNN, LSTM or GRU, be it scripted."""
    return any(
        isinstance(layer, nn.RNNBase) or getattr(layer, "original_name", None) in ("RNN", "LSTM", "GRU")
        for layer in model.modules()
    )


@contextlib.contextmanager
def plain_recurrence(model: nn.Module) -> Iterator[None]:
    """Inside the block a network with recurrent layers is computed by torch's own kernels on CUDA, not by cuDNN's.

    Those want all weights in one block of memory, which `torch.func.vmap` has not; they have no second derivative, and
    in evaluation mode not even a first one.
    """
    cudnn = torch.backends.cudnn
    if not (cudnn.enabled and recurrent(model)):
        yield
        return
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = True


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Inside the block (or a function decorated by `@frame()`) autocast is off and gradients are recorded as usual.

    So what is computed has the same numbers inside `torch.autocast` and `torch.no_grad` as outside, in this thread; for
    what else a program may have switched on, see `usual_switches`; numpy tells of errors in its usual way.

    Raises:
        SettingError: under `torch.inference_mode`, whose tensors have no derivatives.
    """
    if torch.is_inference_mode_enabled():
        raise SettingError(
            "inference_mode",
            allowed="what is computed under torch.inference_mode can never be differentiated; leave that block to"
            " measure or train (torch.no_grad does not disturb)",
        )
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                # Without its cache, which a network's own autocast inside would inherit: it keeps cast weights, also
                # where they were overwritten in place.
                stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(usual_switches())
        if torch.cuda.is_available():
            stack.enter_context(cuda_kernels())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield
