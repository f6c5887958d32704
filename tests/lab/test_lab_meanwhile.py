"""What people do at the bench while something is still going on: it must come out as they meant it."""

import shutil
import threading

import pytest
from by_hand import busy, click, hold
from patience import PATIENCE, until

import flatlab as fl
from flatlab.jobs import Cancelled


def slide(lab, round):
    lab.transport.slider.set_state({"value": round})


def trained(make, rounds=4, **settings):
    lab = make(**settings)
    lab.ensure(rounds)
    lab.settle()
    return lab


def test_slide_back_and_rewind_at_once_leaves_the_views_with_the_run(make):
    lab = trained(make)
    go = busy()
    slide(lab, 1)
    click(lab, "rewind")
    go.set()
    lab.settle()
    assert lab.run.round == 1 and lab.runs[0] is lab.run and lab.transport.slider.value == 1
    click(lab, "run")
    lab.ensure()
    lab.settle()
    assert lab.transport.slider.value == 4 and lab.panel("Curves").runs[0].round == 4


def test_a_slide_during_a_rewind_is_where_the_view_stays(make):
    lab = trained(make)
    go = busy()
    slide(lab, 1)
    click(lab, "rewind")
    slide(lab, 3)
    go.set()
    lab.settle()
    assert lab.run.round == 1 and lab.runs[0].round == 3 and lab.transport.slider.value == 3


def test_a_double_click_on_rewind_rewinds_once(make):
    lab = trained(make)
    slide(lab, 1)
    lab.settle()
    go = busy()
    click(lab, "rewind")
    assert lab.transport.slider.value == 1
    click(lab, "rewind")
    go.set()
    lab.settle()
    assert lab.run.round == 1 and lab.transport.slider.value == 1


def test_rewind_after_stop_goes_to_the_sliders_round(make):
    lab = trained(make, 3)
    click(lab, "stop")
    slide(lab, 1)
    lab.settle()
    click(lab, "rewind")
    lab.settle()
    assert lab.run.round == 1 and lab.transport.slider.value == 1


def test_a_rewind_to_a_round_that_is_not_on_record_is_raised_once(make):
    lab = trained(make, 2)
    lab.rewind(99)
    with pytest.raises(fl.SettingError, match="round = 99"):
        lab.settle()
    assert "round = 99" in lab.note.value and lab.transport.slider.value == 2
    lab.settle()
    assert lab.ensure().round == 4


def test_a_cancelled_run_is_not_begun_and_can_be_asked_for_again(make):
    lab = make()
    lab.settle()
    go = busy()
    click(lab, "run")
    lab.work.cancel_button.click()
    click(lab, "step")  # before the thread hears of it
    lab.work.cancel_button.click()
    go.set()
    until(lambda: lab.job.over)
    assert lab.session is None and "cancelled" in lab.note.value
    click(lab, "step")
    assert lab.ensure(1).round == 1
    until(lambda: lab.session.state == "paused")
    assert lab.run.round == 1


def test_a_run_cancelled_while_it_is_made_is_not_begun(make, monkeypatch):
    lab = make()
    lab.settle()
    dataset, inside, go = lab.setup.dataset, threading.Event(), threading.Event()

    def slowly(spec):
        inside.set()
        assert go.wait(PATIENCE)
        return dataset(spec)

    monkeypatch.setattr(lab.setup, "dataset", slowly)
    click(lab, "run")
    inside.wait(PATIENCE)
    lab.cancel()
    threading.Timer(0.3, go.set).start()
    with pytest.raises(Cancelled, match="cancelled"):
        lab.ensure()
    assert lab.session is None
    assert lab.ensure(1).round == 1


def ensured(lab, *rounds):
    """`ensure` on another thread: what it returns, or raises, comes into the list."""
    found = []

    def work():
        try:
            found.append(lab.ensure(*rounds))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, found


def test_ensure_waits_for_the_newer_run_when_a_click_replaces_the_one_being_made(make):
    lab = make()
    lab.settle()
    go = busy()
    thread, found = ensured(lab, 1)
    until(lambda: lab.job is not None)
    lab.setup.controls.control("rounds").box.set_state({"value": 7})
    click(lab, "step")
    go.set()
    thread.join(PATIENCE)
    assert found == [lab.run] and lab.run.rounds == 7 and lab.run.round == 1


def test_ensure_makes_the_run_that_changed_settings_ask_for(make):
    lab = make()
    first = lab.ensure(1)
    lab.setup.controls.control("seed").box.set_state({"value": 5})
    second = lab.ensure(2)
    assert second is lab.run and second is not first and second.experiment.seed == 5 and second.round == 2
    lab.setup.controls.control("rounds").box.set_state({"value": 0})
    with pytest.raises(fl.SettingError, match="rounds = 0"):
        lab.ensure(2)


def test_ensure_raises_when_the_run_for_changed_settings_cannot_be_made(make):
    lab = make()
    lab.ensure(1)
    lab.setup.controls.control("model.norm").control.value = "group"
    lab.setup.controls.control("model.groups").box.value = 31
    with pytest.raises(fl.SettingError, match="width"):  # and not the old run
        lab.ensure(1)


def test_ensure_waits_for_a_run_that_is_being_taken_up(make):
    lab = make()
    first = lab.ensure(1)
    lab.setup.controls.control("seed").box.set_state({"value": 5})
    lab.ensure(1)
    lab.settle()
    go = busy()
    lab.take_up(first.id)
    thread, found = ensured(lab, 2)
    go.set()
    thread.join(PATIENCE)
    assert found[0].id == first.id and found[0].round == 2


def test_the_partition_drawn_is_the_one_that_the_controls_ask_for(make):
    lab = make()
    lab.settle()
    facts, alpha = lab.setup.facts.value, lab.setup.controls.control("data.partition.alpha")
    go = busy()
    alpha.box.set_state({"value": 5.0})
    alpha.box.set_state({"value": 0.3})
    go.set()
    lab.setup.settle()
    assert lab.setup.facts.value == facts and lab.setup.figure().axes
    alpha.box.set_state({"value": 5.0})
    lab.setup.settle()
    assert lab.setup.facts.value != facts


def test_a_list_entry_whose_folder_is_gone_is_raised_once_and_leaves_the_list(make):
    lab = make()
    gone = lab.ensure(1)
    lab.setup.controls.control("seed").box.set_state({"value": 5})
    lab.ensure(1)
    lab.settle()
    shutil.rmtree(gone.directory)
    lab.shelf.shown = [gone.id]
    with pytest.raises(FileNotFoundError):
        lab.settle()
    assert "FileNotFoundError" in lab.note.value and gone.id not in [row["id"] for row in lab.shelf.table.rows]
    lab.settle()
    assert [run.id for run in lab.runs] == [lab.run.id] and lab.ensure(2).round == 2


def test_changed_settings_while_a_round_is_in_flight_make_a_new_run_after_it(make):
    lab = make(rounds=9)
    lab.ensure(1)
    old, (inside, go) = lab.session, hold(lab.run)
    click(lab, "run")
    inside.wait(PATIENCE)
    lab.setup.controls.control("seed").box.set_state({"value": 5})
    click(lab, "run")
    go.set()
    assert lab.ensure(1).experiment.seed == 5 and old.state in ("stopping", "stopped")
