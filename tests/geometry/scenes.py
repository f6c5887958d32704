"""Small models, real samples and a stand-in for a run, shared by the tests of landscapes, sharpness and paths."""

import copy
import functools
import types

import torch
from sklearn.datasets import load_digits
from torch import nn

import flatlab as fl
from flatlab.models import Model, ModelSpec, build

DIGITS = load_digits()


def samples(count=200, dtype=torch.float32):
    """Normalised digits `[count, 1, 8, 8]` and their labels."""
    images = (torch.from_numpy(DIGITS.images[:count]).to(dtype)[:, None] - 4.9) / 6.0
    return images, torch.from_numpy(DIGITS.target[:count]).long()


def network(norm="batch", seed=0, steps=30, width=0.125):
    """A 4-conv net of 8 channels, trained for a few steps so that its loss has a shape."""
    return copy.deepcopy(_network(norm, seed, steps, width))


@functools.cache
def _network(norm, seed, steps, width):
    model = build(ModelSpec(name="cnn4", norm=norm, width=width, groups=2), (1, 8, 8), 10, seed)
    return trained(model, steps, seed)


def smooth(seed=0, steps=60):
    """A net without kinks, whose loss a spline can follow."""
    return copy.deepcopy(_smooth(seed, steps))


@functools.cache
def _smooth(seed, steps):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh())
        model = Model(body, nn.Linear(12, 10))
    return trained(model, steps, seed)


def trained(model, steps, seed=0):
    """The model after some steps of SGD on the digits."""
    images, labels = samples(400)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        some = torch.randint(400, (64,), generator=order)
        loss = nn.functional.cross_entropy(model(images[some]), labels[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad()
    return model


def own_loss(model, images, labels, batch=64):
    """The mean loss, straight from torch, in batches (which matter to batch statistics)."""
    with torch.no_grad():
        parts = zip(images.split(batch), labels.split(batch), strict=True)
        return sum(nn.functional.cross_entropy(model(x), y, reduction="sum").item() for x, y in parts) / len(labels)


def moved(model, *shifts):
    """A copy of a model with (factor, vector) pairs added to its weights, in the order of its parameters."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        flat = nn.utils.parameters_to_vector(model.parameters())
        nn.utils.vector_to_parameters(flat + sum(factor * vector for factor, vector in shifts), model.parameters())
    return model


def flat(model):
    """All weights as one vector, in the order of the parameters."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def rescaled(model, factor, first, second):
    """The same function of other weights: one layer times a factor, the next one's weight divided by it."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.get_submodule(first).parameters():
            parameter *= factor
        model.get_submodule(second).weight /= factor
    return model


class FakeRun:
    """What the geometry asks of a run: models of some rounds, clients' models, samples, the task."""

    kept = ()
    experiment = types.SimpleNamespace(task=fl.Classification())

    def __init__(self, models, clients=(), name="fake"):
        self.models, self._clients, self.name, self.data = models, dict(clients), name, self

    @property
    def checkpoints(self):
        """Rounds with a model."""
        return list(range(len(self.models)))

    @property
    def round(self):
        """The last of them."""
        return self.checkpoints[-1]

    def model(self, round=None, which="auto", client=None):
        """A copy of the model after a round."""
        return copy.deepcopy(self.models[-1 if round is None else round])

    def clients(self, round):
        """Copies of the clients' models."""
        return copy.deepcopy(self._clients)

    def samples(self, which="holdout", client=None, limit=None, seed=0):
        """Digits; a client's are a part of them."""
        images, labels = samples(400)
        if client is not None:
            images, labels = images[40 * client : 40 * client + 40], labels[40 * client : 40 * client + 40]
        return images[:limit], labels[:limit]
