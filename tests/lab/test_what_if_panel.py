"""A setting at several values: the runs are those that scripts would train, and what comes of them is drawn."""

import pytest
from patience import until
from small_runs import six_clients, trained

import flatlab as fl
from flatlab.lab import WhatIf


def test_each_value_is_a_run_with_its_curve_and_then_a_point(tmp_path):
    run = trained(fl.FedAvg(lr=0.05), six_clients(), tmp_path, rounds=2)
    panel = WhatIf(run)
    assert panel.setting.value == "algorithm.lr" and panel.values.value == "0.02, 0.05, 0.1, 0.2"
    panel.values.value = "0.02, 0.05"
    panel.start()
    panel.settle()
    until(lambda: all(session.state == "done" for session in panel.sessions))
    panel.refresh()
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
    panel.close()
