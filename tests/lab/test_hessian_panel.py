"""The Hessian panel: measures what its buttons say, shows the numbers, and its code gives the same ones."""

import pandas as pd
import pytest
from patience import until
from small_runs import click

import flatlab as fl
from flatlab.figures.hessian import draw_along, draw_top, draw_trace
from flatlab.geometry import Eigenvalues, HessianAlong, Trace
from flatlab.lab.hessian_panel import BUTTONS, Spectrum


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)
    model = fl.ModelSpec(name="cnn4", width=0.125)
    store = tmp_path_factory.mktemp("runs")
    return [fl.train(one, data, model, rounds=3, participation=0.5, store=store) for one in (fl.FedAvg(), fl.FedASAM())]


@pytest.fixture
def small(runs):
    panel = Spectrum(runs)
    panel.amounts.change(k=2, steps=8, every=3)
    panel.settings.change(limit=40, part="head")  # few parameters: a trace takes a tenth of the products
    return panel


def test_nothing_is_measured_before_somebody_asks(small):
    small.amounts.control("k").box.set_state({"value": 3})
    small.refresh()
    assert small.job is None
    assert small.results == {}
    assert small.chart.chart.title == "nothing measured yet"
    assert small.code().startswith("spectrum = {")


def test_the_empty_picture_says_what_is_being_measured(small, held):
    small.measure("top")
    assert small.chart.chart.title == "the Hessian …"
    small.cancel()
    held.set()
    until(lambda: small.chart.chart.title == "nothing measured yet")


@pytest.mark.parametrize("what", BUTTONS)
def test_each_button_measures_both_runs_and_the_code_gives_the_same_numbers(small, runs, what):
    click(small.buttons[what])
    shown = small.settle()
    assert small.results == shown
    assert list(shown) == ["FedAvg", "FedASAM"]
    names = [series.name for plot in small.chart.chart.plots for series in plot.series]
    assert all(any(name.startswith(run) for name in names) for run in shown), names
    assert "FedASAM" in small.table.value
    space = {"fl": fl, "run1": runs[0], "run2": runs[1]}
    exec(small.code(), space)
    for name, result in shown.items():
        pd.testing.assert_frame_equal(space[what][name].frame, result.frame)


@pytest.mark.filterwarnings("ignore:.*not converged")  # power iteration on so few samples
def test_controls_reach_the_measurement(runs):
    panel = Spectrum(runs[0])
    panel.settings.change(limit=40, part="body", seed=5, method="power")
    panel.amounts.change(k=3)
    panel.data.value = "train"
    panel.round.set_state({"index": 1})
    panel.measure("top")
    (found,) = panel.settle().values()
    assert len(found.frame) == 3
    assert (found.about["part"], found.about["method"], found.about["seed"]) == ("body", "power", 5)
    assert found.about["data"].startswith("train")
    direct = fl.hessian(runs[0], "train", part="body", limit=40, seed=5, method="power", round=1).top(3)
    pd.testing.assert_frame_equal(found.frame, direct.frame)
    space = {"fl": fl, "run1": runs[0]}
    exec(panel.code(), space)
    pd.testing.assert_frame_equal(space["top"].frame, found.frame)


def test_known_settings_are_not_measured_again(small, monkeypatch):
    small.measure("top")
    first = small.settle()
    small.measure("spectrum")
    small.settle()
    monkeypatch.setattr("flatlab.geometry.hessian", lambda *_, **__: pytest.fail("measured again"))
    small.measure("top")
    assert small.settle()["FedAvg"] is first["FedAvg"]
    small.settings.control("seed").box.set_state({"value": 9})
    assert "differ" in small.note.value


def test_values_of_several_rounds_are_shown_over_the_rounds(small):
    for at in ("1", "latest"):
        small.round.value = at
        small.measure("top")
        small.settle()
    ranks, along = small.chart.chart.plots
    assert (ranks.x.label, along.x.label) == ("rank", "round")
    assert [series.x.tolist() for series in along.series] == [[1, 3]] * 4  # two eigenvalues of two runs
    assert ranks.series[0].y.tolist() == small.results["FedAvg"].frame["eigenvalue"].tolist()


def test_about_ten_of_many_rounds_are_proposed_until_somebody_chooses(runs, monkeypatch):
    panel = Spectrum(runs)
    assert panel.amounts.value.every == 1
    monkeypatch.setattr(fl.Run, "checkpoints", property(lambda run: list(range(0, 121, 3))))
    panel.refresh()
    assert panel.amounts.value.every == 12  # 0, 12, ..., 120
    for chosen in (30, 1):
        panel.amounts.change(every=chosen)
        panel.refresh()
        assert panel.amounts.value.every == chosen


def test_what_cannot_be_measured_is_explained(small):
    small.settings.change(method="power")
    small.measure("trace")
    with pytest.raises(ValueError, match="no trace"):
        small.settle()
    assert "no trace" in small.note.value
    assert small.results == {} and small.chart.chart.plots == ()  # nothing that was not asked for is left
    with pytest.raises(ValueError, match="what = 'beauty'"):
        small.measure("beauty")


def test_cancel_keeps_the_run_that_is_done_and_measuring_again_completes_it(small, held):
    job = small.measure("top")
    report = job.report

    def stop_at_the_second(done, total):
        if done == 1:
            click(small.work.cancel_button)
        return report(done, total)

    job.report = stop_at_the_second
    held.set()
    first = small.settle()
    assert list(small.results) == list(first) == ["FedAvg"]
    assert "run2" not in small.code()
    small.measure("top")
    whole = small.settle()
    assert list(whole) == ["FedAvg", "FedASAM"]
    assert whole["FedAvg"] is first["FedAvg"]


def test_other_runs_replace_what_is_shown(small, runs, held):
    job = small.measure("top")
    small.show(runs[1])
    job._stop.clear()  # as if it had been too late to cancel
    held.set()
    small.settle()
    assert small.results == {}
    assert small.table.value == ""


def test_pictures_of_several_runs_show_each_with_its_error():
    said = {"samples": 9, "data": "holdout", "loss": "mse", "part": "all", "normalisation": "none", "batch": "free"}
    about = {**said, "method": "lanczos", "seed": 0, "confidence": 0.99}
    trace = pd.DataFrame({"trace": [5.0], "standard_error": 0.5, "low": 3.0, "high": 7.0, "converged": False})
    axis = draw_trace({"a": Trace(trace, about), "b": Trace(trace, about)}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    (bar,) = axis.containers[0][2]
    assert bar.get_segments()[0][:, 0].tolist() == [3.0, 7.0]
    assert fl.plot(Trace(trace, about)).axes[0].get_xlabel() == "trace of the loss's Hessian, 99 % interval"
    pairs = Eigenvalues(
        pd.DataFrame({"rank": [1, 2], "eigenvalue": [5.0, 3.0], "error": 0.1, "converged": True}), about
    )
    one, two = draw_top(pairs), draw_top({"a": pairs, "b": pairs})
    assert not one.legends
    assert [text.get_text() for text in two.legends[0].get_texts()] == ["a", "b"]
    rounds = {"round": [0, 5], "quantity": "lambda_1", "value": [1.0, 9.0], "error": 0.1}
    along = HessianAlong(pd.DataFrame(rounds), about)
    drawn = fl.plot({"a": along, "b": along})
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["a λ₁", "b λ₁"]
    assert len(draw_along(along).axes) == 1
