"""Many runs through any `concurrent.futures` executor: processes of this machine, or Dask's on a cluster.

    seeds = [experiment.replace(seed=seed) for seed in range(5)]
    runs = sweep(seeds)                                    # processes here, one a GPU, else one a core
    runs = sweep(seeds, executor=dask_client.get_executor())

A run is its directory, so a worker that dies loses the round in flight: whoever takes the run up goes on from its last
state. Workers and caller need the same `store` and `root`, on a shared file system if they are different machines. In a
script, call it under `if __name__ == "__main__":`, since new processes import the script.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..arguments import Count, checked
from ..data import FederatedDataset
from ..declare import SettingError
from ..files import user_path
from .engine import pick_device
from .experiment import Experiment
from .network import met
from .progress import counter
from .run import Run
from .standing import Standing
from .together import shape, train_together

RETRIES = 3  # times that a pool whose worker died is set up again
POLL_SECONDS = 0.5
BUSY_SECONDS = 60.0  # a worker that was given up may still be in its last round


class SweepFailed(RuntimeError):
    """Some runs of a sweep failed; the others are done and on disk.

    Attributes:
        errors: the exception of each failed run, by the run's id.
    """

    def __init__(self, errors: dict[str, BaseException], total: int) -> None:
        lines = [f"{name}: {type(error).__name__}: {error}" for name, error in errors.items()]
        super().__init__("\n".join([f"{len(errors)} of {total} runs failed; the others are done:", *lines]))
        self.errors = errors


@checked
def sweep(
    experiments: Sequence[Experiment],
    executor: Executor | None = None,
    *,
    store: str | Path = "runs",
    root: str | Path = "data",
    workers: Count | None = None,
    together: bool | None = None,
    progress: bool | Callable[[int, int], object] = True,
    **options: Any,
) -> list[Run]:
    """Train experiments side by side; those finished before are loaded.

    Args:
        experiments: what to train; equal ones are trained once.
        executor: where; None starts processes on this machine and ends them.
        store: folder that holds the directories of runs, seen by all workers.
        root: folder of the data sets, seen by all workers.
        workers: processes to start without an executor, by default one for each GPU, else one for each core; with one,
            how many workers it has, if runs are to be trained together.
        together: train runs of one shape (seeds, learning rates, rho, partitions of the same images) as one batch, with
            the same results; None: where a GPU does the work, on which they then cost little more than one.
        progress: show one view of all runs; or a function called with the rounds done and their number.
        options: of `Run`: device, engine, chunk, channels_last, precision, checkpoint_every.

    Returns:
        The finished runs, in the order of `experiments`.

    Raises:
        SettingError: before any work, if an experiment cannot be run by a worker.
        SweepFailed: after all others are done, naming the runs that failed, and why.
        KeyboardInterrupt: after the rounds in flight; the same call goes on.
    """
    data = _data(experiments, root)
    wanted = [met(experiment, one) for experiment, one in zip(experiments, data, strict=True)]
    todo = {experiment.id: experiment for experiment in wanted}
    store, root = user_path(store, "store").resolve(), user_path(root, "root").resolve()
    device = options.get("device", "auto")
    graphics = _graphics(device)
    pool = Pool(executor, workers or graphics or os.cpu_count() or 1, graphics)
    as_one = pick_device(device).type == "cuda" if together is None else together
    watch = counter(Standing(store, list(todo.values())), progress)
    errors = _work(todo, pool, as_one, (str(store), str(root), options), watch)
    if errors:
        raise SweepFailed(errors, len(todo))
    return [
        Run(experiment, one, store=store, root=root, **options) for experiment, one in zip(wanted, data, strict=True)
    ]


def _data(experiments: Sequence[Experiment], root: str | Path) -> list[FederatedDataset]:
    """The data of each experiment, each set loaded (and, if need be, downloaded) once, before any worker starts."""
    if not experiments:
        raise SettingError("experiments = []: needs at least one")
    known: dict[str, FederatedDataset] = {}
    found = []
    for experiment in experiments:
        if experiment.model.name == "custom":
            raise SettingError(
                "model = custom: workers cannot make a network that only this process has; name a function that makes"
                " it, 'module:function' (see models.network), or use `train`"
            )
        key = experiment.data.to_json()
        if key not in known:
            known[key] = experiment.data.load(root)
        found.append(known[key])
    return found


class Pool(NamedTuple):
    """Who works."""

    executor: Executor | None  # the user's
    workers: int  # processes to start without one
    graphics: int  # GPUs that they share out


def _work(
    todo: dict[str, Experiment],
    pool: Pool,
    together: bool,
    fixed: tuple[str, str, dict[str, Any]],
    watch: Callable[[], object],
) -> dict[str, BaseException]:
    """Have all experiments trained; the errors of those that failed, by run."""
    errors: dict[str, BaseException] = {}
    for attempt in range(RETRIES + 1):
        jobs = _jobs(todo, pool.workers) if together else [[name] for name in todo]
        with _started(pool, len(jobs)) as (executor, threads):
            waiting = {
                executor.submit(_train, [todo[name].to_json() for name in job], threads, *fixed): job for job in jobs
            }
            try:
                left = set(waiting)
                while left:
                    _, left = concurrent.futures.wait(left, timeout=POLL_SECONDS)
                    watch()
            except KeyboardInterrupt:
                for future in waiting:
                    future.cancel()
                raise KeyboardInterrupt("sweep stopped; the same call goes on from the last states") from None
        failed: dict[str, BaseException] = {}
        for future, job in waiting.items():
            whole = future.exception()
            failed |= future.result() if whole is None else dict.fromkeys(job, whole)
        # One dead worker ends a pool of processes, and with it runs that are not to blame: they are taken up again.
        # An executor of the user's is his to mend (Dask does so by itself).
        broken = pool.executor is None and attempt < RETRIES
        todo = {name: todo[name] for name, error in failed.items() if broken and isinstance(error, BrokenProcessPool)}
        errors |= {name: error for name, error in failed.items() if name not in todo}
        if not todo:
            break
    return errors


def _jobs(todo: dict[str, Experiment], workers: int) -> list[list[str]]:
    """Runs of one shape in one job, but no more than a worker's share of all."""
    shapes: dict[str, list[str]] = {}
    for name, experiment in todo.items():
        shapes.setdefault(shape(experiment), []).append(name)
    share = math.ceil(len(todo) / workers)
    return [group[start : start + share] for group in shapes.values() for start in range(0, len(group), share)]


def _graphics(device: str | torch.device) -> int:
    """GPUs that a sweep on this machine shares out."""
    return torch.cuda.device_count() if str(device) in ("auto", "cuda") else 0


@contextlib.contextmanager
def _started(pool: Pool, jobs: int) -> Iterator[tuple[Executor, int | None]]:
    """The executor to use, and how many torch threads a worker gets (None: as it likes)."""
    if pool.executor is not None:
        yield pool.executor, None
        return
    count = min(pool.workers, jobs)
    spawn = multiprocessing.get_context("spawn")  # a fork of a process whose torch has threads can hang
    free = spawn.Queue()
    for number in range(count):
        free.put(number % pool.graphics if pool.graphics else None)
    with ProcessPoolExecutor(count, spawn, _claim, (free,)) as executor:
        yield executor, max(1, (os.cpu_count() or 1) // count)


def _claim(free: Any) -> None:
    """Runs first in a worker: takes one GPU for itself, if there are any."""
    number = free.get()
    if number is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)


def _train(
    experiments: list[str], threads: int | None, store: str, root: str, options: dict[str, Any]
) -> dict[str, BaseException]:
    """Runs in a worker: trains experiments to their ends, from wherever they are; the errors of some of several."""
    if threads is not None:
        torch.set_num_threads(threads)
    data: dict[str, FederatedDataset] = {}
    runs = []
    for text in experiments:
        experiment = Experiment.from_json(text)
        key = experiment.data.to_json()
        if key not in data:
            data[key] = experiment.data.load(root).to(pick_device(options.get("device", "auto")))
            first = next(iter(data.values()))  # partitions of the same images need them once
            data[key] = dataclasses.replace(data[key], images=first.images, labels=first.labels)
        runs.append(Run(experiment, data[key], store=store, root=root, **options))
    if len(runs) > 1:
        return train_together(runs, wait=BUSY_SECONDS)
    runs[0].to(wait=BUSY_SECONDS)
    return {}
