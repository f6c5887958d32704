"""Numbers that no measurement can finish, or that no machine can hold, are refused by name before work starts."""

import inspect
import time

import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.geometry import settings

FAR = (2**63, 2**70, 10**400)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
DATA = (torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)
SIZES = {"limit", "batch", "memory"}  # of which all are taken that there are
NAMES = {"seed"}  # any number names a stream
DECLARED = [settings.HessianSettings, settings.LandscapeSettings, settings.PathSettings, settings.SharpnessSettings]
DECLARED += [fl.Tuning]
LIMITED = {
    f"{declared.__name__}.{name}": (declared, name)
    for declared in DECLARED
    for name, field in declared.model_fields.items()
    if "int" in str(field.annotation) and "Literal" not in str(field.annotation)
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = fl.load("digits").federate(fl.IID(), clients=5)
    where = {"store": tmp_path_factory.mktemp("runs"), "progress": False}
    return fl.train(fl.FedAvg(lr=0.05), data, fl.ModelSpec(name="lenet", width=0.125), 1, **where)


def calls(run):
    """Every whole number that a measurement takes besides its settings, by name, as a call."""
    h = lambda: fl.hessian(MODEL, DATA)  # noqa: E731
    of_run = lambda: fl.hessian(run, limit=40)  # noqa: E731
    return {
        "k of top": lambda n: h().top(n),
        "k of bottom": lambda n: h().bottom(n),
        "subsets of top": lambda n: h().top(subsets=n),
        "subsets of trace": lambda n: h().trace(subsets=n),
        "steps of spectrum": lambda n: h().spectrum(steps=n),
        "probes of spectrum": lambda n: h().spectrum(probes=n),
        "k of along": lambda n: of_run().along(k=n),
        "k of per_client": lambda n: of_run().per_client(k=n),
        "round of per_client": lambda n: of_run().per_client(n),
        "points of density": lambda n: h().spectrum(steps=3).density(points=n),
        "subsets of sharpness": lambda n: fl.sharpness(MODEL, DATA, subsets=n, measures=["sam"]),
        "draws of sharpness": lambda n: fl.sharpness(MODEL, DATA, draws=n, measures=["average"]),
        "steps of sharpness": lambda n: fl.sharpness(MODEL, DATA, steps=n, measures=["sam_steps"]),
        "clients of sharpness": lambda n: fl.sharpness(run, clients=[n]),
        "round of sharpness": lambda n: fl.sharpness(run, round=n),
        "points of landscape": lambda n: fl.landscape(MODEL, DATA, points=n),
        "repeats of landscape": lambda n: fl.landscape(MODEL, DATA, repeats=n, dimensions=1),
        "clients of landscape": lambda n: fl.landscape(run, clients=n, points=3),
        "client of landscape": lambda n: fl.landscape(run, "train", client=n, points=3),
        "direction of surface": lambda n: fl.landscape(MODEL, DATA, points=3).surface(direction=n),
        "points of path": lambda n: fl.path(MODEL, MODEL, DATA, points=n),
        "limit of hessian": lambda n: fl.hessian(run, limit=n),
        "seed of hessian": lambda n: fl.hessian(run, seed=n),
        "steps of path": lambda n: fl.path(MODEL, MODEL, DATA, curve=True, train=DATA, steps=n),
        "resamples of flatness_vs_gain": lambda n: fl.flatness_vs_gain(run, resamples=n),
        "epochs of personalize": lambda n: fl.personalize(run, epochs=n),
        "round of personalize": lambda n: fl.personalize(run, round=n),
        "clients of fine_tuned": lambda n: fl.fine_tuned(run, [n]),
        "round of headless": lambda n: fl.headless(run, round=n),
    }


@pytest.mark.parametrize("number", FAR, ids=["2**63", "2**70", "10**400"])
def test_far_numbers_are_refused_by_name_in_a_short_line(run, number):
    for called, call in calls(run).items():
        name, began = called.partition(" ")[0], time.monotonic()
        with pytest.raises(ValueError, match=" = ") as caught:
            call(number)
        said = str(caught.value)
        assert name in said.partition(" = ")[0] and len(said) < 400 and "\n" not in said, (called, said)
        assert time.monotonic() - began < 20, called


def test_sizes_mean_all_that_there_is_and_seeds_are_names(run):
    number = 2**63 - 1  # the largest that is not refused
    top = fl.hessian(run, limit=40).top().frame
    everything = fl.hessian(run, limit=None).top().frame
    assert fl.hessian(run, limit=number).top().frame.equals(everything)
    assert fl.hessian(run, limit=40, memory=number, batch=number).top().frame.equals(top)
    assert fl.hessian(run, limit=40, seed=number).target.images.shape == (40, 1, 8, 8)
    assert fl.hessian(run, limit=40).along(every=number).frame["round"].tolist() == [0, 1]
    ways = [fl.headless(run, batch_size=size).frame for size in (number, 10**4)]
    assert ways[0].equals(ways[1])
    tuned = [fl.personalize(run, 1, batch_size=size).frame for size in (number, 10**4)]
    assert tuned[0].equals(tuned[1])


def test_every_whole_number_of_the_settings_is_bounded_or_a_size_or_a_name():
    assert len(LIMITED) > 30
    for declared, name in LIMITED.values():
        if name in SIZES | NAMES | {"batch_size", "client", "round", "subsets"}:
            continue
        with pytest.raises(fl.SettingError, match=f"{name} = "):
            declared(**{name: 2**70})
    assert "settings" not in inspect.signature(fl.hessian).parameters
