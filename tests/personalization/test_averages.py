"""A comparison averaged over seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import flatlab as fl
from flatlab.results import Result

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


def test_a_column_that_no_run_has_is_refused(runs):
    with pytest.raises(fl.SettingError, match=r"column = 'unseen': none of these runs has it; .* holdout"):
        fl.compare(runs[:1]).differences("unseen")


def test_runs_are_compared_without_tuning_by_what_is_on_record(runs):
    table = fl.compare(runs[:2])
    history = runs[0].history.query("split == 'test' and metric == 'accuracy'")
    assert table.frame["initial"].iloc[0] == pytest.approx(history["value"].mean())
    assert table.frame["personalized"].isna().all()
    assert "personalized %" not in table.summary() and "initial worst tenth %" in table.summary()
    assert set(fl.compare(runs[0], over="seed").summary().columns) >= {"method", "holdout %", "initial %", "seeds"}


def test_files_have_full_numbers_and_a_dash_for_what_is_missing(runs, tmp_path):
    """Not the rounded words that a person reads."""
    table, average = fl.compare(runs[:2]), fl.compare(runs[:3], over="seed")
    for result in (table, average):
        result.to_csv(tmp_path / "table.csv")
        read = pd.read_csv(tmp_path / "table.csv")
        assert result.to_csv() == (tmp_path / "table.csv").read_text()
        numbers = result.frame.select_dtypes("number")
        pd.testing.assert_frame_equal(read[numbers.columns].astype(float), numbers.astype(float), rtol=1e-14)
    assert "NaN" in table.frame[["personalized"]].to_string()
    holey = Result(pd.DataFrame({"a": [1.0, np.nan]}))
    assert "NaN" not in holey.to_latex() and "--" in holey.to_latex() and "NaN" not in table.to_latex()


def test_a_run_that_diverged_at_once_is_a_row_without_numbers(runs, digits, tmp_path):
    wild = fl.Experiment(data=digits.spec, algorithm=fl.FedAvg(lr=1e9), model=NET, rounds=1)
    run = fl.Run(wild, digits, store=tmp_path)
    with pytest.raises(fl.Diverged):
        run.to()
    table = fl.compare([*runs[:3], run])
    assert table.frame[["holdout", "initial"]].isna().all(axis=1).tolist() == [False, False, False, True]
    assert table.frame["left_out"].iloc[3] == digits.clients and table.summary()["holdout %"].iloc[3] == "none"
    average = fl.compare([*runs[:3], run], over="seed").frame.query("of == 'holdout'")
    assert average["seeds"].tolist() == [3, 0] and average["left_out"].tolist() == [0, 1]
    alone = fl.compare(runs[:3], over="seed").frame.query("of == 'holdout'")
    assert average["mean"].iloc[0] == alone["mean"].iloc[0]
    with pytest.raises(fl.SettingError, match="no accuracy of clients on record"):
        fl.compare(run)


def test_settings_that_differ_are_columns(runs):
    frame = fl.compare([runs[0], runs[3]]).frame
    assert frame["algorithm.lr"].tolist() == [0.1, 0.05]


def test_other_images_of_one_name_are_no_other_seed(tmp_path):
    """Images that differ, under one name and one seed: each a curve and a row of its own, as a label of its own is."""
    images = np.random.default_rng(0).integers(0, 255, (2, 40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    runs = []
    for one in images:
        source = fl.Source.from_arrays("mine", one, labels, one[:20], labels[:20], ["cat", "dog"])
        data = source.federate(fl.IID(), clients=2)
        for seed in (0, 1):
            runs.append(fl.train(fl.FedAvg(), data, NET, rounds=1, seed=seed, store=tmp_path, progress=False))
    assert len(fl.plot(runs).axes[0].lines) == 2
    averages = fl.compare(runs, over="seed").summary()
    assert averages["seeds"].tolist() == [2, 2] and averages["method"].nunique() == 2
    assert fl.compare(runs).summary()["method"].nunique() == 2
    averages = fl.compare(runs[:2], over="seed").summary()
    assert averages["seeds"].tolist() == [2] and averages["method"].tolist() == ["FedAvg"]
    fl.annotate(runs[1], label="the second")
    assert len(fl.plot(runs[:2]).axes[0].lines) == 2


def test_a_fork_fewer_rounds_and_another_method_of_one_label_are_no_seeds(digits, tmp_path):
    settings = {"model": NET, "store": tmp_path, "progress": False}
    plain = [fl.train(fl.FedAvg(), digits, rounds=2, seed=seed, **settings) for seed in (0, 1)]
    fork = plain[0].fork(round=1, algorithm=fl.FedAvg()).to()
    other = fl.train(fl.FedBABU(), digits, rounds=2, seed=1, **settings)
    for run in (fork, other):
        fl.annotate(run, label="FedAvg")
    found = fl.compare([*plain, fork, other], over="seed")
    assert found.summary()["seeds"].tolist() == [2, 1, 1] and found.summary()["method"].nunique() == 3
    values = fl.compare(plain).frame["holdout"]
    assert found.frame.query("of == 'holdout'")["mean"].iloc[0] == pytest.approx(values.mean())
    short = fl.Run(plain[0].experiment.replace(seed=5), digits, store=tmp_path).to(1)
    late = fl.compare([*plain, short], over="seed").summary()
    assert late["seeds"].tolist() == [2, 1] and late["round"].tolist() == [2, 1]


def test_numbers_of_one_round_are_of_one_method_however_far_its_seeds_have_come(digits, tmp_path):
    settings = {"model": NET, "store": tmp_path, "progress": False, "evaluation": fl.Evaluation(clients_every=1)}
    runs = [fl.train(fl.FedAvg(), digits, rounds=3, seed=seed, **settings) for seed in (0, 1)]
    runs[1].rewind(2)
    tuned = fl.personalize(runs, round=1, epochs=1)
    found = fl.compare(runs, tuned, over="seed")
    assert found.summary()["seeds"].tolist() == [2] and "round" not in found.frame
    assert found.frame.query("of == 'holdout'")["mean"].iloc[0] == pytest.approx(
        fl.compare(runs, tuned).frame["holdout"].mean()
    )
    other = fl.train(fl.FedAvg(lr=0.03), digits, rounds=2, **settings)
    both = fl.compare([*runs, other], fl.personalize([*runs, other], round=1, epochs=1), over="seed")
    assert "round" not in both.frame and both.summary()["seeds"].tolist() == [2, 1]
    apart = fl.compare(runs, over="seed").summary()
    assert apart["round"].tolist() == [3, 2] and apart["seeds"].tolist() == [1, 1]
    runs[1].rewind(3)
    best = fl.compare(runs, fl.personalize(runs, round="best", epochs=1), over="seed").summary()
    assert best["seeds"].tolist() == [2]  # each seed has a best round of its own


def test_a_run_that_is_given_twice_counts_once(runs):
    with pytest.warns(UserWarning, match="1 of 3 are given again"):
        table = fl.compare([runs[0], runs[1], runs[0]], over="seed")
    assert table.summary()["seeds"].tolist() == [2]
    with pytest.warns(UserWarning, match="counts once"):  # in the place where it stood first
        assert fl.compare([runs[0], runs[6], runs[0]]).frame["run"].tolist() == [runs[0].id, runs[6].id]
    with pytest.warns(UserWarning, match="counts once"):
        assert len(fl.plot([runs[0], runs[0]]).axes[0].lines) == 1


def test_runs_of_one_seed_on_other_partitions_are_no_pair(tmp_path):
    made = []
    for algorithm, partitions in ((fl.FedAvg(), (0, 1)), (fl.FedProx(mu=0.1), (1, 0))):
        for seed, partition in enumerate(partitions):
            data = fl.load("digits").federate(fl.IID(), clients=3, seed=partition)
            made.append(fl.train(algorithm, data, NET, rounds=1, seed=seed, store=tmp_path, progress=False))
    table = fl.compare(made)
    with pytest.raises(fl.SettingError, match="runs of one seed have partitions of several"):
        table.differences("holdout")
    values = fl.compare([made[0], made[3]]).differences("holdout")  # other seeds on one partition: nothing to pair
    assert values["seeds"].tolist() == [0]


def test_methods_of_several_settings_have_no_one_difference(runs):
    several = [runs[0], runs[4], runs[6], runs[7]]  # FedAvg at two rates, a seed each
    with pytest.raises(fl.SettingError, match="FedAvg has runs of 2 settings"):
        fl.compare(several).differences("holdout")
