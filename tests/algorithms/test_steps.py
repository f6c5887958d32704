"""Local steps against hand-written formulas in float64, and against torch.optim."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from flatlab.algorithms import ASAM, SAM, SGD, FedAvg, FedProx
from flatlab.algorithms.local import each, plus

SHAPES = (("weight", (5, 4)), ("bias", (5,)), ("scale", ()))


@pytest.mark.parametrize("factor", [0.3, torch.tensor(0.3)], ids=["number", "tensor"])
def test_what_is_computed_of_all_tensors_is_that_of_each_to_the_bit_also_under_vmap(factor, device):
    rng = torch.Generator().manual_seed(5)
    first, second = ({name: torch.randn(3, *shape, generator=rng).to(device) for name, shape in SHAPES} for _ in "ab")
    factor = factor.to(device) if isinstance(factor, torch.Tensor) else factor
    wanted = {k: torch.add(first[k], second[k] * factor) for k in first}
    if not isinstance(factor, torch.Tensor):
        wanted = {k: torch.add(first[k], second[k], alpha=factor) for k in first}
    for found in (plus(first, second, factor), torch.func.vmap(lambda a, b: plus(a, b, factor))(first, second)):
        assert list(found) == list(first) and all(torch.equal(found[k], wanted[k]) for k in first)
    products = each("mul", first, {**second, "besides": second["bias"]})
    assert list(products) == list(first) and all(torch.equal(products[k], first[k] * second[k]) for k in first)
    assert all(torch.equal(value, first[k].abs()) for k, value in each("abs", first).items())
    assert each("mul", {}, second) == {}


@pytest.fixture
def problem():
    """A two-layer network by hand: parameters, and the gradient function that an engine would give."""
    rng = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    params = {"body.weight": draw(5, 4), "body.bias": draw(5), "head.weight": draw(3, 5), "head.bias": draw(3)}
    inputs, labels = draw(8, 4), torch.randint(0, 3, (8,), generator=rng)

    def loss(p):
        hidden = torch.tanh(inputs @ p["body.weight"].T + p["body.bias"])
        return F.cross_entropy(hidden @ p["head.weight"].T + p["head.bias"], labels)

    def at(p):
        leaves = {k: v.detach().requires_grad_() for k, v in p.items()}
        value = loss(leaves)
        return dict(zip(leaves, torch.autograd.grad(value, tuple(leaves.values())), strict=True)), value.detach()

    return params, at


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-12, atol=1e-14)


def test_sam_ascends_along_one_norm_over_all_tensors(problem):
    params, at = problem
    g = at(params)[0]
    joint = math.sqrt(sum(float((v**2).sum()) for v in g.values()))
    wanted = at({k: params[k] + 0.3 * g[k] / joint for k in params})[0]
    found, loss = SAM(rho=0.3).gradient(at, params)
    close(found, wanted)
    assert loss == at(params)[1]
    separate = at({k: params[k] + 0.3 * g[k] / g[k].norm() for k in params})[0]
    assert not torch.allclose(separate["body.weight"], found["body.weight"])


def test_asam_scales_weights_by_their_size_plus_eta_and_leaves_biases_plain(problem):
    params, at = problem
    g = at(params)[0]
    t = {k: v.abs() + 0.2 if k.endswith("weight") else torch.ones_like(v) for k, v in params.items()}
    joint = math.sqrt(sum(float(((t[k] * g[k]) ** 2).sum()) for k in g))
    wanted = at({k: params[k] + 0.7 * t[k] ** 2 * g[k] / joint for k in params})[0]
    close(ASAM(rho=0.7, eta=0.2).gradient(at, params)[0], wanted)


@pytest.mark.parametrize(
    "layer", [nn.LSTM(2, 3), nn.MultiheadAttention(4, 2), parametrizations.weight_norm(nn.Linear(2, 3))], ids=str
)
def test_asam_scales_the_weights_of_any_layer_and_no_bias(layer):
    """As the official code's `"weight" in name`: an LSTM's weight_ih_l0, parametrizations.weight.original0."""
    params = {name: value.detach().double() for name, value in layer.named_parameters()}
    grads = {name: torch.randn_like(value) for name, value in params.items()}
    t = {k: v.abs() + 0.2 if "bias" not in k else torch.ones_like(v) for k, v in params.items()}
    joint = math.sqrt(sum(float(((t[k] * grads[k]) ** 2).sum()) for k in grads))
    close(
        ASAM(rho=0.7, eta=0.2).perturbed(params, grads),
        {k: params[k] + 0.7 * t[k] ** 2 * grads[k] / joint for k in params},
    )


def test_the_elementwise_variant_of_asam_is_another_operator(problem):
    params, at = problem
    g = at(params)[0]
    joint = math.sqrt(sum(float(((params[k].abs() * g[k]) ** 2).sum()) for k in g))
    wanted = at({k: params[k] + 0.7 * params[k] ** 2 * g[k] / joint for k in params})[0]
    close(ASAM(rho=0.7, variant="elementwise").gradient(at, params)[0], wanted)


@pytest.mark.parametrize("local", [SAM(rho=0.0), ASAM(rho=0.0)])
def test_without_radius_sam_and_asam_are_sgd(problem, local):
    params, at = problem
    close(local.gradient(at, params)[0], SGD().gradient(at, params)[0])


def test_a_zero_gradient_does_not_become_nan():
    params = {"weight": torch.ones(3)}
    found, _ = SAM(rho=0.1).gradient(lambda p: ({"weight": torch.zeros(3)}, torch.tensor(0.0)), params)
    assert torch.isfinite(found["weight"]).all()


@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_equal_torch_sgd_with_momentum_decay_and_clipping(problem, clip):
    params, at = problem
    algorithm = FedAvg(momentum=0.9, weight_decay=0.01, clip=clip)
    carry = algorithm.init(params, {}, {}, torch.tensor(4))
    weights = {k: v.clone().requires_grad_() for k, v in params.items()}
    optimiser = torch.optim.SGD(weights.values(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(4):
        carry, _ = algorithm.step(carry, SimpleNamespace(gradient=at), 0.1)
        for name, grad in at(weights)[0].items():
            weights[name].grad = grad
        if clip:
            torch.nn.utils.clip_grad_norm_(weights.values(), clip)
        optimiser.step()
    close(carry.params, {k: v.detach() for k, v in weights.items()})
    close(algorithm.finish(carry, 0.1).update, {k: v.detach() - params[k] for k, v in weights.items()})


def test_fedprox_descends_the_loss_with_its_penalty(problem):
    params, at = problem
    algorithm = FedProx(mu=0.7)
    carry = algorithm.init(params, {}, {}, torch.tensor(4))
    weights = {k: v.clone() for k, v in params.items()}
    for _ in range(3):
        carry, _ = algorithm.step(carry, SimpleNamespace(gradient=at), 0.1)
        leaves = {k: v.clone().requires_grad_() for k, v in weights.items()}
        penalty = 0.35 * sum(((leaves[k] - params[k]) ** 2).sum() for k in leaves)
        pull = torch.autograd.grad(penalty, tuple(leaves.values()))
        grads = at(weights)[0]
        weights = {k: weights[k] - 0.1 * (grads[k] + p) for (k, p) in zip(weights, pull, strict=True)}
    close(carry.params, weights)


@given(factor=st.floats(0.1, 10))
def test_asam_without_eta_does_not_change_when_a_layer_is_rescaled(factor):
    rng = torch.Generator().manual_seed(0)
    w = {k: torch.randn(4, generator=rng, dtype=torch.float64) for k in ("a.weight", "b.weight")}
    g = {k: torch.randn(4, generator=rng, dtype=torch.float64) for k in w}
    scale = {"a.weight": factor, "b.weight": 1 / factor}
    # The same function in other coordinates has its gradient scaled the other way.
    there = ASAM(rho=0.5, eta=0.0).perturbed({k: scale[k] * w[k] for k in w}, {k: g[k] / scale[k] for k in g})
    here = ASAM(rho=0.5, eta=0.0).perturbed(w, g)
    close({k: there[k] / scale[k] for k in w}, here)
