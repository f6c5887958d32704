"""What is measured on a GPU is what a CPU measures at the same weights."""

import copy

import pytest
import torch
from scenes import network, samples, smooth, trained
from torch import nn

from flatlab.geometry.hessian_api import hessian
from flatlab.geometry.landscape_api import landscape
from flatlab.geometry.sharpness_measures import sharpness
from flatlab.models import Model

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="is about a CUDA device"),
]


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind):
        super().__init__()
        self.rows = kind(8, 6, batch_first=True)

    def forward(self, x):
        return self.rows(x.squeeze(1))[0][:, -1]


def recurrent(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(Model(Rows(kind), nn.Linear(6, 10)), steps=60)


MODELS = {
    "smooth": smooth,
    "kinks": lambda: network("group").double(),  # in float32 rounding decides between their sides
    "LSTM": lambda: recurrent(nn.LSTM),
    "GRU": lambda: recurrent(nn.GRU),
    "RNN": lambda: recurrent(nn.RNN),
}


def both(name, measure):
    """A measure's numbers on the CPU and on the GPU."""
    model = MODELS[name]()
    images, labels = samples(100, next(model.parameters()).dtype)
    there = copy.deepcopy(model).to(DEVICE)
    return measure(model, (images, labels)), measure(there, (images.to(DEVICE), labels.to(DEVICE)))


@pytest.mark.parametrize("name", MODELS)
def test_the_largest_eigenvalue_is_the_cpus(name):
    cpu, gpu = both(name, lambda model, data: hessian(model, data).top(1).frame["eigenvalue"].item())
    assert gpu == pytest.approx(cpu, rel=1e-4)


@pytest.mark.parametrize("name", ["smooth", "kinks", "LSTM"])
def test_a_landscape_is_the_cpus(name):
    cpu, gpu = both(name, lambda model, data: landscape(model, data, points=5, seed=1).frame)
    assert gpu["loss"].tolist() == pytest.approx(cpu["loss"].tolist(), rel=1e-4)


@pytest.mark.parametrize("name", ["smooth", "LSTM"])
def test_sharpness_is_the_cpus(name):
    measures = ["sam", "asam", "average"]
    cpu, gpu = both(name, lambda model, data: sharpness(model, data, measures=measures).frame["value"].tolist())
    assert gpu == pytest.approx(cpu, rel=1e-3)
