"""Many runs side by side equal the same runs alone, also when a worker is killed; others are not harmed by one that fails."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

import flatlab as fl
from flatlab.training.store import Store

MODEL = fl.ModelSpec(name="cnn4", width=0.25)


def experiments(digits, rounds=4, seeds=(0, 1), **algorithm):
    settings = {"lr": 0.05, "momentum": 0.9, **algorithm}
    return [
        fl.Experiment(
            data=digits.spec, model=MODEL, algorithm=fl.FedAvg(**settings), rounds=rounds, participation=0.5, seed=seed
        )
        for seed in seeds
    ]


def equal_to_runs_alone(found, digits, store):
    for run in found:
        alone = fl.Run(run.experiment, digits, store=store).to()
        assert run.history.equals(alone.history)
        assert run.done


def later(action, ready, seconds=100):
    """A thread that waits until `ready()` gives something, then acts on it; returns it with the list of what it did."""
    did = []

    def watch():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (found := ready()) is not None:
                action(found)
                did.append(found)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread, did


def begun(store, rounds):
    """Whether some run in the store has come so far."""
    return any(max(Store(path).checkpoints(), default=0) >= rounds for path in store.glob("*"))


def test_a_sweep_equals_its_runs_alone_in_order_and_equal_experiments_are_one(digits, tmp_path):
    wanted, heard = experiments(digits), []
    found = fl.sweep(
        [*wanted, wanted[0]], store=tmp_path / "swept", progress=lambda done, total: heard.append((done, total))
    )
    assert [run.id for run in found] == [wanted[0].id, wanted[1].id, wanted[0].id]
    assert len(list((tmp_path / "swept").iterdir())) == 2
    assert heard == sorted(heard) and heard[-1] == (8, 8)
    equal_to_runs_alone(found[:2], digits, tmp_path / "alone")


def test_a_killed_process_loses_no_run(digits, tmp_path):
    def victim():
        children = multiprocessing.active_children()
        return children[0].pid if children and begun(tmp_path / "swept", 3) else None

    thread, killed = later(lambda pid: os.kill(pid, signal.SIGKILL), victim)
    found = fl.sweep(experiments(digits, rounds=25), store=tmp_path / "swept", progress=False)
    thread.join()
    assert killed  # else nothing was tested
    equal_to_runs_alone(found, digits, tmp_path / "alone")


def test_one_that_fails_is_named_and_the_others_are_done(digits, tmp_path):
    good, bad = experiments(digits, seeds=(0,)), experiments(digits, seeds=(0,), lr=1e12)
    with pytest.raises(fl.SweepFailed, match=f"1 of 2 runs failed.*\n{bad[0].id}: Diverged") as caught:
        fl.sweep(bad + good, store=tmp_path, progress=False)
    assert list(caught.value.errors) == [bad[0].id]
    assert fl.Run(good[0], digits, store=tmp_path).done


def test_what_no_worker_can_run_is_refused_at_once(digits, tmp_path):
    with pytest.raises(fl.SettingError, match="experiments"):
        fl.sweep([], store=tmp_path)
    with pytest.raises(fl.SettingError, match="workers = 0"):
        fl.sweep(experiments(digits), store=tmp_path, workers=0)
    own = [one.replace(model=fl.ModelSpec(name="custom", fingerprint="0" * 16)) for one in experiments(digits)]
    with pytest.raises(fl.SettingError, match="custom"):
        fl.sweep(own, store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dask_cluster_takes_up_the_runs_of_a_killed_worker(digits, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra flatlab[cluster]")
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:

        def victim():
            pids = list(client.run(os.getpid).values())
            return pids[0] if begun(tmp_path / "swept", 3) else None

        thread, killed = later(lambda pid: os.kill(pid, signal.SIGKILL), victim)
        found = fl.sweep(
            experiments(digits, rounds=25),
            client.get_executor(),
            store=tmp_path / "swept",
            progress=False,
            channels_last=False,
        )
        thread.join()
    assert killed
    for run in found:
        assert run.done
        assert not run.history.duplicated(["round", "split", "metric", "client"]).any()
        assert sorted(run.timings["round"]) == list(range(1, 26))
