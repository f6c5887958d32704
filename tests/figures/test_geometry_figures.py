"""Figures of the geometry: compared panels share one scale, and what was measured stands below."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.text import Text

from flatlab.figures.hessian import draw_along, draw_clients, draw_spectrum, draw_top
from flatlab.figures.landscape import draw_landscape
from flatlab.figures.paths import draw_flatness, draw_path, draw_sharpness
from flatlab.figures.style import save
from flatlab.geometry import ClientHessians, Eigenvalues, HessianAlong, Landscape, Spectrum
from flatlab.geometry.flatness import FlatnessVsGain
from flatlab.geometry.mode_connectivity import Path
from flatlab.geometry.sharpness_measures import Sharpness
from flatlab.papers.pictures import _one_scale
from flatlab.results import plot

MEASURED = {
    "samples": 100, "data": "holdout", "loss": "cross_entropy", "part": "all", "normalisation": "batch statistics",
    "batch": "fixed batches of 64, in order", "seed": 7, "method": "lanczos",
}  # fmt: skip


def landscape(dimensions=2, **about):
    """Two bowls, one deeper, with a marked model whose own loss is not the surface's."""
    axis = np.linspace(-1, 1, 7)
    rows = [
        {"panel": panel, "series": "surface", "name": "", "direction": 0, "x": x, "y": y, "loss": deep * (x**2 + y**2)}
        for panel, deep in (("a", 1), ("b", 3))
        for y in (axis if dimensions == 2 else [0.0])
        for x in axis
    ]
    mark = {"series": "clients", "name": "client 3", "direction": 0, "x": 0.5, "y": 0.2, "loss": 2.5, "residual": 0.4}
    rows += [{**mark, "panel": panel} for panel in "ab"]
    frame = pd.DataFrame(rows).fillna({"residual": 0.0})
    frame = frame.assign(accuracy=1 - frame["loss"] / 10, loss_error=0.01, rise_error=0.01, measured=True)
    known = {
        "dimensions": dimensions, "directions": "random", "repeats": 1, "explained": [], "eigenvalues": {},
        "scale": "filter-normalised", "range": [[-1, 1]] * dimensions, "panels": ["a", "b"], "spline_error": {},
        "complete": True,
    }  # fmt: skip
    return Landscape(frame, {**MEASURED, **known, **about})


def words(fig):
    """All text of a figure."""
    return " ".join(text.get_text() for text in fig.findobj(Text))


@pytest.mark.parametrize("value", ["loss", "accuracy"])
def test_panels_share_one_scale_and_a_mark_shows_its_own_loss(value):
    fig = draw_landscape(landscape(), value)
    scales = {
        (drawn.norm.vmin, drawn.norm.vmax)
        for axis in fig.axes[:2]
        for drawn in axis.collections
        if drawn.get_array() is not None
    }
    assert len(scales) == 1
    marks = [
        drawn
        for drawn in fig.axes[0].collections
        if isinstance(drawn, PathCollection) and drawn.get_array() is not None
    ]
    assert marks[0].get_array().tolist() == [2.5 if value == "loss" else 0.75]
    assert "0.4 off the plane" in words(fig)


def test_panels_with_ranges_of_their_own_have_room_and_say_where_these_stand():
    frame = landscape().frame[lambda rows: rows["panel"] == "a"]
    about = {**landscape().about, "panels": ["a"]}
    one = Landscape(frame, about)
    two = Landscape(frame.assign(y=2 * frame["y"]), {**about, "range": [[-1, 1], [-2, 2]]})
    fig = draw_landscape(_one_scale({"low": one, "high": two}))
    fig.draw(fig.canvas.get_renderer())
    low, high = (axis.get_window_extent() for axis in fig.axes[:2])
    assert "range of each panel on its axes" in fig.caption and "[-1, 1]" not in fig.caption
    assert low.width > 2.2 * fig.dpi and high.height > 1.1 * low.height  # there is room for the taller one
    same = draw_landscape(_one_scale({"low": one, "high": one}))
    assert "range [-1, 1] × [-1, 1]" in same.caption


def test_each_panel_may_have_a_scale_of_its_own():
    fig = draw_landscape(landscape(), scale="own")
    highest = {axis.get_title(): axis.collections[0].norm.vmax for axis in fig.axes[:2]}
    assert highest == {"a": pytest.approx(2), "b": pytest.approx(6)}
    assert [len(axis.child_axes) for axis in fig.axes] == [1, 1]  # a key to the colours beside each
    cut = draw_landscape(landscape(), scale="own", top=4.0)
    assert [axis.collections[0].norm.vmax for axis in cut.axes[:2]] == [pytest.approx(2), 4]
    heights = [axis.get_zlim()[1] for axis in draw_landscape(landscape(), scale="own", view="surface").axes[:2]]
    assert heights == [pytest.approx(2), pytest.approx(6)]
    with pytest.raises(ValueError, match="scale = 'mine'"):
        draw_landscape(landscape(), scale="mine")


def test_the_caption_says_what_was_measured():
    errors = {"a": {"loss": 0.0012, "accuracy": 0.05}, "b": {"loss": 0.0007, "accuracy": 0.2}}
    said = words(draw_landscape(landscape(spline_error=errors, complete=False))).replace("\n", " ")
    for part in (
        "100 samples (holdout)",
        "batch statistics of fixed batches of 64",
        "seed 7",
        "range [-1, 1]",
        "worst error where checked 0.12 % of the range of loss and 20.00 % of the range of accuracy.",
        "not complete",
    ):
        assert part in said


def test_of_a_task_without_accuracy_the_error_of_the_loss_is_said_alone():
    said = draw_landscape(landscape(spline_error={"a": {"loss": 0.0012, "accuracy": np.nan}})).caption
    assert "worst error where checked 0.12 % of the range of loss." in said.replace("\n", " ")


def test_other_views_draw(tmp_path):
    written = save(draw_landscape(landscape(), log=True, top=4.0), tmp_path / "figure")
    assert all(path.stat().st_size > 1000 for path in written)
    assert draw_landscape(landscape(1), log=True).axes[0].get_yscale() == "log"
    assert len(draw_landscape(landscape(), view="surface").axes) == 3
    assert "λ = 2" in words(draw_landscape(landscape(1, directions="own-eigen", eigenvalues={"a": [2.0]})))
    assert "component 1 (70 %)" in words(draw_landscape(landscape(explained=[0.7, 0.2])))
    with pytest.raises(ValueError, match="view"):
        draw_landscape(landscape(), view="inside out")
    for wrong in ([3.0, 1.0, 2.0], [2.0], []):
        with pytest.raises(ValueError, match=r"levels = .* at least two values that rise"):
            draw_landscape(landscape(), levels=wrong)


def test_paths_name_their_barriers_and_sharpness_what_rescaling_changes():
    t = np.linspace(0, 1, 5)
    line = {"curve": "line", "t": t, "loss": [1, 2, 3, 2, 1], "accuracy": 0.5, "loss_error": 0.1, "distance": t}
    assert "barrier 2" in words(draw_path(Path(pd.DataFrame(line), MEASURED)))
    rows = [
        {"model": model, "client": client, "measure": measure, "value": 1.0 + client, "error": 0.1, "invariant": same}
        for model in "ab" for client in (0, 1) for measure, same in (("top", False), ("asam", True))
    ]  # fmt: skip
    settings = {"rho": 0.05, "adaptive_rho": 0.5, "steps": 10, "sigma": 0.01, "adaptive_sigma": 0.1}
    fig = draw_sharpness(Sharpness(pd.DataFrame(rows), {**MEASURED, **settings}))
    assert [axis.get_title() for axis in fig.axes] == ["λ₁ of the Hessian †", "ASAM, one step"]


def test_the_rest_draws():
    pairs = pd.DataFrame({"rank": [1, 2], "eigenvalue": [5.0, 3.0], "error": 0.1, "converged": [True, False]})
    assert draw_top(Eigenvalues(pairs, MEASURED)).axes
    nodes = pd.DataFrame({"probe": 0, "node": [-1.0, 0.0, 9.0], "weight": [0.1, 0.8, 0.1]})
    spectrum = Spectrum(nodes, {**MEASURED, "steps": 3, "probes": 1})
    for drawn in (draw_spectrum({"a": spectrum, "b": spectrum}), plot({"a": spectrum, "b": spectrum})):
        marks = drawn.axes[0].lines[1::2]  # each curve has one for its largest node, which may lie below its floor
        assert len(drawn.axes[0].lines) == 4 and [mark.get_xdata().tolist() for mark in marks] == [[9.0]] * 2
    for strange in ({"a": spectrum, "b": Eigenvalues(pairs, MEASURED)}, {"a": 3}, {}):
        with pytest.raises(TypeError, match="all of one kind"):
            plot(strange)
    assert len(draw_spectrum(spectrum).axes[0].collections) == 0 and "Band" not in draw_spectrum(spectrum).caption
    other = {**MEASURED, "part": "head", "samples": 32, "steps": 9, "probes": 2}
    told = plot({"a": spectrum, "b": Spectrum(nodes, other)}).caption.replace("\n", " ")
    for said in (
        "3 steps × 1 probe or 9 steps × 2 probes",
        "100 samples (holdout) or 32 samples",
        "all or head param",
    ):
        assert said in told
    assert told.count("seed 7") == 1
    several = pd.concat([nodes, nodes.assign(probe=1, weight=[0.2, 0.7, 0.1])])
    errors = {"errors": {"error": "standard error over 2 probes"}}
    fig = draw_spectrum(Spectrum(several, {**MEASURED, "steps": 3, "probes": 2} | errors))
    assert len(fig.axes[0].collections) == 1 and "Band: standard error over 2 probes" in fig.caption.replace("\n", " ")
    along = pd.DataFrame({"round": [0, 5], "quantity": ["lambda_1", "trace"], "value": [1.0, 9.0], "error": 0.1})
    assert len(draw_along(HessianAlong(along, MEASURED)).axes) == 2
    clients = pd.DataFrame({"client": [4, 2], "quantity": "lambda_1", "value": [3.0, 1.0], "error": 0.1})
    drawn = draw_clients(ClientHessians(clients, MEASURED)).axes[0]
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["2", "4"]
    frame = pd.DataFrame({"sharpness": [1.0, 2.0], "error": 0.0, "initial": 0.5, "tuned": 0.7, "gain": 0.2})
    found = [
        {"with": other, "correlation": 0.3, "low": -0.1, "high": 0.6, "clients": 2} for other in ("gain", "initial")
    ]
    about = {**MEASURED, "measure": "top", "run": "one", "correlations": found}
    result = FlatnessVsGain(frame, about)
    assert "Spearman 0.30, 95 % [-0.10, 0.60]" in words(draw_flatness(result)).replace("\xa0", " ")
    fig = plot({"a": result, "b": result})
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b"]
    assert fig.axes[0].get_title().replace("\xa0", " ").startswith("a: 0.30, 95 % [-0.10, 0.60]")
    other = plot({"a": result, "b": FlatnessVsGain(frame, {**about, "part": "body", "normalisation": "none"})})
    assert "all or body parameters; normalisation: batch statistics or none;" in other.caption
    with pytest.raises(ValueError, match="measure"):
        plot({"a": result, "b": FlatnessVsGain(frame, {**about, "measure": "sam"})})


SAMPLED = {"errors": {"error": "numerical", "sampling_error": "sampling: jackknife over 2 groups of the samples"}}
SHARPNESS = {"rho": 0.05, "adaptive_rho": 0.5, "steps": 10, "sigma": 0.01, "adaptive_sigma": 0.1}


def pale(fig, along="y"):
    """Half the length of each wide pale bar."""
    axis = "xy".index(along)
    wide = [bars for each in fig.axes for drawn in each.containers for bars in drawn.lines[2]
            if bars.get_linewidth().max() >= 3]  # fmt: skip
    return [np.ptp(path.vertices[:, axis]) / 2 for bars in wide for path in bars.get_paths()]


def test_what_other_samples_would_change_is_drawn_where_the_caption_says_so():
    own = {"value": [3.0, 1.0], "error": 0.1, "sampling_error": [0.5, 0.7]}
    along = pd.DataFrame({"round": [0, 5], "quantity": "lambda_1"} | own)
    several = draw_along(HessianAlong(along, MEASURED | SAMPLED))
    assert pale(several) == pytest.approx([0.5, 0.7]) and "Pale: sampling: jackknife" in several.caption
    clients = pd.DataFrame({"client": [4, 2], "quantity": "lambda_1"} | own)
    assert pale(draw_clients(ClientHessians(clients, MEASURED | SAMPLED))) == pytest.approx([0.7, 0.5])  # sorted
    plain = draw_along(HessianAlong(along.drop(columns="sampling_error"), MEASURED))
    assert not pale(plain) and "Pale" not in plain.caption
    two = pd.concat([along, along.assign(quantity="lambda_2")])
    colours = [bars.lines[0].get_color() for bars in draw_along(HessianAlong(two, MEASURED | SAMPLED)).axes[0].containers
               if bars.lines[0] is not None]  # fmt: skip
    assert colours == [line.get_color() for line in draw_along(HessianAlong(two.drop(columns="sampling_error"), MEASURED))
                       .axes[0].lines if len(line.get_xdata()) == 2][:2]  # fmt: skip
    found = [{"with": of, "correlation": 0.3, "low": -0.1, "high": 0.6, "clients": 2} for of in ("gain", "initial")]
    about = {**MEASURED, **SAMPLED, "measure": "top", "run": "one", "correlations": found}
    frame = pd.DataFrame({"sharpness": [1.0, 2.0], "error": 0.0, "initial": 0.5, "tuned": 0.7, "gain": 0.2})
    without = draw_flatness(FlatnessVsGain(frame, about))
    assert not pale(without, "x") and "Pale" not in without.caption  # of an earlier version, which left them out
    drawn = draw_flatness(FlatnessVsGain(frame.assign(sampling_error=[0.3, 0.4]), about))
    assert pale(drawn, "x") == pytest.approx([0.3, 0.4] * 2) and "Pale: sampling" in drawn.caption


def test_no_bar_of_sharpness_is_cut():
    rows = {"model": ["a", "b", "c"], "client": -1, "measure": "sam", "value": [1.0, -0.2, np.nan], "error": [0.1, 0, 9],
            "sampling_error": [0.9, 0.5, np.nan], "invariant": False}  # fmt: skip
    (axis,) = draw_sharpness(Sharpness(pd.DataFrame(rows), {**MEASURED, **SAMPLED, **SHARPNESS})).axes
    low, high = axis.get_ylim()
    assert low < -0.7 and 1.9 < high < 3


def test_a_mark_beside_a_line_is_told_how_far():
    said = words(draw_landscape(landscape(1))).replace("\n", " ")
    assert said.count("client 3, 0.4 off the line") == 4  # of two panels, loss and accuracy
    on = landscape(1).frame.assign(residual=0.0)
    assert "off the line" not in words(draw_landscape(Landscape(on, landscape(1).about)))
    frame = landscape(1).frame
    marks = frame[(frame["series"] == "clients") & (frame["panel"] == "a")]
    many = [marks.assign(name=f"client {k}", residual=k / 10, x=k / 20) for k in range(10)]
    crowd = pd.concat([frame[(frame["panel"] == "a") & (frame["series"] == "surface")], *many])
    said = words(draw_landscape(Landscape(crowd, {**landscape(1).about, "panels": ["a"]})))
    assert said.count("off the line") == 2 and "9 clients, up to 0.9 off the line" in said


@pytest.mark.parametrize("value", [0.0, 1e-8, 1e-6, 0.5])
def test_a_log_scale_of_equal_or_tiny_values_has_two_ends(value):
    flat = landscape()
    flat = Landscape(flat.frame.assign(loss=value, accuracy=value), flat.about)
    assert draw_landscape(flat, log=True).png()[:4] == b"\x89PNG"
    assert draw_landscape(flat, value="accuracy", log=True).png()[:4] == b"\x89PNG"
