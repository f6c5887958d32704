"""Runs shown together are told apart by what differs."""

import dataclasses

import pytest

import flatlab as fl
from flatlab.training import labels
from flatlab.training.run_names import method_labels, seedless_label

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


def test_seeds_are_told_last_and_without_them_methods_still_differ(make):
    """Figures average what has one label but for seeds."""
    runs = [
        make(lr=0.1, momentum=0.0, batch_size=50, weight_decay=0.0, seed=0),
        make(lr=0.05, momentum=0.5, batch_size=20, weight_decay=1e-4, seed=1),
        make(lr=0.05, momentum=0.5, batch_size=20, weight_decay=1e-4, seed=2),
    ]
    shown = labels(runs)
    assert len(set(shown)) == 3
    bare = [seedless_label(label) for label in shown]
    assert bare[0] != bare[1] == bare[2] and shown[1].endswith("seed 1")


def test_a_warm_start_is_another_method_and_one_of_each_seed_the_same(make):
    cold = [make(seed=seed) for seed in (0, 1)]
    states = [make(seed=seed, lr=0.2).to(1).state(1) for seed in (2, 3)]
    warm = [fl.Run(run.experiment, run.data, store=run.directory.parent, start=state, channels_last=False)
            for run, state in zip(cold, (dataclasses.replace(state, round=0) for state in states), strict=True)]  # fmt: skip
    experiments = [run.experiment for run in cold + warm]
    assert method_labels(experiments) == 2 * ["FedAvg"] + 2 * ["FedAvg, warm start"]
    again = [cold[0].experiment.replace(initial=each.experiment.initial) for each in warm]
    assert len(set(method_labels(again))) == 2  # of one seed: no seeds of one another


def test_forks_of_each_seed_are_one_method_and_no_seed_of_the_run_itself(make):
    runs = [make(seed=seed).to(1) for seed in (0, 1)]
    forks = [run.fork(round=1) for run in runs]
    assert method_labels([run.experiment for run in runs + forks]) == 2 * ["FedAvg"] + 2 * ["FedAvg, from round 1"]
    other = make(seed=0, lr=0.2).to(1).fork(round=1, algorithm=fl.FedAvg())
    assert len(set(method_labels([forks[0].experiment, other.experiment]))) == 2
