"""Hessian-vector products against dense Hessians and central differences, in float64."""

import pytest
import torch
from hessian_nets import NORMS, dense_hessian, network, noise
from torch import nn

from flatlab.geometry import Interrupted, hessian
from flatlab.geometry.hvp import HessianProducts
from flatlab.geometry.objective import Target


def target_of(norm, count=20, part="all", smooth=False, batch=8, dtype=torch.float64):
    return Target.of(network(norm, smooth=smooth), *noise(count), part=part, batch=batch, dtype=dtype)


@pytest.mark.parametrize("norm", NORMS)
def test_products_are_columns_of_the_dense_hessian_of_each_part(norm):
    dense = dense_hessian(target_of(norm))
    head = 4 * 16 + 4
    for part, rows in {"all": slice(None), "body": slice(0, -head), "head": slice(-head, None)}.items():
        target = target_of(norm, part=part)
        products, block = HessianProducts(target, chunk=7), dense[rows, rows]
        for column in range(0, target.size, 9):
            unit = torch.eye(target.size, dtype=torch.float64)[column]
            torch.testing.assert_close(products(unit), block[column], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
def test_products_agree_with_central_differences_of_the_gradient(norm):
    target = target_of(norm, smooth=True)
    vector = torch.randn(target.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights, step = target.flat(target.weights), 1e-5
    up, down = (target.flat(target.gradient(target.shaped(weights + sign * step * vector))) for sign in (1, -1))
    expected = (up - down) / (2 * step)
    assert (HessianProducts(target)(vector) - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_cached_part_cached_and_recomputed_graphs_give_one_product(norm):
    target = target_of(norm)
    whole = HessianProducts(target, chunk=8)
    vector = torch.randn(target.size, dtype=torch.float64)
    expected = whole(vector)
    some = HessianProducts(target, chunk=8, memory=1)
    assert torch.equal(some(vector), expected)
    assert torch.equal(HessianProducts(target, chunk=8, memory=0)(vector), expected)
    whole.release()
    assert torch.equal(whole(vector), expected)
    assert whole.count == 2


def test_the_memory_budget_bounds_what_is_cached():
    target = target_of("group", count=64)
    sizes = [len(list(_cached(HessianProducts(target, chunk=8, memory=memory)))) for memory in (0, 200_000, 2**30)]
    assert sizes[0] == 0
    assert 0 < sizes[1] < sizes[2] == 8


def _cached(products):
    products(torch.ones(products.target.size, dtype=torch.float64))
    return products._cached


def test_a_parameter_that_nothing_uses_has_zero_curvature():
    model = network("none")
    model.body.register_parameter("idle", nn.Parameter(torch.ones(3)))
    target = Target.of(model, *noise(12), dtype=torch.float64)
    image = target.shaped(HessianProducts(target)(torch.ones(target.size, dtype=torch.float64)))
    assert torch.equal(image["body.idle"], torch.zeros(3, dtype=torch.float64))
    assert image["head.weight"].abs().max() > 0


def test_a_loss_without_curvature_gives_zero_products():
    target = Target.of(network("none"), *noise(12), part="head", loss=lambda logits, labels: logits[:, 0])
    assert HessianProducts(target)(torch.ones(target.size)).abs().max() == 0


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_the_model_stays_as_it_was(norm):
    model = network(norm).train()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.full_like(model.head.bias, 3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = Target.of(model, *noise(20))
    HessianProducts(target)(torch.ones(target.size))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not model.head.weight.requires_grad
    assert model.head.bias.grad.unique().item() == 3.0
    assert model.head.weight.grad is None


def test_products_are_the_same_on_every_device(device):
    model, (images, labels) = network("batch").to(device), noise(20)
    here = HessianProducts(Target.of(model, images.to(device), labels.to(device), dtype=torch.float64))
    there = HessianProducts(target_of("batch", batch=64))
    vector = torch.randn(here.target.size, dtype=torch.float64)
    torch.testing.assert_close(here(vector.to(device)).cpu(), there(vector), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("answer", ["top", "trace", "spectrum", "bottom"])
@pytest.mark.parametrize("method", ["lanczos", "pyhessian"])
def test_whoever_watches_can_stop_an_answer_within_a_product(answer, method):
    if (method, answer) == ("pyhessian", "bottom"):
        pytest.skip("pyhessian has no smallest eigenvalues")
    seen = []

    def watch(done):
        seen.append(done)
        return done < 3

    watched = hessian(network("group"), noise(20), method=method, watch=watch)
    with pytest.raises(Interrupted, match="after 3"):
        getattr(watched, answer)()
    assert seen[-1] == 3 and set(seen) == {0, 1, 2, 3}
