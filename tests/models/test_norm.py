"""Batch normalisation by the batch's own statistics, and what a mask of padded samples must and must not change."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, vmap

from flatlab.models import BatchStatNorm, sample_weight
from flatlab.models.norm import batch_statistics


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def norm_with_weights(channels: int, seed: int = 0, **options: bool) -> BatchStatNorm:
    norm = BatchStatNorm(channels, **options).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in norm.parameters():
        parameter.data.normal_(generator=generator)
    return norm


def by_hand(norm: BatchStatNorm, x: Tensor) -> np.ndarray:
    """Statistics in numpy over the samples given, channel by channel."""
    values = np.moveaxis(x.detach().cpu().numpy(), 1, -1)
    axes = tuple(range(values.ndim - 1))
    y = (values - values.mean(axes)) / np.sqrt(values.var(axes) + norm.eps)
    if norm.weight is not None:
        y = y * norm.weight.detach().cpu().numpy() + norm.bias.detach().cpu().numpy()
    return np.moveaxis(y, -1, 1)


shapes = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda start: st.lists(st.integers(1, 4), max_size=3).map(lambda map_: (*start, *map_))
)


@settings(max_examples=60)
@given(shape=shapes, mask=st.integers(0, 63), affine=st.booleans(), seed=st.integers(0, 99))
def test_statistics_are_those_of_the_kept_samples(shape, mask, affine, seed):
    keep = torch.tensor([bool(mask >> i & 1) for i in range(shape[0])])
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    norm = norm_with_weights(shape[1], seed, affine=affine)
    with sample_weight(keep.double()):
        found = norm(x)
    if keep.any():
        np.testing.assert_allclose(found[keep].detach().numpy(), by_hand(norm, x[keep]), rtol=1e-9, atol=1e-9)
    bias = norm.bias if affine else torch.zeros(shape[1], dtype=torch.float64)
    padded = found[~keep]
    assert torch.equal(padded, bias.reshape(-1, *[1] * (len(shape) - 2)).expand_as(padded))
    np.testing.assert_allclose(norm(x).detach().numpy(), by_hand(norm, x), rtol=1e-9, atol=1e-9)


def test_padding_changes_neither_values_nor_gradients_of_the_kept_samples(device):
    norm = norm_with_weights(3).to(device)
    real = torch.randn(4, 3, 5, 5, dtype=torch.float64, device=device, requires_grad=True)
    target = torch.randn_like(real)
    wanted = [real, *norm.parameters()]
    alone = norm(real)
    expected = torch.autograd.grad((alone * target).sum(), wanted)
    for filler in (0.0, 1e3):
        batch = torch.cat([real, torch.full((2, 3, 5, 5), filler, dtype=torch.float64, device=device)])
        with sample_weight(torch.tensor([1, 1, 1, 1, 0, 0], device=device)):
            masked = norm(batch)[:4]
        torch.testing.assert_close(masked, alone)
        torch.testing.assert_close(torch.autograd.grad((masked * target).sum(), wanted), expected)


def test_masks_may_differ_between_clients_under_vmap(device):
    norm = norm_with_weights(3).to(device)
    weights = {name: torch.randn(4, 3, dtype=torch.float64, device=device) for name in ("weight", "bias")}
    x = torch.randn(4, 5, 3, 2, 2, dtype=torch.float64, device=device)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], device=device)

    def loss(weights: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        with sample_weight(mask):
            y = functional_call(norm, weights, (x,))
        return (y.sin() * mask[:, None, None, None]).sum()

    found = vmap(grad(loss, argnums=(0, 1)))(weights, x, mask)
    for client in range(3):
        keep = mask[client].bool()
        own = {name: value[client] for name, value in weights.items()}
        expected = grad(lambda w, x: functional_call(norm, w, (x,)).sin().sum(), argnums=(0, 1))(own, x[client, keep])
        torch.testing.assert_close({name: value[client] for name, value in found[0].items()}, expected[0])
        torch.testing.assert_close(found[1][client, keep], expected[1])
        assert not found[1][client, ~keep].any()
    assert not any(value[3].any() for value in (*found[0].values(), found[1]))


def test_first_and_second_derivatives_are_exact_under_a_mask():
    norm = norm_with_weights(2)
    x = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def masked(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with sample_weight(torch.tensor([1, 0, 1, 1])):
            return functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert gradcheck(masked, (x, norm.weight, norm.bias))
    assert gradgradcheck(masked, (x, norm.weight, norm.bias))


@pytest.mark.parametrize("masked", [False, True])
def test_channels_last_is_kept_and_changes_no_value(masked):
    norm = norm_with_weights(3)
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64)
    with sample_weight(torch.tensor([1.0, 0, 1, 1]) if masked else None):
        found = norm(x.to(memory_format=torch.channels_last))
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, norm(x))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_single_value_comes_out_as_the_bias(shape, device):
    norm = norm_with_weights(3).to(device)
    x = torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
    y = norm(x)
    assert torch.equal(y.flatten(), norm.bias)
    y.sum().backward()
    assert not x.grad.any()
    assert norm(x[:0]).shape == (0, *shape[1:])


def test_evaluation_uses_the_batchs_statistics_and_equals_pytorchs():
    norm = norm_with_weights(3)
    reference = nn.BatchNorm2d(3, track_running_stats=False).double()
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(norm.eval()(x), reference.eval()(x))
    assert torch.equal(norm.eval()(x), norm.train()(x))


def test_a_mask_ends_with_its_block_and_stays_in_its_thread():
    norm = norm_with_weights(2)
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    plain, seen = norm(x), []
    with sample_weight(torch.tensor([1, 1, 0])):
        with sample_weight(None):
            assert torch.equal(norm(x), plain)
        assert not torch.equal(norm(x), plain)
        thread = threading.Thread(target=lambda: seen.append(norm(x)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], plain)
    with pytest.raises(RuntimeError, match="stop"), sample_weight(torch.tensor([1, 1, 0])):
        raise RuntimeError("stop")
    assert torch.equal(norm(x), plain)


def test_a_mask_of_another_length_is_refused():
    with (
        sample_weight(torch.ones(1)),
        pytest.raises(ValueError, match=r"sample_weight = \(1,\): needs the shape \[3\]"),
    ):
        BatchStatNorm(2)(torch.randn(3, 2, 2, 2))


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # says torch's compiler
def test_a_masked_client_step_compiles_as_one_graph():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), BatchStatNorm(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        with sample_weight(mask):
            return functional_call(model, weights, (x,)).square().mean(1) @ mask

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    x, mask = torch.randn(2, 4, 1, 8, 8), torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])
    compiled = torch.compile(gradients, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(weights, x, mask), gradients(weights, x, mask))


@pytest.mark.parametrize("spread", [0.0, 2.0])
@pytest.mark.parametrize("shape", [(400, 8, 32, 32), (50, 64, 16, 16), (60, 5, 4, 16, 16), (2, 3, 1, 2)])
def test_statistics_are_exact_in_every_memory_format(shape, spread):
    """Added up number by number in float32, a channels-last map of 400,000 numbers is off by 2e-4."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random) * torch.linspace(0.3, 3, shape[1]).view(-1, *[1] * (len(shape) - 2))
    x, slope = x + spread, torch.randn(shape, generator=random)
    formats = [torch.contiguous_format, torch.channels_last if len(shape) == 4 else torch.channels_last_3d]
    norm = BatchStatNorm(shape[1])
    exact = copy.deepcopy(norm).double()

    def slopes(norm: BatchStatNorm, x: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        x = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = norm(x)
        return y, *torch.autograd.grad((y * slope).sum(), [x, *norm.parameters()])

    wanted = slopes(exact, x.double(), slope.double())
    views = [x.contiguous(memory_format=form) for form in formats] + [torch.cat([x, x], 1)[:, : shape[1]]]
    for view in views:
        for found, right in zip(slopes(norm, view, slope), wanted, strict=True):
            assert (found - right).norm() <= 2e-6 * right.norm() + 1e-6 * right.numel() ** 0.5
        mean, variance = batch_statistics(view)
        axes = [0, *range(2, len(shape))]
        assert ((mean - x.double().mean(axes)).abs() / x.double().std(axes)).max() < 2e-6
        torch.testing.assert_close(variance.double(), x.double().var(axes, correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_first_and_second_derivatives_are_exact_without_a_mask(form, affine):
    norm = norm_with_weights(3, affine=affine)
    x = torch.randn(3, 3, 2, 4, dtype=torch.float64).contiguous(memory_format=form).requires_grad_()
    inputs = (x, *norm.parameters())
    assert gradcheck(lambda *inputs: norm(inputs[0]), inputs)
    assert gradgradcheck(lambda *inputs: norm(inputs[0]), inputs)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_hessian_products_through_the_norm_equal_the_dense_hessian(form):
    """Of a small network in float32, against float64's dense Hessian, by autograd and inside torch.func."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), BatchStatNorm(4), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten())
    model = model.to(memory_format=form)
    images = torch.randn(6, 2, 10, 10).contiguous(memory_format=form)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    sizes = [value.numel() for value in weights.values()]
    exact = copy.deepcopy(model).double()

    def loss(flat: Tensor, model: nn.Module, images: Tensor) -> Tensor:
        pieces = zip(weights.items(), flat.split(sizes), strict=True)
        return functional_call(model, {name: piece.view(w.shape) for (name, w), piece in pieces}, (images,)).sin().sum()

    point = torch.cat([value.reshape(-1) for value in weights.values()])
    plain = images.double().contiguous()
    dense = torch.autograd.functional.hessian(lambda flat: loss(flat, exact, plain), point.double())
    along = torch.randn(3, len(point))
    wanted = along.double() @ dense
    for row, direction in enumerate(along):
        _, found = torch.autograd.functional.hvp(lambda flat: loss(flat, model, images), point, direction)
        assert (found - wanted[row]).norm() < 1e-5 * wanted[row].norm()
    products = vmap(lambda v: grad(lambda flat: grad(loss)(flat, model, images) @ v)(point))(along)
    assert (products - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_copies_under_vmap_equal_one_after_another(axes):
    norm = norm_with_weights(3)
    x = torch.randn(4, 5, 3, 4, 4, dtype=torch.float64)
    weights = {name: torch.randn(4, 3, dtype=torch.float64) for name in ("weight", "bias")}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(norm, weights, (x,)).sin().sum()

    given_x = {0: x, 1: x.movedim(0, 1), None: x[0]}[axes[0]]
    given_weights = weights if axes[1] == 0 else {name: value[0] for name, value in weights.items()}
    found = vmap(grad(loss, argnums=(0, 1)), in_dims=(axes[1], axes[0]))(given_weights, given_x)
    for copy_ in range(4):
        own = {name: value[copy_ if axes[1] == 0 else 0] for name, value in weights.items()}
        wanted = grad(loss, argnums=(0, 1))(own, x[0 if axes[0] is None else copy_])
        torch.testing.assert_close(({name: value[copy_] for name, value in found[0].items()}, found[1][copy_]), wanted)
