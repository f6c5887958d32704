"""The curves' panel: every control changes the drawing, refreshing is cheap and follows."""

import threading

import numpy as np
import pytest
from small_runs import trained

import flatlab as fl
from flatlab.figures import Drawing
from flatlab.lab.curves import Curves


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    return [trained(fl.FedBABU(), data, store, seed=seed) for seed in (0, 1)] + [trained(fl.FedASAM(), data, store)]


def shown(panel):
    """All that the browser is told."""
    chart = panel.chart.chart
    return chart.about(), [column.tolist() for column in chart.columns()], panel.smooth.value


@pytest.mark.parametrize(
    ("control", "value", "written"),
    [
        ("x", "samples", 'x="samples"'),
        ("metrics", ("drift", "loss"), 'metrics=["loss", "drift"]'),
        ("smooth", 0.4, "smooth=0.4"),
        ("bands", False, "bands=False"),
        ("until", 2, "until=2"),
    ],
)
def test_each_control_redraws_and_is_in_the_code(runs, control, value, written):
    panel = Curves(runs[:2])
    before = shown(panel)
    assert panel.code() == "fl.plot([run1, run2], final=True)"
    getattr(panel, control).set_state({"value": value} if control != "metrics" else {"index": (1, 4)})
    if control == "x":
        panel.x.value = value
    assert shown(panel) != before and panel.note.value == ""
    assert written in panel.code()
    drawn = eval(panel.code(), {"fl": fl, "run1": runs[0], "run2": runs[1]})
    assert drawn.png() == panel.figure().png()


def test_refresh_follows_a_run_in_training_and_keeps_the_range(data, tmp_path):
    run = fl.Run(
        trained(fl.FedAvg(), data, tmp_path / "other", rounds=1).experiment.replace(rounds=3), data, store=tmp_path
    )
    panel = Curves(run)
    for _ in run:
        panel.refresh()
        accuracy, loss = panel.chart.chart.plots
        assert accuracy.x.limits == (0.0, 3.0) and accuracy.series[0].x.tolist() == [*range(1, run.round + 1)]
    history = run.history
    holdout = history[(history["split"] == "holdout")].pivot(index="round", columns="metric", values="value")
    assert np.allclose(accuracy.series[0].y, 100 * holdout["accuracy"]) and np.allclose(
        loss.series[0].y, holdout["loss"]
    )


def test_runs_of_several_seeds_are_one_curve_with_a_band_unless_it_is_switched_off(runs):
    panel = Curves(runs)
    first, second = panel.chart.chart.plots[0].series
    assert (
        first.name == "FedBABU, n = 2"
        and first.members.shape == (2, 3)
        and second.name == "FedASAM (2 gradients a step)"
    )
    assert np.allclose(first.high - first.y, first.members.std(axis=0, ddof=1)) and "seeds" in panel.chart.chart.bands
    panel.bands.value = False
    assert len(panel.chart.chart.plots[0].series) == 3 and not panel.chart.chart.bands


def test_show_replaces_the_runs_and_callbacks_may_come_from_any_thread(runs):
    panel = Curves(runs[0])
    panel.show(runs)
    threads = [threading.Thread(target=setattr, args=(panel.smooth, "value", step / 10)) for step in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert panel.note.value == "" and isinstance(panel.figure(), Drawing)
    assert panel._repr_mimebundle_()[0]["image/png"]


def test_a_drawing_that_fails_says_so(runs, monkeypatch):
    panel = Curves(runs[0])
    monkeypatch.setattr("flatlab.figures.chart_runs", lambda *_, **__: 1 / 0)
    panel.bands.value = False
    assert "ZeroDivisionError" in panel.note.value
