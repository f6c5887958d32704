"""Charts of measurements say what was measured: every value with its bar, in its run's colour."""

import numpy as np
import pandas as pd
import pytest

from flatlab.figures import chart_hessian, chart_lines, chart_personalization, paper
from flatlab.geometry import Eigenvalues, HessianAlong, Landscape, Spectrum, Trace
from flatlab.personalization import Personalization

ABOUT = {"errors": {"error": "numerical"}}


def top(*values):
    frame = {"rank": range(1, len(values) + 1), "eigenvalue": values, "error": 0.5, "converged": True}
    return Eigenvalues(pd.DataFrame(frame), ABOUT)


def test_eigenvalues_of_several_rounds_stand_by_rank_and_over_the_rounds():
    alone = chart_hessian({"a": {3: top(9.0, 4.0)}})
    assert [str(plot.x) for plot in alone.plots] == ["rank"] and alone.bands == "bars: numerical"
    (series,) = alone.plots[0].series
    assert series.y.tolist() == [9, 4] and series.low.tolist() == [8.5, 3.5] and series.high.tolist() == [9.5, 4.5]
    several = chart_hessian({"a": {7: top(5.0, 2.0), 3: top(9.0, 4.0)}, "b": {3: top(1.0, 0.5)}}, {"b": "#123456"})
    assert [str(plot.x) for plot in several.plots] == ["rank", "round"]
    ranks, along = several.plots
    assert ranks.series[0].y.tolist() == [9, 4]  # of the round looked at last
    first = along.series[0]
    assert (first.name, first.x.tolist(), first.y.tolist()) == ("a λ1", [3, 7], [9, 5])
    assert {one.color for one in along.series if one.name.startswith("b")} == {"#123456"}
    assert len({one.dash for one in along.series if one.name.startswith("a")}) == 2
    assert paper(several).axes


def test_traces_and_what_runs_along_rounds_have_their_bars():
    trace = Trace(pd.DataFrame({"trace": [5.0], "low": 3.0, "high": 7.0, "standard_error": 1.0}), ABOUT)
    (plot,) = chart_hessian({"a": {3: trace}}).plots
    (series,) = plot.series
    assert (series.x.tolist(), series.low.tolist(), series.high.tolist()) == ([3], [3], [7])
    rows = {
        "round": [0, 5, 0, 5],
        "quantity": ["lambda_1"] * 2 + ["trace"] * 2,
        "value": [1.0, 2, 30, 40],
        "error": 0.1,
    }
    plots = chart_hessian({"a": {0: HessianAlong(pd.DataFrame(rows), ABOUT)}}).plots
    shown = [(str(plot.y).split()[0], plot.series[0].y.tolist()) for plot in plots]
    assert shown == [("eigenvalue", [1, 2]), ("trace", [30, 40])]


def test_a_density_is_logarithmic_and_ends_where_it_is_next_to_nothing():
    nodes = {"probe": 0, "node": [-1.0, 0.0, 50.0], "weight": [0.01, 0.98, 0.01]}
    chart = chart_hessian({"a": {0: Spectrum(pd.DataFrame(nodes), ABOUT)}})
    assert chart.log == "y" and paper(chart).axes[0].get_yscale() == "log"
    y = chart.plots[0].series[0].y
    assert np.isnan(y).any() and np.nanmin(y) > 1e-6 * np.nanmax(y)
    mark = chart.plots[0].series[1]  # one eigenvalue of many may weigh too little to be seen: a point tells where it is
    assert (mark.name, mark.role, mark.x.tolist()) == ("a", "values", [50.0]) and 0 < mark.y[0] <= np.nanmin(y)


def tuned():
    rows = [
        {
            "run": run,
            "round": 2,
            "name": name,
            "seed": 0,
            "client": client,
            "epoch": epoch,
            "accuracy": before + epoch * gain,
        }
        for run, name in (("r1", "FedAvg"), ("r2", "FedBABU"))
        for client, (before, gain) in enumerate([(0.2, 0.5), (0.2, 0.1), (0.9, 0.0)])
        for epoch in (0, 1)
    ]
    about = {"tuning": {"part": "all", "lr": 0.1}, "epochs": 1}
    return Personalization(pd.DataFrame(rows), about)


def test_what_fine_tuning_gives_is_drawn_in_the_runs_colours():
    chart = chart_personalization(tuned(), "curves", {"r2": "#123456"})
    series = [one for one in chart.plots[0].series if one.name != "no gain"]
    assert [one.color == "#123456" for one in series] == [False, True]
    assert all((np.diff(one.x) > 0).all() for one in series) and paper(chart).axes


def test_a_histogram_and_a_scatter_have_every_client_in_its_runs_colour():
    charts = [chart_personalization(tuned(), view, {"r2": "#123456"}) for view in ("histogram", "scatter")]
    bricks, dots = (chart.plots[0].items for chart in charts)
    for items in (bricks, dots):
        assert items.named == ("FedAvg", "FedBABU") and items.colors[1] == "#123456"
        assert items.client.tolist() == [0, 1, 2] * 2 and items.color.tolist() == [0, 0, 0, 1, 1, 1]
        assert items.value == pytest.approx([50, 10, 0] * 2)  # points gained
    assert bricks.y.tolist() == [0.5] * 3 + [1.5] * 3  # those of equal gain stand on each other
    assert dots.x == pytest.approx([20, 20, 90] * 2) and dots.y == pytest.approx([70, 30, 90] * 2)
    assert all(paper(chart).axes for chart in charts)


def test_every_rank_over_the_rounds_has_dashes_of_its_own():
    several = chart_hessian({"a": {3: top(*range(8, 0, -1)), 7: top(*range(16, 8, -1))}}).plots[1]
    assert len({one.dash for one in several.series}) == len(several.series) == 8
    drawn = paper(chart_hessian({"a": {3: top(*range(8, 0, -1)), 7: top(*range(16, 8, -1))}})).axes[1]
    lines = [bars.lines[0] for bars in drawn.containers]
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 8


def test_bars_are_named_for_each_result():
    other = Eigenvalues(top(9.0).frame, {"errors": {"error": "of another method"}})
    assert chart_hessian({"a": {3: top(9.0)}, "b": {3: other}}).bands == "bars: numerical or of another method"


def test_a_mark_beside_a_line_is_told_how_far_on_screen_too():
    base = {"panel": "a", "loss": 1.0, "accuracy": 0.5, "y": 0.0, "direction": 0}
    rows = [base | {"series": "surface", "name": "", "x": x, "residual": 0.0} for x in (-1.0, 0.0, 1.0)]
    rows.append(base | {"series": "markers", "name": "other", "x": 0.4, "residual": 8.379})
    result = Landscape(pd.DataFrame(rows), {"panels": ["a"], "repeats": 1, "eigenvalues": {}})
    for plot in chart_lines(result).plots:
        assert [one.name for one in plot.series] == ["a", "a: marked (other, 8.4 off the line)"]
