"""What a program has switched on around a computation, and what must not change its numbers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from ..declare import SettingError


def refuse_inference() -> None:
    """Raise under `torch.inference_mode`.

    Raises:
        SettingError: always, there.
    """
    if torch.is_inference_mode_enabled():
        raise SettingError(
            "inference_mode",
            allowed="what is computed under torch.inference_mode can never be differentiated; leave that block to"
            " measure or train (torch.no_grad does not disturb)",
        )


class _Digits:
    """With how many digits float32 is computed on a CPU, which torch knows for the whole process, not for a thread."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.before: dict[str, str] = {}


_DIGITS = _Digits()
_KINDS = ("matmul", "conv", "rnn")


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Inside the block float32 products on a CPU have float32's digits, though the program asked torch for fewer.

    `torch.set_float32_matmul_precision("medium")`, or a `fp32_precision` of `torch.backends`, rounds their inputs to
    bfloat16 where that is faster. The program's choice holds again once no thread is inside.
    """
    with _DIGITS.lock:
        if not _DIGITS.inside:
            _DIGITS.before = {kind: getattr(torch.backends.mkldnn, kind).fp32_precision for kind in _KINDS}
            _set_digits(dict.fromkeys(_KINDS, "ieee"))
        _DIGITS.inside += 1
    try:
        yield
    finally:
        with _DIGITS.lock:
            _DIGITS.inside -= 1
            if not _DIGITS.inside:
                _set_digits(_DIGITS.before)


def _set_digits(chosen: dict[str, str]) -> None:
    for kind, digits in chosen.items():
        getattr(torch.backends.mkldnn, kind).fp32_precision = digits


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Inside the block (or a function decorated by `@frame()`) autocast is off and gradients are recorded as usual.

    So a measurement gives the same numbers inside `torch.autocast` and `torch.no_grad` as outside, in this thread; and
    with the digits of float32, see `exact_products`.

    Raises:
        SettingError: under `torch.inference_mode`, whose tensors have no derivatives.
    """
    refuse_inference()
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                # Without its cache, which a network's own autocast inside would inherit: it keeps cast weights, also
                # where they were overwritten in place.
                stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(exact_products())
        yield
