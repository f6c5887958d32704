"""Flatness against gain: the rank correlation is scipy's, its interval covers, and the table joins the right clients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

import flatlab as fl
from flatlab.geometry.flatness import FlatnessVsGain, flatness_vs_gain, rank_correlation


@given(st.integers(5, 30), st.integers(0, 10_000))
def test_the_rank_correlation_is_scipys_with_ties(count, seed):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 6, (2, count))
    if np.ptp(x) and np.ptp(y):
        assert rank_correlation(x, y, resamples=1)["correlation"] == pytest.approx(spearmanr(x, y).statistic)


def test_the_interval_holds_the_true_correlation_in_most_samples():
    random, rho = np.random.default_rng(0), 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a bivariate normal
    inside = 0
    for _ in range(60):
        x = random.normal(size=40)
        y = rho * x + np.sqrt(1 - rho**2) * random.normal(size=40)
        found = rank_correlation(x, y, resamples=200)
        inside += found["low"] <= truth <= found["high"]
    assert inside >= 51


@pytest.mark.parametrize("odd", [1, 2])
def test_an_interval_that_rests_on_few_odd_clients_holds_the_estimate_and_no_relation(odd):
    y = np.zeros(8)
    y[-odd:] = 1
    found = rank_correlation(np.arange(8.0), y)
    assert found["low"] <= found["correlation"] <= found["high"]
    assert found["low"] <= 0 or odd > 1


def test_a_constant_side_has_no_correlation():
    found = rank_correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])
    assert all(np.isnan(found[name]) for name in ("correlation", "low", "high"))
    assert rank_correlation([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], resamples=50)["correlation"] == pytest.approx(-1)


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """A federation trained for two rounds."""
    model = fl.ModelSpec(name="cnn4", width=0.125)
    return fl.train(fl.FedBABU(lr=0.1), digits, model, rounds=2, store=tmp_path_factory.mktemp("runs"), progress=False)


def test_every_client_meets_its_own_gain(run):
    gains = fl.personalize(run, epochs=1, lr=0.05)
    found = flatness_vs_gain(run, "sam", gains=gains, clients=range(1, 8), limit=50, resamples=100)
    assert list(found.frame["client"]) == list(range(1, 8))
    for row in found.frame.itertuples():
        curve = gains.frame[gains.frame["client"] == row.client].set_index("epoch")["accuracy"]
        assert (row.initial, row.tuned) == (curve[0], curve[1])
        assert row.gain == pytest.approx(curve[1] - curve[0])
    first = found.summary().iloc[0]
    if found.frame["gain"].nunique() > 1:
        expected = spearmanr(found.frame["sharpness"], found.frame["gain"]).statistic
        assert first["correlation"] == pytest.approx(expected)


def test_gains_are_made_if_they_are_not_given_and_the_result_can_be_kept(run, tmp_path):
    found = flatness_vs_gain(run, clients=range(5), limit=30, tuning={"epochs": 1}, resamples=50)
    assert np.isfinite(found.frame["sharpness"]).all()
    back = FlatnessVsGain.load(found.save(tmp_path / "found.parquet"))
    assert back.frame.equals(found.frame)
    assert back.about == found.about


def test_sharpness_and_gain_are_of_one_round_and_of_one_model(run):
    settings = {"clients": range(5), "limit": 30, "resamples": 50}
    first = flatness_vs_gain(run, "sam", round=0, tuning={"epochs": 1}, **settings)
    gains = fl.personalize(run, epochs=1, clients=range(5), round=0)
    assert first.frame["initial"].tolist() == gains.frame.query("epoch == 0")["accuracy"].tolist()
    assert first.about["round"] == 0
    with pytest.raises(fl.SettingError, match="gains: of round 0, and the sharpness is that of round 2"):
        flatness_vs_gain(run, "sam", gains=gains, **settings)
    averaged = run.fork(round=1, rounds=2, algorithm=fl.FedBABU(lr=0.1, swa=fl.SWA(start=0.5, cycle=1))).to()
    with pytest.raises(fl.SettingError, match="which = 'global': clients tune the averaged model"):
        flatness_vs_gain(averaged, "sam", which="global", **settings)


def test_impossible_requests_are_refused(run):
    with pytest.raises(ValueError, match="at least 5"):
        flatness_vs_gain(run, clients=[0, 1])
    with pytest.raises(ValueError, match="one of top"):
        flatness_vs_gain(run, "sharp", tuning={"epochs": 1})
    with pytest.raises(ValueError, match=r"client = 3: clients=\[\.\.\.\] says whose"):
        flatness_vs_gain(run, "sam", tuning={"epochs": 1}, client=3)
    gains = fl.personalize(run, epochs=1, clients=[0, 1])
    with pytest.raises(ValueError, match=r"nothing of the clients \[2, 3, 4\]"):
        flatness_vs_gain(run, clients=range(5), gains=gains)
    with pytest.raises(ValueError, match=r"clients = \[0, 1, 0, 1, 0\]: .* each once"):
        flatness_vs_gain(run, clients=[0, 1, 0, 1, 0], gains=gains)
    with pytest.raises(ValueError, match="a run is needed"):
        flatness_vs_gain(run.model())


def test_what_other_samples_would_change_stands_beside_each_client(run):
    settings = {"clients": range(5), "limit": 30, "subsets": 2}
    found = flatness_vs_gain(run, "sam", tuning={"epochs": 0}, resamples=50, **settings)
    alone = fl.sharpness(run, measures=["sam"], progress=False, **settings)
    assert found.frame["sampling_error"].tolist() == alone.frame["sampling_error"].tolist()


def test_whom_to_tune_is_said_once(run):
    for tuning in ({"clients": [0, 1, 2, 3, 4]}, {"epochs": 1, "runs": run}):
        with pytest.raises(fl.SettingError, match=r"tuning\.(clients|runs) = .*: who is tuned is who is measured"):
            flatness_vs_gain(run, "sam", tuning=tuning, limit=30)


@pytest.mark.parametrize("algorithm", [fl.Ditto(), fl.FedAvg(topology="ring")])
def test_gains_of_own_models_are_not_set_against_the_global_ones_sharpness(algorithm, few_digits, tmp_path):
    run = fl.train(algorithm, few_digits, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    with pytest.raises(fl.SettingError, match="clients tune models of their own"):
        flatness_vs_gain(run, "sam", clients=range(5))
