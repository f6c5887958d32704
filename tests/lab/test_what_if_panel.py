"""A setting at several values: the runs are those that scripts would train, and what comes of them is drawn."""

from contextlib import suppress

import pytest
from patience import until
from small_runs import click, six_clients, trained

import flatlab as fl
from flatlab.jobs import Cancelled
from flatlab.lab import WhatIf
from flatlab.lab.controls import Controls
from flatlab.training.what_if import settings_to_try


def test_each_value_is_a_run_with_its_curve_and_then_a_point(tmp_path):
    run = trained(fl.FedAvg(lr=0.05), six_clients(), tmp_path, rounds=2)
    panel = WhatIf(run)
    assert panel.setting.value == "algorithm.lr" and panel.values.value == "0.02, 0.05, 0.1, 0.2"
    panel.values.value = "0.02, 0.05"
    said = []
    panel.note.observe(lambda change: said.append(change["new"]), "value")
    panel.start()
    panel.settle()
    until(lambda: all(session.state == "done" for session in panel.sessions))
    panel.refresh()
    far = [text.split(", ")[0] for text in said if "rounds" in text]
    assert "2 runs: 3 of 4 rounds (75 %)" in far and panel.note.value == ""
    assert panel.sessions[1].run.id == run.id  # which was there already
    plots = panel.multiples.chart.plots
    for plot, session in zip(plots, panel.sessions, strict=True):
        rows = session.run.history.query("split == 'holdout' and metric == 'accuracy'")["value"]
        assert plot.series[0].y.tolist() == pytest.approx((100 * rows).tolist())
    assert ["lr 0.02" in plots[0].y.label, "lr 0.05" in plots[1].y.label] == [True, True]
    (accuracy,) = panel.against.chart.plots
    assert accuracy.series[0].x.tolist() == [0.02, 0.05]
    assert accuracy.series[0].y.tolist() == pytest.approx([plot.series[0].y[-1] for plot in plots])
    panel.measure()
    panel.settle()
    labels = [plot.y.label for plot in panel.against.chart.plots]
    assert len(labels) == 3 and labels[2] == "λ₁"
    gains = [fl.personalize(session.run).summary()["gain"][0] for session in panel.sessions]
    assert panel.against.chart.plots[1].series[0].y.tolist() == pytest.approx([100 * gain for gain in gains])
    panel.values.value = "-1"
    with pytest.raises(fl.SettingError, match="lr = -1"):
        panel.start()
    assert panel.figure().png()[:4] == b"\x89PNG"
    panel.sessions[0].error = FloatingPointError("the loss is nan")
    panel.refresh()
    assert "the loss is nan" in panel.note.value
    panel.close()


def test_the_button_beside_a_setting_tries_it_on_the_settings_of_the_form(make):
    lab = make(rounds=2)
    lab.setup.controls.change(participation=0.5)
    lab.setup.controls.control("algorithm.lr").write(0.2)
    beside = [
        widget
        for widget in lab.setup.controls.control("algorithm.lr")._row.children
        if getattr(widget, "icon", "") == "flask"
    ]
    assert [button.tooltip for button in beside] == ["What if? Try 4 values of lr"]
    click(beside[0])  # before there is a run: one is made, and not trained
    lab.settle()
    panel = lab.panel("What if")
    assert lab.tabs.front == "What if" and lab.run.round == 0 and panel.setting.value == "algorithm.lr"
    assert panel.values.value == "0.1, 0.2, 0.5, 1.0"
    lab.setup.controls.change(participation=1.0)  # the form moves on, the run does not
    lab.attempt("participation")
    assert panel.values.value.endswith("1.0") and lab.run.experiment.participation == 0.5
    panel.setting.value, panel.values.value = "algorithm.local", "sgd, sam"
    panel.start()
    panel.settle()
    tried = [session.run.experiment for session in panel.sessions]
    assert [one.participation for one in tried] == [1.0, 1.0] and [one.algorithm.lr for one in tried] == [0.2, 0.2]
    assert tried[0].algorithm.local.kind == "sgd" and panel.sessions[0].run.directory.parent == lab.run.directory.parent
    panel.stop()
    lab.setup.controls.control("algorithm.lr").write(-1)
    with pytest.raises(fl.SettingError, match="lr"):
        lab.attempt("algorithm.lr")


def test_what_can_be_tried_has_a_button_and_nothing_else(make):
    lab, asked = make(), []
    lab.attempt = asked.append
    controls = lab.setup.controls
    for widget in buttons_within(controls):
        click(widget)
    assert {"algorithm", "algorithm.lr", "data.partition", "data.partition.alpha", "algorithm.local", "seed"} <= {
        *asked
    }
    offered = {*settings_to_try(lab.experiment)}
    assert {path for path in asked if path not in offered and not path.startswith("algorithm.")} <= {"data.normalise"}
    landscape = Controls(fl.geometry.LandscapeSettings)
    assert not buttons_within(landscape)


def buttons_within(widget):
    inside = [one for child in getattr(widget, "children", ()) for one in buttons_within(child)]
    return inside + ([widget] if getattr(widget, "icon", "") == "flask" else [])


def test_no_value_stops_nothing_and_the_same_twice_is_one(tmp_path):
    run = trained(fl.FedAvg(lr=0.05), six_clients(), tmp_path, rounds=2)
    panel = WhatIf(run)
    panel.values.value = "0.05, 0.05"
    panel.start()
    panel.settle()
    assert [session.run.id for session in panel.sessions] == [run.id]
    panel.values.value = ""
    with pytest.raises(fl.SettingError, match="at least one value"):
        panel.start()
    assert len(panel.sessions) == 1
    panel.close()


def test_of_a_fork_it_says_that_runs_begin_anew(tmp_path):
    fork = (
        trained(fl.FedAvg(lr=0.05), six_clients(), tmp_path, rounds=2).fork(round=1, algorithm=fl.FedAvg(lr=0.1)).to()
    )
    panel = WhatIf(fork)
    panel.values.value = "0.05"
    panel.start()
    panel.settle()
    assert "is a fork; these runs begin at round 1" in panel.note.value
    panel.close()


def test_cancel_ends_the_measurement_before_the_next_run(tmp_path, monkeypatch):
    run = trained(fl.FedAvg(lr=0.05), six_clients(), tmp_path, rounds=1)
    panel = WhatIf(run)
    panel.values.value = "0.02, 0.05"
    panel.start()
    panel.settle()
    until(lambda: all(session.state == "done" for session in panel.sessions))
    measured, whole = [], fl.hessian

    def hessian(run, **settings):
        measured.append(run.id)
        panel.job.cancel()
        return whole(run, **settings)

    monkeypatch.setattr(fl, "hessian", hessian)
    panel.measure()
    with suppress(Cancelled):
        panel.settle()
    assert len(measured) == 1
    panel.close()
