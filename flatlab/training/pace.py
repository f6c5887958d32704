"""How to compute on a device: the rule that gives engine, threads and memory format.

Each of them decides how sums round, so none may depend on a timing, on what else the machine does, or on how many
processes share it. The rule knows the network, the device, and how many clients a round has:

    engine          of clients: where none is asked for, `Cohort.way`: the loop on a CPU and for what cannot be one
                    batch (recurrent layers; code of one's own), else on CUDA the graph.
    memory format   on a CPU channels last for networks with convolutions, unless their forward cannot take it
                    (`x.view` of a map): torch's convolutions are up to a third faster so. Else contiguous.
    threads         one a client, with clients side by side on the cores. A round with a single client, or clients as
                    one batch on a CPU, is shared among the cores (8 at most) where a step is worth it; smaller steps
                    wait for each other longer than they compute, above all on busy cores.
    convolution     grouped, where each client has weights of its own (what `torch.func.vmap` makes of them); on CUDA
                    cuDNN's repeatable kernels.

How many clients stand side by side changes no sum, and is as many as torch has threads.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..declare import SettingError
from ..models import BatchStatNorm, macs
from .clients import Cohort, Engine
from .device import Precision
from .experiment import Experiment
from .sequential import laid_out
from .threads import cores

log = logging.getLogger("flatlab")

SHARED = 2**28  # multiply-accumulates of a step's forward pass, from which cores share it: about 30 ms with one
MOST_THREADS = 8
T = TypeVar("T")


def with_pace(
    cohort: Cohort,
    experiment: Experiment,
    recorded: Mapping[str, Any],
    channels_last: bool | None = None,
    precision: Precision | None = None,
) -> Cohort:
    """The cohort, computing by the rule above, or as its run began: it would round differently otherwise.

    Args:
        cohort: says on which data, device and engine clients are computed.
        experiment: says how many clients a round has, and the size of their batches.
        recorded: the run's `versions.json`, empty for one that has not begun.
        channels_last: the memory format asked for, if one was.
        precision: likewise.

    Raises:
        SettingError: if the run began in another memory format or precision than is asked for, or clients as one batch
            are to have their channels last, or cannot be one.
    """
    if recorded and cohort.engine == "auto":
        cohort = dataclasses.replace(cohort, engine=_recorded_engine(recorded, cohort.data.images.device))
    tried = cohort.engine != "loop" and (cohort.batched or cohort.data.images.device.type != "cpu")
    refused = cohort.refusal if tried else None
    if refused and cohort.engine in ("batch", "graph"):
        said = f"clients of this network and task cannot be one batch; torch says: {refused}"
        raise SettingError("engine", cohort.engine, said)
    if refused and cohort.engine == "auto":
        log.warning("clients are computed one by one, which takes longer; as one batch torch says: %s", refused)
    if cohort.batched and channels_last:
        said = f"of engine 'loop' alone; clients as one batch (engine '{cohort.way}') are contiguous: leave it out"
        raise SettingError("channels_last", channels_last, said)
    threads, workers, usual = _rule(cohort, experiment)
    return dataclasses.replace(
        cohort,
        threads=recorded.get("threads") or threads,
        workers=workers,
        channels_last=_chosen("channels_last", recorded, usual, None if cohort.batched else channels_last),
        precision=_chosen("precision", recorded, "float32", precision),
    )


def _rule(cohort: Cohort, experiment: Experiment) -> tuple[int, int, bool]:
    """Threads, workers (which change no sum), and whether channels are last."""
    data, model, algorithm = cohort.data, cohort.model, experiment.algorithm
    if data.images.device.type != "cpu":
        return 1, 1, False
    clients = experiment.cohort_size(1 if algorithm.pooled else data.clients)
    largest = min(algorithm.batch_size, sum(len(index) for index in data.train))
    step = macs(model, data.shape) * largest * (clients if cohort.batched else 1)
    shared = (cohort.batched or clients == 1) and step >= SHARED
    threads = min(os.cpu_count() or 1, MOST_THREADS) if shared else 1
    if cohort.batched:
        return threads, 1, False
    return threads, cores(), memory_format(model, torch.zeros(1, *data.shape)) == torch.channels_last


def _recorded_engine(recorded: Mapping[str, Any], device: torch.device) -> Engine:
    """The engine that a run began with, if this is the kind of device that it began on; else "auto"."""
    engine: Engine = recorded.get("engine", "auto")
    kind = recorded.get("device_type", "cuda" if engine == "graph" else "cpu")
    return engine if kind == device.type else "auto"


def _chosen(name: str, recorded: Mapping[str, Any], usual: T, asked: T | None) -> T:
    """What a run began with; for one that has not begun what is asked for, else what is usual."""
    if not recorded:
        return usual if asked is None else asked
    began: T = recorded.get(name, usual)
    if asked not in (None, began):
        said = f"this run began with {began}, and would round differently; use another store for another one"
        raise SettingError(name, asked, said)
    return began


def tell_earlier(name: str, recorded: Mapping[str, Any], cohort: Cohort) -> None:
    """Say if a run's first rounds were computed in another way than those to come, which round differently.

    Args:
        name: the run's.
        recorded: its `versions.json`; those of versions with inexact sums do not say on which kind of device.
        cohort: how it goes on.
    """
    kind = cohort.data.images.device.type
    began = recorded.get("engine", cohort.way), recorded.get("device_type", kind)
    if began != (cohort.way, kind):
        said = "%s: began with engine '%s' on %s and goes on with '%s' on %s, which rounds differently"
        log.warning(said, name, *began, cohort.way, kind)
    inexact = cohort.channels_last and any(isinstance(layer, BatchStatNorm) for layer in cohort.model.modules())
    if recorded and "device_type" not in recorded and inexact:
        log.warning("%s: began with an earlier version, whose batch statistics were inexact; they are exact now", name)
    if recorded.get("engine") == "graph" == cohort.way and "graphs" not in recorded:
        log.warning("%s: began with one graph for all clients; now each has its own, which rounds differently", name)
    if recorded.get("convolution") == "matrix":
        log.warning("%s: began with convolutions as matrix products; they are computed as torch does now", name)


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
        channels_last = outputs(laid, laid_out(probe, torch.channels_last))
    except RuntimeError:  # "view size is not compatible with input tensor's size and stride"
        return torch.contiguous_format
    same = torch.allclose(channels_last, plain, rtol=1e-2, atol=1e-3, equal_nan=True)
    return torch.channels_last if same else torch.contiguous_format
