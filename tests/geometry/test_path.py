"""Paths: ends are the models, the barrier is the rise above the interpolation, a curve can go round it."""

import numpy as np
import pandas as pd
import pytest
import torch
from scenes import FakeRun, flat, moved, network, own_loss, samples, smooth

import flatlab as fl
from flatlab.geometry.mode_connectivity import Path, bezier, bezier_bends, path
from flatlab.geometry.objective import Target

DATA = samples(200)


def permuted(model):
    """The same function with the hidden units in another order: the straight line to it crosses a barrier."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    twin = moved(model)
    with torch.no_grad():
        twin.body[1].weight.copy_(model.body[1].weight[order])
        twin.body[1].bias.copy_(model.body[1].bias[order])
        twin.head.weight.copy_(model.head.weight[:, order])
    return twin


def test_points_of_the_line_are_the_weighted_means_of_the_models():
    a, b = network(seed=0), network(seed=1)
    found = path(a, b, DATA, points=5).frame
    assert found["loss"].iloc[0] == pytest.approx(own_loss(a, *DATA), rel=1e-5)
    assert found["loss"].iloc[-1] == pytest.approx(own_loss(b, *DATA), rel=1e-5)
    quarter = moved(a, (0.25, flat(b) - flat(a)))
    assert found["loss"].iloc[1] == pytest.approx(own_loss(quarter, *DATA), rel=1e-4)
    assert found["distance"].iloc[-1] == pytest.approx((flat(b) - flat(a)).norm().item(), rel=1e-4)


def test_the_barrier_is_the_largest_rise_above_the_ends_interpolation():
    frame = pd.DataFrame(
        {
            "curve": "line", "t": [0, 0.25, 0.5, 0.75, 1], "loss": [1.0, 1.5, 3.0, 2.9, 2.0],
            "accuracy": [0.9, 0.8, 0.3, 0.5, 0.7], "loss_error": 0.0, "distance": [0, 1, 2, 3, 4],
        }
    )  # fmt: skip
    row = Path(frame, {}).summary().iloc[0]
    assert (row["barrier"], row["at"]) == pytest.approx((1.5, 0.5))
    assert row["accuracy barrier"] == pytest.approx(0.5)
    assert row["length"] == 4


def test_a_model_has_no_barrier_to_itself():
    model = network()
    summary = path(model, model, DATA, points=5).summary().iloc[0]
    assert summary["barrier"] == pytest.approx(0, abs=1e-6)
    assert summary["length"] == 0


def test_a_trained_curve_goes_round_a_barrier_and_keeps_the_ends():
    a = smooth(steps=300)
    b = permuted(a)
    before = flat(a), flat(b)
    found = path(a, b, DATA, points=11, curve=True, train=samples(400), steps=400, lr=0.1)
    summary = found.summary().set_index("curve")
    assert summary.loc["line", "barrier"] > 0.1
    assert summary.loc["bezier", "barrier"] < 0.2 * summary.loc["line", "barrier"]
    assert summary.loc["bezier", "length"] > summary.loc["line", "length"]
    for end in ("loss a", "loss b"):
        assert summary.loc["bezier", end] == summary.loc["line", end]
    assert torch.equal(flat(a), before[0])
    assert torch.equal(flat(b), before[1])


def test_the_curve_is_de_casteljaus():
    start, bend, end = (torch.randn(7, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    for t in np.linspace(0, 1, 5):
        first, second = torch.lerp(start, bend, t), torch.lerp(bend, end, t)
        torch.testing.assert_close(bezier(start, bend, end, t), torch.lerp(first, second, t))


def test_training_is_repeatable_and_its_seed_matters():
    a, b = smooth(0), smooth(1)
    target = Target.of(a, *DATA)
    bends = [[*bezier_bends(target, flat(a), flat(b), steps=5, seed=seed)][-1] for seed in (0, 0, 1)]
    assert torch.equal(bends[0], bends[1])
    assert not torch.equal(bends[0], bends[2])


def test_a_runs_training_samples_train_the_curve_and_stopping_leaves_it_out():
    run = FakeRun([smooth(0), smooth(1)])
    found = path(run.model(0), run, points=3, curve=True, steps=3)
    assert set(found.frame["curve"]) == {"line", "bezier"}
    stopped = path(run.model(0), run, points=3, curve=True, steps=3, progress=lambda done, total: done != 2)
    assert set(stopped.frame["curve"]) == {"line"}
    assert not stopped.about["complete"]


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="whole number ≥ 3"):
        path(smooth(), smooth(1), DATA, points=2)
    with pytest.raises(ValueError, match="differ in name or shape"):
        path(smooth(), network(), DATA)
    with pytest.raises(ValueError, match="samples to train on"):
        path(smooth(), smooth(1), DATA, curve=True)
    with pytest.raises(ValueError, match="take a smaller one"):
        path(network("none"), network("none", 1), DATA, curve=True, train=DATA, steps=50, lr=1e20)


def test_another_normalisation_is_another_network_though_its_parameters_look_alike():
    batch, group = (fl.models.build(fl.ModelSpec(name="cnn4", width=0.25, norm=norm), (1, 8, 8), 10) for norm in
                    ("batch", "group"))  # fmt: skip
    images = torch.randn(20, 1, 8, 8)
    with pytest.raises(fl.SettingError, match=r"its .* is GroupNorm\(.*where the others' is BatchStatNorm"):
        path(batch, group, (images, torch.arange(20) % 10))


def test_a_path_that_was_stopped_says_so_and_has_no_barrier():
    a, b = network(seed=0), network(seed=1)
    part = path(a, b, DATA, points=5, progress=lambda done, total: done < 3)
    row = part.summary().iloc[0]
    assert not part.about["complete"] and row["loss a"] == pytest.approx(own_loss(a, *DATA), rel=1e-5)
    for name in ("loss b", "barrier", "at", "accuracy b", "accuracy barrier"):
        assert np.isnan(row[name]), name
    assert "Stopped, not complete." in part.plot().caption
    assert "Stopped" not in path(a, b, DATA, points=3).plot().caption
