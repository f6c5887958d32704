"""Networks of one's own by name: in a run, in a worker, opened again, and refused when they have changed."""

import sys

import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.models import build, network, registered, registry

SOURCE = """
from torch import nn


def tiny(spec, shape):
    channels = spec.channels({channels})
    return nn.Sequential(nn.Conv2d(shape[0], channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels
"""


@pytest.fixture(scope="module")
def digits(few):
    """Ten clients, whose images no process has to import scikit-learn for."""
    return fl.load("few", few).federate(clients=10, seed=0)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "my_nets.py").write_text(SOURCE.format(channels=8))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    yield folder
    sys.modules.pop("my_nets", None)


@pytest.mark.usefixtures("nets")
def test_a_function_of_ones_own_is_trained_opened_and_swept_by_its_name(digits, few, tmp_path):
    run = fl.train(fl.FedBABU(), digits, "my_nets:tiny", 1, store=tmp_path / "a", progress=False)
    assert run.experiment.model.fingerprint
    model = run.model()
    assert model.body.get_submodule("0").weight.shape == (8, 1, 3, 3) and model.head.weight.shape == (10, 8)
    opened = fl.Run.open(run.directory, root=few)
    for name, value in opened.model().state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    plain = fl.Experiment(data=digits.spec, model="my_nets:tiny", algorithm="FedBABU", rounds=1)
    (swept,) = fl.sweep([plain], store=tmp_path / "b", root=few, workers=1, progress=False)
    assert swept.id == run.id
    for name, value in swept.model().state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    wide = fl.train(fl.FedBABU(), digits, fl.ModelSpec(name="my_nets:tiny", width=2), 1, store=tmp_path, progress=False)
    assert wide.model().head.weight.shape == (10, 16)


def test_a_network_that_has_changed_is_refused(nets, digits, few, tmp_path):
    run = fl.train(fl.FedAvg(), digits, "my_nets:tiny", 1, store=tmp_path, progress=False)
    (nets / "my_nets.py").write_text(SOURCE.format(channels=12))
    sys.modules.pop("my_nets")
    with pytest.raises(fl.SettingError, match=r"my_nets:tiny.*another network"):
        fl.Run.open(run.directory, root=few)
    assert fl.train(fl.FedAvg(), digits, "my_nets:tiny", 1, store=tmp_path, progress=False).id != run.id


def test_a_registered_name_is_built_listed_and_normalised_as_it_says():
    @network("narrow", norm="group")
    def narrow(spec, shape):
        """Sixteen features of the pixels."""
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], spec.channels(16))), spec.channels(
            16
        )

    assert "narrow" in registered()
    assert fl.ModelSpec(name="narrow").normalisation == "group"
    assert build("narrow", (1, 8, 8), 5).head.weight.shape == (5, 16)
    with pytest.raises(fl.SettingError, match="'cnn4': taken"):
        network("cnn4")
    with pytest.raises(fl.SettingError, match=r"network unfit = .*must be a function of 2 arguments; it takes"):
        network("unfit")(lambda spec: None)
    for wrong in (("x", "layer"), ("", "batch"), (5,)):
        with pytest.raises(fl.SettingError):
            network(*wrong)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cnn5", "did you mean cnn4"),
        ("no_such_module:net", "cannot be imported"),
        ("flatlab:no_such_function", "cannot be imported"),
        ("flatlab:__all__", "must be a function of 2 arguments"),
        ("math:exp", "must be a function of 2 arguments; it takes "),
        (":", "cannot be imported"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, told):
    with pytest.raises(fl.SettingError, match=told):
        fl.ModelSpec(name=name)


FLAT = nn.Flatten


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: nn.Sequential(FLAT(), nn.Linear(64, 8)),
            r"network odd returned Sequential.*: needs \(body, number of fe",
        ),
        (
            lambda: (nn.Sequential(FLAT(), nn.Linear(64, 8)), 9),
            r"returned \(body, 9\): the body gives \(2, 8\) for two",
        ),
        (lambda: (nn.Conv2d(1, 4, 3), 4), r"the body gives \(2, 4, 6, 6\)"),
        (lambda: (nn.Sequential(FLAT(), nn.Dropout(0.5)), 64), "module.1: a Dropout draws random numbers"),
        (lambda: (nn.Sequential(nn.BatchNorm2d(1), FLAT()), 64), "module.0: a BatchNorm2d keeps running statistics"),
    ],
)
def test_what_a_function_returns_is_looked_at_before_training(made, said, monkeypatch):
    monkeypatch.setattr("flatlab.models.registry._KNOWN", dict(registry._KNOWN))
    network("odd", norm="none")(lambda spec, shape: made())
    with pytest.raises(fl.SettingError, match=said):
        build("odd", (1, 8, 8), 10)
