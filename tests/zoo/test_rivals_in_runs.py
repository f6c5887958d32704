"""The rivals in whole runs: refusals, crosses, interruptions, forks."""

import copy

import pytest
import torch

import flatlab as fl

LR = 0.05


def test_what_means_nothing_is_refused():
    for wrong, word in (
        (lambda: fl.SCAFFOLD(momentum=0.9), "option"),
        (lambda: fl.FedDyn(server=fl.Average(momentum=0.9)), "server"),
        (lambda: fl.AdaBest(server=fl.Adaptive()), "server"),
        (lambda: fl.FedRep(epochs=1, head_epochs=2), "head_epochs"),
        (lambda: fl.FedRep(train="body"), "train"),
    ):
        with pytest.raises(fl.SettingError, match=word):
            wrong().check(10)
    mixed = fl.load("digits").federate(fl.IID(), clients=2, augment=fl.Augmentation(mixup=1.0))
    with pytest.raises(fl.SettingError, match="mixup"):
        fl.train(fl.PerFedAvg(), mixed, rounds=1, progress=False)


@pytest.mark.parametrize(
    "algorithm",
    [
        fl.SCAFFOLD(lr=LR, local=fl.ASAM(rho=0.3), train="body", share="body", swa=fl.SWA(start=0.3, cycle=1)),
        fl.Ditto(lr=LR, momentum=0.9, local=fl.SAM(rho=0.1), train="body", share="body"),
        fl.AdaBest(lr=LR, train="body", share="body"),
    ],
    ids=lambda algorithm: algorithm.kind,
)
def test_they_cross_and_go_on_after_an_interruption_and_a_fork(algorithm, tmp_path):
    federated, model = fl.load("digits").federate(fl.IID(), clients=4), fl.ModelSpec(name="lenet", width=0.125)
    settings = {"rounds": 4, "participation": 0.5, "progress": False}
    whole = fl.train(algorithm, federated, model, store=tmp_path / "whole", **settings)
    part = fl.Run(whole.experiment, federated, store=tmp_path / "parts").to(2)
    part = fl.Run(whole.experiment, federated, store=tmp_path / "parts").to()
    for name, value in whole.state(4).flat().items():
        assert torch.equal(value, part.state(4).flat()[name]), name
    assert not torch.equal(whole.model(0).body.state_dict().popitem()[1], whole.model().body.state_dict().popitem()[1])
    other = whole.fork(round=2, algorithm=fl.FedAvg(lr=LR))
    assert other.state(2).memory == {}
    assert (
        whole.fork(round=2, algorithm=algorithm.replace(lr=LR / 2)).state(2).memory.keys()
        == part.state(2).memory.keys()
    )
    back = copy.deepcopy(algorithm)
    assert fl.Algorithm.from_json(back.to_json()) == algorithm
