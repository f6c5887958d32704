"""Labs on real digits, for the tests of the bench."""

import pytest

import flatlab as fl
from flatlab.lab import Lab


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)


@pytest.fixture
def make(data, tmp_path):
    """Labs on a store of this test's own."""
    made = []

    def one(given=data, **settings):
        small = {"model": fl.ModelSpec(name="cnn4", width=0.25), "rounds": 4, "algorithm": fl.FedAvg(lr=0.05)}
        made.append(Lab(given, store=tmp_path / "runs", root=tmp_path / "data", device="cpu", **small | settings))
        return made[-1]

    yield one
    for lab in made:
        lab.stop()
