"""Pooling before normalising gives what the plain network gives; the plain network is the reference."""

import copy

import pytest
import torch
from torch import nn

from flatlab.geometry.fused import PooledBlock, fuse, remember
from flatlab.models import BatchStatNorm, Model, ModelSpec, build


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain(name="cnn4", norm="default", shape=(3, 16, 16)):
    """A network in float64 whose norms have weights of both signs, one of them 0, and biases."""
    model = build(ModelSpec(name=name, norm=norm, width=0.125), shape, 10, 0).double()
    with torch.no_grad():
        for number, layer in enumerate(model.modules()):
            if isinstance(layer, BatchStatNorm):
                layer.weight.copy_(draw(layer.channels, seed=number))
                layer.weight[0] = 0
                layer.bias.copy_(draw(layer.channels, seed=100 + number))
    return model


def fused(model, *batches, layout=torch.channels_last):
    model = copy.deepcopy(model)
    fuse(model)
    remember(model, batches, layout)
    return model


def patches_kept(model):
    return [seen.places is not None for block in blocks(model) for seen in block.seen.values()]


def blocks(model):
    return [module for module in model.modules() if isinstance(module, PooledBlock)]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("side", [8, 15, 32])
@pytest.mark.parametrize(("name", "norm"), [("cnn4", "batch"), ("cnn4", "none"), ("lenet", "none"), ("lenet", "batch")])
@torch.no_grad()
def test_a_fused_network_computes_what_the_plain_one_does(name, norm, side, layout):
    model, images = plain(name, norm, (3, side, side)), draw(7, 3, side, side, seed=1)
    images = images.contiguous(memory_format=layout)
    one = fused(model, images, layout=layout)
    assert patches_kept(one) == [layout == torch.channels_last]
    # float64: what is left is rounding, far below any slip of a formula
    torch.testing.assert_close(one(images), model(images), rtol=1e-9, atol=1e-9)
    other = draw(5, 3, side, side, seed=2)
    torch.testing.assert_close(one(other), model(other), rtol=1e-9, atol=1e-9)
    one.get_parameter("body.block1.conv.weight").mul_(-1.5)
    model.get_parameter("body.block1.conv.weight").mul_(-1.5)
    torch.testing.assert_close(one(images), model(images), rtol=1e-9, atol=1e-9)


def test_what_is_known_of_the_images_is_used_for_the_very_batch_only():
    images = draw(7, 3, 16, 16)
    one = fused(plain(), images)
    first = blocks(one)[0]
    assert list(first.seen) == [id(images)]
    first.seen[id(images)] = first.seen[id(images)]._replace(mean=torch.ones(27, dtype=torch.float64))
    with torch.no_grad():
        assert not torch.allclose(one(images), one(images.clone()))


def test_parameters_keep_their_names_and_a_norm_per_sample_stays_as_it_is():
    model = plain()
    one = fused(model)
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert not blocks(fused(plain(norm="group")))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 6, 3, padding="same"),
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 6, 3, padding=2, dilation=2, stride=2),
        nn.Conv2d(3, 6, 3, groups=3),
    ],
)
@pytest.mark.parametrize(
    ("pool", "apart"),
    [
        (nn.MaxPool2d(3, 2, padding=1), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.MaxPool2d(3, ceil_mode=True), False),
        (nn.MaxPool2d((4, 2)), True),
    ],
)
@torch.no_grad()
def test_a_users_block_of_the_same_kind_stays_right(conv, pool, apart):
    block = nn.Sequential(conv, BatchStatNorm(6), nn.ReLU())
    body = nn.Sequential(block, pool, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, images = Model(body, nn.Linear(6, 4)).double(), draw(5, 3, 16, 16)
    one = fused(model, images)
    assert all(kept == apart for kept in patches_kept(one))
    torch.testing.assert_close(one(images), model(images), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_patches_beyond_the_memory_for_them_are_not_kept(monkeypatch):
    model, batches = plain(), [draw(4, 3, 16, 16, seed=seed) for seed in range(3)]
    monkeypatch.setattr("flatlab.geometry.fused.MOST_KEPT", 2 * 4 * 27 * 16 * 16 * 8)
    one = fused(model, *batches)
    assert patches_kept(one) == [True, True, False]
    for images in batches:
        torch.testing.assert_close(one(images), model(images), rtol=1e-9, atol=1e-9)
