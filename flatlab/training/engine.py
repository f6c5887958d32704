"""Where and how to compute: the device, and the threads, memory format or convolution fastest for a network there."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from ..algorithms import FedAvg
from ..declare import SettingError
from .cohort import Cohort
from .convolution import Convolution
from .experiment import Experiment
from .stack import Recordings
from .store import Store

STEPS, REPEATS = 3, 3  # training steps timed for each candidate, and how often; the first also warms up


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


class Pace(NamedTuple):
    """How clients are computed; see `Cohort`."""

    threads: int | None = None
    workers: int = 1
    channels_last: bool = False
    convolution: Convolution = "grouped"


def fastest_pace(cohort: Cohort, batch_size: int, clients: int) -> Pace:
    """The fastest of the paces that `cohort` can take, by timing a few training steps of each.

    For the loop on a CPU: clients side by side, each with a core, or one with all of torch's threads or a single one,
    in either memory format. For a batch of clients on a GPU: either kind of convolution. A later candidate must win by
    a tenth: near a tie the choice would depend on chance, and rounding with it.

    Args:
        cohort: says how clients are computed otherwise.
        batch_size: samples in a local batch.
        clients: in a round.
    """
    data, model = cohort.data, cohort.model
    if cohort.batched:
        candidates = [Pace(convolution=way) for way in get_args(Convolution)]
    else:
        cores = torch.get_num_threads()
        shares = dict.fromkeys([*([(1, cores)] if clients > 1 else []), (cores, 1), (1, 1)])  # likely order
        candidates = [Pace(*share, layout) for layout in (False, True) for share in shares]
    size = min(batch_size, max(len(index) for index in data.train))
    pool = torch.cat(data.train)
    index = pool[torch.arange(size * STEPS, device=pool.device) % len(pool)]
    algorithm = FedAvg(batch_size=size)
    params = {name: value.detach() for name, value in model.named_parameters()}
    tried = {pace: dataclasses.replace(cohort, **pace._asdict(), recordings=Recordings()) for pace in candidates}
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(REPEATS):  # in turns, so that a busy moment is no candidate's alone
        for pace, one in tried.items():
            at_once = clients if cohort.batched else pace.workers
            streams = [("timing", client) for client in range(at_once)]
            start = time.perf_counter()
            found = list(one.train(algorithm, params, [index] * at_once, streams, seed=0, lr=0.01))
            _ = found[0].loss.tolist()  # waits for the device
            turns = math.ceil(clients / at_once)
            best[pace] = min(best[pace], turns * (time.perf_counter() - start))
    chosen = candidates[0]
    for pace in candidates[1:]:
        if best[pace] < 0.9 * best[chosen]:
            chosen = pace
    return chosen


def remembered_pace(experiment: Experiment, cohort: Cohort) -> Pace:
    """`fastest_pace`, measured once on a machine and then remembered, so that equal runs round equally."""
    device = cohort.data.images.device
    if cohort.batched and device.type != "cuda":
        return Pace()
    size = experiment.algorithm.batch_size
    clients = experiment.cohort_size(len(cohort.data.train))
    where = torch.cuda.get_device_name(device) if cohort.batched else f"{torch.get_num_threads()} threads"
    key = (
        f"{experiment.model.to_json()} {cohort.data.shape} {size} x {clients} {cohort.precision}"
        f" torch {torch.__version__} {where}"
    )
    cache = Store(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flatlab")
    known: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(ValueError, OSError):  # a damaged cache is an empty one
        known = cache.read_json("paces.json") or {}
    if key not in known:
        known[key] = fastest_pace(cohort, size, clients)._asdict()
        with contextlib.suppress(OSError):  # a read-only home costs a measurement, nothing else
            cache.write_json("paces.json", known)
    return Pace(**known[key])


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
