"""Figures as a reviewer wants them: fonts, bands, legends, axes, colours, of a sweep over seeds, alphas and methods."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

import flatlab as fl
from flatlab import figures
from flatlab.figures.chart import Axis, Chart, Plot, Series
from flatlab.figures.colors import ALGORITHMS
from flatlab.figures.style import line_style

METHODS = ("FedAvg", "FedBABU", "FedASAM + SWA")
SWEEP = [
    (f"{method}, alpha {alpha}, seed {seed}", seed) for alpha in (1, 100) for method in METHODS for seed in range(3)
]


@pytest.fixture(scope="module")
def tuned():
    """What `personalize` gives of 18 runs; accuracies near both ends, so that bands would leave them."""
    rng = np.random.default_rng(0)
    rows = [
        (str(run), name, seed, 4, client, epoch, value, 1.0, 9)
        for run, (name, seed) in enumerate(SWEEP)
        for client in range(5)
        for epoch, value in enumerate(rng.choice([0.0, 0.03, 0.97, 1.0], 3))
    ]
    columns = ["run", "name", "seed", "round", "client", "epoch", "accuracy", "loss", "samples"]
    about = {"epochs": 2, "tuning": {"part": "all", "lr": 0.01}}
    return fl.Personalization(pd.DataFrame(rows, columns=columns), about)


@pytest.mark.parametrize("view", ["contour", "surface"])
def test_titles_of_panels_stand_apart(view):
    names = [name for name, _ in SWEEP]
    rows = [{"panel": name, "x": x, "y": y, "loss": x * x + y, "accuracy": 0.5, "series": "surface", "name": "",
             "residual": 0.0, "direction": 0, "loss_error": 0.0, "rise_error": 0.0, "measured": True}
            for name in names for x in (-1, 0, 1) for y in (-1, 0, 1)]  # fmt: skip
    about = {"dimensions": 2, "panels": names, "range": [[-1, 1], [-1, 1]], "explained": [], "directions": "random",
             "eigenvalues": {}, "repeats": 1, "scale": "filter", "samples": 9, "data": "holdout", "loss": "mean",
             "part": "all", "normalisation": "none", "batch": "free", "seed": 0, "spline_error": {}, "complete": True}  # fmt: skip
    fig = fl.geometry.Landscape(pd.DataFrame(rows), about).plot(view=view)
    fig.draw(renderer := fig.canvas.get_renderer())
    boxes = [axes.title.get_window_extent(renderer) for axes in fig.axes if axes.get_title()]
    assert len(boxes) == 18 and not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def overprinted(fig):
    """Pairs of the words of a figure's legend and axes that stand on each other."""
    renderer = fig.canvas.get_renderer()
    fig.draw(renderer)
    texts = [*fig.legends[0].get_texts()] if fig.legends else []
    for each in fig.axes:
        texts += [text for at, text in zip(each.get_yticks(), each.get_yticklabels(), strict=True)
                  if min(each.get_ylim()) <= at <= max(each.get_ylim())]  # fmt: skip
        texts += [text for at, text in zip(each.get_xticks(), each.get_xticklabels(), strict=True)
                  if min(each.get_xlim()) <= at <= max(each.get_xlim())]  # fmt: skip
    boxes = [(text.get_text(), text.get_window_extent(renderer).shrunk(0.9, 0.8)) for text in texts]
    return [(a, b) for (a, one), (b, two) in itertools.combinations(boxes, 2) if one.overlaps(two)]


@pytest.mark.parametrize("view", ["curves", "gains", "histogram", "scatter"])
def test_seeds_of_a_sweep_are_one_and_nothing_stands_on_anything(tuned, view):
    fig = tuned.plot(view=view)
    assert len(legend(fig)) == 6 and not any("seed" in name for name in legend(fig))
    assert not overprinted(fig)


def test_bands_say_what_they_are_and_stay_percents(tuned):
    fig, two = (
        tuned.plot(),
        fl.Personalization(tuned.frame[tuned.frame["name"].str.contains("FedAvg")], tuned.about).plot(),
    )
    for drawn in (fig, two):
        for band, line in zip(drawn.axes[0].collections, drawn.axes[0].lines, strict=True):
            edges = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
            assert 0 <= edges.min() <= line.get_ydata().min() and edges.max() <= 100
    assert "one standard deviation over 3 seeds" in fig.caption
    assert fig.caption.startswith("Bars") and two.caption.startswith("Band")
    sides = [[path.vertices[0, 0] for path in bars.get_paths()] for bars in fig.axes[0].collections]
    assert len(set(map(tuple, sides))) == len(sides) == 6  # none covers another
    first = fl.Personalization(tuned.frame[tuned.frame["seed"] == 0], tuned.about).plot()
    assert "one standard deviation over 5 clients" in first.caption
    curve = Series.of("a", "#000000", np.arange(3.0), np.array([[1.0, 0.0, 99.0], [5.0, 90.0, 100.0]]))
    drawn = figures.paper(Chart((Plot((curve,), Axis("round", whole=True), Axis("accuracy", "%")),)))
    edges = drawn.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert edges.min() == 0 and edges.max() == 100


def test_a_table_and_its_averages_have_a_row_a_method_and_alpha(tuned):
    rows = [
        {
            "method": name.split(",")[0], "seed": seed, "holdout": 0.5, "scored": 4, "round": 4, "initial": 0.1,
            "initial std": 0.2, "personalized": 0.9, "personalized std": 0.3, "clients": 5, "left_out": 0,
            "run": str(run), "data.partition.alpha": float(name.split(" alpha ")[1].split(",")[0]),
            "algorithm.local.kind": "asam" if "ASAM" in name else "sgd",
        }
        for run, (name, seed) in enumerate(SWEEP)
    ]  # fmt: skip
    fig = fl.Comparison(pd.DataFrame(rows), {}).plot()
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == [f"{method}, alpha {alpha}" for alpha in (1, 100) for method in METHODS]
    assert not overprinted(fig)
    means = [
        {"method": method, "data.partition.alpha": alpha, "of": of, "mean": 0.5, "half": 0.6, "low": 0.0, "high": 1.0,
         "n": 3, "seeds": 3, "left_out": 0}
        for alpha in (1.0, 100.0) for method in METHODS for of in ("holdout", "initial", "personalized")
    ]  # fmt: skip
    fig = fl.Averages(pd.DataFrame(means), {"interval": "95 %, Student's t"}).plot()
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == labels and "95 %" in fig.caption


def test_no_name_of_a_legend_is_cut():
    names = [f"{method} {local}{swa}" for method in ("FedAvg", "FedBABU") for local in ("SGD", "SAM", "ASAM")
             for swa in ("", " + SWA")]  # fmt: skip
    frame = pd.DataFrame([{"series": name, "x": x, "mean": x, "low": x, "high": x} for name in names for x in (0, 1)])
    for title in ("", "The crossing"):
        fig = fl.figures.draw_series(frame, "round", "accuracy (%)", title)
        fig.draw(renderer := fig.canvas.get_renderer())
        assert all(text.get_window_extent(renderer).x1 <= fig.bbox.x1 for text in fig.legends[0].get_texts())


def test_size_title_style_and_caption_are_the_persons(tuned, tmp_path):
    fig = fl.plot(tuned, width="page", title="Five clients", style={"font.size": 11, "axes.grid": True}, caption=False)
    assert fig.get_figwidth() == 6.75 and fig.axes[0].xaxis.get_gridlines()[0].get_visible()
    assert fig.legends[0].get_title().get_text() == "Five clients"
    assert not fig.get_supxlabel() and fig.caption.startswith("Bars")  # for the paper's own caption
    assert fl.plot(tuned, width=4).get_figwidth() == 4
    assert not fl.plot(tuned, legend=False).legends
    with pytest.raises(fl.SettingError, match="width = 'wide'"):
        fl.plot(tuned, width="wide")


def test_fonts_in_files_are_truetype_however_they_are_written(tuned, tmp_path):
    fig = tuned.plot()
    fig.savefig(tmp_path / "a.pdf")
    figures.save(fig, tmp_path / "b")
    for name in ("a.pdf", "b.pdf"):
        content = (tmp_path / name).read_bytes()
        assert b"/FontFile2" in content and b"/Type3" not in content


def test_rounds_and_epochs_have_no_fractions(tuned):
    for width in (2.5, 6.75, 14):
        fig = tuned.plot(width=width)
        fig.canvas.draw()
        assert all(float(tick).is_integer() for tick in fig.axes[0].get_xticks())


def test_what_clients_score_on_their_own_sets_is_not_on_the_holdouts_axis(digits, tmp_path):
    options = {"model": fl.ModelSpec(name="lenet", width=0.125), "rounds": 1, "store": tmp_path, "progress": False}
    alone, averaged = (fl.train(kind, digits, **options) for kind in (fl.LocalOnly(), fl.FedAvg()))
    fig = fl.plot([averaged, alone])
    assert legend(fig) == ["FedAvg"] and "LocalOnly: no global model" in fig.caption.replace("\n", " ")
    own = fl.plot(alone)
    assert own.axes[0].get_ylabel() == "mean accuracy of the clients' own models (%)"
    assert legend(fl.plot([averaged, alone], metrics=["initial"])) == ["FedAvg", "LocalOnly"]


def test_colours_stand_out_from_paper_and_no_two_runs_share_one_and_its_dashes():
    def light(colour):
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return np.dot(parts, [0.2126, 0.7152, 0.0722])

    assert all(1.05 / (light(colour) + 0.05) >= 3 for colour in ALGORITHMS.values())
    names = [name for name, _ in SWEEP]
    styles = [tuple(line_style(name, names[:place]).values()) for place, name in enumerate(names)]
    assert len(set(styles)) == 18


@pytest.mark.parametrize("style", [None, "ggplot", {"axes.labelsize": 14, "axes.titlesize": 16}])
@pytest.mark.parametrize(("width", "panels"), [(3.25, 1), (6.75, 2)])
def test_labels_are_no_longer_than_their_room(style, width, panels):
    with figures.paper_style(style):
        fig = figures.style.figure(height=2.6)
        for axes in fig.subplots(1, panels, squeeze=False)[0]:
            axes.set(xlabel="place t on the path, from the first model to the second", title="flatness of each")
            axes.set_ylabel("mean accuracy on own test sets (%)")
    fig.finish(width)
    fig.draw(renderer := fig.canvas.get_renderer())
    left, right = fig.axes[0], fig.axes[-1]
    for axes in fig.axes:
        assert axes.yaxis.label.get_window_extent(renderer).height <= axes.bbox.height + 1
    for one, two in ((left.xaxis.label, right.xaxis.label), (left.title, right.title)):
        assert one is two or one.get_window_extent(renderer).x1 < two.get_window_extent(renderer).x0
    left.set_xlabel("short")
    fig.draw(renderer)
    assert left.get_xlabel() == "short"


def bar_halves(fig):
    """By quantity, half the length of each bar of a table, in the order of its rows."""
    drawn = {bars.get_label(): bars.lines[2][0].get_paths() for bars in fig.axes[0].containers}
    return {name: [np.ptp(path.vertices[:, 0]) / 2 for path in paths] for name, paths in drawn.items()}


def row_of(method, seed, **more):
    return {"method": method, "seed": seed, "holdout": 0.5, "scored": 4, "round": 4, "initial": 0.4 + seed / 10,
            "initial std": 0.2, "personalized": 0.5, "personalized std": 0.3, "clients": 5, "left_out": 0,
            "run": f"{method}{seed}{sorted(more.items(), key=str)}", **more}  # fmt: skip


def row_names(fig):
    return [label.get_text() for label in fig.axes[0].get_yticklabels()]


def test_a_caption_names_each_thing_that_bars_of_a_table_are_over():
    fig = fl.Comparison(pd.DataFrame([row_of("FedAvg", 0), row_of("FedAvg", 1), row_of("FedProx", 0)]), {}).plot()
    assert "one standard deviation over 2 seeds or 5 clients" in fig.caption
    assert bar_halves(fig)["initial"] == pytest.approx([100 * np.std([0.4, 0.5], ddof=1), 20])


def test_what_was_measured_beside_the_holdout_is_no_setting():
    """Each seed had a row of its own, named by its attack success."""
    rows = [
        row_of("FedAvg", seed) | {"attack success": seed / 2, "unseen": 0.1 * seed, "miou": 0.3 + seed}
        for seed in (0, 1)
    ]
    fig = fl.Comparison(pd.DataFrame(rows), {}).plot()
    assert row_names(fig) == ["FedAvg"] and "over 2 seeds" in fig.caption


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"algorithm.local_steps": 3.0}, ["FedAvg, no local steps", "FedAvg, local steps 3"]),
        ({"algorithm.clip": 0.5}, ["FedAvg, no clip", "FedAvg, clip 0.5"]),
        (
            {"world": "World(adversary=...)", "world.adversary.share": 0.4, "world.adversary.message": "sign_flip"},
            ["FedAvg, no world", "FedAvg, share 0.4, sign_flip"],
        ),
        (
            {"world.adversary": "lies", "world.adversary.share": 0.4},
            ["FedAvg, no adversary", "FedAvg, lies, share 0.4"],
        ),
    ],
)
def test_no_setting_and_one_are_two_rows(setting, named):
    """Not two seeds of one."""
    rows = [row_of("FedAvg", 0, **dict.fromkeys(setting)), row_of("FedAvg", 0, **setting)]
    fig = fl.Comparison(pd.DataFrame(rows), {}).plot()
    assert row_names(fig) == named and "5 clients" in fig.caption and "seeds" not in fig.caption
    means = [{"method": "FedAvg", "of": of, "mean": mean, "half": 0.1, "low": 0.0, "high": 1.0, "n": 2, "seeds": 2,
              "left_out": 0, **values}
             for values, mean in ((dict.fromkeys(setting), 0.2), (setting, 0.7)) for of in ("holdout", "initial")]  # fmt: skip
    fig = fl.Averages(pd.DataFrame(means), {"interval": "95 %"}).plot()
    assert row_names(fig) == named
    assert next(line.get_xdata().tolist() for line in fig.axes[0].lines if len(line.get_xdata()) == 2) == [20, 70]


def test_averages_that_have_not_come_equally_far_and_runs_that_labels_tell_apart_are_rows_of_their_own():
    means = [{"method": "FedAvg", "round": round, "of": "holdout", "mean": 0.5, "half": 0.1, "low": 0.4, "high": 0.6,
              "n": 2, "seeds": 2, "left_out": 0} for round in (1, 8)]  # fmt: skip
    fig = fl.Averages(pd.DataFrame(means), {"interval": "95 %"}).plot()
    assert row_names(fig) == ["FedAvg, round 1", "FedAvg, round 8"]
    rows = [row_of("FedAvg", 0), row_of("FedAvg", 1)]
    labels = {rows[0]["run"]: "FedAvg, 1a2b", rows[1]["run"]: "FedAvg, 3c4d"}  # warm and cold starts
    assert row_names(fl.Comparison(pd.DataFrame(rows), {"labels": labels}).plot()) == list(labels.values())


def test_every_measured_quantity_of_averages_is_drawn_with_a_mark_of_its_own():
    kinds = ["holdout", "unseen", "miou", "unseen miou", "attack success", "initial", "personalized"]
    means = [{"method": "FedAvg", "of": of, "mean": 0.1 * place, "half": 0.05, "low": 0.0, "high": 1.0, "n": 3,
              "seeds": 3, "left_out": 0} for place, of in enumerate(kinds, 1)]  # fmt: skip
    fig = fl.Averages(pd.DataFrame(means), {"interval": "95 %"}).plot()
    drawn = {bars.get_label(): bars.lines[0] for bars in fig.axes[0].containers}
    assert {name: line.get_xdata()[0] for name, line in drawn.items()} == pytest.approx(
        {of: 10 * place for place, of in enumerate(kinds, 1)}
    )
    assert len({line.get_marker() for line in drawn.values()}) == len(kinds)
    assert max(abs(line.get_ydata()[0]) for line in drawn.values()) < 0.5  # within its row
