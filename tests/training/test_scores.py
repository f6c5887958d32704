"""Scores: exact counts, nothing stated of outputs that are no numbers."""

import math

import pytest
import torch

import flatlab as fl
from flatlab.training import score_clients
from flatlab.training.evaluate import score_holdout


@pytest.fixture(scope="module")
def model(digits):
    torch.manual_seed(0)
    return fl.models.build(fl.ModelSpec(name="lenet", width=0.125), digits.shape, digits.classes)


@pytest.mark.parametrize("batched", [False, True])
def test_accuracies_are_counts_over_numbers_to_the_last_bit(digits, model, batched):
    params = {name: value.detach() for name, value in model.named_parameters()}
    found = score_clients(model, params, digits, range(digits.clients), batched=batched).accuracy
    for client, share in enumerate(found.tolist()):
        count = len(digits.test[client])
        assert share == round(share * count) / count
    whole = float(score_holdout(model, params, digits, 128).accuracy)
    assert whole == round(whole * len(digits.holdout)) / len(digits.holdout)


@pytest.mark.parametrize("batched", [False, True])
def test_a_network_whose_outputs_are_no_numbers_has_no_accuracy(digits, model, batched):
    params = {name: value.detach() for name, value in model.named_parameters()}
    own = {"head.weight": torch.stack([params["head.weight"]] * 2)}
    own["head.weight"][1] = math.nan
    found = score_clients(model, params, digits, [0, 1], own=own, batched=batched)
    assert found.accuracy[0] >= 0 and found.accuracy[1].isnan() and found.loss[1].isnan()
