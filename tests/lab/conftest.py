"""Real digits, labs on them, and a busy compute thread, for the tests of panels and bench."""

import threading

import pytest
from patience import PATIENCE
from small_runs import six_clients

import flatlab as fl
from flatlab.jobs import submit
from flatlab.lab import Lab


@pytest.fixture(scope="module")
def data():
    return six_clients()


@pytest.fixture
def make(data, tmp_path):
    """Labs on a store of this test's own."""
    made = []

    def one(given=data, **settings):
        small = {"model": fl.ModelSpec(name="lenet", width=0.125), "rounds": 4, "algorithm": fl.FedAvg(lr=0.05)}
        made.append(Lab(given, store=tmp_path / "runs", root=tmp_path / "data", device="cpu", **small | settings))
        return made[-1]

    yield one
    for lab in made:
        lab.stop()


@pytest.fixture
def held():
    """The compute thread is busy until this event is set: what a test asks for meanwhile waits."""
    gate = threading.Event()
    submit(lambda job: gate.wait(PATIENCE))
    yield gate
    gate.set()
