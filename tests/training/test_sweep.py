"""Many runs side by side equal the same runs alone, also when a worker is killed; others are not harmed by one that fails."""

import concurrent.futures
import contextlib
import os
from unittest import mock

import pytest
import torch
from dying import PLACE, Dying

import flatlab as fl
from flatlab.training.lockstep import shape, train_together
from flatlab.training.pool import Workers, cores_allowed
from flatlab.training.sweeping import _jobs

MODEL = fl.ModelSpec(name="lenet", width=0.125)
BATCHED = fl.ModelSpec(name="cnn4", width=0.125, norm="group", groups=2)  # batch statistics amplify rounding


@pytest.fixture(scope="module")
def digits(few):
    """Ten clients, whose images no process has to import scikit-learn for."""
    return fl.load("few", few).federate(fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.5), clients=10, seed=0)


def experiments(digits, rounds=4, seeds=(0, 1), **algorithm):
    settings = {"lr": 0.05, "momentum": 0.9, **algorithm}
    return [
        fl.Experiment(
            data=digits.spec, model=MODEL, algorithm=fl.FedAvg(**settings), rounds=rounds, participation=0.5, seed=seed
        )
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Store of runs trained alone, one client after another: each is trained once for all tests."""
    return tmp_path_factory.mktemp("alone")


def equal_to_runs_alone(found, digits, store, device="auto"):
    for run in found:
        single = fl.Run(run.experiment, digits, store=store, device=device).to()
        assert run.history.equals(single.history)
        assert run.done


def dying(digits, monkeypatch, place):
    """Experiments one of whose workers is killed inside a round."""
    monkeypatch.setenv(PLACE, str(place))
    algorithm = Dying(lr=0.05, momentum=0.9)
    return [one.replace(algorithm=algorithm) for one in experiments(digits, rounds=6)]


def test_a_sweep_equals_its_runs_alone_in_order_and_equal_experiments_are_one(digits, few, tmp_path, alone):
    wanted, heard = experiments(digits), []
    found = fl.sweep(
        [*wanted, wanted[0]],
        store=tmp_path / "swept",
        root=few,
        workers=1,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert [run.id for run in found] == [wanted[0].id, wanted[1].id, wanted[0].id]
    assert len(list((tmp_path / "swept").iterdir())) == 2
    assert heard == sorted(heard) and heard[-1] == (8, 8)
    equal_to_runs_alone(found[:2], digits, alone)


ASAM = {"lr": 0.05, "momentum": 0.9, "clip": 5.0}
TABLE = {
    "seed": {"seed": 1},
    "settings": {"algorithm": fl.FedASAM(rho=0.1, eta=0.1, **ASAM | {"lr": 0.01, "momentum": 0.5})},
    "server": {"algorithm": fl.FedASAM(**ASAM, swa=fl.SWA(start=0.5, cycle=2, low=0.01), server=fl.Adaptive())},
    "kept heads": {"algorithm": fl.FedASAM(**ASAM, share="body")},
    "rounds and participation": {"rounds": 2, "participation": 0.2},
    "body": {"algorithm": fl.FedBABU(local=fl.ASAM(), **ASAM)},  # of another shape
    "diverging": {"algorithm": fl.FedASAM(**ASAM | {"lr": 1e12})},
}


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_runs_trained_together_equal_runs_alone(digits, few, tmp_path, alone, engine):
    """In one batch with others, of other seeds, rates, radii, servers, lengths, partitions, one of which diverges."""
    first = fl.Experiment(data=digits.spec, model=BATCHED, algorithm=fl.FedASAM(**ASAM), rounds=3, participation=0.3)
    wanted = {"first": first} | {name: first.replace(**changes) for name, changes in TABLE.items()}
    other = fl.load("few", few).federate(fl.IID(), clients=7, seed=3)
    wanted["partition"] = first.replace(data=other.spec)
    options = {"store": tmp_path / "swept", "root": few, "engine": engine, "progress": False}
    with mock.patch("flatlab.training.sweeping.Pool.started", in_this_process), pytest.raises(fl.SweepFailed) as caught:
        fl.sweep(list(wanted.values()), together=True, workers=1, **options)
    bad = wanted.pop("diverging")
    assert {name: type(error) for name, error in caught.value.errors.items()} == {bad.id: fl.Diverged}
    for name, experiment in wanted.items():
        data = other if name == "partition" else digits
        together = fl.Run(experiment, data, store=tmp_path / "swept")
        single = fl.Run(experiment, data, store=alone, engine="loop").to()
        keys = ["round", "split", "metric", "client"]
        found, true = (run.history.set_index(keys)["value"] for run in (together, single))
        assert found.index.equals(true.index)
        assert (found - true).drop("accuracy", level="metric").abs().max() < 2e-4, name
        state = together.state().flat()
        for key, value in single.state().flat().items():
            assert (state[key] - value).abs().max() < 2e-4, (name, key)


NUMBERS = {
    "rho": [fl.FedSAM(rho=rho) for rho in (0.1, 0.02)],
    "eta": [fl.FedASAM(rho=rho, eta=eta) for rho, eta in ((0.7, 0.2), (0.05, 0.03))],
    "mu": [fl.FedProx(mu=mu) for mu in (0.7, 0.3)],
    "clip": [fl.FedAvg(clip=clip) for clip in (0.7, 0.3)],
    "decay": [fl.FedAvg(weight_decay=decay) for decay in (4e-4, 1e-3)],
    "momentum": [fl.FedAvg(momentum=momentum) for momentum in (0.9, 0.3)],
    "rate": [fl.FedAvg(lr=lr) for lr in (0.1, 0.03)],
}


def test_runs_that_began_in_other_digits_or_engines_keep_them_beside_each_other(few, tmp_path):
    data = fl.load("few", few).federate(fl.IID(), clients=4, seed=0)
    ways = [{}, {"precision": "bfloat16"}, {"engine": "graph"}]
    wanted = [
        fl.Experiment(data=data.spec, model=BATCHED, algorithm=fl.FedAvg(), rounds=2, seed=seed) for seed in range(3)
    ]
    alone, together = (
        [fl.Run(one, data, store=tmp_path / store, **way) for one, way in zip(wanted, ways, strict=True)]
        for store in ("alone", "together")
    )
    for run in alone:
        run.to()
    assert train_together(together) == {}
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(other.state().flat()[key], value) for key, value in one.state().flat().items())


@pytest.mark.parametrize("engine", ["loop", "graph"])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_bit_of_a_run_depends_on_the_settings_of_those_beside_it(few, tmp_path, name, engine, device):
    """A number of its own must not become a tensor: rho / norm of one is no quotient of tensors, sums are not fused."""
    data = fl.load("few", few).federate(fl.IID(), clients=4, seed=0)
    wanted = [fl.Experiment(data=data.spec, model=BATCHED, algorithm=one, rounds=2) for one in NUMBERS[name]]
    alone, together = (
        [fl.Run(one, data, store=tmp_path / store, engine=engine, device=device) for one in wanted]
        for store in ("alone", "together")
    )
    for run in alone:
        run.to()
    assert train_together(together) == {}
    for one, other in zip(alone, together, strict=True):
        assert one.history.equals(other.history)
        for key, value in one.state().flat().items():
            assert torch.equal(value, other.state().flat()[key]), key


def test_runs_of_one_shape_are_a_job(digits):
    first = fl.Experiment(data=digits.spec, model=MODEL, algorithm=fl.FedASAM(**ASAM), rounds=3)
    others = [first.replace(**changes) for changes in TABLE.values()]
    jobs = _jobs(dict(zip(["first", *TABLE], [first, *others], strict=True)), workers=1)
    assert sorted(map(len, jobs)) == [1, 7] and ["body"] in jobs
    assert max(len(job) for job in _jobs({str(i): first.replace(seed=i) for i in range(10)}, workers=4)) == 3
    unlike = [
        first.replace(model=fl.ModelSpec(name="cnn4", width=0.5)),
        first.replace(algorithm=fl.FedASAM(**ASAM, epochs=2)),
        first.replace(algorithm=fl.FedASAM(**ASAM | {"clip": None})),
        first.replace(algorithm=fl.FedASAM(**ASAM, local=fl.ASAM(variant="elementwise"))),
        first.replace(data=digits.spec.replace(augmentation=fl.Augmentation(flip=True))),
    ]
    assert len({shape(one) for one in [first, *unlike]}) == 6


@contextlib.contextmanager
def in_this_process(*_):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool, None, Workers()


def test_a_killed_process_loses_no_run_and_one_that_fails_is_named(digits, few, tmp_path, alone, monkeypatch):
    wanted, (bad,) = dying(digits, monkeypatch, tmp_path / "killed"), experiments(digits, seeds=(0,), lr=1e12)
    with pytest.raises(fl.SweepFailed, match=f"1 of 3 runs failed.*\n{bad.id}: Diverged") as caught:
        fl.sweep([bad, *wanted], store=tmp_path / "swept", root=few, workers=2, progress=False, device="cpu")
    assert list(caught.value.errors) == [bad.id]
    assert (tmp_path / "killed").exists()  # else nothing was tested
    found = [fl.Run(one, digits, store=tmp_path / "swept", device="cpu") for one in wanted]
    equal_to_runs_alone(found, digits, alone, device="cpu")


def test_what_no_worker_can_run_is_refused_at_once(digits, few, tmp_path):
    with pytest.raises(fl.SettingError, match="experiments"):
        fl.sweep([], store=tmp_path)
    with pytest.raises(fl.SettingError, match="workers = 0"):
        fl.sweep(experiments(digits), store=tmp_path, root=few, workers=0)
    own = [one.replace(model=fl.ModelSpec(name="custom", fingerprint="0" * 16)) for one in experiments(digits)]
    with pytest.raises(fl.SettingError, match="custom"):
        fl.sweep(own, store=tmp_path, root=few)
    lone = [one.replace(participation=0.25, algorithm=one.algorithm.replace(aggregation="krum")) for one in own]
    fitting = [one.replace(model=first.model) for one, first in zip(lone, experiments(digits), strict=True)]
    with pytest.raises(fl.SettingError, match=r"krum needs at least 2 f \+ 3 = 3 clients in a round"):
        fl.sweep(fitting, store=tmp_path, root=few)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Port .* is already in use")  # Dask has one for its diagnostics, and another then
def test_a_dask_cluster_takes_up_the_runs_of_a_killed_worker(digits, few, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the extra flatlab[cluster]")
    options = {"store": tmp_path / "swept", "root": few, "progress": False, "device": "cpu"}
    options["channels_last"] = False
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    wanted = dying(digits, monkeypatch, tmp_path / "killed")
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        found = fl.sweep(wanted, client.get_executor(), **options)
    assert (tmp_path / "killed").exists()  # else nothing was tested
    for run in found:
        assert run.done
        assert not run.history.duplicated(["round", "split", "metric", "client"]).any()
        assert sorted(run.timings["round"]) == list(range(1, 7))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity of processes to cores")
def test_a_sweep_has_no_more_workers_than_its_cores():
    allowed = os.sched_getaffinity(0)
    assert cores_allowed() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})  # as SLURM does for a job of one core
        assert cores_allowed() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_what_cannot_be_trained_ends_no_other_of_its_job(digits, few, tmp_path):
    good, *_ = experiments(digits)
    bad = good.replace(initial="0" * 16)  # a state that nobody has here
    assert shape(bad) == shape(good)
    asked = [good, bad, good.replace(seed=7)]
    options = {"store": tmp_path, "root": few, "progress": False}
    with mock.patch("flatlab.training.sweeping.Pool.started", in_this_process), pytest.raises(fl.SweepFailed) as caught:
        fl.sweep(asked, together=True, workers=1, **options)
    assert list(caught.value.errors) == [bad.id]
    assert all(fl.Run.open(tmp_path / one.id, root=few).done for one in (good, asked[2]))
