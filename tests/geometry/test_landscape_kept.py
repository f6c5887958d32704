"""What a landscape is kept under: everything that its values depend on, the code of what a user gives included."""

import copy

import pytest
import torch
from scenes import FakeRun, samples, smooth
from torch import nn

from flatlab.geometry import landscape
from flatlab.models import Model


def cross_entropy(**options):
    return nn.CrossEntropyLoss(reduction="none", **options)


def factor(value):
    return lambda logits, labels: value * nn.functional.cross_entropy(logits, labels, reduction="none")


LOSSES = {
    "weights of classes": (cross_entropy(), cross_entropy(weight=torch.arange(10.0))),
    "smoothing": (cross_entropy(), cross_entropy(label_smoothing=0.3)),
    "lambdas": (lambda z, y: z.square().sum(1), lambda z, y: z.abs().sum(1)),
    "closures": (factor(1.0), factor(2.0)),
}


@pytest.fixture
def run(tmp_path):
    run = FakeRun([smooth()])
    run.directory = tmp_path
    return run


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_each_loss_has_its_own_landscape(run, losses):
    for loss in losses:
        kept = landscape(run, loss=loss, points=3)
        fresh = landscape(run, loss=loss, points=3, store=False)
        assert kept.frame.equals(fresh.frame)
        again = landscape(run, loss=loss, points=3, progress=lambda *_: pytest.fail("measured again"))
        assert again.frame.equals(fresh.frame)


class Cut(nn.Module):
    """A body whose function is not in its weights."""

    def __init__(self, body, function):
        super().__init__()
        self.inner, self.function = body, function

    def forward(self, x):
        """Features."""
        return self.function(self.inner(x))


def test_networks_of_equal_weights_that_compute_something_else_have_their_own(run, tmp_path):
    base = smooth()
    file = tmp_path / "one.parquet"
    models = [Model(Cut(copy.deepcopy(base.body), function), base.head) for function in (torch.tanh, torch.sin)]
    first = landscape(models[0], samples(60), points=3, store=file)
    with pytest.raises(ValueError, match="other models"):
        landscape(models[1], samples(60), points=3, store=file)
    second = landscape(models[1], samples(60), points=3, store=tmp_path / "two.parquet")
    assert not second.frame.equals(first.frame)


def test_what_cannot_be_told_apart_is_not_kept_and_said_so(run, tmp_path):
    with open(tmp_path / "log", "w") as log:

        def loss(logits, labels):
            log.write(".")
            return nn.functional.cross_entropy(logits, labels, reduction="none")

        for _ in range(2):
            with pytest.warns(UserWarning, match="not kept, as a model or loss holds _io.TextIOWrapper"):
                landscape(run, loss=loss, points=3)
    assert not list(tmp_path.glob("geometry/*"))
