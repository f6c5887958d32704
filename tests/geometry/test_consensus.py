"""Disagreement of clients: how far, and along how sharp directions; against dense Hessians and a quadratic."""

import math

import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.geometry import Target
from flatlab.geometry.consensus import spread
from flatlab.geometry.hvp import HessianProducts

MODEL = fl.ModelSpec(name="cnn4", width=0.125, norm="group", groups=2)


def squared(outputs, labels):
    return (outputs - nn.functional.one_hot(labels, outputs.shape[1]).to(outputs)).square().sum(1)


@pytest.fixture
def quadratic():
    """A linear network with a squared loss, and six models whose mean it is."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    models = [
        {name: value.detach() + torch.randn_like(value) for name, value in net.named_parameters()} for _ in range(6)
    ]
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(sum(params[name] for params in models) / 6)
    images, labels = torch.randn(40, 1, 4, 4).double(), torch.arange(40) % 3
    return Target.of(net, images, labels, loss=squared), models


def test_on_a_quadratic_the_gap_is_the_penalty_and_the_alignment_an_average_of_eigenvalues(quadratic):
    target, models = quadratic
    found = spread(HessianProducts(target), models)
    assert found["gap"] == pytest.approx(found["penalty"], rel=1e-9)
    features = torch.cat([target.images.flatten(1), torch.ones(40, 1).double()], 1)
    hessian = 2 * features.T @ features / 40  # the same for each of the three outputs
    away = [
        torch.cat([p["1.weight"] - target.weights["1.weight"], (p["1.bias"] - target.weights["1.bias"])[:, None]], 1)
        for p in models
    ]
    bends = sum(torch.einsum("oi,ij,oj", v, hessian, v) for v in away)
    length = sum(v.square().sum() for v in away)
    assert found["penalty"] == pytest.approx(bends.item() / 12)
    assert found["distance"] == pytest.approx(length.item() / 6)
    assert found["alignment"] == pytest.approx((bends / length).item())
    values = torch.linalg.eigvalsh(hessian)
    assert values[0] < found["alignment"] < values[-1]


def test_equal_models_have_no_direction(quadratic):
    target, _ = quadratic
    found = spread(HessianProducts(target), [dict(target.weights)] * 3)
    assert (found["distance"], found["penalty"], found["gap"]) == pytest.approx((0, 0, 0), abs=1e-12) and math.isnan(
        found["alignment"]
    )


def test_runs_are_compared_at_the_mean_of_their_clients(few_digits, tmp_path):
    kinds = {"ring": fl.FedAvg(topology="ring"), "babu": fl.FedBABU(), "complete": fl.FedAvg(topology="complete")}
    runs = {name: fl.train(kind, few_digits, MODEL, 2, store=tmp_path, progress=False) for name, kind in kinds.items()}
    found = fl.disagreement(runs, limit=40).frame.set_index("name")
    assert found["clients"].tolist() == [10, 10, 10]
    personal = runs["ring"].state().personal
    distance = sum((value - value.mean(0)).double().square().sum().item() for value in personal.values()) / 10
    assert found["distance"]["ring"] == pytest.approx(distance, rel=1e-4)
    assert found["distance"]["complete"] < 1e-9 < found["distance"]["babu"]
    parameters = dict(runs["babu"].model().named_parameters())
    assert found["parameters"]["babu"] == sum(v.numel() for k, v in parameters.items() if k.startswith("body."))
    for name in ("ring", "babu"):
        assert -found["lambda_1"][name] < found["alignment"][name] <= found["lambda_1"][name] * 1.001
        assert found["penalty"][name] == pytest.approx(found["alignment"][name] * found["distance"][name] / 2)
    again = fl.disagreement(runs["babu"], round=1, limit=40).frame
    assert again["round"].item() == 1 and again["distance"].item() != found["distance"]["babu"]
    clients = [dict(model.named_parameters()) for model in runs["babu"].clients(1).values()]
    stacked = {name: torch.stack([params[name].detach().double() for params in clients]) for name in clients[0]}
    distance = sum((value - value.mean(0)).square().sum().item() for value in stacked.values()) / 10
    assert again["distance"].item() == pytest.approx(distance, rel=1e-4)


def test_what_has_no_mean_is_refused(few_digits, tmp_path):
    run = fl.train(fl.FedPer(), few_digits, MODEL, 1, store=tmp_path, progress=False)
    with pytest.raises(fl.SettingError, match="keep head for themselves"):
        fl.disagreement(run)
    with pytest.raises(fl.SettingError, match="which = 'swa': the Hessian is at the mean of the clients' models"):
        fl.disagreement(run, which="swa")
    with pytest.raises(fl.SettingError, match="round = 0"):
        fl.disagreement(fl.train(fl.FedAvg(), few_digits, MODEL, 1, store=tmp_path, progress=False), round=0)
