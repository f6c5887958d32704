"""Weights from and to plain torch, listeners, labels, and runs found by their settings."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import flatlab as fl
from flatlab import figures
from flatlab.declare import SettingError

NET = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(digits, store):
    return fl.train(fl.FedAvg(lr=0.05), digits, NET, rounds=2, store=store, progress=False)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name].cpu(), right[name].cpu()) for name in left)


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt"])
def test_weights_go_to_plain_torch_and_back(digits, done, tmp_path, ending):
    path = done.model().save(tmp_path / f"weights.{ending}")
    read = safetensors.torch.load_file(path) if ending == "safetensors" else torch.load(path, weights_only=True)
    assert same(read, done.model().state_dict())
    run = fl.train(fl.FedBABU(), digits, NET, rounds=1, init=path, store=tmp_path, progress=False)
    assert same(run.model(0).state_dict(), done.model().state_dict())
    again = fl.train(fl.FedBABU(), digits, NET, rounds=1, init=done.model(), store=tmp_path, progress=False)
    assert again.id == run.id  # whatever the weights came in
    plain = fl.Run(run.experiment.replace(initial=None), digits, store=tmp_path)
    assert plain.id != run.id


def test_a_checkpoint_of_a_training_script_is_read(done, tmp_path):
    torch.save({"epoch": 3, "state_dict": done.model().state_dict()}, tmp_path / "script.pth")
    assert same(fl.models.weights(tmp_path / "script.pth"), done.model().state_dict())


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_files_without_weights_are_refused(tmp_path, content, ending):
    (path := tmp_path / f"x.{ending}").write_bytes(content)
    with pytest.raises(SettingError, match=r"init = .*holds no weights that can be read safely"):
        fl.models.weights(path)


def test_other_networks_weights_and_other_things_are_refused(digits, tmp_path):
    with pytest.raises(SettingError, match=r"its conv\.weight is \(2, 1, 3, 3\), that of lenet is missing|missing"):
        fl.train("FedAvg", digits, NET, init=nn.Conv2d(1, 2, 3), store=tmp_path, progress=False)
    with pytest.raises(SettingError, match="holds no state dict"):
        fl.train("FedAvg", digits, NET, init={"lr": 0.1}, store=tmp_path, progress=False)
    with pytest.raises(FileNotFoundError):
        fl.train("FedAvg", digits, NET, init=tmp_path / "none.pth", store=tmp_path, progress=False)
    model = fl.models.build(NET, digits.shape, digits.classes, 0)
    with pytest.raises(SettingError, match="must end in"):
        model.save(tmp_path / "weights.bin")
    assert not list(tmp_path.glob("*/experiment.json"))


def test_a_plain_network_computes_the_same_with_torchs_modules_alone(digits):
    for spec in (NET, fl.ModelSpec(name="cnn4", width=0.25), fl.ModelSpec(name="resnet18", norm="group", width=0.25)):
        model = fl.models.build(spec, digits.shape, digits.classes, 0)
        plain = fl.models.plain(model)
        assert not any(type(part).__module__.startswith("flatlab.models.norm") for part in plain.modules())
        images, _ = digits.samples("holdout", limit=16)
        assert list(plain.state_dict()) == list(model.state_dict())
        torch.testing.assert_close(plain(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_listener_hears_of_each_round(digits, tmp_path):
    heard = []
    run = fl.train("FedAvg", digits, NET, 2, store=tmp_path, progress=False, listener=lambda *told: heard.append(told))
    assert [(one.id, round.number) for one, round in heard] == [(run.id, 1), (run.id, 2)]


def test_labels_and_notes_are_no_part_of_the_id(digits, tmp_path):
    run = fl.train("FedAvg", digits, NET, 1, store=tmp_path, progress=False)
    assert fl.annotate(run, label="ours", note="for the talk") == {"label": "ours", "note": "for the talk"}
    again = fl.Run.open(run.directory, digits)
    assert (again.id, again.name) == (run.id, "ours")
    assert fl.personalize(again, epochs=0).frame["name"].unique().tolist() == ["ours"]
    assert [curve.name for curve in figures.chart_runs(again).plots[0].series] == ["ours"]
    assert [one.id for one in fl.runs(tmp_path, label="ours", data=digits)] == [run.id]
    assert fl.annotate(run.directory, label="") == {"note": "for the talk"}
    assert run.name == "FedAvg"
    (run.directory / "notes.json").write_text("torn {")
    with pytest.warns(UserWarning, match=r"label and note are left out: .*notes\.json: not valid JSON"):
        assert run.name == "FedAvg"
    with pytest.warns(UserWarning, match="label and note are lost"):
        assert fl.annotate(run) == {}
    assert not list(run.directory.glob("*.damaged"))  # nothing was written over it
    with pytest.warns(UserWarning, match="label and note are lost"):
        fl.annotate(run, label="another")
    assert (run.directory / "notes.damaged").read_text() == "torn {"
    assert run.name == "another"
    with pytest.raises(FileNotFoundError, match="holds no run"):
        fl.annotate(tmp_path, label="x")


@pytest.mark.parametrize("text", ["\x1b[31mred", "x" * 5000, "\ud800", "a\rb"])
def test_what_no_terminal_should_be_sent_is_no_label_and_no_note(text, digits, tmp_path):
    run = fl.train(fl.FedAvg(), digits, fl.ModelSpec(name="lenet", width=0.125), 1, participation=0.05, store=tmp_path,
                   progress=False)  # fmt: skip
    for name in ("label", "note"):
        with pytest.raises(fl.SettingError, match=f"{name} = .*letters, signs and spaces"):
            fl.annotate(run, **{name: text})
    with pytest.raises(fl.SettingError, match="on one line"):
        fl.annotate(run, label="two\nlines")
    assert fl.annotate(run, label="数据 ü", note="two\nlines") == {"label": "数据 ü", "note": "two\nlines"}
    (run.directory / "notes.json").write_text('{"label": "\\u001b[31mred"}')  # of an earlier version
    assert run.name == "\\x1b[31mred"


def test_runs_are_found_by_their_settings(digits, store, done):
    babu = fl.train(fl.FedBABU(local=fl.SAM(rho=0.1)), digits, NET, rounds=1, store=store, progress=False, seed=3)

    def found(**settings):
        return {run.id for run in fl.runs(store, data=digits, **settings)}

    assert found() == {done.id, babu.id}
    assert found(algorithm="fedbabu") == found(seed=3) == found(rho=0.1) == found(local="SAM") == {babu.id}
    assert found(algorithm=fl.FedAvg(lr=0.05)) == found(lr=0.05) == {done.id}
    assert found(algorithm=fl.FedAvg(lr=0.06)) == found(seed=[7, 8]) == set()
    for several in (range(4), np.arange(4), (seed for seed in range(4)), {0, 3}):
        assert found(seed=several) == {done.id, babu.id}
    assert found(seed=[0, 3], alpha=0.5, partition="Dirichlet") == {done.id, babu.id}
    assert found(**{"algorithm.lr": 0.1}) == {babu.id}
    assert found(seed=0) == {done.id} and found(**{"data.seed": 0}) == {done.id, babu.id}
    with pytest.raises(SettingError, match="algoritm = 'FedAvg': no run has such a setting; did you mean algorithm"):
        fl.runs(store, algoritm="FedAvg")
    with pytest.warns(UserWarning, match="store: .*rnus is no folder that is there, so no run is found"):
        assert fl.runs(store / "rnus") == []
    table = fl.differing([done, babu])
    assert table.loc[babu.id].to_dict() == {
        "algorithm": "FedBABU",
        "algorithm.lr": 0.1,
        "algorithm.local": "sam",
        "algorithm.local.rho": 0.1,
        "rounds": 1,
        "seed": 3,
    }


def test_an_experiment_is_read_from_its_json(done, tmp_path):
    path = done.directory / "experiment.json"
    assert fl.Experiment.from_file(path) == done.experiment
    assert fl.Experiment.from_file(path, {"algorithm.lr": 0.2}).algorithm.lr == 0.2
    (tmp_path / "list.json").write_text(json.dumps([1]))
    with pytest.raises(SettingError, match="holds no experiment"):
        fl.Experiment.from_file(tmp_path / "list.json")
