"""The landscape panel: measures what its controls ask for, shows true numbers, and its code gives the same ones."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from patience import PATIENCE
from small_runs import click
from test_javascript import NODE

import flatlab as fl
from flatlab.figures.films import _ways
from flatlab.figures.landscape_panels import mark_rounds
from flatlab.geometry import Landscape as Measured
from flatlab.geometry.landscape_request import Corner
from flatlab.lab.chart import StillChart
from flatlab.lab.landscape_panel import Landscape
from flatlab.lab.landscape_widget import LandscapeView
from flatlab.pages.scripts import view_module


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    model = fl.ModelSpec(name="cnn4", width=0.125)
    store = tmp_path_factory.mktemp("runs")
    algorithms = (fl.FedAvg(), fl.FedASAM(swa=fl.SWA(start=0.5, cycle=1)))
    return [fl.train(one, data, model, rounds=3, participation=0.5, store=store) for one in algorithms]


@pytest.fixture
def small(runs):
    """A panel of both runs that measures little; nothing is known of an earlier test."""
    forget(runs)
    panel = Landscape(runs)
    panel.settings.change(points=3, limit=40)
    return panel


def forget(runs):
    """Remove the landscapes stored with the runs, so that equal numbers are measured, not read."""
    for run in runs:
        shutil.rmtree(run.directory / "geometry", ignore_errors=True)


def bowls(nx=5, ny=3, **about):
    """Two planes of different heights with different x and y ranges, as `fl.landscape` returns them."""
    xs, ys = np.linspace(-2, 2, nx), np.linspace(-0.5, 0.5, ny)
    rows = [
        {"panel": panel, "series": "surface", "name": "", "direction": 0, "x": x, "y": y, "loss": deep + x**2 + y}
        for panel, deep in (("<b>a</b>", 1), ("b", 3)) for y in ys for x in xs
    ]  # fmt: skip
    rows.append(
        {"panel": "b", "series": "clients", "name": "client 3", "direction": 0, "x": 0.5, "y": 0.2, "loss": 9.0}
    )
    frame = pd.DataFrame(rows).assign(accuracy=0.25, loss_error=0.0, rise_error=0.0, measured=True, residual=0.4)
    known = {
        "dimensions": 2, "directions": "pca", "explained": [0.7, 0.2], "eigenvalues": {}, "scale": "unit length",
        "range": [[-2, 2], [-0.5, 0.5]], "panels": ["<b>a</b>", "b"], "spline_error": {}, "complete": True,
        "samples": 10, "data": "holdout", "loss": "cross_entropy", "part": "all", "normalisation": "none",
        "batch": "free", "seed": 0,
    }  # fmt: skip
    return Measured(frame, {**known, **about})


# The view


def test_the_view_carries_every_number_once():
    result = bowls()
    view = LandscapeView(result)
    numbers = np.frombuffer(view.grids, "<f4").reshape(2, 2, 3, 5)  # panel, loss or accuracy, rows, columns
    assert np.allclose(numbers[1, 0], result.surface("b")[2])
    assert np.allclose(numbers[0, 1], 0.25)
    first, second = view.panels
    assert (first["nx"], first["ny"], first["x"], first["y"]) == (5, 3, [-2, 2], [-0.5, 0.5])
    assert first["axes"] == ["principal component 1 (70 %)", "principal component 2 (20 %)"]
    assert first["marks"] == []
    assert second["marks"][0] == {
        "series": "clients", "name": "client 3", "x": 0.5, "y": 0.2, "loss": 9.0, "accuracy": 0.25, "residual": 0.4,
        "round": None,
    }  # fmt: skip


def test_what_is_not_finite_reaches_the_browser_and_the_picture():
    result = bowls()
    for place, value in ((0, np.inf), (1, np.nan), (len(result.frame) - 1, np.nan)):
        result.frame.loc[place, "loss"] = value
    view = LandscapeView(result)
    numbers = np.frombuffer(view.grids, "<f4")
    assert np.isposinf(numbers[0])
    assert np.isnan(numbers[1])
    assert view.panels[1]["marks"][0]["loss"] is None
    json.dumps(view.panels, allow_nan=False)
    assert view.plot_options()["top"] == pytest.approx(7.5)  # the largest finite one
    assert view.figure().png().startswith(b"\x89PNG")


def test_view_settings_are_traits_and_steer_the_static_picture():
    view = LandscapeView(bowls(), log=True, mode="3d", value="accuracy", shared=False)
    assert view.plot_options() == {"value": "accuracy", "log": True, "view": "surface", "scale": "own"}
    for name, wrong in (("mode", "4d"), ("camera", [1.0]), ("shown", ["strangers"]), ("value", "beauty")):
        with pytest.raises(Exception, match=name):
            setattr(view, name, wrong)
    flat = LandscapeView(bowls())
    texts = [text.get_text() for text in flat.figure().axes[1].texts]
    flat.shown = ["trajectory"]
    assert texts
    assert not flat.figure().axes[1].texts


def test_the_view_has_a_picture_for_viewers_without_widgets():
    for view in (LandscapeView(), LandscapeView(bowls())):
        shown, _ = view._repr_mimebundle_()
        assert shown["image/png"]
        assert "Loss landscape" in shown["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in shown


def test_a_line_is_refused_by_name():
    with pytest.raises(ValueError, match="dimensions = 1"):
        LandscapeView(bowls(dimensions=1))


# The panel


def test_nothing_is_measured_before_somebody_asks(small, runs):
    small.settings.control("directions").control.set_state({"index": 1})
    small.refresh()
    small.settle()
    assert small.job is None
    assert small.result is None
    assert not (runs[0].directory / "geometry").exists()
    assert small.figure().png()
    assert small._repr_mimebundle_()[0]["image/png"]


def test_a_click_measures_and_shows_both_runs_at_their_own_loss(small, runs):
    click(small.measure_button)
    result = small.settle()
    assert small.result is result
    assert [panel["name"] for panel in small.view.panels] == ["FedAvg", "FedASAM + SWA"]
    centre = np.frombuffer(small.view.grids, "<f4").reshape(2, 2, 3, 3)[:, 0, 1, 1]
    assert centre == pytest.approx(result.summary()["loss"].to_numpy())
    assert "40 samples" in small.view.caption
    drawn = small.figure().axes
    assert len(drawn) == 2 and len(drawn[-1].child_axes) == 1  # the bar of colours


@pytest.mark.parametrize(
    ("plane", "more"),
    [
        ("random", {"trajectory": True}),
        ("eigen", {"span": 0.2}),
        ("pca", {}),
        ("plane", {}),
    ],
)
def test_the_code_gives_the_same_numbers(small, runs, plane, more):
    small.settings.change(directions=plane, **more)
    if plane == "random":
        small.clients.value, small.round.value = True, "2"
    small.view.log = True
    small.measure()
    shown = small.settle()
    forget(runs)
    space = {"fl": fl, "run1": runs[0], "run2": runs[1]}
    exec(small.code(), space)
    again = space["landscape"]
    pd.testing.assert_frame_equal(again.frame, shown.frame)
    assert again.about == shown.about
    assert "log=True" in small.code()
    wanted = {"random": {"trajectory", "clients"}, "pca": {"trajectory", "models"}, "plane": {"models"}, "eigen": set()}
    assert set(again.frame["series"]) == {"surface", *wanted[plane]}


def test_the_round_slider_measures_the_model_of_then(small, runs):
    assert list(small.round.options) == ["0", "1", "2", "3", "latest"]
    small.round.set_state({"index": 1})
    small.measure()
    early = small.settle()
    direct = fl.landscape(runs, limit=40, points=3, round=1, store=False)
    pd.testing.assert_frame_equal(early.frame, direct.frame)


def test_known_settings_are_shown_again_without_measuring(small, monkeypatch):
    small.measure()
    first = small.settle()
    small.settings.control("seed").box.set_state({"value": 7})
    assert "differ" in small.note.value
    assert small.result is first
    small.measure()
    second = small.settle()
    assert second is not first
    monkeypatch.setattr("flatlab.geometry.landscape", lambda *_, **__: pytest.fail("measured again"))
    small.settings.control("seed").box.set_state({"value": 0})
    assert small.result is first
    assert "seed" not in small.code()
    small.measure()
    assert small.settle() is first


def test_cancel_keeps_what_is_done_and_measuring_again_completes_it(small, held):
    small.settings.change(points=5)
    job = small.measure()
    report = job.report

    def stop_after_seven(done, total):
        if done == 7:
            click(small.work.cancel_button)
        return report(done, total)

    job.report = stop_after_seven
    held.set()
    partial = small.settle()
    assert not partial.about["complete"]
    surfaces = partial.frame[partial.frame["series"] == "surface"]
    assert surfaces["loss"].notna().sum() == 7
    assert small.result is partial
    assert small.figure().png()
    assert "cancelled" in small.note.value
    small.measure()
    whole = small.settle()
    assert whole.about["complete"]
    assert small.result is whole


def test_three_models_are_chosen_among_all_there_are(small, runs):
    small.settings.change(directions="plane")
    offered = dict(small.corners[0].options)
    sampled = set(runs[0].clients(3))
    assert offered["run 2, SWA"] == Corner("swa", 1)
    assert {corner.client for corner in offered.values() if corner.kind == "client" and corner.run == 0} == sampled
    for control, name in zip(small.corners, ("run 1, global", "run 2, global", "run 2, SWA"), strict=True):
        control.value = offered[name]
    small.measure()
    result = small.settle()
    assert list(result.marks()["name"]) == ["run 1, global", "run 2, global", "run 2, SWA"]
    assert result.marks()["residual"].max() < 1e-3
    small.corners[1].value = small.corners[0].value
    small.measure()
    with pytest.raises(ValueError, match="exactly 3"):
        small.settle()
    assert "exactly 3" in small.note.value
    assert small.result is None and small.view.panels == []  # nobody takes the picture for what was asked for


def test_markers_are_shown_and_can_span_the_plane(runs):
    markers = {f"client {who}, tuned": model for who, model in list(runs[0].clients(3).items())[:2]}
    panel = Landscape(runs[0], markers=markers)
    panel.settings.change(points=3, limit=40)
    panel.fine_tuned.value = True
    panel.measure()
    assert set(markers) < set(panel.settle().marks()["name"])
    space = {"fl": fl, "run1": runs[0], "markers": markers}
    exec(panel.code(), space)
    pd.testing.assert_frame_equal(space["landscape"].frame, panel.result.frame)
    panel.settings.change(directions="plane")
    assert set(markers) < set(dict(panel.corners[0].options))


def test_fine_tuned_clients_are_marked_and_the_code_gives_the_same_numbers(small, runs):
    small.fine_tuned.value, small.tuning.value = True, fl.Tuning(epochs=1, lr=0.05)
    small.round.value = "2"
    click(small.measure_button)
    shown = small.settle()
    sampled = [
        sorted(set(run.history.query("round == 2 and split == 'train' and client >= 0")["client"])) for run in runs
    ]
    marks = shown.marks("FedASAM + SWA").set_index("name")
    expected = [f"run {k}, client {who}, fine-tuned" for k in (1, 2) for who in sampled[k - 1]]
    assert list(marks.index) == expected
    assert set(marks["series"]) == {"markers"}
    assert small.request().tuned == tuple(map(tuple, sampled))
    assert small.request().tuning.changed() == {"epochs": 1, "lr": 0.05}
    forget(runs)
    space = {"fl": fl, "run1": runs[0], "run2": runs[1]}
    exec(small.code(), space)
    pd.testing.assert_frame_equal(space["landscape"].frame, shown.frame)
    small.tuning.change(lr=0.01)
    assert "differ" in small.note.value


def test_a_fine_tuned_mark_has_the_loss_of_that_model(small, runs):
    small.show(runs[0])
    small.fine_tuned.value, small.tuning.value = True, fl.Tuning(epochs=1)
    small.measure()
    marks = small.settle().marks().set_index("name")["loss"]
    one = int(marks.index[0].split(" ")[1].strip(","))
    tuned = fl.fine_tuned(runs[0], [one], 1, lr=0.001)[one]
    alone = fl.landscape(tuned, source=runs[0].data, limit=40, points=3, store=False).summary()["loss"][0]
    assert marks.iloc[0] == pytest.approx(alone, rel=1e-4)


def test_a_plane_may_go_through_fine_tuned_clients_of_every_run(small, runs):
    small.settings.change(directions="plane")
    small.tuning.change(epochs=1, lr=0.05)
    offered = dict(small.corners[0].options)
    tuned = [name for name in offered if "fine-tuned" in name]
    assert {offered[name].run for name in tuned} == {0, 1}
    chosen = ["run 1, global", tuned[0], tuned[-1]]
    for control, name in zip(small.corners, chosen, strict=True):
        control.value = offered[name]
    small.measure()
    shown = small.settle()
    assert list(shown.marks()["name"]) == chosen == small.request().names()
    forget(runs)
    space = {"fl": fl, "run1": runs[0], "run2": runs[1]}
    exec(small.code(), space)
    pd.testing.assert_frame_equal(space["landscape"].frame, shown.frame)


def test_lines_are_a_chart_in_place_of_the_view(small, runs, monkeypatch):
    small.show(runs[0])
    small.settings.change(dimensions=1, points=5, repeats=2)
    small.measure()
    shown = small.settle()
    assert (small.view.layout.display, small.lines.layout.display) == ("none", "")
    assert shown.about["dimensions"] == 1
    assert shown.frame["direction"].nunique() == 2
    assert [axes.get_ylabel() for axes in small.figure().axes] == ["loss", "accuracy (%)"]
    losses, hits = small.lines.chart.plots
    frame = shown.surfaces.groupby("x")
    assert losses.series[0].y == pytest.approx(frame["loss"].mean()) and str(hits.y) == "accuracy (%)"
    assert losses.series[0].high == pytest.approx(frame["loss"].mean() + frame["loss"].std())
    small.lines.log = "y"
    assert small.figure().axes[0].get_yscale() == "log"
    with monkeypatch.context() as bare:
        bare.setattr(small, "lines", StillChart())  # as where there is no bundle
        assert small.figure().axes[0].get_yscale() == "linear"
    forget(runs)
    space = {"fl": fl, "run1": runs[0]}
    exec(small.code(), space)
    pd.testing.assert_frame_equal(space["landscape"].frame, shown.frame)
    assert small.code().endswith("landscape.plot(log=True)")
    small.settings.change(dimensions=2, points=3, repeats=1)
    small.measure()
    small.settle()
    assert (small.view.layout.display, small.lines.layout.display) == ("", "none")


def test_impossible_settings_are_explained_and_shown_in_the_panel(small):
    small.settings.control("points").inside.box.value = 4
    assert "points = 4: an odd number" in small.settings.problems["points"]
    click(small.measure_button)
    assert "points = 4: an odd number" in small.note.value
    assert small.job is None
    with pytest.raises(fl.SettingError, match="points = 4"):
        small.measure()
    small.settings.control("points").inside.box.value = 11
    small.settings.control("refine").control.value = True
    assert "at least 21" in small.settings.problems["points"]
    small.settings.control("points").inside.box.value = 21
    assert "refine=True" in small.code()


def test_other_runs_replace_what_is_shown(small, runs):
    small.measure()
    small.settle()
    small.show(runs[1])
    assert small.result is None
    assert small.view.panels == []
    assert small.view.grids == b""
    assert "run1," in small.code()
    assert "run2" not in small.code()


def test_a_measurement_of_runs_shown_no_more_is_dropped(small, runs, held):
    job = small.measure()
    small.show(runs[1])
    job._stop.clear()  # as if it had been too late to cancel
    held.set()
    assert small.settle().about["complete"]
    assert small.result is None


# The script


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    if not NODE:
        pytest.skip("no node")
    file = tmp_path_factory.mktemp("script") / "landscape.mjs"
    file.write_text(view_module("landscape"))
    return file


def evaluate(script, *expressions):
    """What JavaScript expressions over the script's functions are, by way of JSON."""
    program = f"import * as s from {json.dumps(str(script))}; console.log(JSON.stringify([{', '.join(expressions)}]))"
    run = subprocess.run(
        [*NODE, "--input-type=module", "-e", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_colours_are_viridis(script):
    from matplotlib import colormaps

    places = np.linspace(0, 1, 101)
    found, missing = evaluate(script, f"{places.tolist()}.map(s.viridis)", "s.viridis(NaN)")
    assert np.abs(np.array(found) - 255 * colormaps["viridis"](places)[:, :3]).max() < 4
    assert missing == [150, 150, 150]


def test_scales_ignore_what_is_not_finite_and_ticks_are_round(script):
    scale = "s.scaleOf([[1, 2, NaN], [Infinity, 100]], {})"
    (low, high, places), middle, positive, flat, *ticks = evaluate(
        script,
        f"(x => [x.low, x.high, [1, 10, 100, 1000, NaN, Infinity].map(x.place)])({scale.format('true')})",
        f"({scale.format('false')}).place(50.5)",
        "s.scaleOf([[0, -1, 5, 50]], true).low",
        "s.scaleOf([[2, 2]], false).place(2)",
        "s.ticks({low: 0.03, high: 1.02})",
        "s.ticks({low: 1, high: 1e4, log: true})",
        "s.ticks({low: 1.6, high: 2.7, log: true})",
    )
    assert (low, high) == (1, 100)
    assert places == [0, pytest.approx(0.5), 1, 1, None, None]
    assert middle == pytest.approx(0.5)
    assert positive == 5  # a logarithm needs positive numbers
    assert flat == 0
    assert ticks == [[0.2, 0.4, 0.6, 0.8, 1], [1, 10, 100, 1000, 10000], [1.75, 2, 2.25, 2.5]]


def test_contours_lie_where_the_value_is(script):
    nx, ny = 5, 3  # value = x + 10 y
    grid = [x + 10 * y for y in range(ny) for x in range(nx)]
    pieces, missing, saddle, fine = evaluate(
        script,
        f"s.contour({grid}, {nx}, {ny}, 12.5)",
        "s.contour([0, 1, NaN, 1], 2, 2, 0.5)",
        "s.contour([0, 1, 1, 0], 2, 2, 0.4)",
        f"(g => [[...g.values], g.nx, g.ny])(s.finer({grid}, {nx}, {ny}, 4))",
    )
    assert pieces
    for x0, y0, x1, y1 in pieces:
        assert x0 + 10 * y0 == pytest.approx(12.5)
        assert x1 + 10 * y1 == pytest.approx(12.5)
    assert missing == []
    assert len(saddle) == 2
    assert fine[1:] == [17, 9]
    assert fine[0] == [pytest.approx(x / 4 + 10 * y / 4) for y in range(9) for x in range(17)]


def test_looking_from_above_shows_the_plane_and_from_the_side_the_height(script):
    above, side = evaluate(
        script,
        "[[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(p => s.seenFrom([-90, 90])(...p))",
        "[[0, -1, 0], [0, 0, 1]].map(p => s.seenFrom([-90, 0])(...p))",
    )
    assert np.allclose(above, [[1, 0, 0], [0, -1, 0], [0, 0, 1]], atol=1e-9)  # right, down, near
    assert np.allclose(side, [[0, 0, 1], [0, -1, 0]], atol=1e-9)


def test_coordinates_find_their_grid_point_in_panels_of_any_range(script):
    places, back, exact, said, box = evaluate(
        script,
        "[-2, -0.9, 2, 2.6, 5].map(x => s.nearest(x, [-2, 2], 5))",
        "[0, 1, 4].map(k => s.coordinate(k, [-2, 2], 5))",
        "s.coordinate(1, [-0.1, 0.2], 4)",
        "[0.5, 1234567, 1e-7, null, Infinity].map(x => s.words(x))",
        "s.fit([0, 2], [0, 1], 200, 200)",
    )
    assert places == [0, 1, 4, None, None]
    assert back == [-2, -1, 2]
    assert exact == 0  # not 3e-17
    assert said == ["0.5", "1.23e+6", "1.00e-7", "no finite value", "no finite value"]
    assert (box["width"], box["height"]) == (200, 100)


def test_the_lens_magnifies_about_a_point_and_stays_on_the_picture(script):
    near, whole, corner = evaluate(
        script,
        "s.magnified({x: 0.5, y: 0.5, size: 1}, 0.5, [0.2, 0.8])",
        "s.magnified({x: 0.35, y: 0.65, size: 0.5}, 4)",
        "s.magnified({x: 0.5, y: 0.5, size: 1}, 0.1, [0, 0])",
    )
    assert near == {"x": pytest.approx(0.35), "y": pytest.approx(0.65), "size": 0.5}  # (0.2, 0.8) stays where it was
    assert whole == {"x": 0.5, "y": 0.5, "size": 1}
    assert corner["x"] - corner["size"] / 2 == pytest.approx(0)


def test_pictures_fill_their_place(script):
    alone, two, narrow = evaluate(
        script, "s.arranged(1, 900, 500)", "s.arranged(2, 900, 500)", "s.arranged(2, 500, 400)"
    )
    assert (alone["columns"], alone["width"], alone["height"]) == (1, 700, 500)
    assert (two["columns"], two["width"]) == (2, 445)
    assert two["height"] == 500 and narrow["height"] >= 240


def test_a_slope_that_faces_the_light_is_brighter_wherever_the_camera_is(script):
    lit, shaded, flat = evaluate(
        script,
        *[
            f"[0, 90, 200].map(a => a * Math.PI / 180).map((t, k) => s.brightness([({x}) * -Math.sin(t), ({x}) * Math.cos(t)],"
            " [0, 90, 200][k]))"
            for x in (1, -1, 0)
        ],
    )
    assert lit == pytest.approx([lit[0]] * 3) and shaded == pytest.approx([shaded[0]] * 3)
    assert lit[0] > flat[0] > shaded[0] > 0.5  # the light comes from the left: what rises to the right faces it


def test_names_stand_beside_their_marks_and_never_on_each_other(script):
    few, crowded, named = evaluate(
        script,
        "s.placeNames([{text: 'a', at: [50, 50], width: 20}], [{at: [50, 50]}], [0, 0, 100, 100])",
        "s.placeNames(Array.from({length: 9}, (_, k) => ({text: `${k}`, at: [50, 50], width: 30})), [{at: [50, 50]}],"
        " [0, 0, 120, 100])",
        "s.namedMarks([...Array.from({length: 12}, (_, k) => ({series: 'clients', name: `client ${k}`})),"
        " ...Array.from({length: 5}, (_, k) => ({series: 'trajectory', name: `a, round ${k}`})),"
        " {series: 'models', name: 'm'}]).map(m => m.name)",
    )
    assert few == [{"text": "a", "left": 59, "middle": 50}]
    assert 1 < len(crowded) < 9
    assert named == ["m", "a, round 0", "a, round 4"]  # twelve clients are named by pointing at them


def test_marks_follow_the_round_that_is_looked_at_and_say_which_it_is(script):
    marks = [
        {"series": series, "name": f"{who}, round {round}", "round": round, "loss": round / 10}
        for round in (2, 5, 9)
        for series, who in (("trajectory", "a"), ("clients", f"a, client {round}"))
    ]
    looked = (None, 1, 3, 5, 7, 40)
    clients, stars, said = evaluate(
        script,
        f"{json.dumps(looked)}.map(at => s.seenMarks({json.dumps(marks)}, at).filter(m => m.series === 'clients').map(m => m.name))",
        f"{json.dumps(looked)}.map(at => s.standing({json.dumps(marks)}, at).map(m => m.round))",
        f"{json.dumps(looked)}.map(at => s.toldOfRound({json.dumps(marks)}, at, m => `loss ${{m.loss}}`))",
    )
    rounds = [9, 2, 2, 5, 5, 9]  # the nearest that is stored, of two the earlier
    assert clients == [[f"a, client {round}, round {round}"] for round in rounds]
    assert stars == [[], *([round] for round in rounds[1:])]
    assert said == [
        "clients of round 9",
        "round 1 is not stored, shown is 2: a loss 0.2",
        "round 3 is not stored, shown is 2: a loss 0.2",
        "round 5: a loss 0.5",
        "round 7 is not stored, shown is 5: a loss 0.5",
        "round 40 is not stored, shown is 9: a loss 0.9",
    ]
    fewer = [mark for mark in marks if mark["name"] not in ("a, client 5, round 5",)]
    apart, nothing = evaluate(
        script,
        f"s.toldOfRound({json.dumps(fewer)}, 5, m => `loss ${{m.loss}}`)",
        "s.toldOfRound([{series: 'models', name: 'm'}], 5, () => '')",
    )
    assert (apart, nothing) == ("a, round 5: loss 0.5; clients of round 2", "")
    (old,) = evaluate(script, "s.seenMarks([{series: 'clients', name: 'client 3'}], 4).length")
    assert old == 1  # of a landscape that does not say of which round


def test_clients_of_all_stored_rounds_are_measured_where_they_were(small, runs):
    small.settings.change(directions="pca")
    small.clients.value = True
    assert small.every.layout.display == "" and small.every.description.startswith("of 3 stored rounds")
    small.every.value = True
    small.measure()
    found = small.settle()
    marks = pd.DataFrame(small.view.panels[0]["marks"])
    own = marks[marks["series"] == "clients"].set_index("name")
    assert set(own["round"]) == {1, 2, 3} == set(found.about["clients"])
    for k, run in enumerate(runs):
        for round in (1, 2, 3):
            begin = f"{run.name}, client "
            names = {f"{begin}{who}, round {round}" for who in run.federation.sample(round - 1)}
            assert names == set(own.index[own.index.str.startswith(begin) & (own["round"] == round)]), k
    # A client's loss is that of its own model after that round, wherever the plane is.
    who, model = next(iter(runs[0].clients(2).items()))
    alone = fl.landscape(model, source=runs[0].data, limit=40, points=3, store=False).summary()["loss"][0]
    assert own.loc[f"FedAvg, client {who}, round 2", "loss"] == pytest.approx(alone, rel=1e-4)
    assert "clients=[1, 2, 3]" in small.code()
    small.view.at = 2
    drawn = [text for axes in small.figure().axes for text in axes.texts]
    assert drawn and not any("round 3" in text.get_text() and "client" in text.get_text() for text in drawn)
    for at, step in enumerate(_ways(found)):  # of a film: the ways grow, the clients are those of the round
        shown = mark_rounds(step, step.frame).groupby(step.frame["series"]).max()
        assert (shown["trajectory"], shown["clients"]) == (at, max(at, 1))


def test_marks_on_the_centre_of_a_random_plane_are_explained():
    lies = {"directions": "random", "explained": []}
    near, far, pca = bowls(**lies), bowls(**lies), bowls()
    near.frame.loc[near.frame["series"] == "clients", ["x", "y"]] = 0.01
    said = [LandscapeView(result).caption for result in (near, far, pca)]
    assert ["nearly at right angles" in text for text in said] == [True, False, False]


def test_a_coarse_picture_comes_first_and_keeps_the_crosshair(small, monkeypatch):
    shown = []
    display = small._display
    monkeypatch.setattr(small, "_display", lambda result: shown.append(result) or display(result))
    small.settings.change(points=13, limit=40)
    small.measure()
    whole = small.settle()
    assert [result.about["complete"] for result in shown] == [False, True] and shown[-1] is whole
    coarse = shown[0].surfaces
    assert np.isfinite(coarse["loss"]).all() and 98 <= coarse["measured"].sum() < 338 == len(coarse)
    measured = coarse["measured"].to_numpy(bool)
    assert (coarse["loss"][measured] == whole.surfaces["loss"][measured]).all()


def test_measures_by_itself_when_the_run_rests_if_asked(small):
    small.rest()
    assert small.job is None
    small.auto.value = True
    small.rest()
    first = small.settle()
    small.rest()  # known: nothing happens
    assert small.settle() is first is small.result


def test_clients_of_another_round_than_the_model_say_which(runs):
    forget(runs)
    for round, told in ((2, "round 2"), (3, "")):
        found = fl.landscape(runs[0], points=3, limit=20, clients=round)
        names = set(found.frame.loc[found.frame["series"] == "clients", "name"])
        assert names and {name.partition(", ")[2] for name in names} == {told}
