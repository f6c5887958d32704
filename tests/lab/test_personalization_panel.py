"""The personalization panel: nothing is computed unasked, results are kept by their settings, views show the same."""

import pytest
from patience import PATIENCE, until
from small_runs import click, six_clients, trained

import flatlab as fl
from flatlab.jobs import submit
from flatlab.lab.personalization_panel import VIEWS, Personalization


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    store, data = tmp_path_factory.mktemp("runs"), six_clients()
    return [trained(algorithm, data, store) for algorithm in (fl.FedBABU(), fl.FedASAM())]


@pytest.fixture
def panel(runs):
    panel = Personalization(runs)
    panel.tuning.value = fl.Tuning(epochs=1, lr=0.01)
    return panel


def test_moving_controls_computes_nothing(panel):
    for setting, value in (("part", "head"), ("momentum", 0.5)):
        panel.tuning.control(setting).write(value)
    panel.round.value, panel.view.value = "2", "scatter"
    assert panel.tuning.value == fl.Tuning(epochs=1, lr=0.01, part="head", momentum=0.5)
    assert panel.job is None and panel.result is None and panel.table.value == ""


def test_the_empty_picture_says_that_it_is_being_measured_and_what_to_press_when_that_was_cancelled(panel, held):
    assert "press “Fine-tune”" in panel.chart.chart.title
    click(panel.tune_button)
    assert panel.chart.chart.title == "fine-tuning …"
    panel.cancel()
    held.set()
    until(lambda: "press “Fine-tune”" in panel.chart.chart.title)


def test_the_button_fine_tunes_with_the_settings_shown(panel, runs):
    panel.tuning.value, panel.round.value = fl.Tuning(epochs=1, lr=0.01, part="head"), "2"
    click(panel.tune_button)
    panel.settle()
    assert panel.result.frame.equals(fl.personalize(runs, 1, part="head", lr=0.01, round=2).frame)
    assert "±" in panel.table.value and "FedBABU" in panel.table.value
    assert panel.code() == 'fl.personalize([run1, run2], epochs=1, part="head", lr=0.01, round=2).plot()'


def test_results_are_kept_by_their_settings(panel):
    panel.measure()
    panel.settle()
    first, job = panel.result, panel.job
    panel.tuning.control("part").write("body")
    assert panel.result is None and panel.table.value == ""
    panel.tuning.control("part").write("all")
    assert panel.result is first and panel.measure() is None and panel.job is job
    assert panel.table.value != ""


def test_every_view_draws_and_its_code_draws_the_same(panel, runs):
    panel.measure()
    panel.settle()
    pictures = []
    for view in ("curves", "histogram", "scatter"):
        panel.view.value = view
        pictures.append(repr(panel.chart.chart.about()))
        drawn = eval(panel.code(), {"fl": fl, "run1": runs[0], "run2": runs[1]})
        assert drawn.png() == panel.figure().png()
    assert len(set(pictures)) == 3 and set(VIEWS) == {"curves", "histogram", "scatter", "flatness"}


def test_flatness_is_measured_on_demand_for_one_run(panel):
    panel.of.value = 1
    panel.measure_flatness()
    panel.settle()
    assert panel.view.value == "flatness" and panel.result is None  # of one run; the button tunes all
    before = panel.chart.chart
    tuned, drawn = panel.code().split("\n")
    assert tuned == "tuned = fl.personalize([run1, run2], epochs=1, lr=0.01)"
    assert drawn == "fl.flatness_vs_gain(run2, gains=tuned).plot()"
    assert panel.measure_flatness() is None
    panel.of.value = 0
    assert panel.chart.chart is not before


def test_cancel_keeps_what_is_complete_only(panel):
    blocker = submit(lambda job: job._stop.wait(PATIENCE))
    panel.measure()
    panel.cancel()
    blocker.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        panel.settle()
    assert panel.result is None and "cancelled" in panel.note.value


def test_a_later_round_is_not_passed_off_as_measured(runs, tmp_path):
    run = fl.Run(runs[0].experiment, runs[0].data, store=tmp_path).to(1)
    panel = Personalization(run)
    panel.tuning.control("epochs").write(1)
    panel.measure()
    panel.settle()
    assert panel.result.frame["round"].unique().tolist() == [1]
    run.step()
    panel.refresh()
    assert panel.result is None and panel.round.options[-2:] == ("2", "latest")
    panel.round.value = "1"
    assert panel.result is not None
    panel.show(runs[1])
    assert panel.result is None and len(panel.of.options) == 1 and panel.of.value == 0


def test_divergence_is_blamed_in_the_panel(panel):
    panel.tuning.control("lr").write(1e12)
    panel.measure()
    with pytest.raises(fl.Diverged):
        panel.settle()
    assert "Diverged" in panel.note.value and "traceback" in panel.note.value


def test_a_wrong_setting_is_explained_beside_its_control_and_draws_nothing(panel):
    before = panel.chart.chart
    panel.tuning.control("lr").write(-1.0)
    assert "must be a number &gt; 0" in panel.tuning.control("lr")._message.value
    assert panel.chart.chart is before
    click(panel.tune_button)
    assert panel.job is None and "lr" in panel.note.value
