"""Sharpness measures against definitions worked out by hand or densely, and unchanged where they claim to be."""

import numpy as np
import pytest
import torch
from scenes import flat, moved, network, own_loss, rescaled, samples, smooth, trained
from torch import nn

import flatlab as fl
from flatlab.geometry.objective import Target
from flatlab.geometry.sharpness_measures import (
    INVARIANT,
    MEASURES,
    ascent,
    average,
    fisher_rao,
    relative_flatness,
    sharpness,
)
from flatlab.models import Model

DATA = samples(120)
DOUBLES = samples(120, torch.float64)


def plain(seed=0):
    """A convolutional net without norm, whose layers can be rescaled exactly."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten())
        model = Model(body, nn.Linear(6, 10))
    return trained(model, 60).double()


def quadratic():
    """L(w) = w A w / 2 with known A, as a target: logits are the weights, and the loss weighs them."""

    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[0.1, -0.6, 0.4]], dtype=torch.float64))

        def forward(self, images):
            return self.weight.expand(len(images), -1)

    curvature = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)

    def loss(logits, labels):
        return (curvature * logits**2).sum(1) / 2

    images = torch.zeros(4, 1, 1, 1, dtype=torch.float64)
    return Target.of(Weights(), images, torch.tensor([0, 1, 2, 0]), loss=loss), curvature


def test_one_step_of_sam_is_the_loss_at_rho_along_the_gradient():
    model = smooth().double()
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(DOUBLES[0]), DOUBLES[1])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    there = moved(model, (0.1 / gradient.norm(), gradient))
    expected = own_loss(there, *DOUBLES) - loss.item()
    assert ascent(Target.of(model, *DOUBLES), 0.1).value == pytest.approx(expected, rel=1e-9)


def test_one_step_of_asam_moves_each_weight_in_proportion_to_its_square():
    model = smooth().double()
    loss = nn.functional.cross_entropy(model(DOUBLES[0]), DOUBLES[1])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    size = flat(model).abs()
    there = moved(model, (0.5 / (size * gradient).norm(), size**2 * gradient))
    expected = own_loss(there, *DOUBLES) - loss.item()
    assert ascent(Target.of(model, *DOUBLES), 0.5, scale=size).value == pytest.approx(expected, rel=1e-9)


def test_several_steps_reach_the_best_point_of_the_ball():
    target, curvature = quadratic()
    weights, rho = flat(target.model).numpy(), 0.5
    angles = np.random.default_rng(0).normal(size=(200_000, 3))
    ball = weights + rho * angles / np.linalg.norm(angles, axis=1, keepdims=True)
    best = (curvature.numpy() * ball**2).sum(1).max() / 2 - target.loss()
    one, many = ascent(target, rho).value, ascent(target, rho, steps=30).value
    assert one < 0.98 * best
    assert best * 0.999 <= many <= best * 1.001


def test_average_case_sharpness_of_a_quadratic_is_half_the_trace_of_its_hessian():
    target, curvature = quadratic()
    found = average(target, 0.2, draws=400)
    assert abs(found.value - 0.2**2 * curvature.sum().item() / 2) < 4 * found.error
    sizes = flat(target.model).abs()
    scaled = average(target, 0.2, draws=400, scale=sizes)
    assert abs(scaled.value - 0.2**2 * (curvature * sizes**2).sum().item() / 2) < 4 * scaled.error


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_the_fisher_rao_norm_is_that_of_the_dense_fisher_matrix(norm):
    model = network(norm).double()
    images, labels = DOUBLES[0][:24], DOUBLES[1][:24]
    target = Target.of(model, images, labels, batch=8)
    weights, total = target.flat(target.weights), 0.0
    for start in range(0, 24, 8):
        batch = images[start : start + 8]

        def logits(vector, batch=batch):
            return torch.func.functional_call(model, target.shaped(vector), (batch,))

        jacobian = torch.func.jacrev(logits)(weights)
        p = logits(weights).softmax(1)
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        change = jacobian @ weights
        total += torch.einsum("ns,nst,nt->", change, curvature, change).item()
    assert fisher_rao(target).value == pytest.approx(total / 24, rel=1e-6)


def test_relative_flatness_is_the_sum_over_blocks_of_the_heads_dense_hessian():
    model = smooth().double()
    target = Target.of(model, *DOUBLES)

    def loss(weight):
        params = {"head.weight": weight}
        return nn.functional.cross_entropy(torch.func.functional_call(model, params, (DOUBLES[0],)), DOUBLES[1])

    weight = model.head.weight.detach()
    blocks = torch.func.hessian(loss)(weight)
    expected = torch.einsum("si,ti,sjtj->", weight, weight, blocks)
    assert relative_flatness(target).value == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [("body.0", "body.2"), ("body.2", "head")])
def test_the_measures_called_invariant_are_those_that_a_rescaled_twin_shares(first, second):
    model = plain()
    twin = rescaled(model, 3.0, first, second)
    torch.testing.assert_close(twin(DOUBLES[0]), model(DOUBLES[0]))
    table = sharpness({"model": model, "twin": twin}, DOUBLES, adaptive_rho=0.3, tolerance=0.1).summary()
    for measure in MEASURES:
        one, other = table[measure]
        if measure in INVARIANT:
            # Noise differs in the twin's units only by rounding: the draws are shared.
            assert other == pytest.approx(one, rel=1e-6), measure
        else:
            assert abs(other / one - 1) > 0.02, measure


def test_eigenvalues_and_trace_are_those_of_the_dense_hessian():
    model = smooth().double()
    target = Target.of(model, *DOUBLES, part="head")

    def loss(vector):
        logits = torch.func.functional_call(model, target.shaped(vector), (DOUBLES[0],))
        return nn.functional.cross_entropy(logits, DOUBLES[1])

    values = torch.linalg.eigvalsh(torch.func.hessian(loss)(target.flat(target.weights))).flip(0)
    frame = sharpness(model, DOUBLES, part="head", measures=["top", "ratio", "trace"]).frame.set_index("measure")
    assert frame.loc["top", "value"] == pytest.approx(values[0].item(), rel=1e-4)
    assert frame.loc["ratio", "value"] == pytest.approx((values[0] / values[4]).item(), rel=1e-3)
    assert abs(frame.loc["trace", "value"] - values.sum().item()) < 4 * frame.loc["trace", "error"] + 1e-9


def test_each_client_is_measured_on_its_own_samples(digits, tmp_path):
    small = fl.ModelSpec(name="lenet", width=0.125)
    run = fl.train(fl.FedAvg(), digits, small, 1, store=tmp_path, progress=False)
    found = sharpness(run, clients=[2, 5], measures=["top", "sam", "fisher_rao"]).frame
    assert sorted(found["client"].unique()) == [2, 5]
    images, labels = run.data.samples("train", client=5)
    alone = sharpness(run.model(), (images, labels), measures=["sam"]).frame["value"].item()
    mine = found[(found["client"] == 5) & (found["measure"] == "sam")]["value"].item()
    assert mine == pytest.approx(alone, rel=1e-4)


def test_models_stay_untouched_and_stopping_keeps_what_was_measured():
    model = network()
    before = flat(model)
    found = sharpness(model, DATA, measures=["sam", "average", "asam"], progress=lambda done, total: done < 2)
    assert torch.equal(flat(model), before)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
    assert list(found.frame["measure"]) == ["sam", "average"]
    assert not found.about["complete"]


def test_measures_that_a_model_or_loss_does_not_have_are_left_out_or_refused():
    headless = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def squared(logits, labels):
        return (logits - nn.functional.one_hot(labels, 10)).square().sum(1)

    assert "relative_flatness" not in set(sharpness(headless, DATA, draws=2, steps=1).frame["measure"])
    with pytest.raises(ValueError, match="a linear head"):
        sharpness(headless, DATA, measures=["relative_flatness"])
    with pytest.raises(ValueError, match="cross-entropy only"):
        sharpness(smooth(), DATA, measures=["fisher_rao"], loss=squared)
    body = {"part": "body", "draws": 2, "steps": 1}
    assert "relative_flatness" not in set(sharpness(smooth(), DATA, **body).frame["measure"])
    with pytest.raises(ValueError, match="head's weights, which part = 'body' leaves out"):
        sharpness(smooth(), DATA, measures=["relative_flatness"], **body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": 0.0}, "rho = 0.0"),
        ({"sigma": -1.0}, "sigma"),
        ({"steps": 0}, "steps = 0"),
        ({"measures": ["sharp"]}, "some of top"),
        ({"measures": []}, "some of top"),
        ({"measures": ["sam", "top", "sam"]}, "each once"),
        ({"clients": [0]}, "a run is needed"),
    ],
)
def test_impossible_requests_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sharpness(smooth(steps=0), DATA, **change)


def test_samples_of_clients_are_counted_together_and_each_normalisation_is_named(few_digits, tmp_path):
    runs = [fl.train(fl.FedAvg(lr=0.1), few_digits, fl.ModelSpec(name="cnn4", norm=norm, width=0.125), 1, store=tmp_path,
                     progress=False) for norm in ("batch", "group")]  # fmt: skip
    found = sharpness(runs[0], clients=[0, 2, 4], measures=["sam"], progress=False)
    assert found.about["samples"] == sum(len(few_digits.train[client]) for client in (0, 2, 4))
    both = sharpness(runs, measures=["sam"], limit=32, progress=False)
    assert both.about["normalisation"] == "batch statistics or GroupNorm" and " or free" in both.about["batch"]
    assert "normalisation: batch statistics or GroupNorm;" in both.plot().caption
    assert sharpness(runs[1], measures=["sam"], limit=32, progress=False).about["normalisation"] == "GroupNorm"
