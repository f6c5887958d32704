"""Where and how to compute: the device, and on a CPU the threads and memory format that are fastest for a network."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..algorithms import FedAvg
from ..data import FederatedDataset
from ..declare import SettingError
from ..models import Model
from .cohort import Cohort
from .experiment import Experiment
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
        raise SettingError(f"device = {name!r}: must be auto, cpu, cuda, cuda:N or mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise SettingError(f"device = {name!r}: not on this machine; use device='auto' or 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError(f"device = {name!r}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


class Pace(NamedTuple):
    """How the loop runs on a CPU: torch threads (1 is faster for small networks) and memory format."""

    threads: int
    channels_last: bool


def fastest_pace(model: Model, data: FederatedDataset, batch_size: int) -> Pace:
    """The fastest of one thread or torch's number of them, in either memory format, by timing a few training steps.

    A later candidate must win by a tenth: near a tie the choice would depend on chance, and rounding with it.
    """
    size = min(batch_size, max(len(index) for index in data.train))
    index = torch.cat(data.train)[: size * STEPS]
    algorithm = FedAvg(batch_size=size)
    params = {name: value.detach() for name, value in model.named_parameters()}

    def seconds(pace: Pace) -> float:
        cohort = Cohort(model, data, "loop", channels_last=pace.channels_last, threads=pace.threads)
        best = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            next(cohort.train(algorithm, params, [index], [("timing",)], seed=0, lr=0.01))
            best = min(best, time.perf_counter() - start)
        return best

    counts = dict.fromkeys((1, torch.get_num_threads()))
    candidates = [Pace(threads, channels_last) for channels_last in (False, True) for threads in counts]
    chosen, record = candidates[0], seconds(candidates[0])
    for candidate in candidates[1:]:
        if (time_taken := seconds(candidate)) < 0.9 * record:
            chosen, record = candidate, time_taken
    return chosen


def remembered_pace(experiment: Experiment, model: Model, data: FederatedDataset) -> Pace:
    """`fastest_pace`, measured once on a machine and then remembered, so that equal runs round equally."""
    size = experiment.algorithm.batch_size
    key = (
        f"{experiment.model.to_json()} {data.shape} {size} torch {torch.__version__} {torch.get_num_threads()} threads"
    )
    cache = Store(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flatlab")
    known: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(ValueError, OSError):  # a damaged cache is an empty one
        known = cache.read_json("paces.json") or {}
    if key not in known:
        known[key] = fastest_pace(model, data, size)._asdict()
        with contextlib.suppress(OSError):  # a read-only home costs a measurement, nothing else
            cache.write_json("paces.json", known)
    return Pace(**known[key])
