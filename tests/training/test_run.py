"""A run remembers everything: killed, interrupted, rewound, forked, damaged, contested."""

import json
import os
import resource
import shutil
import signal
import sys
import textwrap
import threading
import time
import types
from unittest import mock

import pandas as pd
import programs
import pytest
import ten_clients
import torch
from pandas.testing import assert_frame_equal
from patience import PATIENCE
from safetensors.torch import save

import flatlab as fl
from flatlab.training import RunDone
from flatlab.training.checkpoints import _digest
from flatlab.training.history import History

ALGORITHM = fl.FedASAM(rho=0.5, momentum=0.9, swa=fl.SWA(start=0.5, cycle=2, low=0.01), server=fl.Average(momentum=0.5))
MODEL = fl.ModelSpec(name="cnn4", width=0.125)
EVALUATION = fl.Evaluation(every=2, clients_every=3)


def experiment(digits, rounds=8, **changes):
    options = {"data": digits.spec, "model": MODEL, "algorithm": ALGORITHM, "rounds": rounds, "evaluation": EVALUATION}
    return fl.Experiment(**options | {"participation": 0.3} | changes)


def equal(run, other):
    """Bit-equal states and histories."""
    assert run.round == other.round
    mine, theirs = run.state().flat(), other.state().flat()
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name
    assert_frame_equal(run.history, other.history, check_exact=True)


@pytest.fixture(scope="module")
def digits(few_digits):
    """Files are what is tested here."""
    return few_digits


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The run without any trouble."""
    return fl.Run(experiment(digits), digits, store=tmp_path_factory.mktemp("whole"), checkpoint_every=1).to()


def test_a_run_in_pieces_equals_the_whole(whole, digits, tmp_path):
    fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    run = fl.Run(experiment(digits), digits, store=tmp_path)
    assert run.round == 3
    run.step()
    for report in fl.Run(experiment(digits), digits, store=tmp_path):
        if report.number == 6:
            break
    equal(fl.Run(experiment(digits), digits, store=tmp_path).to(), whole)


CHILD = textwrap.dedent(
    """
    import os, signal, sys, torch
    import flatlab as fl
    torch.set_num_threads({threads})
    from test_run import experiment
    from ten_clients import few_digits
    data = few_digits()
    run = fl.Run(experiment(data), data, store={store!r})
    if {inside}:
        local, seen = run.federation.local, []
        def dying(state, clients):
            for chunk in local(state, clients):
                seen.append(chunk.clients)
                if state.round == 4 and (len(seen) % 3 == 2 or len(chunk.clients) > 1):  # on a GPU they come together
                    os.kill(os.getpid(), signal.SIGKILL)
                yield chunk
        run.federation.local = dying
    for report in run:
        print(report.number, flush=True)
        if not {inside} and report.number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    """
)


@pytest.mark.parametrize("inside", [False, True], ids=["between rounds", "inside a round"])
def test_a_run_killed_and_made_again_is_bit_equal(whole, digits, tmp_path, inside):
    program = CHILD.format(threads=torch.get_num_threads(), store=str(tmp_path), inside=inside)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # it imports this file
    killed = programs.run(["-c", program], env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = fl.Run(experiment(digits), digits, store=tmp_path)
    assert run.round == 4  # the round in flight is all that is lost
    equal(run.to(), whole)


def test_half_a_line_of_history_is_no_harm(whole, digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=100).to(3)
    with open(run.directory / "history.log", "a") as log:
        log.write('\n[{"round": 4, "spl')
    equal(fl.Run(experiment(digits), digits, store=tmp_path).to(), whole)


def test_a_finished_run_is_loaded_not_trained(whole, digits):
    again = fl.Run(experiment(digits), digits, store=whole.directory.parent)
    with mock.patch.object(again.federation, "advance", side_effect=AssertionError("a round was trained")):
        equal(again.to(), whole)
    with pytest.raises(RunDone, match="all 8 rounds"):
        again.step()


def test_open_makes_the_data_again(tmp_path):
    data = ten_clients.digits()
    run = fl.Run(experiment(data, 4), data, store=tmp_path).to()
    equal(fl.Run.open(run.directory), run)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        fl.Run.open(run.directory / "checkpoints")


def test_data_that_were_changed_by_hand_are_not_taken_for_those_that_they_were(whole, digits, tmp_path):
    assert digits.spec.replace(fingerprint=None) == ten_clients.digits().spec.replace(fingerprint=None)
    with pytest.raises(fl.SettingError, match="not those that this was recorded with"):
        fl.Run.open(whole.directory)
    equal(fl.Run.open(whole.directory, data=digits), whole)
    with pytest.raises(fl.SettingError, match="the experiment asks for"):
        fl.Run(experiment(ten_clients.digits()), digits, store=tmp_path)
    assert experiment(ten_clients.digits()).id != whole.id


def test_rewind_replays_and_overwrites_nothing(whole, digits, tmp_path):
    shutil.copytree(whole.directory, tmp_path / whole.id)
    run = fl.Run(experiment(digits), digits, store=tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*.safetensors")}
    run.rewind(2)
    assert run.round == 2 and run.history["round"].max() == 2
    reports = [run.step() for _ in range(3)]
    assert [report.number for report in reports] == [3, 4, 5]
    equal_at = whole.state(5).flat()
    for name, value in run.state().flat().items():
        assert torch.equal(value, equal_at[name])
    equal(run.to(), whole)
    assert stamps == {path: path.stat().st_mtime_ns for path in run.directory.rglob("*.safetensors")}


def test_rounds_without_a_checkpoint_are_replayed(whole, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("flatlab.training.recording.LAZY_SECONDS", PATIENCE)
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=100).to()
    missing = max(set(range(8)) - set(run.checkpoints))
    wanted = whole.state(missing).flat()
    assert all(torch.equal(value, wanted[name]) for name, value in run.state(missing).flat().items())
    with pytest.raises(fl.SettingError, match="round = 9: must be between 0 and 8"):
        run.state(9)


def test_a_fork_shares_the_past_and_changes_the_future(whole):
    child = whole.fork(round=4, algorithm=ALGORITHM.replace(lr=0.05)).to()
    assert child.id != whole.id and child.experiment.parent.run == whole.id
    mine, theirs = child.history, whole.history
    assert_frame_equal(mine[mine["round"] <= 4], theirs[theirs["round"] <= 4], check_exact=True)
    assert not torch.equal(child.model().head.weight, whole.model().head.weight)
    same = whole.fork(round=4, seed=0, rounds=8).to()
    for a, b in zip(same.model().parameters(), whole.model().parameters(), strict=True):
        assert torch.equal(a, b)  # unchanged settings: the same future
    again = fl.Run.open(child.directory, data=whole.data)
    equal(again, child)
    with pytest.raises(fl.SettingError, match="begins at round 4"):
        again.state(2)


def test_a_fork_can_cross_algorithms(whole):
    child = whole.fork(round=3, algorithm=fl.FedPer(lr=0.05)).to(4)
    assert child.state().personal.keys() == {"head.weight", "head.bias"}


def test_client_models_are_those_of_the_round(whole):
    clients = whole.clients(3)
    report = whole.history.query("round == 3 and metric == 'drift'").set_index("client")["value"]
    assert sorted(clients) == sorted(report.index)
    for client, model in clients.items():
        start = whole.model(2, "global")
        gap = sum(
            float((a - b).detach().pow(2).sum()) for a, b in zip(model.parameters(), start.parameters(), strict=True)
        )
        assert gap**0.5 == pytest.approx(report[client], rel=1e-4)


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_a_damaged_state_is_noticed_and_the_one_before_used(whole, digits, tmp_path, damage):
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(5)
    path = run.record.store.checkpoint(5)
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[-5] ^= 1
    path.write_bytes({"truncated": content[: len(content) // 2], "altered": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=r"round-000005.*going on from the one before"):
        again = fl.Run(experiment(digits), digits, store=tmp_path)
    assert again.round == 4
    equal(again.to(), whole)


def as_before(run):
    """Rewrite a run's files as they were before they had checksums, a format and the run's id."""
    about = {}
    for round in run.checkpoints:
        path = run.record.store.checkpoint(round)
        tensors, noted = run.record.store.load_state(round)
        about = json.dumps({"round": round, "swa_count": noted["swa_count"]}, sort_keys=True)
        path.write_bytes(save(tensors, {"about": about, "digest": _digest(tensors, about)}))
    versions = {
        k: v
        for k, v in json.loads((run.directory / "versions.json").read_text()).items()
        if k not in ("format", "check")
    }
    run.record.store.write_json("versions.json", versions)
    pd.read_parquet(run.directory / "history.parquet").to_parquet(run.directory / "history.parquet", index=False)
    for name in ("history.log", "timings.jsonl"):
        found = [json.loads(line) for line in (run.directory / name).read_text().splitlines() if line]
        plain = [one.get("rows") or {k: v for k, v in one.items() if k not in ("format", "check")} for one in found]
        (run.directory / name).write_text("".join("\n" + json.dumps(one) for one in plain))
    return run


def test_a_run_from_before_checksums_is_opened_and_goes_on(whole, digits, tmp_path):
    old = as_before(fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=3).to(5))
    for path in old.directory.rglob("*"):
        assert path.is_dir() or old.id.encode() not in path.read_bytes()
    run = fl.Run.open(old.directory, digits)
    assert run.round == 5 and run.timings["round"].tolist() == [1, 2, 3, 4, 5]
    equal(run.to(), whole)
    equal(fl.Run.open(old.directory, digits), whole)


@pytest.mark.parametrize("before", [False, True], ids=["now", "before checksums"])
def test_a_checkpoint_of_another_model_is_passed_over(whole, digits, tmp_path, before):
    other = fl.Run(experiment(digits, model=fl.ModelSpec(name="cnn4", width=0.5)), digits, store=tmp_path).to(2)
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(2)
    if before:
        as_before(other)
    shutil.copy(other.record.store.checkpoint(2), run.record.store.checkpoint(2))
    said = "another model than cnn4" if before else f"is the state of {other.id}"
    with pytest.warns(UserWarning, match=said):
        again = fl.Run(experiment(digits), digits, store=tmp_path)
    assert again.round == 1
    equal(again.to(), whole)


def test_a_full_disk_leaves_the_last_good_state(whole, digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    size = run.record.store.checkpoint(3).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(OSError, match=r"round 4 could not be stored .* the state after round 3 is whole"):
            run.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert run.round == 3 and not list(run.directory.rglob("*.part"))
    equal(run.to(), whole)


def test_two_processes_do_not_train_one_run(digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path)
    other = type(run.record.store)(run.directory)
    with other.held(), pytest.raises(fl.RunBusy, match=rf"being trained by process {os.getpid()}"):
        run.to()
    acquired, release = threading.Event(), threading.Event()

    def hold():
        with other.held():
            acquired.set()
            release.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    acquired.wait(PATIENCE)
    threading.Timer(0.3, release.set).start()
    assert run.to(1, wait=PATIENCE).round == 1
    holder.join()


def test_a_second_object_goes_on_where_the_first_has_come(whole, digits, tmp_path):
    first = fl.Run(experiment(digits), digits, store=tmp_path)
    second = fl.Run(experiment(digits), digits, store=tmp_path)
    first.to(3)
    assert second.step().number == 4
    equal(first.to(), whole)


def test_ctrl_c_lets_the_round_in_flight_end_and_says_how_to_go_on(whole, digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path)

    def interrupt(run, report):
        if report.number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped after round 2 of 8; make the run again to go on"):
        run.to(listener=interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    equal(run.to(), whole)


def test_a_run_keeps_the_precision_that_it_began_with(digits, tmp_path):
    fl.Run(experiment(digits), digits, store=tmp_path, precision="bfloat16").step()
    again = fl.Run(experiment(digits), digits, store=tmp_path)
    assert again.cohort.precision == again.fork(round=1, seed=3).cohort.precision == "bfloat16"
    with pytest.raises(fl.SettingError, match="precision = 'float32': this run began with bfloat16"):
        fl.Run(experiment(digits), digits, store=tmp_path, precision="float32")


def test_fast_rounds_are_stored_now_and_then_and_at_every_end(whole, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("flatlab.training.recording.LAZY_SECONDS", 1000.0)
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=4)
    stored = []

    def listen(run, report):
        stored.append(run.checkpoints[-1])
        assert run.history["round"].max() == report.number == len(run.timings)
        if report.number == 6:
            raise ZeroDivisionError("a listener's")

    with pytest.raises(ZeroDivisionError):
        run.to(listener=listen)
    sixth = 6 if run.best_round == 6 else 4
    assert stored == [1, 1, 3, 4, 4, sixth]  # the first, and those that are kept: the best so far and each fourth
    assert run.checkpoints[-1] == 6  # whatever ended it
    run.step()
    assert run.checkpoints[-1] == 7  # a step by hand is stored at once
    equal(run.to(), whole)
    equal(fl.Run(experiment(digits), digits, store=tmp_path), whole)


@pytest.mark.parametrize(("seconds", "rounds"), [(0, [1, 2, 3, 4, 5, 6, 7, 8]), (1, [1, 7, 8])])
def test_states_that_take_long_to_write_are_written_more_seldom(whole, digits, tmp_path, monkeypatch, seconds, rounds):
    """Else a run would write most of the time where clients' memories make its states large. Rounds take a second."""
    now, written = [0.0], []
    monkeypatch.setattr("flatlab.training.recording.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=100)
    monkeypatch.setattr(run.record, "_kept", lambda round: round == 8)
    save = run.record._save

    def slow(state, kept):
        written.append(state.round)
        now[0] += seconds
        save(state, kept)

    def passed(run, report):
        now[0] += 1

    monkeypatch.setattr(run.record, "_save", slow)
    equal(run.to(listener=passed), whole)
    assert [round for round in written if round] == rounds


def test_a_run_killed_between_stored_states_is_bit_equal(whole, digits, tmp_path, monkeypatch):
    """A process that died without a word after round 6, of which the last stored state is round 4's."""
    monkeypatch.setattr("flatlab.training.recording.LAZY_SECONDS", 1000.0)
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=4)
    monkeypatch.setattr(run.record, "_flush", lambda: None if run.round >= 4 else type(run.record)._flush(run.record))
    run.to(6)
    assert run.checkpoints[-1] == 4 and run.history["round"].max() == 6
    again = fl.Run(experiment(digits), digits, store=tmp_path)
    assert again.round == 4
    equal(again.to(), whole)
    assert again.timings["round"].tolist() == list(range(1, 9))


def test_stop_ends_the_loop_from_another_thread(digits, tmp_path):
    run = fl.Run(experiment(digits, rounds=100_000), digits, store=tmp_path)
    worker = threading.Thread(target=run.to)
    worker.start()
    while run.round < 2:
        time.sleep(0.01)
    run.stop()
    worker.join(PATIENCE)
    assert not worker.is_alive() and 2 <= run.round < 100_000


def test_the_history_is_tidy_and_at_its_cadence(whole):
    history = whole.history
    assert list(history.columns) == ["round", "split", "metric", "value", "client"]
    assert sorted(history.query("split == 'holdout'")["round"].unique()) == [2, 4, 6, 8]
    assert sorted(history.query("split == 'test'")["round"].unique()) == [3, 6, 8]
    assert history.query("split == 'test' and round == 8 and metric == 'accuracy'")["client"].tolist() == list(
        range(10)
    )
    assert not history.duplicated(["round", "split", "metric", "client"]).any()
    written = pd.read_parquet(whole.directory / "history.parquet")
    assert_frame_equal(written, history)
    assert whole.timings["round"].tolist() == list(range(1, 9))
    assert whole.best_round in (3, 6, 8)


def test_only_some_states_are_kept(digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path, checkpoint_every=5).to()
    kept = set(run.checkpoints)
    assert {0, 5, 8} <= kept and 4 <= len(kept) <= 7  # the last, and one before it to fall back on


def test_nothing_on_disk_is_a_pickle(whole):
    for path in whole.directory.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"participation": 0}, ("participation", "0", "> 0")),
        ({"participation": 1.5}, ("participation", "1.5", "≤ 1")),
        ({"rounds": 0}, ("rounds", "0", "≥ 1")),
        ({"algorithm": "FedFoo"}, ("algorithm", "FedFoo", "FedBABU")),
        ({"model": "cnn5"}, ("name", "cnn5", "cnn4")),
        ({"algorithm": fl.FedAvg(swa=fl.SWA(cycle=3))}, ("swa.cycle", "3", "2 rounds that follow")),
    ],
)
def test_wrong_experiments_are_refused_before_work_starts(digits, changes, parts):
    with pytest.raises(fl.SettingError) as error:
        experiment(digits, **changes)
    for part in parts:
        assert part in str(error.value)


def test_wrong_devices_and_data_are_refused(digits, tmp_path):
    for device in ("cuda:99", "gpu"):
        with pytest.raises(fl.SettingError, match=f"device = '{device}'"):
            fl.Run(experiment(digits), digits, store=tmp_path, device=device)
    with pytest.raises(fl.SettingError, match="chunk = 0: must be a whole number ≥ 1"):
        fl.Run(experiment(digits), digits, store=tmp_path, chunk=0)
    other = fl.load("digits").federate(fl.IID(), clients=10, seed=0)
    with pytest.raises(fl.SettingError, match="data: made by"):
        fl.Run(experiment(digits), other, store=tmp_path)


def test_an_experiment_survives_json_and_its_id_follows_its_content(digits):
    one = experiment(digits)
    assert fl.Experiment.from_json(one.to_json()) == one
    assert fl.Experiment.from_json(one.to_json()).id == one.id
    assert experiment(digits, seed=1).id != one.id


def test_a_network_of_ones_own(digits, tmp_path):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU())
    mine = fl.Model(body, torch.nn.Linear(32, 10))
    run = fl.train(fl.FedBABU(lr=0.1, epochs=5), digits, mine, 3, store=tmp_path, progress=False)
    assert run.history.query("metric == 'accuracy' and split == 'holdout'")["value"].iloc[-1] > 0.3
    with pytest.raises(fl.SettingError, match="pass it as model="):
        fl.Run.open(run.directory, digits)
    equal(fl.Run.open(run.directory, digits, model=mine), run)
    with pytest.raises(fl.SettingError, match=r"flatlab.models.split"):
        fl.train(fl.FedAvg(), digits, torch.nn.Linear(64, 10), 3, store=tmp_path)


def test_a_renamed_directory_is_not_taken_for_a_new_run(whole, tmp_path):
    shutil.copytree(whole.directory, tmp_path / "backup")
    with pytest.raises(fl.SettingError, match=f"rename it to {whole.id}"):
        fl.Run.open(tmp_path / "backup")


def test_a_fork_without_its_record_does_not_start_from_scratch(whole, digits, tmp_path):
    child = whole.fork(round=2, algorithm=ALGORITHM.replace(lr=0.02))
    with pytest.raises(fl.SettingError, match=r"parent.run = .* fork it again, run.fork\(round=2"):
        fl.Run(child.experiment, digits, store=tmp_path)


def test_a_fork_after_the_start_of_its_average_still_averages(whole):
    swa = fl.SWA(start=0.25, cycle=1)
    child = whole.fork(round=3, algorithm=fl.FedAvg(lr=0.05, swa=swa), rounds=5).to()
    models = [child.model(round, "global").state_dict() for round in (3, 4, 5)]
    for name, value in child.model(which="swa").state_dict().items():
        torch.testing.assert_close(value, torch.stack([m[name] for m in models]).mean(0), rtol=1e-4, atol=1e-6)


def test_a_fork_does_not_serve_its_parents_average(whole):
    child = whole.fork(algorithm=fl.FedAvg(lr=0.05, swa=fl.SWA(start=0.9, cycle=1)), rounds=12).to(9)
    assert child.state().swa == {}


@pytest.mark.filterwarnings("ignore:fork. Centralized shares all")  # it is what this looks at
def test_a_fork_between_populations_gives_everyone_a_fresh_start(digits, tmp_path):
    options = {"model": MODEL, "rounds": 2, "store": tmp_path, "progress": False}
    alone = fl.train(fl.LocalOnly(momentum=0.9), digits, **options)
    with pytest.warns(UserWarning, match="shares all, which the clients of LocalOnly kept"):
        pooled = alone.fork(round=1, algorithm=fl.Centralized(momentum=0.9)).to()
    assert {len(value) for value in pooled.state().memory["momentum"].values()} == {1}
    back = pooled.fork(round=1, algorithm=fl.LocalOnly(momentum=0.9), rounds=3).to(2)
    assert {len(value) for value in back.state().personal.values()} == {10}


def test_forks_cannot_change_data_or_model(whole):
    with pytest.raises(fl.SettingError, match="model: a fork keeps its parent's"):
        whole.fork(round=2, model="lenet")
    with pytest.raises(fl.SettingError, match="data: a fork keeps its parent's"):
        whole.fork(round=2, **{"data.seed": 1})


def test_a_kill_while_recording_loses_nothing_on_the_same_object(whole, digits, tmp_path, monkeypatch):
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    original = History.append

    def half(self, rows):
        original(self, rows)
        with open(self.log, "r+") as log:
            log.truncate(log.seek(0, 2) - 100)
        monkeypatch.setattr(History, "append", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", half)
    with pytest.raises(KeyboardInterrupt):
        run.step()
    assert run.round == 3
    equal(run.to(), whole)


def test_half_a_line_of_timings_is_passed_over(digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    path = run.directory / "timings.jsonl"
    path.write_text(path.read_text()[:-20])
    assert fl.Run(experiment(digits), digits, store=tmp_path).to(5).timings["round"].tolist() == [1, 2, 4, 5]


def test_rewinding_stays_where_it_went_though_others_go_on(digits, tmp_path):
    first = fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    second = fl.Run(experiment(digits), digits, store=tmp_path).to(5)
    assert first.rewind(1).to(2).round == 2
    assert second.round == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vmap"}, "engine = 'vmap': must be 'auto' or 'graph' or 'batch' or 'loop'"),
        ({"chunk": "3"}, "chunk = '3': must be a whole number"),
        ({"device": None}, "device = None"),
    ],
)
def test_wrong_options_are_refused(digits, tmp_path, options, message):
    with pytest.raises(fl.SettingError, match=message):
        fl.Run(experiment(digits), digits, store=tmp_path, **options)


class DropPath(torch.nn.Module):
    """As timm's: told by its name and its probability."""

    drop_prob = 0.5

    def forward(self, x):
        return x * (torch.rand(len(x), 1) < 0.5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([torch.nn.Flatten(), torch.nn.BatchNorm1d(64)], "model.body.1: a BatchNorm1d keeps running statistics"),
        ([torch.nn.Flatten(), torch.nn.BatchNorm1d(64, track_running_stats=False)], "BatchStatNorm, or models.split"),
        ([torch.nn.Flatten(), DropPath()], "model.body.1: a DropPath draws random numbers"),
        ([torch.nn.Flatten(), torch.nn.Dropout(0.5)], "model.body.1: a Dropout draws random numbers"),
        ([torch.nn.Flatten(), torch.nn.Linear(3, 64)], "does not take images"),
        ([torch.nn.Flatten(), torch.nn.Linear(64, 64).double()], "is torch.float64"),
    ],
)
def test_networks_that_cannot_work_are_refused_before_work_starts(digits, tmp_path, layers, message):
    network = fl.Model(torch.nn.Sequential(*layers), torch.nn.Linear(64, 10))
    with pytest.raises(fl.SettingError, match=message):
        fl.train(fl.FedAvg(), digits, network, 2, store=tmp_path)


def test_a_body_with_an_average_is_stored_though_both_share_the_head(digits, tmp_path):
    run = fl.train(
        fl.FedBABU(lr=0.05, swa=fl.SWA(start=0.5, cycle=1, low=0.01)), digits, MODEL, 4, store=tmp_path, progress=False
    )
    again = fl.Run.open(run.directory, digits)
    stored = again.state().flat()
    for name, value in run.state().flat().items():
        assert torch.equal(stored[name], value)
    assert torch.equal(run.model(0).head.weight, again.model(which="swa").head.weight)


def test_a_run_whose_files_are_deleted_stops_instead_of_recording_a_part(digits, tmp_path):
    run = fl.Run(experiment(digits), digits, store=tmp_path).to(3)
    shutil.rmtree(run.directory)
    with pytest.raises(FileNotFoundError, match="files are gone"):
        run.step()
    assert run.round == 3
    assert fl.Run(experiment(digits), digits, store=tmp_path).step().number == 1
