"""Rounds that runs share: planned as they are taken, and their samples and seconds counted once, as they were spent."""

import json
import shutil

import pandas as pd
import pytest

import flatlab as fl
from flatlab.papers import Archive, Table, Workshop, fill, plan
from flatlab.papers.archive import TAKEN
from flatlab.papers.costs import samples_a_round, stored_rounds
from flatlab.papers.measurements import Measurement
from flatlab.papers.quantities import score
from flatlab.papers.report import _completeness, missing
from flatlab.papers.speeds import arithmetic
from flatlab.papers.spent import spent
from flatlab.papers.tables import Figure, cell
from flatlab.training.experiment import Parent

REMEMBER = ("SCAFFOLD", "FedDyn", "AdaBest", "FedSpeed", "FedSMOO", "FedLESAM", "FedMoSWA", "FedWMSAM")


def experiment(kind="FedAvg", start=None, rounds=10):
    """Scored at its end alone, so that no state is stored for its scores, which nobody foresees."""
    swa = None if start is None else fl.SWA(start=start, cycle=1, low=0.01)
    algorithm = fl.Algorithm.members()[kind](lr=0.05, local_steps=1, swa=swa)
    data = fl.DataSpec(name="digits", clients=4, partition=fl.Classes(per_client=3))
    model = fl.ModelSpec(name="lenet", width=0.125)
    settings = {"rounds": rounds, "participation": 0.5, "evaluation": fl.Evaluation(every=0)}
    return fl.Experiment(data=data, model=model, algorithm=algorithm, **settings)


def forked(parent, round=6):
    own = {"algorithm": fl.FedASAM(lr=0.05, local_steps=1), "parent": Parent(run=parent.id, round=round)}
    return experiment(rounds=9).replace(**own)


def table(experiments, parents=None):
    made = {run.id: run for run in experiments}
    parents = parents or {}
    cells = [
        cell(name, "holdout", score(), lambda seed, run=run: run, (0,), parent=parents.get(name))
        for name, run in made.items()
    ]
    return Table("test.shared", "Shared", "quick", tuple(cells), "p", "l")


def trained(wanted, folder):
    archive = Archive(folder / "results")
    work = Workshop(archive, folder / "runs", device="cpu", report=[].append)
    todo = plan([wanted], archive)
    work.do(todo)
    return todo, archive, work


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    plain = experiment()
    fork = forked(plain)
    wanted = table([plain, experiment(start=0.75), experiment(rounds=20), fork], {fork.id: lambda seed: plain})
    return wanted, *trained(wanted, tmp_path_factory.mktemp("done"))


def began(archive, run):
    """The round from which a run really went on."""
    return archive.about(run)["versions"].get("origin", {"round": 0})["round"]


def test_runs_go_on_from_the_rounds_that_the_plan_says(tmp_path):
    longer = [experiment(rounds=20), *(experiment(start=start, rounds=20) for start in (0.25, 0.3, 0.75))]
    runs = [experiment(), experiment(start=0.75), *longer]
    todo, archive, _ = trained(table(runs), tmp_path)
    planned = {step.experiment.id: step.begins[1] if step.begins else 0 for step in todo.trainings}
    assert planned == {run.id: began(archive, run) for run in runs}
    assert [planned[run.id] for run in runs] == [0, 6, 10, 4, 6, 15]  # state 5 of 20 rounds is not there: begun at 10
    spared = sum(began(archive, run) * samples_a_round(run) for run in runs)
    assert todo.saved(arithmetic).samples == pytest.approx(spared)


@pytest.mark.parametrize("kind", ["FedAvg", *REMEMBER])
def test_plans_take_the_states_that_the_store_keeps_for_good(kind, tmp_path):
    runs, work = [experiment(kind), experiment(kind, start=0.75)], Workshop(Archive(tmp_path), tmp_path, device="cpu")
    for run in runs:
        record = work.run(run).record
        assert stored_rounds(run) == {round for round in range(run.rounds + 1) if record._kept(round)}
    todo = plan([table(runs)], Archive(tmp_path))
    begins = [None, None] if kind in REMEMBER else [None, (runs[0].id, 6)]  # clients' memory is stored at the end alone
    assert [step.begins for step in todo.trainings] == begins
    assert (todo.saved(arithmetic).seconds > 0) == (kind == "FedAvg")


def test_a_fork_says_what_it_trained_on_and_its_speed_is_not_its_parents(done, tmp_path):
    wanted, _, archive, work = done
    for run in wanted.experiments().values():
        times = work.run(run).timings
        said = archive.about(run)
        assert said["samples"] == times["samples"].sum() and said["seconds"] == pytest.approx(times["seconds"].sum())
    old = Archive(shutil.copytree(archive.folder, tmp_path / "old"))
    (fork,) = (run for run in wanted.experiments().values() if run.parent)
    path = old.folder / "runs" / fork.id / "run.json"
    path.write_text(json.dumps(old.about(fork) | {"gradients": 1e12}))  # of all rounds, as earlier versions had it
    whole = [run for run in wanted.experiments().values() if not run.parent]
    rates = [1.0 * old.about(run)["samples"] / old.about(run)["seconds"] for run in whole]
    (kept,) = old.speeds().values()
    assert sorted(rate for _, rate in kept) == pytest.approx(sorted(rates))


def test_seconds_of_shared_rounds_count_once(done, tmp_path, monkeypatch):
    wanted, _, archive, work = done
    once = 0.0
    for run in wanted.experiments().values():
        times = work.run(run).timings
        once += times["seconds"][times["round"] > began(archive, run)].sum()
    every = [archive.about(run) for run in wanted.experiments().values()]
    assert spent(every).exact and spent(every).seconds == pytest.approx(once)
    assert once < 0.95 * sum(about["seconds"] for about in every)
    monkeypatch.setattr("flatlab.papers.report.BUILDERS", {wanted.id: None})
    monkeypatch.setattr("flatlab.papers.report.built", lambda name, scale: wanted)
    monkeypatch.setattr("flatlab.papers.spent.hours", lambda seconds: f"{seconds:.6f}")
    assert f"4 runs in all, {once:.6f} of training" in missing(archive, "quick")
    assert f"training took {once:.0f} s" in fill(wanted, archive).markdown()


def kept(run, seconds, rounds, origin=None, **more):
    """What `run.json` says of a run of a second a round, by name."""
    versions = {"begun": f"{run} begun"}
    if origin is not None:
        other, round, before = origin
        versions["origin"] = {"run": other, "round": round, "versions": before}
    return {"id": run, "planned": {"rounds": rounds}, "seconds": seconds, "versions": versions, **more}


def test_what_earlier_versions_kept_is_told_in_proportion():
    plain = kept("a", 40.0, 4)
    of_plain = plain["versions"]
    averaged = kept("b", 20.0 + 3.0, 4, ("a", 2, of_plain))
    assert spent([plain, averaged]) == (43.0, False) and spent([plain]) == (40.0, True)
    again = kept("c", 8.0 + 1.0, 4, ("a", 2, {"begun": "later, for its weights"}), **{TAKEN: 8.0})
    assert spent([plain, again]) == (49.0, True)  # other seconds than those that are kept
    more = kept("d", 30.0 + 5.0, 4, ("a", 3, of_plain), **{TAKEN: 30.0})
    less = kept("e", 10.0 + 7.0, 4, ("a", 1, of_plain), **{TAKEN: 10.0})
    assert spent([more, less]) == (42.0, True)  # of a run that is not among them the most that was taken
    third = kept("f", 35.0 + 6.0, 8, ("d", 4, more["versions"]), **{TAKEN: 35.0})
    assert spent([plain, more, third]) == (40.0 + 5.0 + 6.0, False)
    fresh = kept("g", 12.0, 4, ("a", 0, of_plain))
    assert spent([plain, fresh]) == (52.0, True)


def test_a_measurement_of_several_other_trainings_is_told_beside_their_histories(done, tmp_path):
    _, _, archive, work = done
    runs = experiment(), experiment(start=0.75)
    asked = Measurement(kind="landscape", settings={"points": 3, "limit": 20})
    here, there = (Archive(shutil.copytree(archive.folder, tmp_path / name)) for name in ("here", "there"))
    there.keep_measured(asked, runs, asked.of([work.run(run) for run in runs]))
    clean = Archive(shutil.copytree(archive.folder, tmp_path / "clean"))
    clean.merge(there)
    assert not any("again" in clean.about(run) for run in runs)  # the same trainings
    path = there.folder / "runs" / runs[1].id / "history.parquet"
    frame = pd.read_parquet(path)
    frame.assign(value=frame["value"] - 0.02 * (frame["split"] == "holdout")).to_parquet(path)
    told = there.about(runs[1])
    told["machine"]["name"] = "another machine"
    (path.parent / "run.json").write_text(json.dumps(told))
    assert len(here.merge(there).added) == 1 and here.has_measured(asked, runs)
    again = here.about(runs[1])["again"]
    assert again["machine"] == "another machine" and again["holdout accuracy differs by"] == pytest.approx(-0.02)
    assert "again" not in here.about(runs[0])
    series = dict(zip(("FedAvg", "FedAvg + SWA"), ((run,) for run in runs), strict=True))
    figure = Figure("test.planes", "Planes", "quick", "landscape", series, "p", "l", asked, together=True)
    said = "Weights of 1 of its runs were trained again on another machine"
    assert said in _completeness(figure, here, True) and said not in _completeness(figure, clean, True)
    curves = Figure("test.curves", "Curves", "quick", "curves", series, "p", "l")
    assert "trained again" not in _completeness(curves, here, True)  # the histories are those that were here
