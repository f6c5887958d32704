"""Runs whose clients keep parts of the model: panels offer the clients, and measure the model of the one chosen."""

import pandas as pd
import pytest
import torch

import flatlab as fl
from flatlab.lab.hessian_panel import Spectrum
from flatlab.lab.landscape_panel import Landscape


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    data = fl.load("digits").federate(fl.Dirichlet(alpha=1.0), clients=5, seed=0)
    model, store = fl.ModelSpec(name="lenet", width=0.125), tmp_path_factory.mktemp("runs")
    options = {"rounds": 2, "store": store, "progress": False}
    return [fl.train(one, data, model, **options) for one in (fl.FedAvg(), fl.FedPer(), fl.LocalOnly())]


def shown(panel):
    return panel.client.layout.display != "none"


@pytest.mark.parametrize("make", [Spectrum, Landscape])
def test_clients_are_offered_where_no_model_is_global(runs, make):
    panel = make(runs[0])
    assert not shown(panel)
    assert "client" not in panel.code()
    panel.show(runs[:2])
    assert shown(panel)
    assert panel.client.options == (0, 1, 2, 3, 4)
    panel.show(runs[:1])
    assert not shown(panel)


@pytest.mark.parametrize("data", ["holdout", "train"])
def test_the_hessian_is_the_chosen_clients_and_the_code_gives_the_same(runs, data):
    panel = Spectrum(runs)
    panel.settings.change(limit=40, part="head")
    panel.amounts.change(k=1)
    panel.data.value, panel.client.value = data, 3
    panel.measure("top")
    results = panel.settle()
    space = {"fl": fl, **{f"run{place}": run for place, run in enumerate(runs, 1)}}
    exec(panel.code(), space)
    for run, (name, result) in zip(runs, results.items(), strict=True):
        pd.testing.assert_frame_equal(space["top"][name].frame, result.frame)
        assert result.about["data"].endswith("model of client 3") == bool(run.kept)
        assert ("client 3" in result.about["data"]) == (bool(run.kept) or data == "train")
    panel.client.value = 1
    assert "measure again" in panel.note.value


def test_a_landscape_lies_around_the_chosen_clients_model(runs):
    panel = Landscape(runs[:2])
    panel.settings.change(points=3, limit=40)
    panel.client.value = 4
    panel.measure()
    found = panel.settle()
    images, labels = runs[1].data.samples("holdout", limit=40, seed=0)
    loss = torch.nn.functional.cross_entropy(runs[1].model(client=4)(images), labels).item()
    assert found.surface("FedPer")[2][1, 1] == pytest.approx(loss, rel=1e-4)
    space = {"fl": fl, "run1": runs[0], "run2": runs[1]}
    exec(panel.code(), space)
    pd.testing.assert_frame_equal(space["landscape"].frame, found.frame)


@pytest.mark.parametrize("data", ["holdout", "train"])
def test_a_plane_through_three_models_takes_a_clients_own_for_the_global_one(runs, data):
    panel = Landscape(runs[2])
    panel.client.value, panel.data.value = 2, data
    panel.settings.change(directions="plane", points=3, limit=40)
    labels = [label for label, _ in panel.corners[0].options]
    assert labels[0] == "client 2's own" and "global" not in labels
    panel.measure()
    found = panel.settle()
    space = {"fl": fl, "run1": runs[2]}
    exec(panel.code().partition("landscape.plot")[0], space)
    pd.testing.assert_frame_equal(space["landscape"].frame, found.frame)
