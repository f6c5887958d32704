"""Progress is read from disk: true, cheap, and without the trainers noticing, whatever state their files are in."""

import contextlib
import math
import os
import shutil
import time
from pathlib import Path
from unittest import mock

import numpy as np
import programs
import pytest
from planted import experiments, plant, stop_the_clock

import flatlab as fl
from flatlab.training import Standing
from flatlab.training.checkpoints import Store
from flatlab.training.history import History, lines
from flatlab.training.status import notes, readable, silent, summary

SMALL = fl.ModelSpec(name="lenet", width=0.125)


def row(standing, run=None):
    """The row of a run, or of the only one."""
    table = standing.table()
    found = table if run is None else table[table["run"] == run]
    assert len(found) == 1
    return found.iloc[0]


def small_run(digits, store, rounds=4):
    spec = fl.Experiment(data=digits.spec, model=SMALL, algorithm=fl.FedAvg(lr=0.05), rounds=rounds, participation=0.5)
    return fl.Run(spec, digits, store=store, channels_last=False)


TRAIN = """
import sys, flatlab as fl
data = fl.load("few", sys.argv[2]).federate(fl.IID(), clients=6, seed=0)
model = fl.ModelSpec(name="lenet", width=0.125)
experiment = fl.Experiment(data=data.spec, model=model, algorithm=fl.FedAvg(), rounds=30, participation=0.5)
run = fl.Run(experiment, data, store=sys.argv[1])
while not run.done:
    if run.step().number % 5 == 0:
        sys.stdin.readline()  # so many rounds were seen
"""


def test_a_run_in_another_process_is_followed_and_not_disturbed(few, tmp_path):
    standing, heard = Standing(tmp_path), []
    process = programs.start(["-c", TRAIN, tmp_path, few])
    while process.poll() is None:
        heard += standing.table()["round"].tolist()
        if heard[-1:] > heard[-2:-1]:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("\n")
                process.stdin.flush()
        time.sleep(0.05)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert heard == sorted(heard) and len(set(heard)) > 5
    end, run = row(standing), fl.Run.open(next(tmp_path.glob("fedavg*")), root=few)
    assert (end["round"], end["rounds"], end["left"]) == (30, 30, 0) and math.isnan(end["idle"])
    history = run.history.query("split == 'holdout' and metric == 'accuracy'")
    assert end["accuracy"] == history["value"].iloc[-1]
    last = run.timings.tail(20)
    assert end["seconds"] == pytest.approx((last["seconds"] + last["evaluation_seconds"]).mean())


def test_a_look_takes_no_lock(digits, tmp_path):
    run = small_run(digits, tmp_path).to(1)
    with mock.patch("filelock.BaseFileLock.acquire", side_effect=AssertionError("a lock was taken")):
        assert row(Standing(tmp_path))["round"] == 1
        with pytest.raises(AssertionError, match="a lock"):  # else nothing was tested
            run.step()


def test_a_fork_stands_where_it_begins_with_its_parents_accuracy(digits, tmp_path):
    run = small_run(digits, tmp_path).to(3)
    child = run.fork(round=2)
    standing = Standing(tmp_path)
    found = row(standing, child.id)
    assert (found["round"], found["name"]) == (2, "FedAvg, from round 2") and math.isnan(found["left"])
    history = run.history.query("split == 'holdout' and metric == 'accuracy'").set_index("round")["value"]
    assert found["accuracy"] == history[2]
    child.step()
    assert row(standing, child.id)["round"] == 3 and row(standing, child.id)["left"] > 0


def test_runs_appear_by_themselves_and_are_told_apart(tmp_path):
    standing = Standing(tmp_path / "later")
    assert standing.table().empty and readable(standing.table()).empty
    first, second = experiments(2)
    plant(tmp_path / "later", first, 3)
    assert standing.table()["name"].tolist() == ["FedAvg"]
    plant(tmp_path / "later", second, 0)
    assert standing.table()["name"].tolist() == ["FedAvg, seed 0", "FedAvg, seed 1"]
    assert standing.table()["round"].tolist() == [3, 0]


def test_experiments_are_listed_before_they_begin_and_others_are_not(tmp_path):
    first, second, other = experiments(3)
    plant(tmp_path, other, 4)
    standing = Standing(tmp_path, [second, first])
    table = standing.table()
    assert table["run"].tolist() == [second.id, first.id] and table["seed"].tolist() == [1, 0]
    assert (table["round"] == 0).all() and table[["accuracy", "seconds", "left", "idle"]].isna().all(axis=None)
    assert notes(table) == ["", ""]
    plant(tmp_path, first, 1)
    assert standing.table()["round"].tolist() == [0, 1]


def test_an_experiment_that_names_no_run_yet_is_refused(tmp_path):
    with pytest.raises(fl.SettingError, match=r"fingerprint = None.*data\.spec"):
        Standing(tmp_path, [fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm="FedAvg")])


def test_what_is_torn_half_removed_or_strange_is_passed_over(tmp_path):
    good, torn, bare, gone = experiments(4)
    plant(tmp_path, good, 3)
    for name in ("history.log", "timings.jsonl"):
        with open(plant(tmp_path, torn, 3).directory / name, "a") as file:
            file.write('\n[{"round": 4, "split": "holdo')
    standing = Standing(tmp_path)
    plant(tmp_path, gone, 3)
    assert len(standing.table()) == 3
    shutil.rmtree(tmp_path / gone.id)
    shutil.rmtree(plant(tmp_path, bare, 2).directory / "checkpoints")
    (tmp_path / "begun").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "experiment.json").write_text('{"algorithm": {"kin')
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "experiment.json").write_text('{"algorithm": {"kind": "Unknown"}}')
    (tmp_path / "figure.png").touch()
    table = standing.table()
    assert table["run"].tolist() == [good.id, torn.id]
    assert table["accuracy"].tolist() == [0.5, 0.5] and table["seconds"].tolist() == [2.0, 2.0]
    given = Standing(tmp_path, [good, gone])
    assert given.table()["round"].tolist() == [3, 0]
    shutil.rmtree(tmp_path / good.id)
    assert given.table()["round"].tolist() == [0, 0]


def test_a_directory_that_vanishes_while_it_is_read_keeps_its_row_until_the_next_look(tmp_path):
    (one,) = experiments()
    run = plant(tmp_path, one, 2)
    standing = Standing(tmp_path)
    standing.table()
    plant(tmp_path, one, 3)
    with mock.patch.object(Store, "checkpoint", return_value=run.directory / "gone"):
        assert row(standing)["round"] == 2
    assert row(standing)["round"] == 3


def test_rounds_on_record_beyond_the_last_state_do_not_count(tmp_path):
    """A killed trainer may have noted a round whose state it did not write."""
    (one,) = experiments()
    run = plant(tmp_path, one, 3)
    ahead = {"round": 4, "split": "holdout", "metric": "accuracy", "value": 0.9, "client": -1}
    run.history.append([ahead])
    assert row(Standing(tmp_path))["accuracy"] == 0.5
    run.history.fold(4)
    assert row(Standing(tmp_path))["accuracy"] == 0.5


def test_the_last_accuracy_is_found_while_the_log_is_folded(tmp_path):
    """Whatever is read first: after it the trainer moves the rows from the log into the table."""
    (one,) = experiments()
    run, folded = plant(tmp_path, one, 3), []

    def then_folds(read):
        def reads(*args, **options):
            try:
                return read(*args, **options)
            finally:
                if not folded:
                    folded.append(read)
                    run.history.fold(3)

        return reads

    def read_lines(path, *args, **options):
        return list(lines(path, *args, **options)) if path.name == "history.log" else lines(path, *args, **options)

    with (
        mock.patch("flatlab.training.history.lines", then_folds(read_lines)),
        mock.patch.object(History, "_table", then_folds(History._table)),
    ):
        assert row(Standing(tmp_path))["accuracy"] == 0.5
    assert folded and (run.directory / "history.log").read_text() == ""
    assert row(Standing(tmp_path))["accuracy"] == 0.5


def test_a_fold_between_two_reads_loses_no_rows(tmp_path):
    """A reader that has read the log; then the trainer folds, and appends; then the reader reads the table."""
    (one,) = experiments()
    run = plant(tmp_path, one, 3)
    reader, table = History(run.directory, run.run), History._table

    def folds_first(self):
        if self is reader:
            run.history.fold(3)
        return table(self)

    with mock.patch.object(History, "_table", folds_first):
        assert reader.read()["round"].tolist() == [1, 1, 2, 2, 3, 3]
    assert reader.read()["round"].tolist() == [1, 1, 2, 2, 3, 3]


@contextlib.contextmanager
def files_read():
    """The files whose contents are read inside the block."""
    found, read = [], Path.read_bytes

    def read_bytes(path):
        found.append(path)
        return read(path)

    with mock.patch.object(Path, "read_bytes", read_bytes):
        yield found


@pytest.mark.parametrize("given", [True, False])
def test_a_look_at_a_hundred_runs_reads_only_those_that_went_on(tmp_path, given):
    wanted = experiments(100, rounds=5)
    for one in wanted:
        plant(tmp_path, one, 1)
    standing = Standing(tmp_path, wanted if given else None)
    with files_read() as read:
        first = standing.table()
    assert len(read) == (200 if given else 300) and (first["round"] == 1).all()
    with files_read() as read, mock.patch("flatlab.training.status.experiment_labels") as named:
        assert standing.table()["name"].equals(first["name"])
    assert read == [] and not named.called
    plant(tmp_path, wanted[42], 2)
    with files_read() as read:
        assert standing.table()["round"].sum() == 101
    assert {"experiment.json"} ^ {path.name for path in read} >= {"history.log", "timings.jsonl"}  # it was planted anew
    assert {path.parent.name for path in read} == {wanted[42].id}


def test_time_left_follows_the_states_where_runs_share_their_time(tmp_path):
    """Two runs of one batch: each is timed at half of what its rounds take."""
    for one in experiments(2):
        plant(tmp_path, one, 4, seconds=2.0, every=4.0)
    assert Standing(tmp_path).table()["left"].tolist() == pytest.approx([24, 24])


def test_a_pause_between_two_states_is_not_taken_for_a_slow_round(tmp_path):
    (one,) = experiments()
    plant(tmp_path, one, 4, seconds=2.0, every=3600.0)
    assert row(Standing(tmp_path))["left"] == pytest.approx(12)


def test_who_writes_nothing_for_long_is_silent_as_its_rounds_go(tmp_path, monkeypatch):
    stop_the_clock(monkeypatch)
    quick, slow, finished, starting = experiments(4)
    plant(tmp_path, quick, 4, ago=100)
    plant(tmp_path, slow, 4, seconds=30.0, every=30.0, ago=100)
    plant(tmp_path, finished, 10, ago=1000)
    plant(tmp_path, starting, 0, ago=100)
    table = Standing(tmp_path).table()
    assert silent(table).tolist() == [True, False, False, False]
    assert table["idle"].tolist() == pytest.approx([100, 100, np.nan, 100], abs=0.1, nan_ok=True)
    assert readable(table)["idle"].str.startswith("silent 01:40").tolist() == [True, False, False, False]
    assert notes(table)[:3] == [f"50.0 %, {readable(table)['idle'][0]}", "50.0 %, 03:00 left", "50.0 %, done"]
    assert summary(table) == "18 of 40 rounds, 1 of 4 runs done, 1 silent"


def test_the_total_tells_the_time_left_once_all_runs_have_begun(tmp_path):
    first, second = experiments(2)
    plant(tmp_path, first, 10)
    standing = Standing(tmp_path, [first, second])
    assert summary(standing.table()) == "10 of 20 rounds, 1 of 2 runs done"
    plant(tmp_path, second, 4)
    assert summary(standing.table()) == "14 of 20 rounds, 1 of 2 runs done, 00:12 left"


def test_a_clock_that_is_behind_gives_no_negative_time(tmp_path):
    (one,) = experiments()
    plant(tmp_path, one, 3, ago=-5000)
    assert row(Standing(tmp_path))["idle"] == 0


def test_looking_changes_nothing(tmp_path):
    (one,) = experiments()
    run = plant(tmp_path, one, 3)
    before = {path: os.stat(path).st_mtime_ns for path in [run.directory, *run.directory.rglob("*")]}
    Standing(tmp_path).table()
    assert {path: os.stat(path).st_mtime_ns for path in [run.directory, *run.directory.rglob("*")]} == before
