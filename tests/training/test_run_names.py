"""Runs shown together are told apart by what differs."""

import pytest

import flatlab as fl
from flatlab.training import labels

MODEL = fl.ModelSpec(name="cnn4", width=0.25)


@pytest.fixture
def make(tmp_path):
    def run(partition="iid", rounds=3, seed=0, **algorithm):
        data = fl.load("digits").federate(partition, clients=5, seed=0)
        kind = algorithm.pop("kind", fl.FedAvg)
        spec = fl.Experiment(data=data.spec, model=MODEL, algorithm=kind(**algorithm), rounds=rounds, seed=seed)
        return fl.Run(spec, data, store=tmp_path, channels_last=False)

    return run


def test_methods_need_no_more_than_their_names(make):
    assert labels([make(), make(kind=fl.FedBABU)]) == ["FedAvg", "FedBABU"]


def test_runs_of_one_method_are_told_apart_by_what_differs(make):
    assert labels([make(lr=0.05), make(lr=0.1), make(kind=fl.FedBABU)]) == [
        "FedAvg, lr 0.05",
        "FedAvg, lr 0.1",
        "FedBABU",
    ]
    several = [
        make(fl.IID()),
        make(fl.Dirichlet(alpha=1)),
        make(fl.Dirichlet(alpha=0.1)),
        make(fl.Shards(per_client=2)),
    ]
    assert labels(several) == [
        "FedAvg, iid",
        "FedAvg, dirichlet, alpha 1",
        "FedAvg, dirichlet, alpha 0.1",
        "FedAvg, shards",
    ]
    assert labels([make(seed=0), make(seed=1)]) == ["FedAvg, seed 0", "FedAvg, seed 1"]


def test_forks_and_moments_of_a_run_are_told_apart(make):
    run = make(rounds=4).to(2)
    child = run.fork(round=1)
    assert labels([run, child])[1] == "FedAvg, from round 1"
    earlier = fl.Run.open(run.directory, run.data).rewind(1)
    assert labels([run, earlier]) == ["FedAvg, round 2", "FedAvg, round 1"]


def test_what_no_setting_tells_apart_shows_its_hash(make):
    same = make()
    assert labels([same, same]) == [f"FedAvg, {same.id.rsplit('-', 1)[-1][:4]}"] * 2
