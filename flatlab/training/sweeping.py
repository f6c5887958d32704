"""Many runs through any `concurrent.futures` executor: processes of this machine, or Dask's on a cluster.

    if __name__ == "__main__":                             # in a script: new processes import it
        seeds = [experiment.replace(seed=seed) for seed in range(5)]
        runs = sweep(seeds)                                # processes here, one a GPU, else one a core
        runs = sweep(seeds, executor=dask_client.get_executor())

A run is its directory, so a worker that dies loses the round in flight: whoever takes the run up goes on from its last
state. Workers and caller need the same `store` and `root`, on a shared file system if they are different machines.
"""

from __future__ import annotations

import concurrent.futures
import math
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from ..arguments import Count, checked, refuse_unknown
from ..data import FederatedDataset
from ..declare import SettingError
from ..files import user_folder
from .checkpoints import BadCheckpoint, RunBusy, Store
from .device import pick_device
from .experiment import Experiment
from .importing import Place, import_own, own_classes
from .interrupt import soft_interrupt
from .lockstep import shape, train_together
from .network import identified
from .pool import Pool, cores_allowed, refuse_respawn, refuse_unguarded
from .progress import counter
from .run import Run
from .start import reuse_rounds
from .status import Standing

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
        workers: processes to start without an executor, by default one for each GPU, else one for each core that this
            process may use; with one, how many workers it has, if runs are to be trained together.
        together: train runs of one shape (seeds, learning rates, rho, partitions of the same images) side by side, with
            the same results; None: where a GPU does the work, which a single run does not fill.
        progress: show one view of all runs; or a function called with the rounds done and their number.
        options: of `Run`: device, engine, chunk, channels_last, precision, checkpoint_every.

    Returns:
        The finished runs, in the order of `experiments`.

    Raises:
        SettingError: before any work, if an experiment cannot be run by a worker, or the script has no main guard.
        SweepFailed: after all others are done, naming the runs that failed, and why.
        KeyboardInterrupt: after the rounds in flight; the same call goes on. A second interrupt does not wait for them.

    >>> experiments = [run.experiment.replace(seed=seed) for seed in range(5)]
    >>> runs = fl.sweep(experiments, workers=2)  # doctest: +SKIP
    """
    refuse_unknown(options, sweep, Run)
    refuse_respawn()
    if executor is None:
        refuse_unguarded()
    own = own_classes(experiments, executor)
    data = _data(experiments, root)
    wanted = [identified(experiment, held) for experiment, held in zip(experiments, data, strict=True)]
    for experiment, held in zip(wanted, data, strict=True):
        experiment.check(held)
    todo = {experiment.id: experiment for experiment in wanted}
    store, root = user_folder(store, "store").resolve(), user_folder(root, "root").resolve()
    device = options.get("device", "auto")
    graphics = torch.cuda.device_count() if str(device) in ("auto", "cuda") else 0  # GPUs that are shared out
    pool = Pool(executor, workers or graphics or cores_allowed(), graphics)
    as_one = pick_device(device).type == "cuda" if together is None else together
    watch = counter(Standing(store, list(todo.values())), progress)
    if errors := _work(todo, pool, as_one, (own, str(store), str(root), options), watch):
        raise SweepFailed(errors, len(todo)) from next(iter(errors.values()))  # its traceback tells where
    return [
        Run(experiment, held, store=store, root=root, **options) for experiment, held in zip(wanted, data, strict=True)
    ]


def _data(experiments: Sequence[Experiment], root: str | Path) -> list[FederatedDataset]:
    """The data of each experiment, each set loaded (and, if need be, downloaded) once, before any worker starts."""
    if not experiments:
        raise SettingError("experiments", [], "needs at least one")
    if any(experiment.model.name == "custom" for experiment in experiments):
        raise SettingError(
            "model",
            "custom",
            "workers cannot make a network that only this process has; name a function that makes it,"
            " 'module:function' (see models.network), or use `train`",
        )
    keys = [experiment.data.to_json() for experiment in experiments]
    specs = {key: experiment.data for key, experiment in zip(keys, experiments, strict=True)}
    loaded = {key: spec.load(root) for key, spec in specs.items()}
    return [loaded[key] for key in keys]


def _work(
    todo: dict[str, Experiment],
    pool: Pool,
    together: bool,
    fixed: tuple[list[Place], str, str, dict[str, Any]],
    watch: Callable[[], object],
) -> dict[str, BaseException]:
    """Have all experiments trained; the errors of those that failed, by run."""
    errors: dict[str, BaseException] = {}
    store = Path(fixed[1])
    for attempt in range(RETRIES + 1):
        jobs = _jobs(todo, pool.workers) if together else [[name] for name in todo]
        brake = store / f".stop-{uuid.uuid4().hex}"
        try:
            with pool.started(len(jobs)) as (executor, threads, workers):
                calls = [([todo[name].to_json() for name in job], threads, *fixed) for job in jobs]
                futures = _hand_out(executor, calls, brake, [store / name for name in todo], watch)
        finally:
            if pool.executor is None:  # nobody is left who looks for it
                brake.unlink(missing_ok=True)
        failed: dict[str, BaseException] = {}
        for future, job in zip(futures, jobs, strict=True):
            try:
                failed |= future.result()
            except BaseException as error:  # the job's, not this program's
                failed |= dict.fromkeys(job, error)
        # One dead worker ends a pool of processes, and with it runs that are not to blame: they are taken up again.
        # An executor of the user's is his to mend (Dask does so by itself).
        broken = pool.executor is None and any(isinstance(error, BrokenProcessPool) for error in failed.values())
        if broken:
            workers.check()
        again = broken and attempt < RETRIES
        todo = {name: todo[name] for name, error in failed.items() if again and isinstance(error, BrokenProcessPool)}
        errors |= {name: error for name, error in failed.items() if name not in todo}
        if not todo:
            break
    return errors


def _hand_out(
    executor: Executor,
    calls: Sequence[tuple[Any, ...]],
    brake: Path,
    directories: Sequence[Path],
    watch: Callable[[], object],
) -> list[Future[dict[str, BaseException]]]:
    """Have `_train` called, and wait; an interrupt, or an error of `watch`, lets no more than rounds in flight end.

    Args:
        executor: calls it.
        calls: its arguments, all but `brake`.
        brake: a file that is made to ask the workers, wherever they are, to end.
        directories: of the runs.
        watch: called now and then.
    """
    futures: list[Future[dict[str, BaseException]]] = []
    interrupted = threading.Event()
    with soft_interrupt(interrupted, lambda: "sweep stopped; the same call goes on from the last states"):
        try:
            for call in calls:
                futures.append(_submitted(executor, (str(brake), *call)))
            while not _all_done(futures) and not interrupted.is_set():
                watch()
            watch()
        finally:
            if not _all_done(futures):
                brake.parent.mkdir(parents=True, exist_ok=True)
                brake.touch()
                try:  # Dask's futures do not say which of them run, and wait for ever if Ctrl-C has ended its workers
                    while not _all_done(futures) and any(map(_in_training, directories)):
                        pass
                finally:  # also after a second interrupt
                    for future in futures:
                        future.cancel()
            if _all_done(futures):
                brake.unlink(missing_ok=True)
    return futures


def _in_training(directory: Path) -> bool:
    """Whether somebody holds this run."""
    try:
        if directory.is_dir():
            with Store(directory).held():
                return False
    except RunBusy:
        return True
    return False


def _submitted(executor: Executor, arguments: tuple[Any, ...]) -> Future[dict[str, BaseException]]:
    try:
        return executor.submit(_train, *arguments)
    except BrokenProcessPool as error:  # a worker died while others were not yet given work
        failed: Future[dict[str, BaseException]] = Future()
        failed.set_exception(error)
        return failed


def _all_done(futures: Sequence[Future[Any]]) -> bool:
    """Whether they are, or come to be within a moment."""
    return not concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done


def _jobs(todo: dict[str, Experiment], workers: int) -> list[list[str]]:
    """Runs of one shape in one job, but no more than a worker's share of all."""
    shapes: dict[str, list[str]] = {}
    for name, experiment in todo.items():
        shapes.setdefault(shape(experiment), []).append(name)
    share = math.ceil(len(todo) / workers)
    return [group[start : start + share] for group in shapes.values() for start in range(0, len(group), share)]


def _train(
    brake: str,
    experiments: list[str],
    threads: int | None,
    own: list[Place],
    store: str,
    root: str,
    options: dict[str, Any],
) -> dict[str, BaseException]:
    """Runs in a worker: trains experiments to their ends, from wherever they are; the errors of those that fail.

    Once the file `brake` is there, it ends after the round in flight.
    """
    stopped = Path(brake).exists
    if stopped():
        return {}
    import_own(own)
    if threads is not None:
        torch.set_num_threads(threads)
    data: dict[str, FederatedDataset] = {}
    runs: list[Run] = []
    errors: dict[str, BaseException] = {}
    for text in experiments:
        experiment = Experiment.from_json(text)
        key = experiment.data.to_json()
        if key not in data:
            loaded = experiment.data.load(root).to(pick_device(options.get("device", "auto")))
            data[key] = loaded.sharing(data.values())
        try:
            runs.append(Run(experiment, data[key], store=store, root=root, **options))
        except (SettingError, BadCheckpoint, OSError) as error:
            errors[experiment.id] = error
    if len(experiments) > 1:
        return errors | train_together(runs, wait=BUSY_SECONDS, stopped=stopped)
    for run in runs:
        reuse_rounds(run)
        run.to(listener=lambda run, _: run.stop() if stopped() else None, wait=BUSY_SECONDS)
    return errors
