"""Work in several processes: the same files as by one, and what is said when one of them is ended."""

import json
import os
import signal

import pandas as pd
import pytest
import torch

import flatlab as fl
from flatlab.papers import Archive, Table, Workshop, plan, processes
from flatlab.papers.command import Options, reproduce
from flatlab.papers.measurements import Measurement
from flatlab.papers.quantities import initial, personalization, personalized, score
from flatlab.papers.tables import Figure, cell
from flatlab.training.experiment import Parent

SURFACE = Measurement(kind="landscape", settings={"points": 3, "limit": 20})


def experiment(seed, swa=False, **changes):
    algorithm = fl.FedAvg(lr=0.05, local_steps=2, swa=fl.SWA(start=0.5, cycle=1, low=0.01) if swa else None)
    data = fl.DataSpec(name="digits", clients=4, partition=fl.Classes(per_client=3), seed=seed)
    settings = {"model": fl.ModelSpec(name="lenet", width=0.125), "rounds": 4, "seed": seed, "algorithm": algorithm}
    return fl.Experiment(data=data, evaluation=fl.Evaluation(clients_every=2), **settings | changes)


def forked(seed):
    parent = Parent(run=experiment(seed).id, round=3)
    return experiment(seed, algorithm=fl.FedAvg(lr=0.01, local_steps=2), rounds=5, parent=parent)


@pytest.fixture(scope="module")
def items():
    """A table with a fork, runs that share rounds, one that diverges; and a measurement of two runs together."""
    tuned = personalized(personalization(epochs=1, lr=0.01))
    cells = [
        cell("FedAvg", "tuned", tuned, experiment, (0, 1)),
        cell("SWA", "initial", initial(), lambda seed: experiment(seed, swa=True), (0, 1)),
        cell("fork", "holdout", score(), forked, (0, 1), parent=experiment),
        cell("lost", "holdout", score(), lambda seed: experiment(seed, algorithm=fl.FedAvg(lr=1e30)), (0,)),
    ]
    series = {"a": (experiment(0),), "b": (experiment(1),)}
    figure = Figure("test.figure", "F", "quick", "landscapes", series, "p", "l", SURFACE, together=True)
    return Table("test.table", "T", "quick", tuple(cells), "p", "l"), figure


def made(folder, items, workers, device="cpu"):
    archive, said = Archive(folder / "results"), []
    work = Workshop(archive, folder / "runs", folder / "data", device, said.append)
    processes.do(work, plan(items, archive, has_weights=work.has_weights), workers)
    left = plan(items, archive, has_weights=work.has_weights)
    assert not left.trainings and not left.measurings
    return archive, said


def test_several_processes_keep_what_one_keeps(items, tmp_path, device):
    (one, said), (two, told) = (made(tmp_path / str(workers), items, workers, device) for workers in (1, 2))
    (kept,) = {json.loads(path.read_text())["versions"]["device_type"] for path in two.folder.rglob("run.json")}
    assert kept == device
    names = {path.relative_to(one.folder) for path in one.folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(two.folder) for path in two.folder.rglob("*") if path.is_file()}
    tables = [name for name in names if name.suffix == ".parquet"]
    assert len(tables) >= 9 and any(name.parts[0] == "together" for name in tables)
    for name in tables:
        pd.testing.assert_frame_equal(pd.read_parquet(one.folder / name), pd.read_parquet(two.folder / name))
    assert any("diverged" in line for line in told)
    for part in ("personalize of", "landscape of", "seed 1"):
        assert sum(part in line for line in told) == sum(part in line for line in said) > 0


def test_a_job_knows_its_runs_and_those_that_they_were_forked_from(items, tmp_path):
    """It is sent to a process: of a plan of hundreds of runs it needs a few."""
    todo = plan(items[:1], Archive(tmp_path))
    for seed in (0, 1):
        family = {experiment(seed).id, forked(seed).id}
        assert todo.of([forked(seed).id]).runs.keys() == family
        (job,) = (job for job in todo.jobs() if forked(seed).id in job)
        assert todo.of(job).runs.keys() == family | {experiment(seed, swa=True).id}


def test_a_process_that_is_ended_is_told(items, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_job", _killed)
    archive = Archive(tmp_path / "results")
    work = Workshop(archive, tmp_path / "runs", tmp_path / "data", "cpu", lambda line: None)
    with pytest.raises(ChildProcessError, match="less workers"):
        processes.do(work, plan(items[:1], archive), 2)


def _killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_cannot_be_is_refused_before_any_work(items, tmp_path):
    archive = Archive(tmp_path)
    work = Workshop(archive, tmp_path / "runs", device="cpu")
    work.device = torch.device("mps")
    with pytest.raises(fl.SettingError, match="workers = 2: must be 1 on mps"):
        processes.do(work, plan(items, archive), 2)
    with pytest.raises(fl.SettingError, match="workers = 0: must be a whole number ≥ 1"):
        reproduce(Options(names=("demo",), workers=0))
