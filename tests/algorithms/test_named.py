"""Algorithms as settings: crosses in one line, round trips, and errors that name field, value and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatlab as fl


def test_crosses_of_the_papers_are_one_line():
    cross = fl.FedBABU(local=fl.ASAM(rho=0.7), swa=fl.SWA(cycle=5), mu=0.01)
    assert (cross.train, cross.share, cross.local.rho, cross.mu) == ("body", "body", 0.7, 0.01)
    assert fl.FedASAM(rho=0.7, eta=0.1).local == fl.ASAM(rho=0.7, eta=0.1)
    assert fl.FedSAM(rho=0.02) == fl.FedSAM(local=fl.SAM(rho=0.02))


positive = st.floats(1e-4, 1.0)
locals_ = st.one_of(st.just(fl.SGD()), st.builds(fl.SAM, rho=positive), st.builds(fl.ASAM, rho=positive, eta=positive))
algorithms = st.sampled_from(sorted(fl.Algorithm.members())).flatmap(
    lambda kind: st.builds(
        fl.Algorithm.members()[kind],
        lr=positive,
        epochs=st.integers(1, 20),
        momentum=st.floats(0, 0.99),
        local=locals_,
        clip=st.none() | positive,
        swa=st.none() | st.builds(fl.SWA, cycle=st.integers(1, 20), low=positive),
        schedule=st.sampled_from([fl.Constant(), fl.Steps(at=(0.1, 0.9)), fl.Cyclical(), fl.Exponential(decay=0.9)]),
    )
)


@given(algorithms)
def test_json_round_trip_is_exact(algorithm):
    again = fl.Algorithm.from_json(algorithm.to_json())
    assert again == algorithm and type(again) is type(algorithm) and again.to_json() == algorithm.to_json()


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: fl.FedAvg(lr=0), ("FedAvg.lr", "0", "> 0")),
        (lambda: fl.FedAvg(lr=float("nan")), ("FedAvg.lr", "nan", "finite")),
        (lambda: fl.FedSAM(rho=-0.1), ("rho", "-0.1", "≥ 0")),
        (lambda: fl.FedSAM(rho=0.1, local="sgd"), ("rho", "local", "not both", "local.rho")),
        (
            lambda: fl.FedAvg(local="samm"),
            ("FedAvg.local", "samm", "known: asam, ", "sam, sgd"),
        ),  # and those that other tests define
        (lambda: fl.FedAvg(train="neck"), ("FedAvg.train", "neck", "'all' or 'body' or 'head'")),
        (lambda: fl.FedAvg(rate=0.1), ("FedAvg.rate", "no such setting", "batch_size")),
        (lambda: fl.Algorithm.from_dict("FedFoo"), ("FedFoo", "FedBABU")),
        (lambda: fl.SWA(cycle=0), ("SWA.cycle", "0", "≥ 1")),
    ],
)
def test_wrong_settings_name_field_value_and_what_is_allowed(make, parts):
    with pytest.raises(fl.SettingError) as error:
        make()
    for part in parts:
        assert part in str(error.value)


def test_an_algorithm_of_ones_own_is_found_by_its_kind():
    from typing import Literal

    class Signed(fl.Local):
        kind: Literal["signed"] = "signed"

        def gradient(self, at, params):
            grads, loss = at(params)
            return {k: g.sign() for k, g in grads.items()}, loss

    algorithm = fl.FedAvg(local="signed")
    assert isinstance(algorithm.local, Signed)
    assert fl.Algorithm.from_json(algorithm.to_json()) == algorithm


@pytest.mark.parametrize(
    ("algorithm", "blamed"),
    [
        (fl.FedAvg(), "lr = 0.1"),
        (fl.FedAvg(lr=1e30), "lr = 1e+30"),
        (fl.FedAvg(lr=50, weight_decay=0.1), "lr = 50"),
        (fl.FedAvg(weight_decay=1e6), "weight_decay = 1e+06"),
        (fl.FedProx(mu=1e6), "mu = 1e+06"),
        (fl.FedProx(mu=5), "lr = 0.1"),  # lr x mu = 0.5: the pull does not overshoot
        (fl.FedSAM(rho=300), "local.rho = 300"),
        (fl.FedASAM(rho=0.5, eta=1e4), "local.eta = 10000"),
        (fl.FedAvg(server=fl.Average(lr=100)), "server.lr = 100"),
        (fl.FedAvg(lr=2, server=fl.Adaptive(lr=40)), "server.lr = 40"),
    ],
)
def test_the_setting_furthest_above_its_usual_span_is_blamed(algorithm, blamed):
    assert algorithm.suspect() == blamed


def test_the_radius_of_a_method_is_changed_in_its_local_step():
    cell = fl.papers.fedasam.experiment("FedASAM + SWA", alpha=0, scale="short", rho=0.3, lr=0.03).algorithm
    assert cell.local == fl.ASAM(rho=0.3, eta=0.2) and cell.lr == 0.03 and cell.swa is not None
    assert fl.FedASAM(rho=0.5, eta=0.1).replace(eta=0.2) == fl.FedASAM(rho=0.5, eta=0.2)
    assert fl.FedSAM(rho=0.5).replace(rho=0.3).local == fl.SAM(rho=0.3)
    with pytest.raises(fl.SettingError, match="not both"):
        fl.FedSAM(rho=0.5).replace(rho=0.3, local=fl.SAM())
