"""A session starts, steps, pauses, stops, rewinds and forks a run; whatever goes wrong reaches the person."""

import _thread
import asyncio
import errno
import shutil
import threading
import time

import programs
import pytest
from pandas.testing import assert_frame_equal
from patience import PATIENCE, until

import flatlab as fl
from flatlab.jobs import submit
from flatlab.lab.session import Session
from flatlab.training.checkpoints import Store


@pytest.fixture
def make(data, tmp_path):
    """Sessions on a store of this test's own, stopped when it is over."""
    made = []

    def one(rounds=3, **changes):
        settings = {"algorithm": fl.FedAvg(lr=0.05), "participation": 0.5} | changes
        model = fl.ModelSpec(name="lenet", width=0.125)
        experiment = fl.Experiment(data=data.spec, model=model, rounds=rounds, **settings)
        made.append(Session(experiment, data, store=tmp_path, device="cpu"))
        return made[-1]

    yield one
    for session in made:
        session.stop()


def settled():
    """Every job that was asked for has come to its end, and what these asked for."""
    for _ in range(2):
        submit(lambda _: None).wait(PATIENCE)


def within(ensure, *rounds, seconds=PATIENCE):
    """What `ensure` returns; it must not hang."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ensure(*rounds)), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it hangs, or raised"
    return found[0]


class Gate:
    """Lets a run's rounds begin one at a time, so that a test can act while a round is in flight."""

    def __init__(self, run):
        self.inside, self.open, self.step = threading.Event(), threading.Event(), run.step
        self.threads = set()
        run.step = self

    def __call__(self):
        self.threads.add(threading.current_thread().name)
        self.inside.set()
        assert self.open.wait(PATIENCE)
        return self.step()


def test_step_trains_one_round_and_start_the_rest(make):
    session = make(4)
    assert session.state == "idle" and session.run.round == 0
    session.step()
    until(lambda: session.state == "paused")
    assert session.run.round == 1
    session.step(2)
    until(lambda: session.state == "paused" and session.run.round == 3)
    session.start()
    until(lambda: session.state == "done")
    assert session.run.round == 4


def test_a_double_click_on_run_trains_once_and_on_step_trains_two_rounds(make):
    session, seen = make(4), []
    gate = Gate(session.run)
    session.listen(lambda session: seen.append(session.run.round))
    session.step()
    session.step()
    gate.open.set()
    until(lambda: session.state == "paused" and session.run.round == 2)
    session.start()
    session.start()
    until(lambda: session.state == "done")
    assert gate.threads == {"flatlab-compute"}
    assert seen == sorted(seen) and session.run.round == 4
    assert len(session.run.timings) == 4  # no round was trained twice


@pytest.mark.parametrize("steps", [0, -1, 1.5, "2"])
def test_a_wrong_number_of_steps_is_refused(make, steps):
    with pytest.raises(fl.SettingError, match="whole number ≥ 1"):
        make().step(steps)


def test_pause_lets_the_round_in_flight_and_its_evaluation_end(make):
    session = make(9)
    evaluate, inside, go = session.run.federation.evaluate, threading.Event(), threading.Event()

    def slowly(*given):
        inside.set()
        assert go.wait(PATIENCE)
        return evaluate(*given)

    session.run.federation.evaluate = slowly
    session.start()
    assert inside.wait(PATIENCE)
    session.pause()
    assert session.state == "pausing" and session.run.round == 0
    go.set()
    until(lambda: session.state == "paused")
    history = session.run.history
    assert session.run.round == 1 and "accuracy" in set(history[history["round"] == 1]["metric"])
    settled()
    assert session.run.round == 1


def test_pause_is_at_once_while_the_thread_measures_something_else(make):
    session, go = make(), threading.Event()
    measurement = submit(lambda _: go.wait(PATIENCE))
    session.start()
    assert session.state == "running"
    session.pause()
    assert session.state == "paused"
    go.set()
    measurement.wait(PATIENCE)
    settled()
    assert session.run.round == 0
    session.start()  # the job left over from before must not make two rounds of one
    session.ensure()
    assert session.state == "done" and len(session.run.timings) == 3


def test_pause_of_what_does_not_run_changes_nothing(make):
    session = make()
    session.pause()
    assert session.state == "idle"
    session.ensure()
    session.pause()
    assert session.state == "done"


def test_start_while_pausing_goes_on(make):
    session = make()
    gate = Gate(session.run)
    session.start()
    gate.inside.wait(PATIENCE)
    session.pause()
    session.start()
    gate.open.set()
    session.ensure()
    assert len(session.run.timings) == 3 and session.state == "done"


def test_measurements_take_turns_with_rounds(make):
    session, seen = make(4), []
    gate = Gate(session.run)
    session.start()
    gate.inside.wait(PATIENCE)
    job = submit(lambda _: seen.append(session.run.round))
    gate.open.set()
    job.wait(PATIENCE)
    session.ensure()
    assert seen[0] < 4


def test_stop_is_for_good_and_does_not_pass_for_finished(make):
    session = make(9)
    gate = Gate(session.run)
    session.start()
    gate.inside.wait(PATIENCE)
    session.stop()
    assert session.state == "stopping"
    gate.open.set()
    until(lambda: session.state == "stopped")
    assert session.run.round == 1
    session.start()
    session.step()
    assert session.state == "stopped"
    with pytest.raises(RuntimeError, match="stopped after round 1 of 9"):
        session.ensure()
    with pytest.raises(RuntimeError, match="stopped after round 1 of 9"):
        session.rewind(0)
    assert session.ensure(1) is session.run  # what there is, there is


def test_ensure_waits_for_exactly_so_many_rounds(make):
    session = make(4)
    assert session.ensure(2).round == 2 and session.state == "paused"
    begun = len(session.run.timings)
    session.ensure(1)
    assert len(session.run.timings) == begun
    assert session.ensure().round == 4 and session.state == "done"
    assert session.ensure() is session.run


def test_ensure_counts_the_round_in_flight(make):
    session = make(5)
    gate = Gate(session.run)
    session.step()
    gate.inside.wait(PATIENCE)
    gate.open.set()
    assert session.ensure(2).round == 2
    settled()
    assert session.run.round == 2 and session.state == "paused"


@pytest.mark.parametrize("rounds", [-1, 4, 1.5])
def test_ensure_refuses_rounds_that_the_experiment_has_not(make, rounds):
    with pytest.raises(fl.SettingError, match="rounds = "):
        make(3).ensure(rounds)


def test_ensure_from_a_job_is_refused(make):
    session = make()
    with pytest.raises(RuntimeError, match="wait for itself"):
        submit(lambda _: session.ensure()).wait(PATIENCE)


def test_an_interrupt_pauses_the_training_and_it_can_go_on(make):
    session = make(3)
    gate = Gate(session.run)

    def interrupt():
        gate.inside.wait(PATIENCE)
        _thread.interrupt_main()
        until(lambda: session.state == "pausing")
        gate.open.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        session.ensure()
    assert session.state in ("pausing", "paused")
    until(lambda: session.state == "paused")
    assert session.run.round == 1
    assert session.ensure().round == 3


def test_await_trains_while_other_coroutines_run_and_a_cancelled_one_pauses(make):
    session = make(3)

    async def both():
        ticks = 0
        task = asyncio.ensure_future(session.aensure(1))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(session.aensure())
        gate = Gate(session.run)
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open.set()
        return ticks, task.result()

    ticks, run = asyncio.run(both())
    assert ticks > 1 and run is session.run
    until(lambda: session.state == "paused")
    assert run.round < 3


def test_an_exception_in_a_client_is_kept_raised_and_can_be_tried_again(make):
    session = make(3)
    local, broken = session.run.federation.local, [True]

    def fails(state, clients):
        if state.round == 1 and broken:
            raise ZeroDivisionError("client 4 fell over")
        return local(state, clients)

    session.run.federation.local = fails
    with pytest.raises(ZeroDivisionError, match="client 4"):
        session.ensure()
    assert session.state == "failed" and session.run.round == 1
    assert isinstance(session.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):  # a cell that runs after the failure must fail, too
        session.ensure()
    broken.clear()
    session.start()
    assert session.ensure().round == 3 and session.error is None


def test_a_diverging_run_fails_naming_the_client(make):
    session = make(5, algorithm=fl.FedAvg(lr=1e20))
    with pytest.raises(fl.Diverged, match="client"):
        session.ensure()
    assert session.state == "failed"


def test_a_full_disk_that_was_mended(make, monkeypatch):
    session = make(3)
    session.ensure(1)
    save = Store.save_state

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "save_state", full)
    with pytest.raises(OSError, match="state after round 1 is whole"):
        session.ensure()
    monkeypatch.setattr(Store, "save_state", save)
    session.start()
    assert session.ensure().round == 3


def test_a_run_that_another_process_trains_is_refused_and_can_be_tried_later(make):
    session = make(3)
    with Store(session.run.directory).held():
        with pytest.raises(fl.RunBusy, match="being trained by"):
            session.ensure()
        assert session.state == "failed"
    session.start()
    assert session.ensure().round == 3


def test_a_run_that_another_process_finished_is_done(make, data, tmp_path):
    session = make(3)
    session.ensure(1)
    fl.Run(session.run.experiment, data, store=tmp_path).to()
    assert session.ensure().round == 3 and session.state == "done"


def test_a_store_deleted_underneath_never_hangs_and_is_explained(make):
    session = make(3)
    session.ensure(2)
    shutil.rmtree(session.run.directory)
    with pytest.raises(FileNotFoundError, match="make the run again"):
        session.ensure()
    assert make(3).ensure().round == 3 and session.state == "stopped"  # nor does it pass for one that can go on


def test_rewind_while_running_waits_for_the_round_and_pauses(make):
    session = make(5)
    session.ensure(2)
    before = session.run.history
    gate = Gate(session.run)
    session.start()
    gate.inside.wait(PATIENCE)
    job = session.rewind(1)
    assert session.state == "pausing" and job.state == "waiting"
    gate.open.set()
    job.wait(PATIENCE)
    assert session.state == "paused" and session.run.round == 1
    assert set(session.run.history["round"]) == {1}
    session.ensure(2)  # replayed
    assert_frame_equal(session.run.history, before, check_exact=True)
    assert gate.threads == {"flatlab-compute"}


def test_rewind_from_done_and_from_failed(make):
    session = make(3)
    session.ensure()
    session.rewind(1).wait(PATIENCE)
    assert session.state == "paused" and session.run.round == 1
    session.state, session.error = "failed", ValueError("something")
    session.rewind(0).wait(PATIENCE)
    assert session.state == "paused" and session.error is None
    assert session.ensure().round == 3


def test_rewind_to_a_round_that_is_not_on_record_is_refused(make):
    session = make(3)
    session.ensure(1)
    with pytest.raises(fl.SettingError, match="round = 2"):
        session.rewind(2).wait(PATIENCE)
    assert session.run.round == 1 and session.ensure().round == 3


def test_a_fork_is_a_session_of_its_own_and_pauses_the_old_one(make):
    session = make(4, algorithm=fl.FedASAM(rho=0.5, lr=0.05))
    gate = Gate(session.run)
    session.start()
    gate.inside.wait(PATIENCE)
    opener = threading.Thread(target=lambda: (until(lambda: session.state == "pausing"), gate.open.set()))
    opener.start()
    child = session.fork(algorithm=fl.FedASAM(rho=0.1, lr=0.05))
    opener.join()
    assert session.state == "paused" and session.run.round == 1
    assert child.run.experiment.algorithm.local.rho == 0.1 and child.run.round == 1 and child.state == "idle"
    assert child.ensure().round == 4 and session.run.round == 1
    assert session.ensure().round == 4
    with pytest.raises(fl.SettingError, match="a fork keeps its parent's"):
        session.fork(model="lenet")


def test_a_second_session_on_a_run_stops_the_first(make):
    first = make(9)
    gate = Gate(first.run)
    first.start()
    gate.inside.wait(PATIENCE)
    second = Session(first.run)
    assert first.state == "stopping"
    gate.open.set()
    until(lambda: first.state == "stopped")
    assert second.ensure(2).round == 2
    again = make(9)  # a cell that makes the run anew
    assert second.state == "stopped" and again.run.round == 2


def test_a_new_session_knows_of_the_round_that_the_old_one_had_in_flight(make):
    first = make(9)
    gate = Gate(first.run)
    first.step()
    gate.inside.wait(PATIENCE)
    second = Session(first.run)
    gate.open.set()
    assert within(second.ensure, 1).round == 1  # which the old one trained
    assert second.state == "paused" and within(second.ensure, 2).round == 2 and len(second.run.timings) == 2


def test_a_new_session_knows_what_the_old_one_trained_after_it_was_made(make):
    first = make(9)
    gate = Gate(first.run)
    first.start()
    gate.inside.wait(PATIENCE)
    first.stop()
    second = Session(first.run)
    gate.open.set()
    until(lambda: first.state == "stopped")
    assert within(second.ensure, second.run.round).round == 1


def test_ensure_sees_rounds_that_were_trained_past_the_session(make):
    session = make(4)
    session.run.to(2)
    assert within(session.ensure, 2).round == 2
    session.run.to()
    session.start()
    assert session.state == "done" and within(session.ensure).round == 4


def test_ensure_at_the_very_end_of_a_round_asks_for_the_next(make):
    session, counted, go = make(9), threading.Event(), threading.Event()
    add = session.meter.add

    def slowly(report):  # the run has counted the round, the session is still in it
        add(report)
        counted.set()
        assert go.wait(PATIENCE)

    session.meter.add = slowly
    session.step()
    counted.wait(PATIENCE)
    threading.Timer(0.3, go.set).start()
    assert within(session.ensure, 2).round == 2
    until(lambda: session.state == "paused")
    assert session.run.round == 2


def test_step_after_ensure_trains_more_and_ensure_after_step_does_not(make):
    session, go = make(9), threading.Event()
    submit(lambda _: go.wait(PATIENCE))
    session.step(2)
    waiting = threading.Thread(target=session.ensure, args=(2,))
    waiting.start()
    time.sleep(0.2)
    go.set()
    waiting.join(PATIENCE)
    until(lambda: session.state == "paused")
    assert session.run.round == 2
    gate = Gate(session.run)
    waiting = threading.Thread(target=session.ensure, args=(4,))
    waiting.start()
    gate.inside.wait(PATIENCE)
    session.step()
    gate.open.set()
    waiting.join(PATIENCE)
    until(lambda: session.state == "paused")
    assert session.run.round == 5


def test_ensure_waits_for_a_rewind_that_was_asked_for(make):
    session, go = make(3), threading.Event()
    session.ensure()
    submit(lambda _: go.wait(PATIENCE))
    session.rewind(1)
    threading.Timer(0.3, go.set).start()
    before = len(session.run.timings)
    assert within(session.ensure).round == 3 and session.state == "done"
    assert session.meter.count == 5 and len(session.run.timings) == before  # replayed


def test_a_failed_session_is_stopped_when_another_is_made(make):
    first = make(3)

    def fails():
        raise ZeroDivisionError

    step, first.run.step = first.run.step, fails
    with pytest.raises(ZeroDivisionError):
        first.ensure()
    first.run.step = step
    second = Session(first.run)
    first.start()
    assert first.state == "stopped" and second.ensure().round == 3


def test_the_same_experiment_in_another_store_is_another_run(make, data, tmp_path):
    first = make(3)
    Session(first.run.experiment, data, store=tmp_path / "elsewhere")
    assert first.state == "idle"


def test_starting_again_after_done_does_nothing(make):
    session = make(1)
    session.ensure()
    session.start()
    session.step()
    assert session.state == "done"
    assert make(1).state == "done"  # as found on disk


def test_a_listener_that_raises_does_not_end_the_training(make):
    session, heard = make(3), []

    def broken(_):
        raise RuntimeError("cannot draw")

    session.listen(broken)
    session.listen(lambda session: heard.append((session.run.round, session.state)))
    session.ensure()
    assert "cannot draw" in str(session.listener_error) and session.error is None
    assert heard[0] == (0, "running") and heard[-1] == (3, "done")
    assert {1, 2, 3} <= {round for round, _ in heard}


def test_listeners_have_heard_of_a_round_before_ensure_returns(make):
    session, heard = make(3), []

    def slow(session):
        time.sleep(0.1)
        heard.append(session.run.round)

    session.listen(slow)
    session.ensure(2)
    assert heard[-1] == 2


def test_progress_names_round_speed_and_time_left(make):
    session = make(3)
    assert session.progress == "round 0 of 3"
    session.ensure(2)
    assert session.progress.startswith("round 2 of 3") and "samples/s" in session.progress
    assert "left" in session.progress


def test_options_beside_a_run_are_refused(make):
    with pytest.raises(fl.SettingError, match="with an Experiment only"):
        Session(make().run, device="cpu")


def test_leaving_python_while_training_is_a_clean_exit(tmp_path):
    program = (
        "import time\nimport flatlab as fl\nfrom flatlab.lab.session import Session\n"
        "data = fl.load('digits').federate('iid', clients=4)\n"
        "small = fl.ModelSpec(name='lenet', width=0.125)\n"
        "experiment = fl.Experiment(data=data.spec, model=small, algorithm=fl.FedAvg(), rounds=100_000)\n"
        f"session = Session(experiment, data, store={str(tmp_path)!r})\n"
        "session.start()\nwhile session.run.round < 2: time.sleep(0.01)\n"
        "assert session.state == 'running', session.error"
    )
    assert programs.run(["-c", program], timeout=PATIENCE).returncode == 0
