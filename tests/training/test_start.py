"""Rounds that are provably the same are taken from the run that did them; the bits are those of doing them again."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from ten_clients import thinned

import flatlab as fl
from flatlab.training.provenance import made_by
from flatlab.training.start import reuse_rounds, shared_rounds

SPEC = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """What is remembered of this machine is not what other processes write meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data():
    return thinned(fl.load("digits").federate(fl.Dirichlet(alpha=0.5), clients=5, seed=0))


def experiment(data, algorithm=None, rounds=40, **settings):
    return fl.Experiment(data=data.spec, model=SPEC, algorithm=algorithm or fl.FedAvg(), rounds=rounds, **settings)


def swa(start=0.75, cycle=5, **options):
    return fl.FedAvg(swa=fl.SWA(start=start, cycle=cycle, **options))


STEPS = fl.FedAvg(schedule=fl.Steps())
EVERY = fl.Evaluation(clients_every=1)
NONE = fl.Evaluation(every=0)
CASES = {
    "constant": (({}, {"rounds": 80}), 40),  # the 40th has all clients' scores beside, which is more
    "shorter": (({}, {"rounds": 20}), 19),  # its last round asks for scores that were not taken
    "shorter, scored": (({"evaluation": EVERY}, {"rounds": 20, "evaluation": EVERY}), 20),
    "exponential": (({"algorithm": fl.FedAvg(schedule=fl.Exponential())},) * 2, 40),
    "cyclical": (
        (
            {"algorithm": fl.FedAvg(schedule=fl.Cyclical(cycle=7))},
            {"algorithm": fl.FedAvg(schedule=fl.Cyclical(cycle=7)), "rounds": 41},
        ),
        40,
    ),
    "steps": (({"algorithm": STEPS}, {"algorithm": STEPS, "rounds": 80}), 20),
    "steps or not": (({"algorithm": STEPS}, {}), 20),
    "another rate": (({}, {"algorithm": fl.FedAvg(lr=0.05)}), 0),
    "an average later": (({"algorithm": swa()}, {"algorithm": swa(), "rounds": 80}), 30),
    "an average at all": (({}, {"algorithm": swa()}), 30),
    "two averages": (({"algorithm": swa()}, {"algorithm": swa(0.5)}), 20),
    "the same average": (({"algorithm": swa()},) * 2, 40),
    "the same average, other end": (
        ({"algorithm": swa(0.5)}, {"algorithm": swa(0.25), "rounds": 80, "evaluation": EVERY}),
        0,
    ),
    "another low end": (({"algorithm": swa()}, {"algorithm": swa(low=0.01)}), 30),
    "less often scored": (({}, {"evaluation": NONE, "rounds": 80}), 40),
    "more often scored": (({"evaluation": NONE}, {"rounds": 80}), 0),
    "other batches of scores": (({}, {"evaluation": fl.Evaluation(batch_size=64), "rounds": 80}), 0),
    "another seed": (({}, {"seed": 1}), 0),
    "other clients": (({}, {"sampling": "round_seed"}), 0),
    "fewer clients": (({}, {"participation": 0.5}), 0),
    "another method": (({}, {"algorithm": fl.FedProx()}), 0),
    "another name of the same": (({}, {"algorithm": fl.FedProx(mu=0)}), 0),
    "a fork": (({"parent": {"run": "a", "round": 3}}, {"parent": {"run": "a", "round": 3}, "rounds": 80}), 0),
    "another beginning": (({"initial": "a"}, {"rounds": 80}), 0),
}


@pytest.mark.parametrize(("pair", "rounds"), CASES.values(), ids=CASES)
def test_how_many_first_rounds_two_experiments_share(data, pair, rounds):
    assert shared_rounds(*(experiment(data, **settings) for settings in pair)) == rounds


def test_a_class_of_ones_own_may_look_at_its_schedule_anywhere(data):
    class Looks(fl.FedAvg):
        kind: str = "looks"

    ends = [experiment(data, Looks(schedule=one)) for one in (fl.Constant(), fl.Steps())]
    assert shared_rounds(*ends) == 0
    assert shared_rounds(ends[0], ends[0].replace(rounds=80)) == 40


def trained(algorithm, data, store, rounds, **options):
    return fl.train(algorithm, data, SPEC, rounds, store=store, **{"progress": False, "checkpoint_every": 2, **options})


def equal(one, other):
    flat, same = one.flat(), other.flat()
    assert flat.keys() == same.keys() and (one.round, one.swa_count) == (other.round, other.swa_count)
    return all(torch.equal(value, same[name]) for name, value in flat.items())


RUNS = {
    "constant": (fl.FedAvg(), fl.FedAvg(), {}, 4),
    "kept momentum": (fl.FedAvg(momentum=0.9, keep_momentum=True),) * 2 + ({}, 4),
    "own heads": (fl.FedPer(momentum=0.9),) * 2 + ({}, 4),
    "by the round alone": (fl.FedAvg(),) * 2 + ({"participation": 0.4, "sampling": "round_seed"}, 4),
    "server's momentum": (fl.FedAvgM(),) * 2 + ({"participation": 0.4}, 4),
    "adaptive server": (fl.FedBABU(server=fl.Adaptive()),) * 2 + ({}, 4),
    "an average that starts later": (swa(0.5, 1),) * 2 + ({}, 2),
    "an average at all": (fl.FedAvg(), swa(0.5, 2), {}, 4),
    "steps": (fl.FedAvg(schedule=fl.Steps()),) * 2 + ({}, 2),
    "scores of clients": (fl.FedAvg(),) * 2 + ({"evaluation": fl.Evaluation(every=2, clients_every=3)}, 4),
}


@pytest.mark.parametrize(("first", "second", "settings", "taken"), RUNS.values(), ids=RUNS)
def test_more_rounds_go_on_with_the_bits_of_a_straight_run(data, tmp_path, first, second, settings, taken):
    short = trained(first, data, tmp_path / "a", 4, **settings)
    heard = []
    going = fl.Run(experiment(data, second, 8, **settings), data, store=tmp_path / "a", checkpoint_every=2)
    assert reuse_rounds(going).startswith(f"{going.id}: goes on from round {taken} of {short.id}")
    going.to(listener=lambda run, report: heard.append(report.number))
    straight = trained(second, data, tmp_path / "b", 8, **settings)
    assert heard == list(range(taken + 1, 9))
    assert going.id == straight.id
    assert going.history.equals(straight.history)
    counts = ["round", "samples"]
    assert going.timings[counts].equals(straight.timings[counts])
    assert going.timings["seconds"][:taken].equals(short.timings["seconds"][:taken])
    assert {0, 2, 4, 6, 8} <= set(going.checkpoints)  # others come and go with the clock
    for round in (0, 2, 3, 4, 6, 8):
        assert equal(going.state(round), straight.state(round))
    origin = json.loads((going.directory / "versions.json").read_text())["origin"]
    assert (origin["run"], origin["round"]) == (short.id, taken)
    assert origin["versions"]["torch"] == torch.__version__
    opened = fl.Run.open(going.directory, data)
    assert opened.done and equal(opened.state(), straight.state())


def test_train_says_from_where_it_goes_on(data, tmp_path, capsys):
    short = trained(fl.FedAvg(), data, tmp_path, 2)
    capsys.readouterr()
    trained(fl.FedAvg(), data, tmp_path, 3, progress=True)
    assert f"goes on from round 2 of {short.id}" in capsys.readouterr().err


def test_where_later_rounds_differ_the_fork_is_named(data, tmp_path, capsys):
    short = trained(STEPS, data, tmp_path, 4)
    long = trained(STEPS, data, tmp_path, 8, progress=True)
    said = capsys.readouterr().err
    assert f"goes on from round 2 of {short.id}" in said
    assert f"fl.Run.open({str(short.directory)!r}).fork(rounds=8)" in said
    assert long.done


def test_what_another_version_computed_is_not_taken_but_how_to_fork_is_said(data, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("flatlab.training.provenance.made_by", lambda: {**made_by(), "torch": "1.0"})
        trained(fl.FedAvg(), data, tmp_path, 2)
    capsys.readouterr()
    run = trained(fl.FedAvg(), data, tmp_path, 4, progress=True)
    said = capsys.readouterr().err
    assert "begins at round 1" in said and "fork(rounds=4)" in said
    assert "origin" not in json.loads((run.directory / "versions.json").read_text())


def test_what_cannot_be_read_is_passed_over(data, tmp_path):
    short = trained(fl.FedAvg(), data, tmp_path, 4)
    short.record.store.checkpoint(4).write_bytes(b"torn")
    for name, text in {"foreign": "null", "deep": "[" * 100_000, "torn": '{"data": '}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment.json").write_text(text)
    run = trained(fl.FedAvg(), data, tmp_path, 6)
    assert equal(run.state(), trained(fl.FedAvg(), data, tmp_path / "b", 6).state())


def test_other_runs_of_a_store_are_read_once(data, tmp_path, monkeypatch):
    """A sweep of thousands of runs asks this for each of them."""
    for seed in range(1, 40):
        other = experiment(data, fl.FedAvg(), 4, seed=seed)
        (tmp_path / other.id).mkdir()
        (tmp_path / other.id / "experiment.json").write_text(other.to_json())
    read, reads = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or reads(path))
    trained(fl.FedAvg(), data, tmp_path, 2)
    assert len([path for path in read if path.name == "experiment.json"]) >= 39
    read.clear()
    trained(fl.FedProx(), data, tmp_path, 2)  # its name tells that nothing is shared
    longer = trained(fl.FedAvg(), data, tmp_path, 4)
    assert json.loads((longer.directory / "versions.json").read_text())["origin"]["round"] == 2
    looked_at = [path.parent.name for path in read if path.name == "experiment.json"]
    assert len(set(looked_at)) <= 3


def test_a_fork_whose_schedule_raises_the_rate_again_says_what_it_becomes(data, tmp_path):
    run = trained(fl.FedAvg(lr=0.1, schedule=fl.Steps()), data, tmp_path, 4)
    with pytest.warns(UserWarning, match=r"was 0\.001 in round 4 and rises again.*0\.01 in rounds 5 to 6") as told:
        child = run.fork(rounds=8)
    said = str(told[0].message)
    rates = [child.experiment.algorithm.rate(round, 8) for round in range(4, 8)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert "0.001 in rounds 7 to 8" in said and "lr=0.001, schedule=fl.Constant()" in said


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        (fl.FedAvg(), {"rounds": 8}),
        (fl.FedAvg(schedule=fl.Exponential()), {"rounds": 8}),
        (fl.FedAvg(schedule=fl.Cyclical(cycle=2)), {"rounds": 8}),
        (fl.FedAvg(schedule=fl.Steps()), {"rounds": 8, "algorithm": fl.FedAvg(lr=0.1)}),  # as was asked for
        (fl.FedAvg(schedule=fl.Steps()), {"rounds": 4, "round": 2, "seed": 1}),
    ],
)
def test_a_fork_that_goes_on_as_it_was_or_as_asked_says_nothing(data, tmp_path, algorithm, changes):
    run = trained(algorithm, data, tmp_path, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.fork(**changes)


@pytest.mark.parametrize("together", [False, True])
def test_a_sweep_takes_up_rounds_that_are_done(few, tmp_path, together):
    data = fl.load("few", few).federate(clients=5)
    short = [trained(fl.FedAvg(), data, tmp_path, 4, seed=seed) for seed in (0, 1)]
    longer = [run.experiment.replace(rounds=6) for run in short]
    options = {"store": tmp_path, "root": few, "workers": 1, "together": together, "progress": False}
    runs = fl.sweep(longer, ThreadPoolExecutor(1), **options)
    for run, origin in zip(runs, short, strict=True):
        assert json.loads((run.directory / "versions.json").read_text())["origin"]["run"] == origin.id and run.done
