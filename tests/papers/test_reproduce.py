"""A small table from nothing to files: kept, resumed, merged, told when not complete, and the same bytes again."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import flatlab as fl
from flatlab.papers import SCALES, Archive, Table, Workshop, fill, plan, processes
from flatlab.papers.archive import condensed
from flatlab.papers.beyond import _until, beyond, section
from flatlab.papers.costs import megabytes_a_round
from flatlab.papers.filled import _made_with
from flatlab.papers.judging import Claim, Part, Side, judge, overall, page
from flatlab.papers.measurements import Measurement
from flatlab.papers.pictures import lacking, picture, save, tuning
from flatlab.papers.quantities import gain, initial, personalization, personalized, score
from flatlab.papers.registry import built
from flatlab.papers.report import _most_kept, reproduction
from flatlab.papers.tables import Figure, Published, cell
from flatlab.training.experiment import Parent

TUNING = personalization(epochs=2, lr=0.01)
SEEDS = (0, 1, 2)


def experiment(kind, seed, swa=False, **changes):
    algorithm = fl.Algorithm.members()[kind](
        lr=0.05, local_steps=3, swa=fl.SWA(start=0.5, cycle=1, low=0.01) if swa else None
    )
    data = fl.DataSpec(name="digits", clients=4, partition=fl.Classes(per_client=3), seed=seed)
    settings = {"model": fl.ModelSpec(name="lenet", width=0.125), "rounds": 4, "seed": seed, "participation": 0.5}
    return fl.Experiment(
        data=data, algorithm=algorithm, evaluation=fl.Evaluation(clients_every=2), **settings | changes
    )


def forked(seed):
    parent = experiment("FedAvg", seed)
    return experiment("FedASAM", seed, rounds=6, parent=Parent(run=parent.id, round=3))


@pytest.fixture(scope="module")
def table():
    rows = {"FedAvg": ("FedAvg", False), "FedAvg + SWA": ("FedAvg", True), "FedBABU": ("FedBABU", False)}
    cells = []
    for row, (kind, swa) in rows.items():
        for column, quantity in (("holdout", score(2)), ("initial", initial()), ("tuned", personalized(TUNING))):
            published = (Published("50.00±2.00"),) if row == "FedAvg" else ()
            make = lambda seed, kind=kind, swa=swa: experiment(kind, seed, swa)  # noqa: E731
            cells.append(cell(row, column, quantity, make, SEEDS, published))
    parent = lambda seed: experiment("FedAvg", seed)  # noqa: E731
    cells.append(cell("fork", "holdout", score(), forked, SEEDS, parent=parent))
    return Table("test.table", "A table", "quick", tuple(cells), "four clients", "nearly everything")


def work(folder, archive, said=None):
    return Workshop(archive, folder / "runs", device="cpu", report=(said if said is not None else []).append)


@pytest.fixture(scope="module")
def done(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    archive, said = Archive(folder / "results"), []
    workshop = work(folder, archive, said)
    workshop.do(plan([table], archive, has_weights=workshop.has_weights))
    return folder, archive, said


def test_all_is_kept_and_nothing_is_done_twice(table, done):
    folder, archive, said = done
    assert sum(line.startswith("[") for line in said) == 12 and sum("personalize" in line for line in said) == 9
    again = plan([table], archive, has_weights=work(folder, archive).has_weights)
    assert not again.trainings and not again.measurings and again.kept == 12
    assert not list((folder / "results").rglob("*.safetensors"))


def test_other_digits_and_engines_are_kept_told_and_taken_by_every_worker(table, done, tmp_path):
    few = dataclasses.replace(table, cells=tuple(one for one in table.cells if one.row in ("FedAvg", "FedBABU")))
    assert "bfloat16" not in fill(few, done[1]).markdown()
    archive = Archive(tmp_path / "results")
    asked = {"precision": "bfloat16", "engine": "batch"}
    workshop = Workshop(archive, tmp_path / "runs", device="cpu", report=[].append, **asked)
    processes.do(workshop, plan([few], archive), workers=2)
    kept = [archive.about(run)["versions"] for run in few.experiments().values()]
    assert len(kept) == 6 and all(asked.items() <= versions.items() for versions in kept)
    made = fill(few, archive)
    assert len(made.versions) == 1 and made.versions[0].endswith(", bfloat16") and "bfloat16" in made.latex()
    assert workshop.run(experiment("FedAvg", 5)).cohort.precision == "bfloat16"
    later = Workshop(archive, tmp_path / "runs", device="cpu", report=[].append, precision="tf32")
    begun = later.run(experiment("FedAvg", 0)).cohort  # it goes on, or is measured, as it began
    assert (begun.precision, begun.way) == ("bfloat16", "batch")
    new = later.run(experiment("FedAvg", 5)).cohort
    assert (new.precision, new.way) == ("tf32", "loop")
    assert _made_with({"precision": "tf32", "device_type": "cpu"}) == _made_with({})  # which has no such digits
    assert _made_with({"precision": "tf32", "device_type": "cuda"}).endswith(", tf32")


def test_runs_that_a_gpu_trains_side_by_side_come_to_the_same(table, done, tmp_path):
    _, wanted, _ = done
    archive, said = Archive(tmp_path / "results"), []
    workshop = work(tmp_path, archive, said)
    workshop._fills = True
    workshop.do(plan([table], archive, has_weights=workshop.has_weights))
    places = [line.split("]")[0] for line in said if line.startswith("[")]
    assert len(places) == 12 and places[:3] == 3 * ["[3/12"]  # FedAvg's seeds
    for run in table.experiments().values():
        pd.testing.assert_frame_equal(archive.history(run), wanted.history(run))


def test_numbers_are_those_of_the_runs_themselves(table, done):
    folder, archive, _ = done
    runs = [fl.Run(experiment("FedBABU", seed), store=folder / "runs", device="cpu").to() for seed in SEEDS]
    histories = [
        run.history[(run.history["split"] == "holdout") & (run.history["metric"] == "accuracy")] for run in runs
    ]
    expected = [history[history["round"].isin([3, 4])]["value"].mean() for history in histories]
    tuned = [fl.personalize(run, epochs=2, lr=0.01).frame.query("epoch == 2")["accuracy"] for run in runs]
    cells = {(f.cell.row, f.cell.column): f for f in fill(table, archive).cells}
    assert list(cells["FedBABU", "holdout"].numbers.values()) == pytest.approx(expected, abs=1e-12)
    found = cells["FedBABU", "tuned"]
    assert list(found.numbers.values()) == pytest.approx([part.mean() for part in tuned], abs=1e-12)
    assert found.over("spread") == pytest.approx(np.mean([np.std(part) for part in tuned]))


def test_values_that_are_no_numbers_are_left_out_counted_and_said(done, tmp_path):
    _, archive, _ = done
    here, runs = Archive(shutil.copytree(archive.folder, tmp_path / "here")), [experiment("FedAvg", s) for s in SEEDS]
    files = [here.folder / "runs" / run.id / "history.parquet" for run in runs]
    for path, client in ((files[0], 0), (files[1], None)):  # one client of seed 0, all of seed 1
        frame = pd.read_parquet(path)
        late = (frame["round"] == 4) & (frame["metric"] == "accuracy")
        chosen = late if client is None else late & (frame["split"] == "test") & (frame["client"] == client)
        frame.assign(value=frame["value"].where(~chosen)).to_parquet(path)
    cells = [cell("FedAvg", name, q, lambda seed: runs[seed], SEEDS) for name, q in (("i", initial()), ("s", score()))]
    filled = fill(Table("test.nan", "N", "quick", tuple(cells), "p", "l"), here)
    own = pd.read_parquet(files[0]).query("split == 'test' and metric == 'accuracy' and round == 4")["value"]
    assert filled.cells[0].numbers[0] == pytest.approx(own.dropna().mean()) and len(own.dropna()) == 3
    assert [c.mean.n for c in filled.cells] == [2, 2] and [c.missing for c in filled.cells] == [0, 0]
    assert [c.not_finite for c in filled.cells] == [1 + 4, 1] and "(2 of 3 seeds)" in filled.cells[1].text()
    assert "**6 values of seeds, clients or rounds are no finite numbers**" in filled.markdown()
    figure = Figure("test.nan", "N", "quick", "curves", {"FedAvg": tuple(runs)}, "p", "l", split="test")
    caption = picture(figure, here).caption
    assert "5 VALUES ARE NO FINITE NUMBERS" in caption
    assert "NO FINITE" not in picture(figure, archive).caption


def test_tuned_accuracies_are_over_the_same_clients_in_cells_and_at_every_epoch(done, tmp_path):
    _, archive, _ = done
    here, run = Archive(shutil.copytree(archive.folder, tmp_path / "here")), experiment("FedAvg", 0)
    result = here.measured(TUNING, [run])
    frame = result.frame.copy()
    frame.loc[(frame["client"] == 0) & (frame["epoch"] == 1), "accuracy"] = np.nan
    here.keep_measured(TUNING, [run], dataclasses.replace(result, frame=frame))
    means = result.frame.query("client != 0").groupby("epoch")["accuracy"].mean()
    reading = personalized(TUNING).of(here, run)
    assert reading.value == pytest.approx(means[2]) and reading.left_out == 1
    assert reading.worst == result.frame.query("client != 0 and epoch == 2")["accuracy"].min()
    curve = tuning(Figure("test.t", "T", "quick", "tuning", {"FedAvg": (run,)}, "p", "l", TUNING), here)
    assert curve["mean"].tolist() == pytest.approx((100 * means).tolist()) and curve["left_out"].tolist() == [1] * 3


def test_what_lies_beyond_the_mean_is_that_of_the_runs(table, done):
    _, archive, _ = done
    frame = beyond(fill(table, archive), archive).set_index(["", "column"])
    gaps = [archive.history(experiment(kind, seed)) for kind in ("FedBABU", "FedAvg") for seed in SEEDS]
    last = [h.query("split == 'test' and metric == 'accuracy' and round == 4")["value"] for h in gaps]
    means = [100 * own.mean() for own in last]
    gap = np.mean(np.subtract(means[:3], means[3:]))
    assert frame["against"]["FedBABU", "initial"].startswith(f"FedAvg: {gap:+.2f} ± ")
    assert frame["worst tenth"]["FedBABU", "initial"] == f"{np.mean([100 * own.min() for own in last[:3]]):.2f} %"
    rows = table.only(column="holdout").rows
    curves = {(row, s): h for row in rows for s, h in zip(SEEDS, _curves(table, archive, row), strict=True)}
    level = min(h["value"].max() for h in curves.values())
    rounds = [h["round"][h["value"] >= level].min() for (row, _), h in curves.items() if row == "FedBABU"]
    assert frame["rounds"]["FedBABU", "holdout"] == f"{np.mean(rounds):.4g}"
    assert frame["level"]["FedBABU", "holdout"] == f"{100 * level:.1f} %"
    assert "#### Beyond the mean" in section(fill(table, archive), archive)


def test_a_cell_of_runs_without_a_global_model_has_no_level_to_reach():
    """The command below a table with `--cell` ended in an error there, after its training."""
    table, kept = built("fedbabu.table13", "quick"), Archive()
    row = next(row for row in table.rows if row.startswith("FedPer"))
    filled = fill(table.only(row, "s=2, personalized"), kept)
    assert filled.cells[0].mean.n and "level" not in beyond(filled, kept)


def test_a_fork_took_its_parents_rounds_as_the_parent_trained_them():
    heads = built("fedbabu.table13", "short").only("LGFedAvg, f=0.1, τ=1", "s=10, initial").cells[0]
    run, parent = heads.experiments[0], heads.parents[0]
    assert megabytes_a_round(run) < megabytes_a_round(parent) / 5 and run.parent.round == 80
    took = [_until(rounds, run, heads.parents, megabytes_a_round) for rounds in (20.0, 90.0)]
    assert took[0] == pytest.approx(20 * megabytes_a_round(parent))
    assert took[1] == pytest.approx(80 * megabytes_a_round(parent) + 10 * megabytes_a_round(run))
    assert _until(20.0, parent, (), megabytes_a_round) == pytest.approx(20 * megabytes_a_round(parent))


def test_rows_are_compared_with_the_row_of_their_own_setting():
    rivals = {c.row: c.against for c in built("fedbabu.table13", "short").cells}
    assert rivals["FedBABU, f=0.1, τ=10"] == "FedAvg, f=0.1, τ=10" and rivals["FedRep, f=0.1, τ=1"].endswith("τ=1")
    assert rivals["LocalOnly"] == "FedAvg"  # no row: the first of the column
    longer = {c.row: c.against for c in built("fedbabu.table6", "short").cells}
    assert longer["FedBABU, s=10"] == "FedAvg, s=10"
    habits = built("fedbabu.legacy", "short")
    assert {c.against for c in habits.cells} <= {"", *habits.rows}
    assert habits.only("initial, last round").cells[0].against == "initial, last round"  # with none


def _curves(table, archive, row):
    cells = table.only(row, "holdout").cells[0].experiments
    return [archive.history(run).query("split == 'holdout' and metric == 'accuracy'") for run in cells]


def test_a_tuning_curve_is_the_beginning_of_a_longer_one(done, monkeypatch):
    folder, archive, _ = done
    monkeypatch.setattr("flatlab.papers.measurements.LONGEST", 2)
    short, made = personalization(epochs=1, lr=0.01), experiment("FedBABU", 0)
    run = fl.Run(made, store=folder / "runs", device="cpu")
    found, tuned = archive.measured(short, [made]), fl.personalize(run, epochs=1, lr=0.01)
    pd.testing.assert_frame_equal(found.frame, tuned.frame)
    assert archive.has_measured(short, [made]) and not archive.has_measured(personalization(epochs=1), [made])
    cells = [cell("a", str(q.needs), q, lambda seed: made, (0,)) for q in (personalized(TUNING), personalized(short))]
    both = plan([Table("t", "t", "quick", tuple(cells), "p", "l")], Archive(folder / "nothing"))
    assert [step.measurement for step in both.measurings] == [TUNING]


def test_a_fork_goes_on_from_its_parent(done):
    _, archive, _ = done
    child, parent = archive.history(forked(0)), archive.history(experiment("FedAvg", 0))
    three = lambda frame: frame[(frame["round"] <= 3) & (frame["split"] == "train")].reset_index(drop=True)  # noqa: E731
    pd.testing.assert_frame_equal(three(child), three(parent))
    assert child["round"].max() == 6


def test_a_table_is_the_same_bytes_from_a_copy_of_what_is_kept(table, done, tmp_path):
    _, archive, _ = done
    copied = Archive(shutil.copytree(archive.folder, tmp_path / "copy"))
    for form in ("markdown", "csv", "latex"):
        assert getattr(fill(table, archive), form)() == getattr(fill(table, copied), form)()
    text = fill(table, archive).markdown()
    assert (
        "[50.00 ± 2.00 recalled]" in text
        and "Their ± is" in text
        and "recalled, unverified" in text
        and "flatlab reproduce test.table" in text
    )
    assert "Not complete" not in text
    rows = pd.read_csv(tmp_path / "t.csv") if (tmp_path / "t.csv").write_text(fill(table, archive).csv()) else None
    assert len(rows) == len(table.cells) and set(rows["seeds"]) == {3}


def test_results_of_two_machines_merge(table, done, tmp_path):
    _, archive, _ = done
    here, there = Archive(tmp_path / "here"), Archive(tmp_path / "there")
    shutil.copytree(archive.folder, here.folder)
    shutil.copytree(archive.folder, there.folder)
    for seed in SEEDS:
        shutil.rmtree(here.folder / "runs" / experiment("FedBABU", seed).id)
    gaps = fill(table, here).markdown()
    assert (
        "Not complete: 3 of its runs are missing" in gaps and "but for rows (1) and columns (0) without a num" in gaps
    )
    assert list(fill(table, here).printed().iloc[:, 0]) == [row for row in table.rows if row != "FedBABU"]
    assert len(fill(table, here).frame()) == len(table.cells)
    said = tuple(dataclasses.replace(cell, published=table.cells[0].published) for cell in table.cells)
    for whole in (fill(dataclasses.replace(table, cells=said), here), fill(table, Archive(tmp_path / "empty"))):
        assert len(whole.printed()) == len(table.rows) and "missing" in whole.markdown()
    todo = plan([table], here)
    assert {step.experiment.algorithm.kind for step in todo.trainings} == {"FedBABU"}
    merged = here.merge(there)
    assert len(merged.added) == 9 and not merged.other and merged.same
    assert fill(table, here).csv() == fill(table, archive).csv()


def test_merging_keeps_what_is_here_and_names_what_differs(done, tmp_path):
    _, archive, _ = done
    other = Archive(shutil.copytree(archive.folder, tmp_path / "other"))
    path = other.folder / "runs" / experiment("FedAvg", 1).id / "history.parquet"
    frame = pd.read_parquet(path)
    frame.assign(value=frame["value"] + 0.01).to_parquet(path)
    before = archive.history(experiment("FedAvg", 1))
    assert [name.split("/")[1] for name in archive.merge(other).other] == [experiment("FedAvg", 1).id]
    pd.testing.assert_frame_equal(archive.history(experiment("FedAvg", 1)), before)


def test_a_measurement_of_another_training_is_told_beside_the_history_that_was_here(table, done, tmp_path):
    _, archive, _ = done
    victim = experiment("FedBABU", 1)
    here, there = (Archive(shutil.copytree(archive.folder, tmp_path / name)) for name in ("here", "there"))
    (lost,) = (here.folder / "runs" / victim.id).glob("personalize-*.parquet")
    lost.unlink()
    path = there.folder / "runs" / victim.id / "history.parquet"
    frame = pd.read_parquet(path)
    frame.assign(value=frame["value"] - 0.02 * (frame["split"] == "holdout")).to_parquet(path)
    about = there.about(victim)
    elsewhere = about | {"machine": about["machine"] | {"name": "another machine"}}
    (path.parent / "run.json").write_text(json.dumps(elsewhere))
    here.merge(there)
    told = here.about(victim)["again"]
    assert told["machine"] == "another machine" and told["holdout accuracy differs by"] == pytest.approx(-0.02)
    assert "Weights of 1 of its runs" in fill(table, here).markdown()
    clean = Archive(shutil.copytree(archive.folder, tmp_path / "clean"))
    (clean.folder / "runs" / victim.id / lost.name).unlink()
    clean.merge(archive)
    assert "again" not in clean.about(victim)


def test_a_run_that_diverged_elsewhere_and_is_kept_here_is_whole(table, done, tmp_path):
    _, archive, _ = done
    here, there = Archive(shutil.copytree(archive.folder, tmp_path / "here")), Archive(tmp_path / "there")
    there.keep_failure(experiment("FedAvg", 1), "diverged in round 2")
    assert len(here.merge(there).added) == 1 and not here.failure(experiment("FedAvg", 1))
    assert fill(table, here).markdown() == fill(table, archive).markdown()


def test_a_measurement_that_lacks_weights_has_its_run_trained_again(table, done, tmp_path):
    folder, archive, _ = done
    here = Archive(shutil.copytree(archive.folder, tmp_path / "here"))
    victim = experiment("FedBABU", 1)
    (lost,) = (here.folder / "runs" / victim.id).glob("personalize-*.parquet")
    kept = (lost.read_bytes(), lost.unlink())[0]
    with_weights = plan([table], here, has_weights=work(folder, here).has_weights)
    assert not with_weights.trainings and len(with_weights.measurings) == 1
    without = plan([table], here)
    assert [(step.experiment.id, step.for_weights) for step in without.trainings] == [(victim.id, True)]
    work(tmp_path, here).do(without)
    old, new = pd.read_parquet(archive.folder / lost.relative_to(here.folder)), pd.read_parquet(lost)
    pd.testing.assert_frame_equal(old, new)
    assert kept and "again" not in here.about(victim)


def test_weights_that_came_to_other_numbers_are_told_beside_the_table(table, done, tmp_path):
    folder, archive, _ = done
    here, victim = Archive(shutil.copytree(archive.folder, tmp_path / "here")), experiment("FedBABU", 1)
    path = here.folder / "runs" / victim.id / "history.parquet"
    kept = pd.read_parquet(path)
    kept.assign(value=kept["value"] - 0.015 * (kept["split"] == "holdout")).to_parquet(path)
    here.keep_again(victim, work(folder, here).run(victim))
    assert here.about(victim)["again"]["holdout accuracy differs by"] == pytest.approx(0.015)
    assert "Weights of 1 of its runs" in fill(table, here).markdown() and "1.5 points" in fill(table, here).markdown()
    merged = Archive(shutil.copytree(archive.folder, tmp_path / "merged"))
    merged.merge(here)
    assert merged.about(victim)["again"] == here.about(victim)["again"]


def test_an_interrupted_table_goes_on(table, tmp_path, done, monkeypatch):
    archive, some = Archive(tmp_path / "results"), table.only("FedBABU")
    workshop, trained = work(tmp_path, archive), []
    to = fl.Run.to

    def stops(run, *arguments, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(run.id)
        return to(run, *arguments, **options)

    monkeypatch.setattr(fl.Run, "to", stops)
    with pytest.raises(KeyboardInterrupt):
        workshop.do(plan([some], archive))
    monkeypatch.undo()
    assert plan([some], archive).kept == 2
    workshop.do(plan([some], archive, has_weights=workshop.has_weights))
    assert fill(some, archive).frame().drop(columns="note").equals(fill(some, done[1]).frame().drop(columns="note"))


def test_a_run_that_diverges_has_no_number_and_is_not_tried_again(tmp_path):
    wild = lambda seed: experiment("FedAvg", seed).replace(algorithm=fl.FedAvg(lr=1e6 if seed else 0.05))  # noqa: E731
    table = Table("test.wild", "Wild", "quick", (cell("FedAvg", "holdout", score(), wild, (0, 1)),), "p", "l")
    archive = Archive(tmp_path / "results")
    work(tmp_path, archive).do(plan([table], archive))
    filled = fill(table, archive)
    assert filled.cells[0].diverged == 1 and "(1 of 2 seeds)" in filled.cells[0].text()
    assert "Runs that diverged" in filled.markdown() and not plan([table], archive).trainings


def test_a_folder_under_another_name_is_refused(done, tmp_path):
    _, archive, _ = done
    here = Archive(shutil.copytree(archive.folder, tmp_path / "here"))
    one, other = (here.folder / "runs" / experiment("FedAvg", seed).id for seed in (0, 1))
    shutil.rmtree(one)
    shutil.move(other, one)
    with pytest.raises(fl.SettingError, match="renamed"):
        here.history(experiment("FedAvg", 0))


def test_training_rows_are_means_over_a_rounds_clients():
    rows = [(1, "train", "loss", 1.0, 3), (1, "train", "loss", 2.0, 5), (1, "train", "lr", 0.1, -1)]
    rows += [(1, "test", "accuracy", 0.5, 0), (1, "test", "accuracy", 0.7, 1)]
    frame = condensed(pd.DataFrame(rows, columns=["round", "split", "metric", "value", "client"]))
    assert frame.query("metric == 'loss'")[["value", "client"]].to_numpy().tolist() == [[1.5, -1]]
    assert len(frame) == 4 and frame.query("split == 'test'")["value"].tolist() == [0.5, 0.7]


def test_claims_are_judged_by_paired_seeds(done):
    _, archive, _ = done
    sides = {kind: tuple(experiment(kind, seed) for seed in SEEDS) for kind in ("FedAvg", "FedBABU")}
    quantity = personalized(TUNING)
    left, right = (Side(kind, quantity, runs) for kind, runs in sides.items())
    claim = Claim("test.claim", "Is it so?", (Part("tuned accuracy", left, right, "+"),), "quick")
    (judged,) = judge(claim, archive)
    values = [[quantity.of(archive, run).value for run in runs] for runs in sides.values()]
    gaps = np.subtract(*values)
    assert judged.difference.mean == pytest.approx(gaps.mean()) and judged.difference.n == 3
    includes_zero = judged.difference.low <= 0 <= judged.difference.high
    assert (judged.verdict == "undecided") == includes_zero and overall([judged]) == judged.verdict
    shorter = Part("tuned accuracy", left, Side("FedBABU", quantity, sides["FedBABU"][:2]), "+")
    (some,) = judge(Claim("test.some", "", (shorter,), "quick"), archive)
    assert some.difference.n == 2 and some.left.mean - some.right.mean == pytest.approx(some.difference.mean)
    text = page([claim], archive)
    assert "Is it so?" in text and f"{100 * gaps.mean():+.2f} points" in text
    assert not plan([claim.table()], archive).trainings
    less = Side("both", gain(TUNING), sides["FedAvg"], less=Side("other", gain(TUNING), sides["FedBABU"]))
    assert less.values(archive).keys() == set(SEEDS)


def eigenvalues_of(values):
    """Sides whose `Quantity.of` is stubbed: a quantity that is compared by ratio, by name and seed."""

    class Given(Side):
        def values(self, archive):
            return dict(enumerate(values[self.name]))

    quantity = dataclasses.replace(score(), ratio=True, unit="")
    return [Given(name, quantity, ()) for name in values]


def test_a_ratio_is_said_with_the_geometric_means_of_the_seeds_that_have_one():
    a, b, none = eigenvalues_of({"a": (2.0, 4.0, -50.0), "b": (1.0, 2.0, 3.0), "none": (-1.0, -2.0, -3.0)})
    judged = judge(Claim("t", "?", (Part("top", a, b, "+"), Part("top", none, b, "+")), "quick"), None)
    assert "geometric means 2.828 against 1.414; ratio 2," in judged[0].sentence()
    assert "2 seeds (1 more left out" in judged[0].sentence()
    assert "all 3 seeds have values without a logarithm" in judged[1].sentence()


def test_the_numbers_of_a_sentence_have_the_ratio_that_it_states():
    """One large value: arithmetic means are 4.033 and 3, the ratio of each seed but one is a tenth."""
    a, b = eigenvalues_of({"a": (0.1, 1.0, 11.0), "b": (1.0, 10.0, 1.0)})
    (judged,) = judge(Claim("t", "?", (Part("top", a, b, "+"),), "quick"), None)
    numbers = re.search(r"geometric means (\S+) against (\S+); ratio (\S+),", judged.sentence())
    ours, theirs, ratio = map(float, numbers.groups())
    assert ratio < 1 and ours / theirs == pytest.approx(ratio, rel=2e-3)
    assert judged.left.mean - judged.right.mean == pytest.approx(judged.difference.mean)


@pytest.mark.parametrize("kind", ["curves", "clients", "tuning"])
def test_figures_draw_what_is_kept_and_say_what_is_missing(kind, done, tmp_path):
    _, archive, _ = done
    series = {name: tuple(experiment(name, seed) for seed in SEEDS) for name in ("FedAvg", "FedBABU")}
    series["FedProx"] = tuple(experiment("FedProx", seed) for seed in SEEDS)
    needs = TUNING if kind == "tuning" else None
    figure = Figure(f"test.{kind}", "A figure", "quick", kind, series, "p", "l", needs, every_seed=True)
    assert "NOT COMPLETE: 3 of 9" in picture(figure, archive).caption
    paths = save(figure, archive, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert paths[0].read_bytes() == save(figure, archive, tmp_path / "again")[0].read_bytes()
    nothing = Archive(tmp_path / "nothing")
    assert picture(figure, nothing) is None and lacking(figure, nothing) == "9 of 9 runs are missing"


def test_a_figure_that_was_not_measured_is_named_on_the_page(done, tmp_path, monkeypatch):
    _, archive, _ = done
    series = {name: (experiment(name, 0),) for name in ("FedAvg", "FedBABU")}
    asked = [Figure("t.spectra", "Spectra", "quick", "spectrum", series, "p", "l", Measurement(kind="spectrum")),
             Figure("t.tuned", "Tuned", "quick", "tuning", series, "p", "l", TUNING)]  # fmt: skip
    assert lacking(asked[0], archive) == "2 of 2 measurements were not made" and not lacking(asked[1], archive)
    monkeypatch.setattr("flatlab.papers.report.BUILDERS", {figure.id: None for figure in asked})
    monkeypatch.setattr("flatlab.papers.report.built", lambda name, scale: {f.id: f for f in asked}[name])
    here = Archive(shutil.copytree(archive.folder, tmp_path / "here"))
    reproduction(here, tmp_path / "page.md")
    said = (tmp_path / "page.md").read_text()
    assert "**Not drawn: 2 of 2 measurements were not made.** Again: `flatlab reproduce t.spectra" in said
    assert (here.folder / "quick" / "claims.md").read_text() in said
    assert "![Tuned](here/quick/t.tuned.png)" in said and "| `t.spectra` | 2 of 2 | 0 of 2 | 0 |" in said


def test_bands_that_would_cover_each_other_are_left_out_and_said(done):
    _, archive, _ = done
    for count, banded in ((4, True), (5, False)):
        series = {f"FedAvg {number}": (experiment("FedAvg", 0),) for number in range(count)}
        drawn = picture(Figure("test.curves", "A figure", "quick", "curves", series, "p", "l"), archive)
        assert drawn.caption.startswith("band") == banded and (f"bands of {count}" in drawn.caption) != banded


def test_a_run_with_an_average_takes_the_plain_runs_rounds_and_has_a_straight_runs_numbers(done, tmp_path):
    _, archive, said = done
    averaged = experiment("FedAvg", 0, swa=True)
    versions = archive.about(averaged)["versions"]
    assert versions["origin"]["round"] == 2 and sum("goes on from round 2" in line for line in said) == 3
    straight = fl.Run(averaged, store=tmp_path, device="cpu", checkpoint_every=1).to()
    kept = archive.history(averaged)
    pd.testing.assert_frame_equal(condensed(straight.history), kept, check_exact=True)


def test_a_table_is_shown_at_the_scale_of_which_most_is_kept():
    scales = {item.id: item.scale for item in _most_kept(Archive(), "fed", SCALES)}
    assert scales["fedbabu.table13"] == scales["fedasam.cifar10"] == "short"  # of the one `paper` has 8 runs of 387


def test_a_fork_that_is_trained_again_for_its_weights_has_its_parent_trained_first(done):
    _, archive, _ = done
    tuned = Measurement(kind="personalize", settings=personalization(epochs=1, lr=0.05).settings)
    cells = (cell("fork", "tuned", personalized(tuned), forked, (0,), parent=lambda seed: experiment("FedAvg", seed)),)
    todo = plan([Table("test.fork", "F", "quick", cells, "p", "l")], archive)
    assert [step.experiment.id for step in todo.trainings] == [experiment("FedAvg", 0).id, forked(0).id]
    assert all(step.for_weights for step in todo.trainings)
