"""The federation that the zoo's tests run: ragged clients, half of them in a round, float64, a smooth network; and the
parts that their plain loops share: which samples a client sees in which step, and the gradient by torch's autograd."""

import functools
import math

import torch
import torch.nn.functional as F
from ten_clients import thinned
from torch import nn

import flatlab as fl
from flatlab.data import prepare
from flatlab.models import split
from flatlab.training.batches import plan
from flatlab.training.clients import Cohort
from flatlab.training.round import Federation

CLIENTS, ROUNDS, LR = 6, 3, 0.05


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
    return split(nn.Sequential(layers, nn.Linear(8, 10)), head="1", example=(1, 8, 8)).double()


@functools.cache
def data():
    partition = fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.7)
    return thinned(fl.load("digits").federate(partition, clients=CLIENTS, seed=2), keep=4)


class World:
    """An algorithm in an engine, beside what a plain loop needs."""

    def __init__(self, algorithm, engine="loop", participation=0.5, rounds=ROUNDS):
        self.data, self.model = data(), network()
        experiment = fl.Experiment(
            data=self.data.spec,
            model=fl.ModelSpec(name="custom", fingerprint="smooth"),
            algorithm=algorithm,
            rounds=rounds,
            participation=participation,
        )
        self.federation = Federation(experiment, self.data, self.model, Cohort(self.model, self.data, engine))
        self.algorithm, self.rounds = algorithm, rounds
        self.first = {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def run(self):
        """The states after 0, 1, ... rounds."""
        states = [self.federation.start()]
        while states[-1].round < self.rounds:
            states.append(self.federation.advance(states[-1])[0])
        return states

    def sampled(self, round):
        return self.federation.sample(round)

    def size(self, client):
        return len(self.data.train[client])

    def batches(self, client, round, size=None, epochs=None):
        """Indices of a client's batches in a round, in order, one list for each epoch."""
        size, epochs = size or self.algorithm.batch_size, epochs or self.algorithm.epochs
        drawn = plan(self.data, [self.data.train[client]], [("train", round, client)], 0, epochs, size)
        order = drawn.index.reshape(epochs, -1)[:, : self.size(client)]
        return [
            [order[epoch, start : start + size] for start in range(0, self.size(client), size)]
            for epoch in range(epochs)
        ]

    def gradient(self, params, index):
        """By autograd on the mean cross-entropy."""
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        images = prepare(self.data.images[index], *self.data.scale).double()
        outputs = torch.func.functional_call(self.model, leaves, (images,))
        loss = F.cross_entropy(outputs, self.data.labels[index])
        return dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))

    def mean(self, models, clients):
        """By samples."""
        total = sum(self.size(client) for client in clients)
        return {name: sum(models[c][name] * self.size(c) / total for c in clients) for name in self.first}


def steps_of(world, client):
    return world.algorithm.epochs * math.ceil(world.size(client) / world.algorithm.batch_size)


def close(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


def minus(a, b, factor=1.0):
    return {name: value - factor * b[name] for name, value in a.items()}


def zeros(like):
    return {name: torch.zeros_like(value) for name, value in like.items()}
