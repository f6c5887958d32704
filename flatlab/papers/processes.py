"""A plan done by several processes of this machine: runs that need one another in one of them, others side by side.

    do(work, plan([table], archive), workers=2)

A CPU with more cores than a round has clients is filled so, and two cores are used better: clients of one process wait
for each other at a round's end. A GPU is filled so under NVIDIA's MPS; without it processes take turns there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from ..declare import SettingError
from ..training.clients import Engine
from ..training.device import Precision
from ..training.pool import Pool, Workers, refuse_respawn, refuse_unguarded
from ..training.progress import watched
from .archive import Archive
from .planning import Plan
from .reproduce import Workshop

Place = tuple[Path, Path, Path, str, Precision | None, Engine]  # archive, store, root, device, precision, engine


def do(work: Workshop, todo: Plan, workers: int = 1) -> None:
    """`work.do(todo)` in so many processes, with the same results; each job is kept when it ends.

    Args:
        work: where.
        todo: what. A measurement of several runs together is made at the end, by this process.
        workers: processes, of which each holds its data, on a GPU there, and takes its share of the cores.

    Raises:
        SettingError: if there are to be several on Apple's mps, or in a script without a main guard; or as of
            `Workshop.do`.
        ChildProcessError: if a process is ended from outside; the same call goes on.
        KeyboardInterrupt: at once; the same call goes on from the last states.
    """
    if workers > 1 and work.device.type not in ("cpu", "cuda"):
        raise SettingError("workers", workers, f"must be 1 on {work.device.type}")
    todo = work.possible(todo)
    together, single = (
        tuple(step for step in todo.measurings if (len(step.experiments) > 1) is several) for several in (True, False)
    )
    alone = replace(todo, measurings=single)
    jobs = sorted(map(alone.of, alone.jobs()), key=lambda job: -job.total().seconds)
    if min(workers, len(jobs)) < 2:
        work.do(todo)
        return
    refuse_respawn("workers")
    refuse_unguarded("workers")
    for name in {step.experiment.data.name for step in todo.trainings}:
        work.source(name)  # one download, not one a process
    place = (
        work.archive.folder.absolute(),
        work.store.absolute(),
        work.root.absolute(),
        str(work.device),
        work.precision,
        work.engine,
    )
    with (
        Pool(None, workers, 0).started(len(jobs)) as (executor, threads, started),
        watched(None, len(jobs), "jobs") as proceed,
    ):
        futures = [executor.submit(_job, place, threads or 1, replace(job, items=())) for job in jobs]
        for count, future in enumerate(as_completed(futures), 1):
            for line in _result(future, started):
                work.report(line)
            proceed(count)
    if together:
        work.do(replace(todo, trainings=(), measurings=together))


def _result(future: Future[list[str]], started: Workers) -> Sequence[str]:
    try:
        return future.result()
    except BrokenProcessPool:
        started.check("workers")
        told = "a process that trained runs was ended, perhaps for want of memory; the same with less workers goes on"
        raise ChildProcessError(told) from None


def _job(place: Place, threads: int, todo: Plan) -> list[str]:
    """Runs in a new process; what there is to tell."""
    torch.set_num_threads(threads)
    work, said = _workshop(*place)
    said.clear()
    work.do(todo)
    return said


@lru_cache(maxsize=1)  # keeps the data for the next job
def _workshop(
    archive: Path, store: Path, root: Path, device: str, precision: Precision | None, engine: Engine
) -> tuple[Workshop, list[str]]:
    said: list[str] = []
    return Workshop(Archive(archive), store, root, device, said.append, False, precision, engine), said
