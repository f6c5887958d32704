"""Every engine is as exact as float32 allows: a client's step against float64, on real images.

On a smooth twin of a network (softplus, average pooling) the gradient is within 2e-5. The network itself amplifies
rounding where a ReLU or a max-pool decides otherwise, by chance; there an engine is no further off than twice torch's
own contiguous kernels with one thread, in the median over batches.
"""

import copy
import statistics

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import flatlab as fl
from flatlab.models import build
from flatlab.training import Cohort

NETWORKS = [("cnn4", "batch"), ("cnn4", "group"), ("lenet", "none"), ("mobilenet", "batch"), ("resnet20", "batch")]
ENGINES = [("loop", False), ("loop", True), ("batch", False), ("graph", False)]
BATCH, WIDTH = 32, {"mobilenet": 0.25, "resnet20": 0.5}


@pytest.fixture(scope="module")
def photographs():
    """Two photographs in tiles of 32 x 32 pixels; classes are quarters of their brightness."""
    tiles = np.concatenate(
        [
            photo[: photo.shape[0] // 32 * 32, : photo.shape[1] // 32 * 32]
            .reshape(photo.shape[0] // 32, 32, photo.shape[1] // 32, 32, 3)
            .swapaxes(1, 2)
            .reshape(-1, 32, 32, 3)
            for photo in load_sample_images().images
        ]
    )
    brightness = tiles.mean((1, 2, 3))
    labels = np.searchsorted(np.quantile(brightness, [0.25, 0.5, 0.75]), brightness)
    names = ["darkest", "dark", "light", "lightest"]
    source = fl.Source.from_arrays("photographs", tiles[:400], labels[:400], tiles[400:], labels[400:], names)
    return source.federate(clients=12)


class Smooth(TorchFunctionMode):
    """Softplus in the place of ReLU, the mean in the place of the maximum."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.relu, torch.relu):
            return F.softplus(args[0])
        return func(*args, **(kwargs or {}))


class Twin(nn.Module):
    """A part of a network, smooth."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        with Smooth():
            return self.part(x)


def smooth(model):
    """The network's smooth twin; parameters have other names in the same order."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    model.body = Twin(model.body)
    return model


def exact(model, data, index, dtype):
    """torch alone: the gradient of the mean loss, contiguous."""
    model = copy.deepcopy(model).to(dtype)
    images = data.prepared(index).to(dtype)
    loss = F.cross_entropy(model(images), data.labels[index])
    return torch.cat([part.flatten().double() for part in torch.autograd.grad(loss, list(model.parameters()))])


def step(model, data, index, engine, channels_last):
    """What one step of each of two clients with the same samples moves, for a learning rate of 1."""
    params = {name: value.detach() for name, value in model.named_parameters()}
    cohort = Cohort(model, data, engine, channels_last=channels_last)
    trained = cohort.train(fl.FedAvg(lr=1.0, batch_size=BATCH), params, [index] * 2, [("a",), ("b",)], seed=0, lr=1.0)
    moved = [chunk.message.update for chunk in trained]
    rows = [
        {name: value[row] for name, value in part.items()} for part in moved for row in range(len(part["head.bias"]))
    ]
    return [torch.cat([row[name].flatten().double() for name in params]) for row in rows]


def off(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("name", "norm"), NETWORKS)
def test_a_step_is_as_exact_as_float32_allows(photographs, name, norm):
    spec = fl.ModelSpec(name=name, width=WIDTH.get(name, 0.5), norm="batch" if norm == "none" else norm)
    real = build(spec, photographs.shape, photographs.classes, 0)
    twin, batches = smooth(real), [index[:BATCH] for index in photographs.train[:3]]
    wanted = exact(twin, photographs, batches[0], torch.float64)
    own = [exact(real, photographs, index, torch.float64) for index in batches]
    usual = [
        off(exact(real, photographs, index, torch.float32), right) for index, right in zip(batches, own, strict=True)
    ]
    for engine, channels_last in ENGINES:
        for moved in step(twin, photographs, batches[0], engine, channels_last):
            # The step's sign is the algorithm's; weights of up to 1 in float32 add 6e-8 of their own size.
            assert min(off(moved, wanted), off(-moved, wanted)) < 2e-5, (engine, channels_last)
        mine = []
        for index, right in zip(batches, own, strict=True):
            moved = step(real, photographs, index, engine, channels_last)[0]
            mine.append(min(off(moved, right), off(-moved, right)))
        assert statistics.median(mine) <= max(2 * statistics.median(usual), 2e-5), (engine, channels_last)
