"""The bench: every button and transition as a front end sends it, without a browser."""

import shutil
import threading
from types import SimpleNamespace
from typing import Literal

import ipywidgets
import numpy as np
import pytest
from by_hand import click, enabled, hold
from ipywidgets.widgets import widget as widgets
from patience import PATIENCE, until

import flatlab as fl
from flatlab.lab.experiment_form import Setup
from flatlab.lab.views import VIEWS


def test_before_a_run_there_is_a_partition_to_see_and_run_and_step_to_press(make):
    lab = make()
    lab.settle()
    assert enabled(lab) == {"run", "step"} and lab.run is None and not lab.runs
    assert lab.setup.chart.chart.plots and "6 clients hold" in lab.setup.facts.value
    assert lab.transport.slider.disabled
    with pytest.raises(RuntimeError, match="there is no run yet"):
        lab.panel("Curves")
    lab.pause()  # nothing to pause: nothing happens
    assert lab.figure().png()[:4] == b"\x89PNG"


def test_step_run_pause_stop_and_run_again(make):
    lab = make(rounds=6)
    click(lab, "step")
    lab.settle()
    lab.ensure(1)
    assert (
        lab.session.state == "paused" and lab.transport.bar.value == 1 and "round 1 of 6" in lab.transport.status.value
    )
    inside, go = hold(lab.run)
    click(lab, "run")
    assert inside.wait(PATIENCE) and "pause" in enabled(lab) and "step" not in enabled(lab)
    click(lab, "pause")
    assert "pausing after this round" in lab.transport.status.value and "pause" not in enabled(lab)
    go.set()
    until(lambda: {"run", "step", "stop", "rewind", "fork"} == enabled(lab))
    assert lab.run.round == 2 and lab.session.state == "paused"
    click(lab, "stop")
    assert lab.session.state == "stopped" and {"run", "step", "rewind", "fork"} == enabled(lab)
    stopped, run = lab.session, lab.run
    click(lab, "run")
    lab.ensure()
    assert lab.session is not stopped and lab.run is run and lab.session.state == "done"
    assert not {"run", "step", "pause", "stop"} & enabled(lab) and "done" in lab.transport.status.value
    assert lab.transport.bar.value == lab.transport.bar.max == 6


def test_a_double_click_on_run_makes_one_run_and_on_step_two_rounds(make, tmp_path):
    lab = make()
    click(lab, "step")
    click(lab, "step")
    lab.settle()
    lab.ensure(2)
    until(lambda: lab.session.state == "paused")
    assert lab.run.round == 2
    click(lab, "run")
    lab.start()
    assert lab.ensure().round == 4 and len(lab.run.timings) == 4
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_ensure_makes_the_run_that_nobody_has_started_and_trains_it(make):
    lab = make()
    run = lab.ensure(2)
    assert run is lab.run and run.round == 2 and run.name == "FedAvg"
    assert lab.ensure().round == 4


def test_a_new_lab_goes_on_with_the_run_on_disk_and_stops_the_old_worker(make):
    first = make(rounds=9)
    first.ensure(1)
    inside, go = hold(first.run)
    click(first, "run")
    inside.wait(PATIENCE)
    second = make(rounds=9)
    second.step()
    go.set()
    second.settle()
    until(lambda: first.session.state == "stopped")
    assert second.ensure(3).round == 3
    assert "stop" not in enabled(first)


def test_changed_settings_make_a_new_run_and_the_status_says_so_before(make):
    lab = make()
    lab.ensure(1)
    old = lab.session
    lab.setup.controls.control("algorithm").kind.value = "FedBABU"
    assert "settings changed" in lab.transport.status.value
    click(lab, "run")
    lab.settle()
    lab.ensure()
    assert lab.session is not old and lab.run.name == "FedBABU" and old.state == "stopped"
    assert "settings changed" not in lab.transport.status.value


def test_wrong_settings_turn_run_off_and_say_why(make):
    lab = make()
    lab.setup.settle()
    controls = lab.setup.controls
    controls.control("rounds").box.value = 0
    assert not {"run", "step"} & enabled(lab) and "rounds" in controls.problems
    assert "⚠" in lab.transport.status.value
    with pytest.raises(fl.SettingError, match="rounds = 0"):
        lab.start()
    controls.control("rounds").box.value = 5
    assert {"run", "step"} <= enabled(lab)


def test_a_partition_that_cannot_be_made_is_explained_beside_it_and_turns_run_off(make):
    lab = make()
    controls = lab.setup.controls
    controls.control("data.partition").kind.value = "shards"  # 2 x 6 shards of 10 classes
    lab.setup.settle()
    assert "needs a multiple of 10" in controls.problems["data.partition.per_client"] and "run" not in enabled(lab)
    controls.control("seed").box.value = 5  # has nothing to do with it: still wrong
    assert "data.partition.per_client" in controls.problems and "run" not in enabled(lab)
    controls.control("data.partition.per_client").box.value = 5
    lab.setup.settle()
    assert not controls.problems and "run" in enabled(lab)


def test_the_heatmap_follows_the_partition_and_each_is_made_once(make, monkeypatch):
    lab = make()
    lab.setup.settle()
    made = []
    dataset = lab.setup.dataset
    monkeypatch.setattr(lab.setup, "dataset", lambda spec: made.append(spec.partition.alpha) or dataset(spec))
    before, facts = lab.setup.chart.chart.columns(), lab.setup.facts.value
    alpha = lab.setup.controls.control("data.partition.alpha")
    alpha.slider.set_state({"value": 100.0})
    lab.setup.settle()
    assert [*map(list, lab.setup.chart.chart.columns())] != [*map(list, before)] and lab.setup.facts.value != facts
    lab.setup.controls.control("rounds").box.value = 7  # does not concern the data
    lab.setup.settle()
    assert made == [100.0]


def test_of_images_with_masks_the_form_counts_groups(make):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    source = fl.Source.from_pool("bars", images, None, ["a", "b"], masks=images % 2, groups=np.repeat(["u", "v"], 30))
    lab = make(source.federate(fl.Consecutive(), clients=3), task="segmentation", model="segnet")
    lab.setup.settle()
    assert "on average 1 of 2 groups, top-group share 1.00" in lab.setup.facts.value


def test_a_data_set_that_is_not_there_is_not_downloaded_for_looking(make, monkeypatch):
    def download(*_):
        raise AssertionError("it must not go to the network unasked")

    monkeypatch.setattr("flatlab.lab.experiment_form.load", download)
    lab = make()
    lab.setup.settle()
    lab.setup.controls.control("data.name").control.value = "cifar10"
    lab.setup.settle()
    assert "not on this machine yet" in lab.setup.facts.value and "run" in enabled(lab)


def test_a_network_that_does_not_fit_the_data_is_refused_with_words(make):
    lab = make(model="lenet")
    lab.setup.controls.control("model.width").box.value = 0.5
    lab.setup.controls.control("model").fields["norm"].control.value = "group"
    lab.setup.controls.control("model").fields["groups"].box.value = 31
    click(lab, "step")
    with pytest.raises(fl.SettingError, match="width"):
        lab.settle()
    assert "model.width" in lab.setup.controls.problems and lab.session is None
    assert "run" not in enabled(lab)


def test_the_slider_takes_the_view_back_and_not_the_run(make):
    lab = make()
    lab.ensure(3)
    lab.settle()
    assert (lab.transport.slider.min, lab.transport.slider.max, lab.transport.slider.value) == (0, 3, 3)
    lab.transport.slider.set_state({"value": 1})
    lab.settle()
    assert lab.runs[0].round == 1 and lab.run.round == 3
    curves, whole = lab.panel("Curves"), lab.run.history.query("split == 'holdout' and metric == 'accuracy'")
    assert (curves.runs[0].round, curves.at) == (3, 1)  # nothing vanishes: the round is a mark on the whole curve
    assert curves.chart.chart.at == 1 and curves.chart.chart.plots[0].series[0].x.tolist() == whole["round"].tolist()
    click(lab, "run")  # the view stays where it is while the run goes on
    lab.ensure()
    lab.settle()
    assert lab.runs[0].round == 1 and lab.transport.slider.value == 1 and lab.transport.slider.max == 4
    assert (curves.runs[0].round, curves.at) == (4, 1) and lab.transport.slider.run == lab.run.id
    lab.transport.slider.set_state({"value": 4})
    lab.settle()
    assert lab.runs[0] is lab.run and curves.at is None


def test_clients_and_curves_agree_on_the_round_of_the_time_line(make):
    lab = make(participation=0.5)
    lab.ensure()
    lab.settle()
    lab.tabs.selected_index = list(lab.tabs.titles).index("Clients")
    lab.settle()
    for round in (1, 3, 2):
        lab.transport.slider.set_state({"value": round})
        lab.settle()
        clients, sampled = lab.panel("Clients"), lab.run.federation.sample(round - 1)
        seen = clients.chart.chart.now
        assert clients._at == seen.at == round and set(seen.plots[1].items.client) == set(sampled)
        assert f"round {round}:" in seen.title and clients.chart.chart.about()["run"] == lab.run.id
    lab.transport.slider.set_state({"value": 0})
    lab.settle()
    assert not clients.chart.chart.run and clients.code() == "run1.data.plot()"  # who holds what


def test_rewind_takes_the_run_back_to_the_sliders_round(make):
    lab = make()
    lab.ensure()
    history = lab.run.history
    lab.transport.slider.set_state({"value": 2})
    lab.settle()
    click(lab, "rewind")
    lab.settle()
    assert lab.run.round == 2 and lab.session.state == "paused" and lab.runs[0] is lab.run
    assert lab.transport.slider.value == 2 and lab.transport.slider.max == 4 and lab.transport.bar.value == 2
    assert {"run", "step"} <= enabled(lab)
    assert lab.ensure().history.equals(history)


def test_rewind_while_running(make):
    lab = make(rounds=9)
    lab.ensure(2)
    inside, go = hold(lab.run)
    click(lab, "run")
    inside.wait(PATIENCE)
    lab.transport.slider.set_state({"value": 1})
    click(lab, "rewind")
    go.set()
    until(lambda: lab.session.state == "paused" and lab.run.round == 1)


def test_fork_here_goes_on_from_the_sliders_round_with_the_settings_on_the_left(make):
    lab = make(algorithm=fl.FedASAM(rho=0.5, lr=0.05))
    lab.ensure(3)
    parent = lab.run
    click(lab, "fork")
    assert "change the algorithm" in lab.note.value
    lab.transport.slider.set_state({"value": 2})
    lab.settle()
    lab.setup.controls.control("algorithm.local.rho").box.value = 0.1
    click(lab, "fork")
    lab.settle()
    child = lab.run
    assert child is not parent and child.round == 2 and child.experiment.parent.round == 2
    assert child.experiment.algorithm.local.rho == 0.1 and parent.experiment.algorithm.local.rho == 0.5
    assert (lab.transport.slider.min, lab.transport.slider.value) == (2, 2)
    assert lab.shelf.table.shown == [parent.id] and [run.id for run in lab.runs] == [child.id, parent.id]
    assert "settings changed" not in lab.transport.status.value
    assert lab.ensure().round == 4 and parent.round == 3
    lab.setup.controls.control("model.width").box.value = 0.5
    with pytest.raises(fl.SettingError, match="a fork keeps its parent's"):
        lab.fork()


def test_runs_in_the_store_are_listed_overlaid_and_taken_up(make):
    lab = make()
    lab.ensure(2)
    first = lab.run
    lab.setup.controls.control("algorithm").kind.value = "FedBABU"
    lab.step()
    lab.settle()
    lab.ensure(1)
    lab.settle()
    assert [row["name"] for row in lab.shelf.table.rows] == ["FedBABU", "FedAvg"]
    assert lab.shelf.table.own == lab.run.id
    lab.shelf.table.set_state({"shown": [first.id]})
    lab.settle()
    assert [run.id for run in lab.runs] == [lab.run.id, first.id]
    assert [run.id for run in lab.panel("Curves").runs] == [lab.run.id, first.id]
    looks = lab.shelf.table.looks
    assert looks.keys() == {lab.run.id, first.id} and len({look["color"] for look in looks.values()}) == 2
    lab.shelf.table._handle_custom_msg({"kind": "open", "run": first.id}, [])
    lab.settle()
    assert lab.run.id == first.id and lab.run.round == 2 and lab.experiment.algorithm == fl.FedAvg(lr=0.05)
    assert lab.ensure().round == 4


def test_a_run_that_another_version_wrote_is_passed_over(make, tmp_path):
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "experiment.json").write_text('{"colour": "red"}')
    assert make().shelf.table.rows == []


def test_every_tab_shows_the_run_and_none_computes_before_it_is_looked_at(make):
    lab = make()
    lab.ensure(2)
    lab.settle()
    assert set(lab.tabs.panels) == {"Curves"}
    for place, name in enumerate(VIEWS):
        lab.tabs.set_state({"selected_index": place})
        lab.settle()
        assert name in lab.tabs.panels and not lab.note.value, (name, lab.note.value)
        assert lab.figure().png()[:4] == b"\x89PNG"
    assert lab.panel("Landscape").result is None  # it waits to be asked
    with pytest.raises(fl.SettingError, match="must be Curves"):
        lab.panel("Weather")


def test_two_panels_on_one_run(make):
    lab = make()
    lab.ensure(2)
    other = fl.lab.Curves(lab.run)
    clients = fl.lab.Clients(lab.run)
    lab.ensure()
    for panel in (other, clients):
        panel.refresh()
        panel.settle()
        assert panel.figure().png()[:4] == b"\x89PNG"
    assert len(lab.run.timings) == 4


def test_an_exception_in_a_client_is_shown_with_its_traceback_and_raised(make):
    lab = make()
    lab.ensure(1)
    bar, color = lab.transport.bar, lab.shelf.table.looks[lab.run.id]["color"]
    assert bar.style.bar_color == color  # that of its curve
    local = lab.run.federation.local

    def fails(*_):
        raise ZeroDivisionError("client 4 fell over")

    lab.run.federation.local = fails
    click(lab, "run")
    with pytest.raises(ZeroDivisionError, match="client 4"):
        lab.ensure()
    assert "client 4 fell over" in lab.note.value and "traceback" in lab.note.value
    assert bar.bar_style == "danger" and bar.style.bar_color is None and "run" in enabled(lab)
    lab.run.federation.local = local
    click(lab, "run")
    assert lab.ensure().round == 4 and "fell over" not in lab.note.value


def test_a_view_that_cannot_be_drawn_is_shown_and_does_not_end_the_training(make):
    lab = make()
    lab.ensure(1)
    lab.settle()

    def fails():
        raise ValueError("no ink")

    panel = lab.panel("Curves")
    refresh, panel.refresh = panel.refresh, fails
    lab.ensure(2)
    lab.settle()
    assert "no ink" in lab.note.value
    panel.refresh = refresh
    assert lab.ensure().round == 4
    lab.settle()
    assert not lab.note.value


def test_a_store_deleted_underneath_is_survived(make, tmp_path):
    lab = make()
    lab.ensure(2)
    shutil.rmtree(tmp_path / "runs")
    lab.shelf.table._handle_custom_msg({"kind": "look"}, [])
    assert lab.shelf.table.rows == []
    with pytest.raises(FileNotFoundError, match="make the run again"):
        lab.ensure()
    assert "make the run again" in lab.note.value
    click(lab, "run")  # which makes it again
    assert lab.ensure().round == 4
    lab.settle()
    assert len(lab.shelf.table.rows) == 1


def test_drawing_takes_a_small_share_of_the_time_and_the_last_round_is_drawn(make, monkeypatch):
    """By a clock of its own: a round takes 0.05 s, a drawing 0.2 s, of which one in 5 s is a share of 4 %."""
    lab, clock = make(rounds=8), [1000.0]
    lab.ensure(1)
    lab.settle()
    panel, drawn, step = lab.panel("Curves"), [], lab.run.step
    panel.live = False  # as a view that is drawn here, not in the browser

    def takes(seconds, result=None):
        clock[0] += seconds
        return result

    monkeypatch.setattr(
        "flatlab.lab.lab_view.time", SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0)
    )
    monkeypatch.setattr(panel, "refresh", lambda: takes(0.2, drawn.append(lab.run.round)))
    monkeypatch.setattr(lab.run, "step", lambda: takes(0.05, step()))
    lab.ensure()
    lab.settle()
    assert drawn[-1] == 8 and len(drawn) <= 3


def test_the_static_picture_and_the_live_view_are_both_there(make):
    lab = make()
    data, _ = lab._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json", "text/plain"} <= set(data)


def test_beside_the_view_lies_what_is_said_once_its_kernel_is_gone(make, monkeypatch):
    lab, sent = make(), []
    monkeypatch.setattr("flatlab.lab.panel.display", lambda data, **_: sent.append(data))
    lab._ipython_display_()
    view, gone = sent
    assert "application/vnd.jupyter.widget-view+json" in view
    assert set(gone) == {"text/html"} and "run the cell again" in gone["text/html"] and len(gone["text/html"]) < 1000


def test_data_not_yet_shared_out_and_a_network_of_ones_own(make, data):
    source = fl.load("digits")
    lab = make(source)
    lab.setup.controls.control("data.clients").inside.box.value = 5
    assert lab.ensure(1).data.clients == 5
    own = fl.models.build(fl.ModelSpec(name="lenet", width=0.25), data.shape, data.classes, 0)
    lab = make(model=own)
    assert lab.experiment.model.name == "custom" and lab.ensure(1).round == 1
    assert "model" not in lab.setup.controls.fields


def test_unknown_settings_are_refused_at_once(make):
    with pytest.raises(fl.SettingError, match="colour: no such setting"):
        make(colour="red")


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": "x"}, {"store": 3}, {"root": None}, {"model": "alexnet"}, {"model": 3}, {"rounds": 1.5}, {"seed": -1},
        {"algorithm": "FedFoo"}, {"participation": 2}, {"engine": "vmap"}, {"chunk": 0}, {"device": "tpu"},
        {"channels_last": "1"}, {"checkpoint_every": True}, {"evaluation": 5}, {"colour": "red"}, {"sampling": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_refused_lab_leaves_nothing_behind(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened, threads = [], set(threading.enumerate())
    monkeypatch.setattr(ipywidgets.Widget, "open", lambda self: opened.append(self))
    with pytest.raises(fl.SettingError, match=f"(?i){next(iter(wrong))}"):
        fl.lab.Lab(**wrong)
    assert not opened and set(threading.enumerate()) <= threads and not list(tmp_path.iterdir())


@pytest.mark.parametrize("panel", ["Clients", "Compare", "Curves", "Landscape", "Personalization", "Spectrum"])
def test_a_refused_panel_leaves_no_widgets_behind(panel, monkeypatch):
    opened = []
    monkeypatch.setattr(ipywidgets.Widget, "open", lambda self: opened.append(self))
    for wrong in ("x", 3, [], [None]):
        with pytest.raises(fl.SettingError, match="runs = "):
            getattr(fl.lab, panel)(wrong)
    assert not opened


def test_every_button_has_a_name_and_a_tooltip(make):
    lab = make()
    for button in lab.transport.buttons.values():
        assert button.description and button.tooltip


def test_await_trains_too(make):
    import asyncio

    assert asyncio.run(make().aensure(2)).round == 2


def test_close_frees_every_widget_and_stops_the_worker(make):
    before = set(widgets._instances)
    lab = make(rounds=9)
    lab.ensure(2)
    lab.setup.controls.control("algorithm").kind.value = "FedBABU"  # other kinds are kept, too
    lab.setup.controls.control("algorithm").kind.value = "FedAvg"
    for place in range(len(VIEWS)):
        lab.tabs.set_state({"selected_index": place})
        lab.settle()
    lab.panel("Compare").view.value = "Clients"
    lab.panel("Compare").view.value = "Curves"
    made = set(widgets._instances) - before
    inside, go = hold(lab.run)
    lab.start()
    inside.wait(PATIENCE)
    lab.close()
    go.set()
    until(lambda: lab.session.state == "stopped")
    left = set(widgets._instances) & made
    assert len(made) > 500 and len(left) <= 0.01 * len(made), [type(widgets._instances[one]) for one in left]
    lab.close()  # once more does no harm


def test_a_kind_of_algorithm_defined_later_is_offered_set_and_taken_up(make, data):
    class Late(fl.FedAvg):
        kind: Literal["Late"] = "Late"

    lab = make()
    lab.ensure(1)

    class Later(fl.FedAvg):
        kind: Literal["Later"] = "Later"

    menu = lab.setup.controls.control("algorithm").kind
    lab.setup.controls.control("rounds").box.set_state({"value": 3})
    assert "Later" in [kind for _, kind in menu.options] and menu.value == "FedAvg"
    menu.value = "Later"
    assert isinstance(lab.experiment.algorithm, Later)

    class Last(fl.FedAvg):
        kind: Literal["Last"] = "Last"

    lab.experiment = lab.experiment.replace(algorithm=Last(lr=0.05))
    assert menu.value == "Last" and isinstance(lab.experiment.algorithm, Last)

    class Other(fl.FedAvg):
        kind: Literal["Other"] = "Other"

    other = fl.Run(lab.experiment.replace(algorithm=Other(lr=0.05)), data, store=lab.shelf.directory("")).to(1)
    lab.take_up(other.id)
    lab.settle()
    assert lab.run.id == other.id and menu.value == "Other" and "settings changed" not in lab.transport.status.value


def test_a_run_that_the_controls_cannot_show_is_not_half_taken_up(make, monkeypatch):
    lab = make()
    first = lab.ensure(1)
    lab.setup.controls.control("seed").box.set_state({"value": 5})
    session = lab.session if lab.ensure(1) else None
    monkeypatch.setattr(Setup, "experiment", Setup.experiment.setter(lambda *_: 1 / 0))
    lab.take_up(first.id)
    with pytest.raises(ZeroDivisionError):
        lab.settle()
    assert lab.session is session


def test_a_fork_that_would_have_no_round_left_is_explained_beside_rounds(make):
    lab = make()
    lab.ensure(3)
    lab.settle()
    lab.setup.controls.control("rounds").box.set_state({"value": 2})
    click(lab, "fork")
    field = lab.setup.controls.control("rounds")
    for text in (lab.note.value, field._message.value):
        assert "rounds = 2: must exceed 3" in text and "Experiment:" not in text
    field.box.set_state({"value": 6})
    assert not field._message.value
    click(lab, "fork")
    lab.settle()
    assert lab.run.rounds == 6 and lab.run.experiment.parent.round == 3


def test_a_network_of_ones_own_can_be_chosen_again_after_another_run_was_taken_up(make, data):
    own = fl.models.build(fl.ModelSpec(name="lenet", width=0.25), data.shape, data.classes, 0)
    lab = make()
    other = lab.ensure(1)
    assert lab.setup.network.layout.display == "none"
    lab = make(model=own)
    lab.take_up(other.id)
    lab.settle()
    assert lab.experiment.model.name == "lenet" and lab.setup.network.value == other.experiment.model
    lab.setup.network.set_state({"index": 0})
    assert lab.experiment.model.name == "custom" and "settings changed" in lab.transport.status.value
    assert lab.ensure(1).experiment.model.name == "custom"


def test_before_the_first_round_what_needs_one_is_off_or_says_so(make):
    lab = make()
    lab.setup.settle()
    run = fl.Run(lab.experiment, lab.setup.dataset(lab.experiment.data), store=lab.shelf.directory(""))
    clients, landscape = fl.lab.Clients(run), fl.lab.Landscape(run)
    assert clients.score_button.disabled and clients.measure_button.disabled and landscape.clients.disabled
    clients.score_button.click()
    assert "train a round first" in clients.note.value
    landscape.clients.value = True
    landscape.settings.change(points=3, limit=40)
    landscape.measure()
    landscape.settle()
    run.to(1)
    clients.refresh()
    landscape.refresh()
    assert not (clients.score_button.disabled or clients.measure_button.disabled or landscape.clients.disabled)
    assert landscape.request().clients == (1,)
