"""A comparison averaged over seeds."""

import numpy as np
import pytest
from scipy import stats

import flatlab as fl

NET = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def runs(digits, tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    wanted = [(algorithm, seed) for algorithm in (fl.FedAvg(), fl.FedAvg(lr=0.05), fl.FedBABU()) for seed in range(3)]
    return [fl.train(a, digits, NET, rounds=1, seed=s, store=store, progress=False) for a, s in wanted]


def test_mean_and_t_interval_over_seeds(runs):
    tuned = fl.personalize(runs, epochs=1, lr=0.05)
    single = fl.compare(runs, tuned).frame
    found = fl.compare(runs, tuned, over="seed")
    assert len(found.frame) == 9 and found.frame["seeds"].eq(3).all()
    for start, (name, lr) in zip((0, 3, 6), (("FedAvg", 0.1), ("FedAvg", 0.05), ("FedBABU", 0.1)), strict=True):
        for of in ("holdout", "initial", "personalized"):
            values = single[of].iloc[start : start + 3]
            frame = found.frame
            (row,) = frame[(frame["method"] == name) & (frame["algorithm.lr"] == lr) & (frame["of"] == of)].iloc
            half = stats.t.ppf(0.975, df=2) * values.std(ddof=1) / np.sqrt(3)
            low, high = values.mean() - half, values.mean() + half
            assert row[["mean", "low", "high"]].tolist() == pytest.approx([values.mean(), low, high])
    summary = found.summary()
    assert summary["method"].tolist() == ["FedAvg", "FedAvg", "FedBABU"] and "±" in summary["holdout %"].iloc[0]
    assert "t with n - 1" in found.about["interval"] and "FedBABU" in found.to_latex()


def test_runs_are_compared_without_tuning_by_what_is_on_record(runs):
    table = fl.compare(runs[:2])
    history = runs[0].history.query("split == 'test' and metric == 'accuracy'")
    assert table.frame["initial"].iloc[0] == pytest.approx(history["value"].mean())
    assert table.frame["personalized"].isna().all()
    assert "personalized %" not in table.summary() and table.summary()["worst tenth %"].tolist() == ["none", "none"]
    assert set(fl.compare(runs[0], over="seed").summary().columns) >= {"method", "holdout %", "initial %", "seeds"}


def test_settings_that_differ_are_columns(runs):
    frame = fl.compare([runs[0], runs[3]]).frame
    assert frame["algorithm.lr"].tolist() == [0.1, 0.05]
