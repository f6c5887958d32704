"""WiMA: the mean of the last global models, scored and measured in their place."""

import json

import pytest
import torch

import flatlab as fl

MODEL = fl.ModelSpec(name="lenet", width=0.125)
WINDOW = fl.FedAvg(lr=0.05, swa=fl.WiMA(window=3))


@pytest.fixture(scope="module")
def small():
    return fl.load("digits").federate(fl.IID(), clients=3, seed=0)


def run_of(algorithm, data, store, **settings):
    experiment = fl.Experiment(data=data.spec, model=MODEL, algorithm=algorithm, rounds=5, **settings)
    return fl.Run(experiment, data, store=store, checkpoint_every=1)


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    return run_of(WINDOW, small, tmp_path_factory.mktemp("window")).to()


def same(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_it_is_the_mean_of_the_last_models_of_the_run_without_it(run, small, tmp_path):
    plain = run_of(WINDOW.replace(swa=None), small, tmp_path).to()
    for round in range(1, 6):
        same(run.state(round).params, plain.state(round).params)
        models = [plain.state(number).params for number in range(max(1, round - 2), round + 1)]
        for name, value in run.model(round).state_dict().items():
            torch.testing.assert_close(value, torch.stack([model[name] for model in models]).double().mean(0).float())
        assert run.state(round).swa_count == min(round, 3)
    assert run.model(0).state_dict().keys() == run.model(5, which="swa").state_dict().keys()
    scores = [run.history.query("split == 'holdout' and metric == 'loss' and round == 5")["value"].item()]
    scores += [plain.history.query("split == 'holdout' and metric == 'loss' and round == 5")["value"].item()]
    assert scores[0] != scores[1]


def test_it_goes_on_and_forks_with_its_models(run, small, tmp_path):
    begun = run_of(WINDOW, small, tmp_path).to(3)
    assert begun.round == 3
    again = run_of(WINDOW, small, tmp_path).to()
    same(again.state(5).flat(), run.state(5).flat())
    same(run.fork(round=3, evaluation=fl.Evaluation(final="none")).to().state(5).flat(), run.state(5).flat())
    other = run.fork(round=3, algorithm=WINDOW.replace(swa=fl.SWA(start=0.0, cycle=1))).to()
    assert all(value.shape == other.state(5).params[name].shape for name, value in other.state(5).swa.items())


def test_it_begins_where_it_is_told(small, tmp_path):
    late = run_of(WINDOW.replace(swa=fl.WiMA(window=2, start=0.4)), small, tmp_path).to()
    assert not late.state(2).swa and late.state(3).swa_count == 1 and late.state(5).swa_count == 2


def test_names_json_and_files_from_before_there_were_kinds():
    assert WINDOW.name == "FedAvg + WiMA" and WINDOW.replace(swa=fl.SWA()).name == "FedAvg + SWA"
    written = {"cycle": 5, "low": 0.0001, "start": 0.75, "variant": "corrected"}
    assert json.loads(fl.SWA(cycle=5).to_json()) == written
    assert json.loads(fl.FedAvg(swa=fl.SWA(cycle=5)).to_json())["swa"] == written
    assert fl.FedAvg.from_dict({"swa": written}).swa == fl.SWA(cycle=5)
    assert fl.FedAvg.from_json(WINDOW.to_json()) == WINDOW and fl.FedAvg(swa="WiMA").swa == fl.WiMA()
    with pytest.raises(fl.SettingError, match=r"swa.*known: SWA, WiMA"):
        fl.FedAvg(swa="EMA")
