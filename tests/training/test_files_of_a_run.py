"""No file of a run can silently tell something else: damaged, lost, foreign, unreadable, torn by a power cut."""

import errno
import json
import os
import shutil
import sys
import textwrap
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import programs
import pytest
import torch
from pandas.testing import assert_frame_equal
from ten_clients import thinned

import flatlab as fl
from flatlab.training.history import History

pytestmark = pytest.mark.filterwarnings("ignore:.*(round-0|rows|history|versions|experiment|no state in it)")
SMALL = fl.ModelSpec(name="lenet", width=0.125)
ROUNDS = 6


@pytest.fixture(scope="module")
def data():
    return federation()


def federation():
    return thinned(fl.load("digits").federate(fl.IID(), clients=4))


def spec(data, rounds=ROUNDS, **changes):
    evaluation = fl.Evaluation(every=2, clients_every=3)
    given = {"data": data.spec, "model": SMALL, "algorithm": fl.FedAvg(lr=0.05), "evaluation": evaluation}
    return fl.Experiment(**given | {"rounds": rounds, "participation": 0.5} | changes)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    return stepped(fl.Run(spec(data), data, store=tmp_path_factory.mktemp("whole"), checkpoint_every=2))


def stepped(run):
    """To the end, with a state after each round, of which 5 and 6 stay as the latest."""
    for _ in run:
        pass
    return run


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the finished run, with two rounds still in the log."""
    directory = Path(shutil.copytree(whole.directory, tmp_path / whole.id))
    history, frame = History(directory, whole.id), whole.history
    history.write(frame[frame["round"] <= 4])
    for round in (5, 6):
        history.append(frame[frame["round"] == round].to_dict("records"))
    return directory


def equal(run, whole):
    found = run.state().flat()
    for name, value in whole.state().flat().items():
        assert torch.equal(found[name], value), name
    assert_frame_equal(run.history, whole.history, check_exact=True)


def opened(directory, data, **options):
    return fl.Run(spec(data), data, store=directory.parent, checkpoint_every=2, **options)


FILES = [
    "checkpoints/round-000006.safetensors",
    "checkpoints/round-000004.safetensors",
    "history.parquet",
    "history.log",
    "versions.json",
    "experiment.json",
    "timings.jsonl",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["lost", "empty", "torn", "zeros"])
def test_what_is_lost_is_made_again_and_said(copy, whole, data, name, harm):
    path, content = copy / name, (copy / name).read_bytes()
    harmed = {"lost": None, "empty": b"", "torn": content[: len(content) // 2], "zeros": bytes(len(content))}[harm]
    path.unlink() if harmed is None else path.write_bytes(harmed)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        equal(opened(copy, data).to(), whole)
    silent = name == "timings.jsonl" or (harm == "lost" and "round-" in name) or "000004" in name
    assert silent or said
    assert all("\n" not in str(warning.message) for warning in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was mended for good
        again = fl.Run.open(copy, data)
        equal(again, whole)
    assert again.state(6).round == 6 and again.record.missing == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("flips", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_no_flipped_bit_gives_other_numbers(copy, whole, data, name, flips):
    path, content = copy / name, (copy / name).read_bytes()
    kept = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file() and file.name != ".lock"}
    times = whole.timings.set_index("round")
    for bit in np.random.default_rng(0).choice(8 * len(content), min(flips, 8 * len(content)), replace=False):
        shutil.rmtree(copy)
        for file, before in kept.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(before)
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        fl.training.Standing(copy.parent).table()
        run = fl.Run.open(copy, data)  # a reader: what it shows is true, as far as it goes
        seen = run.history.merge(whole.history, how="left", on=["round", "split", "metric", "client"])
        assert (seen["value_x"] == seen["value_y"]).all(), bit
        for row in run.timings.to_dict("records"):
            assert times.loc[row["round"]].to_dict() == {k: v for k, v in row.items() if k != "round"}, bit
        equal(fl.Run(spec(data), data, store=copy.parent).to(), whole)


def test_a_copied_state_is_not_taken_for_another_round(copy, whole, data):
    """Training went on for ever, from the state after round 4, which called itself 9's."""
    store = opened(copy, data).record.store
    shutil.copy(store.checkpoint(4), store.checkpoint(9))
    run = opened(copy, data)
    assert run.round == 6
    equal(run.to(), whole)
    for round in (5, 6):
        store.checkpoint(round).unlink(missing_ok=True)
    run = opened(copy, data)
    assert run.round == 4
    equal(run.to(), whole)
    assert (copy / "checkpoints" / "round-000009.damaged").exists()


@pytest.mark.parametrize(
    "changes", [{"algorithm": fl.FedAvg(lr=0.01)}, {"algorithm": fl.FedProx(lr=0.05)}, {"seed": 1}], ids=str
)
def test_a_state_of_another_run_is_passed_over(copy, whole, data, changes):
    other = stepped(fl.Run(spec(data, **changes), data, store=copy.parent, checkpoint_every=2))
    for name in ("round-000006.safetensors", "round-000005.safetensors"):
        shutil.copy(other.directory / "checkpoints" / name, copy / "checkpoints" / name)
    with pytest.warns(UserWarning, match=f"is the state of {other.id} after round 6"):
        run = opened(copy, data)
    assert run.round == 4
    equal(run.to(), whole)


def unreadable(names):
    """Files that the disk or the permissions keep from being read."""
    read = Path.read_bytes

    def reads(path):
        if path.name in names:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path)

    return mock.patch.object(Path, "read_bytes", reads)


def test_what_cannot_be_read_is_left_as_it_is(copy, whole, data):
    names = [file.name for file in (copy / "checkpoints").iterdir()]
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    with unreadable(["round-000006.safetensors"]), pytest.warns(UserWarning, match="Input/output error"):
        assert opened(copy, data).round == 5
    with unreadable(names), pytest.raises(fl.BadCheckpoint, match="no state in it can be used"):
        opened(copy, data)
    with unreadable(["history.parquet", "history.log"]):
        run = opened(copy, data)
        with pytest.raises(OSError, match="Input/output error"):
            _ = run.history
    with unreadable(["round-000006.safetensors", "round-000005.safetensors"]):
        assert opened(copy, data).to(5).round == 5  # trained again, from the state that can be read
    after = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file() and not file.name.startswith(".")}
    for file, content in before.items():
        assert "round-" not in file.name or after[file] == content
    assert not list(copy.rglob("*damaged*"))
    equal(opened(copy, data).to(), whole)


def test_a_reader_sets_nothing_aside(copy, data):
    path = copy / "checkpoints" / "round-000006.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="cannot be understood"):
        assert fl.Run.open(copy, data).round == 5
    assert path.exists() and not list(copy.rglob("*damaged*"))
    opened(copy, data).to()
    assert (copy / "checkpoints" / "round-000006.damaged").exists()


def test_a_lost_end_of_a_finished_run_is_trained_again_and_not_called_done(copy, whole, data):
    (copy / "history.log").unlink()
    with pytest.warns(UserWarning, match="the rows of rounds 5 to 6 are lost"):
        run = fl.Run.open(copy, data)
    assert run.done and run.history["round"].max() == 4
    rounds, advance = [], type(run.federation).advance
    with mock.patch.object(
        type(run.federation), "advance", lambda self, state, *a: rounds.append(state.round) or advance(self, state, *a)
    ):
        equal(run.to(), whole)
    assert rounds == [4, 5]  # from the state before them, not from the start


def test_rows_of_a_parent_come_from_its_record(data, tmp_path):
    parent = fl.Run(spec(data), data, store=tmp_path).to(3)
    child = parent.fork(round=3, algorithm=fl.FedAvg(lr=0.01)).to()
    wanted = child.history
    (child.directory / "history.parquet").unlink()
    assert_frame_equal(fl.Run.open(child.directory, data).to().history, wanted, check_exact=True)
    (child.directory / "history.parquet").unlink()
    shutil.rmtree(parent.directory)
    with pytest.warns(UserWarning, match="the rows of rounds 1 to 3 cannot be made again"):
        rest = fl.Run.open(child.directory, data).to().history
    assert_frame_equal(rest, wanted[wanted["round"] > 3].reset_index(drop=True), check_exact=True)


def test_a_fork_whose_parent_was_deleted_says_so(data, tmp_path):
    parent = fl.Run(spec(data), data, store=tmp_path).to(2)
    child = parent.fork(round=2, seed=1)
    shutil.rmtree(child.directory)
    shutil.rmtree(parent.directory)
    with pytest.raises(fl.SettingError, match=f"parent.run = '{parent.id}'.* not in this store, deleted or moved"):
        fl.Run(child.experiment, data, store=tmp_path)


def test_conflict_copies_are_no_states(copy, whole, data):
    folder = copy / "checkpoints"
    for name in ("round-000012 (copy).safetensors", "round-000099~.safetensors", "round-12.safetensors"):
        shutil.copy(folder / "round-000004.safetensors", folder / name)
    equal(opened(copy, data), whole)
    assert (folder / "round-000012 (copy).safetensors").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "float3"}, r"precision = 'float3': must be 'float32' or 'tf32' or 'bfloat16'"),
        ({"precision": [1] * 1000}, r"precision = \[1, .{10,60}: must be"),
        ({"threads": "many"}, "threads = 'many': must be a whole number"),
    ],
)
def test_values_that_cannot_be_are_refused_in_one_sentence(copy, data, change, said):
    versions = json.loads((copy / "versions.json").read_text())
    del versions["check"], versions["format"]  # as it was before it had them
    (copy / "versions.json").write_text(json.dumps(versions | change))
    with pytest.raises(fl.SettingError, match=rf"versions.json: {said}"):
        opened(copy, data)


def test_a_file_of_a_later_version_is_refused_and_left(copy, data, monkeypatch):
    versions = json.loads((opened(copy, data).directory / "versions.json").read_text())
    monkeypatch.setattr("flatlab.files.FORMAT", 2)
    sealed = fl.files.sealed({k: v for k, v in versions.items() if k not in ("check", "format")}, copy.name)
    monkeypatch.undo()
    (copy / "versions.json").write_text(json.dumps(sealed))
    with pytest.raises(fl.SettingError, match=r"written by a later flatlab .format 2, here 1.; update"):
        opened(copy, data)
    assert json.loads((copy / "versions.json").read_text()) == sealed


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM])
def test_a_file_system_without_locks_is_told_in_one_sentence(tmp_path, data, code):
    with (
        mock.patch("fcntl.flock", side_effect=OSError(code, os.strerror(code))),
        pytest.raises(fl.SettingError, match=f"cannot lock files .*{os.strerror(code)}.*another file system"),
    ):
        fl.Run(spec(data), data, store=tmp_path).to(1)


def test_links_to_a_run_lead_to_it(copy, whole, data, tmp_path):
    elsewhere = tmp_path / "big" / "disk"
    elsewhere.parent.mkdir()
    shutil.move(copy, elsewhere)
    copy.symlink_to(elsewhere, target_is_directory=True)
    equal(fl.Run.open(copy, data), whole)
    (tmp_path / "latest").symlink_to(copy, target_is_directory=True)
    equal(opened(copy, data).to(), whole)
    table = fl.training.Standing(tmp_path).table()
    assert table["run"].tolist() == [whole.id] and table["round"].tolist() == [6]


def test_a_tilde_and_a_relative_store_hold_wherever_one_stands_later(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = fl.Run(spec(data), data, store="~/x").to(2)
    near = fl.Run(spec(data), data, store="runs").to(1)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert run.directory.parent == tmp_path / "home" / "x"
    assert near.to(2).round == fl.Run.open(f"~/x/{run.id}", data).round == 2
    assert not list((tmp_path / "other").iterdir())


def test_a_record_is_opened_where_its_partition_file_is_not(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fl.load("digits").federate(fl.IID(), clients=4).save_partition("split.json")
    fixed = fl.load("digits").federate(fl.Fixed(path="split.json"))
    run = fl.Run(spec(fixed), fixed, store=tmp_path / "runs").to(2)
    fl.load("digits").federate(fl.IID(), clients=4, seed=1).save_partition("split.json")  # another, of the same name
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.directory, tmp_path / "moved" / run.id)
    again = fl.Run.open(tmp_path / "moved" / run.id)
    assert again.to(3).round == 3 and again.data.fingerprint == fixed.fingerprint


def test_the_history_is_not_read_again_each_round(data, tmp_path):
    every = fl.Evaluation(every=1, clients_every=1)
    run = fl.Run(spec(data, rounds=30, evaluation=every), data, store=tmp_path, checkpoint_every=2).to(3)
    read = []
    with mock.patch.object(History, "_table", side_effect=read.append):
        run.record._synced = float("inf")  # no fold, which a second allows
        run.to(29)
    assert not read
    assert run.best_round == run.record._best


def test_the_disk_is_waited_for_once_a_second_and_at_the_end(data, tmp_path):
    synced = []
    with mock.patch("flatlab.training.checkpoints.sync_files", synced.append):
        run = fl.Run(spec(data, rounds=40), data, store=tmp_path, checkpoint_every=1)
        run.record._synced = float("inf")
        for _ in range(20):
            run.step()
        assert not synced
        run.record._synced = -float("inf")
        run.step()
        assert len(synced) == 1 and run.record.store.checkpoint(21) in synced[0]
        run.record._synced = float("inf")
        run.to()
    assert len(synced) == 2 and run.directory / "history.log" in synced[1]


KILLER = textwrap.dedent(
    """
    import os, pathlib, signal, sys, time, warnings
    import numpy as np, torch
    torch.set_num_threads(1)
    sys.path[:] = {tests!r}
    import flatlab as fl, flatlab.training.recording as record
    from test_files_of_a_run import federation, spec
    record.LAZY_SECONDS, record.SYNC_SECONDS = 0.01, 0.05
    store, kills, random = sys.argv[1], int(sys.argv[2]), np.random.default_rng(0)
    data = federation()
    warnings.simplefilter("error")
    def size():
        return sum(file.stat().st_size for file in pathlib.Path(store).glob("*/timings.jsonl"))

    for number in range(kills):
        before, deadline = size(), time.monotonic() + 120
        child = os.fork()
        if not child:
            try:
                fl.Run(spec(data, rounds=5000), data, store=store, device="cpu").to()
            except BaseException as error:
                print(repr(error), flush=True)
            os._exit(1)
        while number % 2 and size() == before and time.monotonic() < deadline:
            time.sleep(0.005)  # each second one gets on, however busy the machine is
        time.sleep(random.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        run = fl.Run(spec(data, rounds=5000), data, store=store, device="cpu")
        assert run.record.missing == []
        print(run.round, flush=True)
    """
)


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_kills_lose_nothing(data, tmp_path, kills):
    """Killed at any moment, also inside a write; the next process goes on without a word, and nothing is other."""
    program = KILLER.format(tests=sys.path)
    done = programs.run(["-c", program, tmp_path / "killed", kills])
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [int(line) for line in done.stdout.split()]
    assert len(rounds) == kills and rounds == sorted(rounds) and rounds[-1] > 0
    killed = fl.Run(spec(data, rounds=5000), data, store=tmp_path / "killed", device="cpu")
    again = fl.Run(spec(data, rounds=5000), data, store=tmp_path / "whole", device="cpu").to(killed.round)
    equal(killed, again)


@pytest.mark.parametrize("order", [[5, 6], [6, 5], [6, 5, 6]], ids=str)
@pytest.mark.parametrize("after", [0, 3, 4, 5, 6])
def test_the_rows_since_a_round_are_those_behind_it_wherever_they_lie(copy, whole, data, order, after):
    frame, log = whole.history, History(copy, whole.id)
    log.log.write_bytes(b"")
    for round in order:  # rounds that were lost come later than others, or twice
        log.append(frame[frame["round"] == round].to_dict("records"))
    run = fl.Run.open(copy, data)
    expected = frame[frame["round"] > after].reset_index(drop=True)
    assert_frame_equal(run.history_since(after), expected)
    columns = run.rows.columns(after, run.round)
    assert all(np.array_equal(columns[name], expected[name].to_numpy()) for name in expected), "column by column, too"
    assert_frame_equal(run.rewind(5).history_since(after), expected[expected["round"] <= 5])
