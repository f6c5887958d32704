"""Figures of runs, cohorts and gains: the numbers drawn are those of the histories and results."""

import colorsys
import io
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

import flatlab as fl
from flatlab import figures
from flatlab.figures.colors import ALGORITHMS, PALETTE, contrast_to_white, tint
from flatlab.figures.style import plain
from flatlab.training.status import Standing

SPEC = fl.ModelSpec(name="cnn4", width=0.25)


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    settings = {"participation": 0.5, "store": tmp_path_factory.mktemp("runs"), "progress": False}
    return [fl.train(fl.FedBABU(), data, SPEC, 4, seed=seed, **settings) for seed in range(3)]


def words(fig):
    return " ".join(text.get_text() for text in fig.findobj(Text))


def lines(fig, panel=0):
    return [np.array(line.get_data()).T for line in fig.axes[panel].lines]


def values(run, split="holdout", metric="accuracy"):
    history = run.history
    return history[(history["split"] == split) & (history["metric"] == metric)].groupby("round")["value"].mean()


def test_by_default_accuracy_and_loss_over_a_fixed_range_of_rounds(runs):
    early = fl.Run.open(runs[0].directory, runs[0].data).rewind(2)
    fig = fl.plot([early, runs[1]])
    assert [axes.get_ylabel() for axes in fig.axes] == ["holdout accuracy (%)", "holdout loss"]
    assert [len(line) for line in lines(fig)] == [2, 4] and fig.axes[0].get_xlim() == (0, 4)
    assert np.allclose(lines(fig)[1][:, 1], 100 * values(runs[1]))
    assert fig.axes[1].get_legend() is None


@pytest.mark.parametrize("x", ["samples", "seconds"])
def test_the_x_axis_may_be_what_was_spent(runs, x):
    fig = fl.plot(runs[0], x=x)
    assert np.allclose(lines(fig)[0][:, 0], runs[0].timings[x].cumsum())
    assert fig.axes[0].get_xlim()[1] >= runs[0].timings[x].sum()


@pytest.mark.parametrize("x", ["samples", "megabytes", "seconds"])
def test_rounds_whose_times_are_lost_count_too_or_are_not_drawn(runs, tmp_path, x):
    whole = lines(fl.plot(runs[0], x=x))[0]
    directory = shutil.copytree(runs[0].directory, tmp_path / runs[0].id)
    path = directory / "timings.jsonl"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if '"round": 2,' not in line))
    after = lines(fl.plot(fl.Run.open(directory, runs[0].data), x=x))[0]
    assert np.allclose(after, whole[:1] if x == "seconds" else whole)


def test_over_rounds_the_legend_says_what_a_step_costs(runs):
    forks = [runs[0].fork(round=3, algorithm=kind).to() for kind in (fl.FedSAM(), fl.Ditto(), fl.SCAFFOLD(option="I"))]
    said = words(fl.plot([runs[0], *forks]))
    assert said.count("(2 gradients a step)") == 2 and "SCAFFOLD (a gradient over all samples a round)" in said
    assert "FedBABU (" not in said
    assert "a step" not in words(fl.plot(forks, x="samples"))


def test_of_a_fork_only_its_own_samples_count(runs):
    fork = runs[0].fork(round=2, algorithm=fl.FedAvg(lr=0.05)).to()
    fig = fl.plot(fork, x="samples")
    assert np.allclose(lines(fig)[0][:, 0], [0, *fork.timings["samples"].cumsum()]) and len(lines(fig)[0]) == 3
    assert "a fork's: its own" in fig.axes[0].get_xlabel()
    both = fl.plot([runs[0], fork], x="samples").axes[0].lines
    (ring,) = (line for line in both if len(line.get_xdata()) == 1)  # where it left: before a round of its own
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0, pytest.approx(100 * values(runs[0])[2]))


def test_of_a_run_from_a_given_state_only_its_own_rounds_count(runs, tmp_path):
    wanted = fl.Experiment(data=runs[0].data.spec, model=SPEC, algorithm=fl.FedAvg(lr=0.05), rounds=4)
    run = fl.Run(wanted, runs[0].data, start=runs[0].state(2), store=tmp_path).to()
    for x in ("samples", "seconds"):
        assert np.allclose(lines(fl.plot(run, x=x))[0][:, 0], run.timings[x].cumsum())
    sent = run.history.query("metric == 'megabytes'")["value"]
    assert np.allclose(lines(fl.plot(run, x="megabytes"))[0][:, 0], sent.cumsum()) and len(sent) == 2
    cost = fl.compare(run, level=1e-9).frame.iloc[0]
    assert cost["rounds to level"] == 3 and cost["samples to level"] == run.timings["samples"].iloc[0]
    assert cost["megabytes to level"] == pytest.approx(sent.iloc[0])


def test_smoothing_keeps_the_raw_values_and_the_final_one(runs):
    raw, smooth = lines(fl.plot(runs[0], smooth=0.5))
    assert np.allclose(raw[:, 1], 100 * values(runs[0]))
    a, b = raw[:2, 1]
    assert np.allclose(smooth[:2, 1], [a, (b + a / 2) / 1.5])
    assert f" {100 * values(runs[0]).iloc[-1]:.3g} " in words(fl.plot(runs[0], smooth=0.5, final=True)) + " "


def test_seeds_become_one_line_with_a_band(runs, data):
    other = fl.train(fl.FedAvg(), data, SPEC, 4, store=runs[0].directory.parent, participation=0.5, progress=False)
    fig = fl.plot([*runs, other], bands=True, final=True)
    mean = np.mean([100 * values(run) for run in runs], axis=0)
    assert np.allclose(lines(fig)[0][:, 1], mean) and len(lines(fig)) == 2
    band = fig.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((mean + np.std([100 * values(run) for run in runs], axis=0, ddof=1)).max())
    assert "FedBABU, n = 3" in words(fig) and f" {mean[-1]:.3g} ±" in words(fig)
    assert "one standard deviation over seeds" in words(fig)


def test_metrics_of_the_cohort_and_rounds_up_to_one(runs):
    fig = fl.plot(runs[0], metrics=["drift", "training loss", "initial"], until=3)
    assert np.allclose(lines(fig, 0)[0][:, 1], values(runs[0], "train", "drift")[:3])
    assert np.allclose(lines(fig, 1)[0][:, 1], values(runs[0], "train", "loss")[:3])
    assert len(lines(fig, 2)[0]) == 0 and fig.axes[0].get_xlim() == (0, 4)


def test_runs_that_have_not_come_equally_far_are_curves_of_their_own(runs):
    early = fl.Run.open(runs[0].directory, runs[0].data).rewind(2)
    assert [len(line) for line in lines(fl.plot([early, *runs[1:]]))] == [2, 4]
    assert [len(line) for line in lines(fl.plot([early, *runs[1:]], bands=False))] == [2, 4, 4]


def test_a_chart_of_a_run_that_grows_reads_only_what_is_new(runs, data, tmp_path):
    scored = fl.Evaluation(every=2, clients_every=1)
    run = fl.Run(runs[0].experiment.replace(evaluation=scored), data, store=tmp_path)
    known, metrics = figures.Histories(), list(figures.METRICS)
    for _ in run:
        ours, anew = (figures.chart_runs(run, metrics, known=one) for one in (known, None))
        assert (
            all(itertools.starmap(np.array_equal, zip(ours.columns(), anew.columns(), strict=True)))
            and ours.about() == anew.about()
        )
    assert set(known._fresh[1]["round"]) == {4} and [len(plot.series[0].x) for plot in ours.plots] == [
        2,
        2,
        4,
        4,
        4,
        0,
        0,
        0,
        0,
    ]
    early = figures.chart_runs(fl.Run.open(run.directory, data).rewind(2), metrics, known=known)
    assert [len(plot.series[0].x) for plot in early.plots] == [1, 1, 2, 2, 2, 0, 0, 0, 0]


def test_a_client_without_a_finite_value_is_left_out_of_all_rounds_however_they_are_read(
    runs, data, tmp_path, monkeypatch
):
    run = fl.Run.open(runs[0].directory, data)
    rows = run.history
    client = int(rows.loc[(rows["round"] == 3) & (rows["metric"] == "drift"), "client"].iloc[0])
    rows.loc[(rows["round"] == 3) & (rows["client"] == client) & (rows["metric"] == "drift"), "value"] = np.nan
    monkeypatch.setattr(type(run.rows), "read", lambda *_: rows)
    monkeypatch.setattr(type(run.rows), "_logged", lambda *_: {})
    known, drift = figures.Histories(), rows[(rows["metric"] == "drift")]
    for at in (2, 3, 4, 2):
        plot = figures.chart_runs(
            run if at == 4 else fl.Run.open(run.directory, data).rewind(at), ["drift"], known=known
        ).plots[0]
        kept = drift[(drift["round"] <= at) & ((drift["client"] != client) | (at < 3))]
        assert np.allclose(plot.series[0].y, kept.groupby("round")["value"].mean())
        assert ("1 clients left out" in plot.series[0].note) == (at > 2)


def test_forks_begin_where_they_left_their_parent_with_a_ring_and_in_a_tint_of_its_colour(runs):
    parent = runs[0]
    first = parent.fork(round=2, algorithm=fl.FedASAM(lr=0.05)).to()
    second = first.fork(round=3, algorithm=fl.FedAvg(lr=0.02)).to()
    accuracy, _ = figures.chart_runs([second, parent, first]).plots
    names = {one.run: one for one in accuracy.series}
    whole = values(first, "holdout", "accuracy")
    assert names[first.id].x.tolist() == [2, 3, 4] and np.allclose(names[first.id].y, 100 * whole.loc[2:])
    assert names[second.id].x.tolist() == [3, 4] and names[parent.id].x.tolist() == [1, 2, 3, 4]
    assert [names[run.id].forked for run in (parent, first, second)] == [None, 2, 3]
    assert names[first.id].color == tint(names[parent.id].color) and names[second.id].color == tint(
        names[first.id].color
    )
    assert names[first.id].about()["forked"] == 2 and "forked" not in names[parent.id].about()
    (alone,) = figures.chart_runs([first], ["accuracy"]).plots[0].series  # its parent's rounds are seen nowhere else
    assert alone.x.tolist() == [1, 2, 3, 4] and alone.forked == 2 and alone.color == ALGORITHMS["FedASAM"]
    looks = figures.run_looks([parent, first], False, figures.Histories())
    assert looks[first.id]["color"] == names[first.id].color
    rings = [
        line
        for line in fl.plot([parent, first]).axes[0].lines
        if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    assert [line.get_xdata()[0] for line in rings] == [2]


def test_tints_differ_from_their_colour_and_each_other_and_are_seen_on_white():
    for color in PALETTE:
        several = [tint(color, number) for number in range(1, 5)]
        assert len({color, *several}) == 5
        parts = [[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in several]
        assert all(contrast_to_white(part) >= 3 for part in parts)
        hues = [
            colorsys.rgb_to_hsv(*(part / 255 for part in one))[0]
            for one in (*parts, [int(color[at : at + 2], 16) for at in (1, 3, 5)])
        ]
        assert max(min(abs(hue - hues[-1]), 1 - abs(hue - hues[-1])) for hue in hues) < 0.02


@pytest.mark.parametrize("x", ["round", "samples"])
def test_a_round_is_marked_on_every_curve_whatever_lies_across(runs, x):
    chart = figures.chart_runs(runs, ["accuracy", "loss"], x, at=3)
    passed = sum(run.timings["samples"][:3].sum() for run in runs) / 3
    for plot in chart.plots:
        for one in plot.series:
            assert one.at(3) == (3 if x == "round" else pytest.approx(passed), one.y[2]) and one.at(0) is None
            assert one.at(9) == (one.x[-1], one.y[-1])
    marks = [line for line in fl.plot(runs, x=x, at=3).axes[0].lines if line.get_marker() == "D"]
    assert len(marks) == len(chart.plots[0].series)
    assert "at" not in chart.about() and chart.about() == figures.chart_runs(runs, ["accuracy", "loss"], x).about()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "bytes"}, "x = 'bytes': must be 'round'"),
        ({"metrics": ["fun"]}, "metrics = .'fun'.: some of accuracy"),
        ({"metrics": []}, "metrics"),
        ({"smooth": 1.0}, "smooth = 1.0: must be a number ≥ 0 and < 1"),
    ],
)
def test_impossible_options_are_named(runs, options, message):
    with pytest.raises(ValueError, match=message):
        fl.plot(runs[0], **options)


def test_the_cohort_table_is_what_the_history_and_the_data_say(runs, data):
    table = figures.cohort_table(runs[0], 4).set_index("client")
    history = runs[0].history.query("round == 4").set_index(["split", "metric", "client"])["value"]
    assert len(table) == 3
    for client, row in table.iterrows():
        assert row["loss"] == history["train", "loss", client] and row["drift"] == history["train", "drift", client]
        assert row["initial"] == history["test", "accuracy", client]
        assert row["samples"] == len(data.train[client])
        assert row["classes"] == len(data.labels[data.train[client]].unique())
    assert figures.cohort_table(runs[0], 2)["initial"].isna().all()
    with pytest.raises(ValueError, match="round = 9: FedBABU has rounds 1 to 4"):
        figures.cohort_table(runs[0], 9)


def test_a_cohort_is_drawn_with_and_without_a_client(runs):
    table = figures.cohort_table(runs[0], 2)
    fig = figures.draw_cohort(runs[0], 2)
    losses = [bar.get_width() for bar in fig.axes[1].patches]
    assert np.allclose(losses, table["loss"]) and "not scored" in words(fig)
    stacked = sum(bar.get_width() for bar in fig.axes[0].patches)
    assert stacked == table["samples"].sum()
    scored = fl.personalize(runs[0], epochs=0, round=2)
    one = int(table["client"][0])
    tuned = fl.personalize(runs[0], epochs=1, round=2, clients=[one])
    sharp = fl.sharpness(runs[0], measures=["sam"], clients=[one])
    fig = figures.draw_cohort(runs[0], 2, one, scored, tuned, [sharp])
    assert "not scored" not in words(fig) and "SAM, one step" in words(fig)
    curve = fig.subfigs[1].axes[0].lines[0].get_ydata()
    assert np.allclose(curve, 100 * tuned.frame["accuracy"])
    assert "not fine-tuned yet" in words(figures.draw_cohort(runs[0], 2, one))


def test_pooled_training_has_one_client_that_holds_all(data, tmp_path):
    run = fl.train(fl.Centralized(), data, SPEC, 1, store=tmp_path, progress=False)
    table = figures.cohort_table(run)
    assert table["samples"].tolist() == [sum(map(len, data.train))]
    figures.draw_cohort(run)


@pytest.fixture
def tuned():
    rows = [
        {"run": run, "name": name, "seed": 0, "round": 1, "client": client, "epoch": epoch, "samples": 9, "loss": 0.1,
         "accuracy": start + epoch * gain}
        for run, name, gain in (("a", "FedAvg", 0.2), ("b", "FedBABU", -0.1))
        for client, start in enumerate((0.3, 0.5, 0.4))
        for epoch in (0, 1)
    ]  # fmt: skip
    return fl.Personalization(pd.DataFrame(rows), {"epochs": 1, "tuning": {"train": "all", "lr": 0.1}})


def test_gains_are_those_of_the_clients(tuned):
    fig = tuned.plot(view="gains")
    assert "FedAvg: mean 20.0" in words(fig) and "FedBABU: mean -10.0" in words(fig)
    assert "FedAvg: mean 20.0, 3 of 3 gain" in words(fig) and "-10.0, 0 of 3 gain" in words(fig)
    points = np.array(fig.axes[1].lines[0].get_data()).T
    assert np.allclose(points, [[30, 50], [50, 70], [40, 60]])
    assert len(tuned.plot(view="histogram").axes) == len(tuned.plot(view="scatter").axes) == 1
    with pytest.raises(ValueError, match="view = 'pie'"):
        tuned.plot(view="pie")


def test_a_frame_is_a_png_of_the_drawing_and_stacks(runs):
    fig = fl.plot(runs[0])
    picture = Image.open(io.BytesIO(figures.frame(fig, dpi=100)))
    assert picture.size == tuple(np.round(100 * fig.get_size_inches()).astype(int))
    assert len(np.unique(np.asarray(picture.convert("L")))) > 5
    both = figures.stacked([fig, figures.draw_missing("nothing yet")])
    assert len(both.axes) == 2 and both.get_figheight() == pytest.approx(2.4 + 2.6, rel=0.04)


def test_an_axis_goes_from_tick_to_tick(runs):
    for axes in fl.plot(runs[0], final=True).axes:
        assert {*axes.get_ylim()} <= {*axes.get_yticks()}


@pytest.mark.filterwarnings("ignore:.* one test image")
def test_the_compact_partition_of_many_clients_and_classes_keeps_its_labels_apart():
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 255, (3000, 8, 8), dtype=np.uint8), np.arange(3000) % 100
    names = [f"class number {label}" for label in range(100)]
    data = fl.Source.from_arrays("many", images, labels, images[:100], labels[:100], names).federate(
        fl.Dirichlet(alpha=0.3), clients=100, seed=0
    )
    fig = data.plot(compact=True)
    fig.png()  # which lays it out
    below = next(axes for axes in fig.axes if axes.get_ylabel() == "class")
    for axis in (below.xaxis, below.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= 5 and not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    written = [label.get_text() for label in below.get_yticklabels()]
    assert len(set(written)) == len(written)
    edge = fig.get_window_extent()
    assert all(edge.y0 <= axes.yaxis.label.get_window_extent().y0 for axes in fig.axes)
    assert all(axes.yaxis.label.get_window_extent().y1 <= edge.y1 for axes in fig.axes)
    few = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)
    assert not any(axes.texts for axes in few.plot(compact=True).axes) and any(axes.texts for axes in few.plot().axes)


SCRIPTS = {
    "dollars": ("US$", "A$ and $x", r"$\frac{", "$$", "_^"),
    "scripts": ("猫", "犬", "鳥", "魚", "naïve"),
    "long": ("a very long name 1", "a very long name 2", "b", "c", "d"),
}


@pytest.mark.parametrize("names", SCRIPTS.values(), ids=SCRIPTS)
def test_classes_of_any_name_are_drawn(names, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 8, 8, 1), dtype=np.uint8), np.arange(90) % 5
    own = fl.Source.from_arrays("own$", images[:60], labels[:60], images[60:], labels[60:], list(names))
    data = own.federate(fl.IID(), clients=3)
    run = fl.train(fl.FedAvg(), data, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    for fig in (data.plot(), data.plot(compact=True), figures.draw_cohort(run), run.plot()):
        assert len(fig.png()) > 2_000  # a glyph that no font has is a warning, and so an error
    shown = {text.get_text() for text in figures.draw_cohort(run).findobj(Text)}
    assert {plain(name) for name in names} <= shown or {"0", "1", "2", "3", "4"} <= shown
    if "US$" in names:
        assert r"US\$" in shown


def font_with(sign, folder):
    """An installed font that has a sign, and hardly another."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", "sign"])
    made.setupCharacterMap({ord(sign): "sign"})
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "sign": pen.glyph()})
    made.setupHorizontalMetrics({".notdef": (1000, 0), "sign": (1000, 0)})
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": "Square of a test", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(folder / "square.ttf")
    return folder / "square.ttf"


@pytest.fixture
def fonts():
    """Forgets what a test has installed."""
    known = list(fontManager.ttflist)
    caches = (figures.fonts.families, figures.fonts.lacking, figures.fonts._installed, figures.style._tell_unknown)
    for cache in caches:
        cache.cache_clear()
    yield
    fontManager.ttflist[:] = known
    for cache in caches:
        cache.cache_clear()


def test_a_methods_name_is_drawn_in_a_font_that_has_its_signs_or_told_once(digits, tmp_path, fonts):
    class Method(fl.FedAvg):
        """A kind in a script that the usual font has not."""

        kind: str = "Fed平 λ₁"

    run = fl.train(Method(), digits, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    with pytest.warns(UserWarning, match="no installed font has '平': drawn as boxes") as told:
        boxes = [run.plot().png(), run.plot().png()]
    assert sum(warning.category is UserWarning for warning in told) == 1 and boxes[0] == boxes[1]
    fontManager.addfont(font_with("平", tmp_path))
    for cache in (figures.fonts.families, figures.fonts.lacking, figures.fonts._installed):
        cache.cache_clear()
    drawing = run.plot()
    assert drawing.png() != boxes[0]  # and no warning, which would be an error
    named = [text for text in drawing.findobj(Text) if "平" in text.get_text()]
    assert named and all("Square of a test" in text.get_fontfamily() for text in named)
    assert all(path.exists() for path in figures.save(run.plot(), tmp_path / "both"))


def test_a_users_name_with_dollars_is_drawn_as_it_is(digits, tmp_path):
    class Odd(fl.FedAvg):
        """A kind that looks like a broken formula."""

        kind: str = "Fed$x_{$^"

    run = fl.train(Odd(), digits, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    drawing = run.plot()
    drawing.axes[0].set_xscale("log")  # whose ticks are formulas of matplotlib's own
    assert drawing.png().startswith(b"\x89PNG")
    assert fl.landscape({"a$b^": run, "$": run}, dimensions=1, points=3, limit=20).plot().png()


def test_curves_stand_against_megabytes_sent(few_digits, tmp_path):
    """A server's round sends the model to each client and back; over a ring it goes to two neighbours."""
    spec = fl.ModelSpec(name="lenet")
    server, ring = (
        fl.train(algorithm, few_digits, spec, 2, store=tmp_path, progress=False, participation=share)
        for algorithm, share in ((fl.FedAvg(), 0.5), (fl.FedAvg(topology="ring"), 1.0))
    )
    assert float(ring.history.query("metric == 'megabytes'")["value"].sum()) > 0
    chart = figures.chart_runs([server, ring], x="megabytes")
    for series, run in zip(chart.plots[0].series, (server, ring), strict=True):
        sent = run.history.query("metric == 'megabytes'")["value"].cumsum()
        assert series.x.tolist() == pytest.approx(sent.tolist())
    assert chart.plots[0].x.label == "megabytes sent"


def test_a_topology_is_drawn_with_its_second_eigenvalue():
    said = words(fl.plot(fl.topology.Ring(), nodes=8))
    assert "ring, 8 clients, 8 edges" in said and "0.8047" in said
    half = words(fl.plot(fl.topology.Matcha(base="complete", budget=0.5), nodes=6, seed=1))
    assert "matcha of complete, budget 0.5, 6 clients, 15 edges" in half and "root mean square" in half
    assert len(fl.plot(fl.topology.Random(p=0.2), nodes=40).axes[0].lines) > 40


def test_disagreement_is_drawn_between_the_eigenvalues(few_digits, tmp_path):
    run = fl.train(fl.FedAvg(topology="ring"), few_digits, "lenet", 1, store=tmp_path, progress=False)
    found = fl.disagreement(run, limit=32)
    said = words(found.plot())
    assert "FedAvg ring" in said and "distance" in said and "clients' directions" in said


def test_a_mean_of_seeds_has_the_name_that_they_share(runs, data):
    store = runs[0].directory.parent
    other = [fl.train(fl.FedBABU(lr=0.05), data, SPEC, 4, seed=seed, store=store, participation=0.5, progress=False)
             for seed in (3, 4)]  # fmt: skip
    names = [one.name for one in figures.chart_runs([*runs, *other], ["accuracy"]).plots[0].series]
    assert names == ["FedBABU, lr 0.1, n = 3", "FedBABU, lr 0.05, n = 2"]
    early = [fl.Run.open(run.directory, data).rewind(2) for run in runs]
    names = [one.name for one in figures.chart_runs([*runs, *early], ["accuracy"]).plots[0].series]
    assert names == ["FedBABU, round 4, n = 3", "FedBABU, round 2, n = 3"]


def test_where_an_average_begins_it_is_called_what_it_is(data, tmp_path):
    kinds = (fl.WiMA(window=2, start=0.5), fl.SWA(start=0.5, cycle=1))
    runs = [fl.train(fl.FedAvg(swa=kind), data, SPEC, 2, store=tmp_path, progress=False) for kind in kinds]
    marks = [[mark.text for mark in figures.chart_runs(some, ["accuracy"]).plots[0].marks]
             for some in (runs[:1], runs[1:], runs)]  # fmt: skip
    assert marks[:2] == [["WiMA"], ["SWA"]] and {"WiMA", "SWA"} == {*" or ".join(marks[2]).split(" or ")}


def test_before_its_first_score_a_global_model_is_not_taken_for_none(data, tmp_path):
    rarely = fl.Evaluation(every=5, clients_every=1)
    settings = {"data": data.spec, "model": SPEC, "rounds": 10, "evaluation": rarely}
    early, kept = (fl.Run(fl.Experiment(algorithm=kind, **settings), data, store=tmp_path).to(1)
                   for kind in (fl.FedAvg(), fl.FedPer()))  # fmt: skip
    watched = {run.experiment.algorithm.kind: run for run in watching(tmp_path)}
    for first, other in ((early, kept), (watched["FedAvg"], watched["FedPer"])):
        (plot,) = figures.chart_runs([first], ["accuracy"]).plots
        assert (
            plot.y.label == "holdout accuracy" and not len(plot.series[0].x) and "not scored yet" in plot.series[0].note
        )
        chart = figures.chart_runs([first, other], ["accuracy"])
        assert [one.name for one in chart.plots[0].series] == ["FedAvg"] and chart.bands.startswith("FedPer: no global")
        assert figures.chart_runs([other], ["accuracy"]).plots[0].y.label == "mean accuracy of the clients' own models"
    scored = fl.train(fl.FedProx(), data, SPEC, 1, store=tmp_path, progress=False)
    column = fl.compare([early, scored]).summary().filter(like="to ").iloc[:, 0].tolist()
    assert column[0] == "not scored" and column[1].startswith("1 round")


def watching(store):
    standing = Standing(store)
    standing.table()
    return standing.watched()


def test_a_round_that_is_no_number_is_a_gap_and_counted(runs, data, monkeypatch):
    run = fl.Run.open(runs[0].directory, data)
    rows = run.history
    rows.loc[(rows["round"] == 3) & (rows["split"] == "holdout") & (rows["metric"] == "loss"), "value"] = np.nan
    monkeypatch.setattr(type(run.rows), "read", lambda *_: rows)
    monkeypatch.setattr(type(run.rows), "_logged", lambda *_: {})
    chart = figures.chart_runs(run, ["loss"])
    (series,) = chart.plots[0].series
    whole = values(runs[0], metric="loss")
    assert series.x.tolist() == [1, 2, 3, 4] and series.note == " (1 round without a finite value)"
    np.testing.assert_allclose(series.y, whole.where(whole.index != 3))
    smooth = chart.smoothed(0.5).plots[0].series[1].y
    a, b, _, d = whole
    np.testing.assert_allclose(smooth, [a, (b + a / 2) / 1.5, np.nan, (d + b / 2 + a / 4) / 1.75])
    assert "1 round without a finite value" in words(figures.paper(chart))
