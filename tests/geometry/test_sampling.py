"""Error bars say what they cover; the sampling error is that of other samples."""

import numpy as np
import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.geometry.objective import Target
from flatlab.geometry.sampling import jackknifed, leave_out

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3, 3)).double()  # 12 parameters: Lanczos counts the whole trace exactly
IMAGES = (torch.randn(1200, 1, 1, 3) + 0.5).double()
LABELS = torch.randint(3, (1200,))


def dense(images, labels):
    """The Hessian of the mean cross-entropy of a linear model, from its closed form."""
    features = torch.cat([images.flatten(1), torch.ones(len(images), 1)], 1)
    p = MODEL(images).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("nij,na,nb->iajb", inner, features, features).reshape(12, 12) / len(images)


def test_the_jackknife_of_a_mean_is_the_error_of_the_group_means():
    target = Target.of(MODEL, IMAGES[:60], LABELS[:60])
    parts = leave_out(target, 5, seed=3)
    found = jackknifed([[part.loss()] for part in parts], [target.loss()])
    losses = nn.functional.cross_entropy(MODEL(IMAGES[:60]), LABELS[:60], reduction="none").tolist()
    ids = {tuple(image.flatten().tolist()): i for i, image in enumerate(IMAGES[:60])}
    groups = [set(range(60)) - {ids[tuple(image.flatten().tolist())] for image in part.images} for part in parts]
    assert sorted(i for group in groups for i in group) == list(range(60))
    means = [np.mean([losses[i] for i in group]) for group in groups]
    assert found.error[0] == pytest.approx(np.std(means, ddof=1) / 5**0.5)
    assert found.bias[0] == pytest.approx(0, abs=1e-12)


def test_the_sampling_error_of_a_trace_is_that_of_the_dense_hessians():
    h = fl.hessian(MODEL, (IMAGES[:50], LABELS[:50]))
    row = h.trace(subsets=5).frame.iloc[0]
    parts = leave_out(h.target, 5)
    traces = [dense(part.images, part.labels).trace().item() for part in parts]
    assert row["trace"] == pytest.approx(dense(IMAGES[:50], LABELS[:50]).trace().item(), rel=1e-6)
    assert row["sampling_error"] == pytest.approx(np.std(traces) * 4**0.5, rel=1e-5)
    assert row["sampling_bias"] == pytest.approx(0, abs=1e-6)


def test_the_sampling_error_of_an_eigenvalue_is_the_spread_over_draws_of_samples():
    values, errors = [], []
    for start in range(0, 1200, 60):
        drawn = slice(start, start + 60)
        row = fl.hessian(MODEL, (IMAGES[drawn], LABELS[drawn])).top(subsets=6).frame.iloc[0]
        values.append(row["eigenvalue"])
        errors.append(row["sampling_error"])
        assert row["error"] < 0.1 * row["sampling_error"]
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_batches_that_belong_to_the_function_are_left_out_whole():
    model = fl.models.build(fl.ModelSpec(name="lenet", width=0.125, norm="batch"), (1, 8, 8), 10)
    target = Target.of(model, torch.randn(40, 1, 8, 8), torch.arange(40) % 10, batch=8)
    batches = [tuple(part.flatten().tolist()) for part in target.images.split(8)]
    for part in leave_out(target, 5):
        assert {tuple(batch.flatten().tolist()) for batch in part.images.split(8)} < set(batches)
    assert [len(part.labels) for part in leave_out(target, 8)] == [35] * 8  # too few batches: single samples


def test_results_and_figures_say_what_their_bars_cover():
    h = fl.hessian(MODEL, (IMAGES[:50], LABELS[:50]))
    plain, sampled = h.top(2), h.top(2, subsets=4)
    assert "numerical" in plain.about["errors"]["error"] and "not measured" in plain.about["errors"]["sampling_error"]
    assert plain.frame.equals(sampled.frame[plain.frame.columns])
    for made in (
        plain.plot(),
        h.trace().plot(),
        fl.sharpness(MODEL, (IMAGES[:50], LABELS[:50]), measures=["top"]).plot(),
    ):
        assert "Sampling not included" in made.caption
    for made in (sampled.plot(), h.trace(subsets=4).plot()):
        assert "jackknife over 4 groups" in made.caption
    assert "sampling_error" in h.bottom(1, subsets=3).frame


def test_sharpness_offers_the_sampling_error():
    found = fl.sharpness(MODEL, (IMAGES[:50], LABELS[:50]), measures=["top", "sam"], subsets=5)
    row = fl.hessian(MODEL, (IMAGES[:50], LABELS[:50])).top(subsets=5).frame.iloc[0]
    first = found.frame.set_index("measure").loc["top"]
    assert first["sampling_error"] == pytest.approx(row["sampling_error"], rel=1e-3)
    assert "jackknife over 5 groups" in found.plot().caption


def test_the_mean_rise_of_a_landscape_states_the_error_of_its_samples():
    data = (IMAGES[:50], LABELS[:50])
    found = fl.landscape(MODEL, data, dimensions=1, points=5, store=False)
    rises = found.surfaces["rise_error"]
    assert found.summary()["sampling error"].item() == pytest.approx(rises.mean())


@pytest.mark.parametrize("subsets", [1, 51, 2.5, True])
def test_groups_that_cannot_be_are_refused(subsets):
    with pytest.raises(ValueError, match="subsets = "):
        fl.hessian(MODEL, (IMAGES[:50], LABELS[:50])).top(subsets=subsets)
