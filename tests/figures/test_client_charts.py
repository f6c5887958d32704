"""Charts whose marks are clients': every number is that of the data or the history, and paper draws the same."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import flatlab as fl
from flatlab.figures import chart_cohort, chart_gains, chart_partition, client_card, cohort_table, paper
from flatlab.geometry.kept_results import remember


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    small = fl.ModelSpec(name="cnn4", width=0.25)
    return fl.train(fl.FedBABU(lr=0.1), data, small, 3, participation=0.5, store=tmp_path_factory.mktemp("runs"),
                    evaluation=fl.Evaluation(clients_every=3), progress=False)  # fmt: skip


def items(plot):
    """A row a mark."""
    return list(zip(*plot.items.columns(), strict=True))


def test_every_cell_of_the_partition_is_a_count_of_the_data(data):
    (plot,) = chart_partition(data).plots
    held = {(client, label): value for client, _, label, value, *_ in items(plot)}
    for client in range(6):
        labels = data.labels[data.train[client]].tolist()
        for label in range(10):
            assert held.get((client, label), 0) == labels.count(label)
    shades = {(client, label): shade for client, _, label, _, shade, *_ in items(plot)}
    assert all(0 <= shade < len(plot.items.colors) for shade in shades.values())
    most = max(held, key=lambda place: held[place] / len(data.train[int(place[0])]))
    assert shades[most] == max(shades.values())
    assert paper(chart_partition(data)).png()[:4] == b"\x89PNG"


@pytest.mark.parametrize("round", [1, 3])
def test_the_bars_are_the_rows_of_the_cohort(run, round):
    mix, loss, drift, initial = chart_cohort(run, round).now.plots
    table = cohort_table(run, round)
    for client, rows in table.groupby("client"):
        assert sum(mark[3] for mark in items(mix) if mark[0] == client) == rows["samples"].item()
        for plot, name in ((loss, "loss"), (drift, "drift")):
            (mark,) = [mark for mark in items(plot) if mark[0] == client]
            x, value, wide = mark[1], mark[3], mark[5]
            assert value == wide == rows[name].item() and x - wide / 2 == 0  # a bar from nothing to its value
    assert len(initial.items.client) == (0 if round == 1 else 3)
    assert ("not scored" in initial.x.label) == (round == 1)
    lefts = sorted((mark[2], mark[1] - mark[5] / 2, mark[1] + mark[5] / 2) for mark in items(mix))
    assert all(a[2] == pytest.approx(b[1]) for a, b in pairwise(lefts) if a[0] == b[0])
    assert paper(chart_cohort(run, round)).png()[:4] == b"\x89PNG"


def test_of_every_client_there_is_a_brick_and_a_dot(run):
    tuned = fl.personalize(run, epochs=2, lr=0.05)
    ends = [tuned.frame[tuned.frame["epoch"] == epoch].set_index("client")["accuracy"] for epoch in (0, 2)]
    (dots,) = chart_gains(tuned, "scatter", [run]).plots
    for client, x, y, gain, *_ in items(dots):
        assert (x, y) == pytest.approx((100 * ends[0][client], 100 * ends[1][client])) and gain == pytest.approx(y - x)
    (bricks,) = chart_gains(tuned, "histogram", [run]).plots
    marks = items(bricks)
    assert sorted(mark[0] for mark in marks) == list(range(6))
    assert len({(round(x, 9), round(y, 9)) for _, x, y, *_ in marks}) == 6  # none lies on another
    counts, edges = np.histogram([mark[3] for mark in marks], bins=5)
    centres = (edges[:-1] + edges[1:]) / 2
    assert [sum(abs(mark[1] - centre) < 1e-9 for mark in marks) for centre in centres] == counts.tolist()
    for view in ("scatter", "histogram"):
        assert paper(chart_gains(tuned, view, [run])).png()[:4] == b"\x89PNG"


def test_charts_of_the_same_clients_know_one_another_and_strangers_do_not(run, data):
    tuned = fl.personalize(run, epochs=0)
    charts = [chart_partition(data), chart_cohort(run), chart_gains(tuned, "scatter", [run])]
    known = {plot.items.population for chart in charts for plot in chart.plots}
    assert len(known) == 1
    other = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=1)
    assert {plot.items.population for plot in chart_partition(other).plots}.isdisjoint(known)


def test_a_card_says_what_is_known_and_how_to_measure_what_is_not(run, data):
    card, images = client_card(data, 2)
    assert "press Run" in card["hints"][0] and len(images) == 1
    sheet = Image.open(io.BytesIO(images[0]))
    assert sheet.size == (300, 100)  # twelve of them, six in a row
    first = data.images[data.train[2][0]][0].numpy()
    assert np.array_equal(np.asarray(sheet.convert("L"))[1 : 1 + 48 : 6, 1 : 1 + 48 : 6], first)
    counts = data.class_counts("train")[2]
    assert {name: count for name, count, _ in card["classes"]} == {str(k): n for k, n in enumerate(counts) if n}
    card, _ = client_card(data, 2, run)
    assert any("press Measure" in hint for hint in card["hints"])
    remember(run, fl.personalize(run, epochs=2, lr=0.05, clients=[2]))
    card, _ = client_card(data, 2, run)
    assert any("Which images" in hint for hint in card["hints"]) and "tuned (round 3, 2 epochs)" in str(card["facts"])
    found = fl.corrected(run, [2], epochs=2, lr=0.05)
    remember(run, found)
    card, images = client_card(data, 2, run)
    row = found.summary().iloc[0]
    assert f"put {row['put_right']} of {row['images']} test images right and spoilt {row['spoilt']}" in card["right"]
    assert not card["hints"] and bool(images[1]) == (row["put_right"] > 0)
