"""How to compute on a device: the rule that gives threads, memory format and convolution.

Each of them decides how sums round, so none may depend on a timing, on what else the machine does, or on how many
processes share it. The rule knows the network, the device, and how many clients a round has:

    memory format   on a CPU channels last for networks with convolutions, unless their forward cannot take it
                    (`x.view` of a map): torch's convolutions are up to a third faster so. Else contiguous.
    threads         one a client, with clients side by side on the cores. A round with a single client, or clients as
                    one batch on a CPU, is shared among the cores (8 at most) where a step is worth it; smaller steps
                    wait for each other longer than they compute, above all on busy cores.
    convolution     grouped, where each client has weights of its own; on CUDA cuDNN's repeatable kernels.

How many clients stand side by side changes no sum, and is as many as torch has threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..declare import SettingError
from ..models import BatchStatNorm, macs
from .clients import Cohort, Engine
from .convolution import Convolution
from .sequential import laid_out
from .threads import cores

log = logging.getLogger("flatlab")

SHARED = 2**28  # multiply-accumulates of a step's forward pass, from which cores share it: about 30 ms with one
MOST_THREADS = 8


class Pace(NamedTuple):
    """How clients are computed; see `Cohort`. All but `workers` decides how sums round."""

    threads: int = 1
    workers: int = 1
    channels_last: bool = False
    convolution: Convolution = "grouped"


def pace(cohort: Cohort, batch_size: int, clients: int) -> Pace:
    """The rule above.

    Args:
        cohort: says on which data, device and engine clients are computed.
        batch_size: samples in a local batch.
        clients: in a round.
    """
    data, model = cohort.data, cohort.model
    if data.images.device.type != "cpu":
        return Pace()
    largest = min(batch_size, sum(len(index) for index in data.train))
    step = macs(model, data.shape) * largest * (clients if cohort.batched else 1)
    shared = (cohort.batched or clients == 1) and step >= SHARED
    threads = min(os.cpu_count() or 1, MOST_THREADS) if shared else 1
    if cohort.batched:
        return Pace(threads)
    layout = memory_format(model, torch.zeros(1, *data.shape))
    return Pace(threads, cores(), layout == torch.channels_last)


def recorded_engine(began: Mapping[str, Any], device: torch.device) -> Engine:
    """The engine that a run began with, if this is the kind of device that it began on; else "auto"."""
    engine: Engine = began.get("engine", "auto")
    kind = began.get("device_type", "cuda" if engine == "graph" else "cpu")
    return engine if kind == device.type else "auto"


def recorded_pace(began: Mapping[str, Any], usual: Pace, channels_last: bool | None) -> Pace:
    """The pace that a run began with, which it keeps: another would round differently.

    Args:
        began: the run's `versions.json`, empty for one that has not begun.
        usual: what the rule gives; only how many clients stand side by side is taken from it for a run that has begun.
        channels_last: the memory format asked for, if one was.

    Raises:
        SettingError: if the run began in another memory format than is asked for.
    """
    if not began:
        return usual if channels_last is None else usual._replace(channels_last=channels_last)
    format_then = began.get("channels_last", usual.channels_last)
    if channels_last not in (None, format_then):
        told = f"this run began with {format_then}, and would round differently; use another store for another one"
        raise SettingError("channels_last", channels_last, told)
    threads, convolution = began.get("threads") or usual.threads, began.get("convolution", "grouped")
    return usual._replace(threads=threads, channels_last=format_then, convolution=convolution)


def tell_earlier(name: str, began: Mapping[str, Any], cohort: Cohort) -> None:
    """Say if a run's first rounds were computed with batch statistics whose sums are not made any more.

    Args:
        name: the run's.
        began: its `versions.json`; those of versions that did so do not say on which kind of device.
        cohort: how it goes on.
    """
    inexact = cohort.channels_last and any(isinstance(layer, BatchStatNorm) for layer in cohort.model.modules())
    if began and "device_type" not in began and inexact:
        log.warning("%s: began with an earlier version, whose batch statistics were inexact; they are exact now", name)


@torch.no_grad()
def memory_format(
    model: nn.Module, images: Tensor, outputs: Callable[[dict[str, Tensor], Tensor], Tensor] | None = None
) -> torch.memory_format:
    """The memory format for `model` on images [n, C, H, W] such as these, by the rule above.

    Args:
        model: the network, which is tried on two images of noise.
        images: of this shape and on this device.
        outputs: its outputs at parameters and images, where it is not simply called.
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    fits = images.device.type == "cpu" and images.dim() == 4 and images.is_floating_point()
    if not fits or not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        return torch.contiguous_format
    random = torch.Generator().manual_seed(0)
    probe = torch.randn(2, *images.shape[1:], generator=random).to(next(iter(weights.values())).dtype)
    outputs = outputs or (lambda params, images: torch.func.functional_call(model, params, (images,)))
    plain, laid = outputs(weights, probe), {name: laid_out(v, torch.channels_last) for name, v in weights.items()}
    try:
        found = outputs(laid, laid_out(probe, torch.channels_last))
    except RuntimeError:  # "view size is not compatible with input tensor's size and stride"
        return torch.contiguous_format
    same = torch.allclose(found, plain, rtol=1e-2, atol=1e-3, equal_nan=True)
    return torch.channels_last if same else torch.contiguous_format
