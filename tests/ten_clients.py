"""Digits held by ten clients of unequal sizes: the same in another process, too."""

import dataclasses

import flatlab as fl


def digits():
    """All of them."""
    partition = fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.5)
    return fl.load("digits").federate(partition, clients=10, seed=0)


def few_digits():
    """A third of what each client has."""
    data = digits()
    return dataclasses.replace(data, train=[part[::3] for part in data.train], test=[part[::3] for part in data.test])
