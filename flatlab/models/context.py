"""What a program has switched on around a computation, and what must not change its numbers."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Inside the block (or a function decorated by `@frame()`) autocast is off and gradients are recorded as usual.

    So a measurement gives the same numbers inside `torch.autocast` and `torch.no_grad` as outside. It holds in this
    thread.

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
        yield
