"""Code of one's own that returns what nobody can use: named, with what was expected, in every engine."""

from typing import Literal

import numpy as np
import pytest
import torch

import flatlab as fl

SMALL = fl.ModelSpec(name="lenet", width=0.125)
GIVEN = {}  # what the partitions below give


class StepGivesTheCarryAlone(fl.Algorithm):
    kind: Literal["StepGivesTheCarryAlone"] = "StepGivesTheCarryAlone"

    def step(self, carry, batch, lr):
        return super().step(carry, batch, lr)[0]


class ServeGivesParamsAlone(fl.Algorithm):
    kind: Literal["ServeGivesParamsAlone"] = "ServeGivesParamsAlone"

    def serve(self, params, mean_update, slots):
        return params


class ServeLosesAParameter(fl.Algorithm):
    kind: Literal["ServeLosesAParameter"] = "ServeLosesAParameter"

    def serve(self, params, mean_update, slots):
        params, slots = super().serve(params, mean_update, slots)
        return {name: value for name, value in params.items() if name != "head.bias"}, slots


class MeanAlone(fl.Aggregation):
    kind: Literal["mean_alone"] = "mean_alone"

    def combine(self, updates, sizes):
        return {name: value.mean(0) for name, value in updates.items()}


class StillApart(fl.Aggregation):
    kind: Literal["still_apart"] = "still_apart"

    def combine(self, updates, sizes):
        return dict(updates), None


class TooManyWeights(fl.Aggregation):
    kind: Literal["too_many_weights"] = "too_many_weights"

    def combine(self, updates, sizes):
        return {name: value.mean(0) for name, value in updates.items()}, torch.ones(7)


@pytest.mark.parametrize("engine", ["loop", "batch"])
@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (StepGivesTheCarryAlone(), r"StepGivesTheCarryAlone.step returned Carry: needs \(carry, loss\)"),
        (ServeGivesParamsAlone(), r"ServeGivesParamsAlone.serve returned dict: needs \(params, slots\)"),
        (ServeLosesAParameter(), r"ServeLosesAParameter.serve lacks head.bias"),
        (fl.FedAvg(aggregation=MeanAlone()), r"mean_alone.combine returned dict: needs \(updates, weights"),
        (fl.FedAvg(aggregation=StillApart()), r"still_apart.combine\['.*'\] has shape \(5, .*\): needs \("),
        (fl.FedAvg(aggregation=TooManyWeights()), r"too_many_weights.combine: weights of shape = \(7,\): needs \[5\]"),
    ],
    ids=lambda value: value.name if isinstance(value, fl.Algorithm) else "",
)
def test_what_an_algorithm_or_a_rule_returns_is_looked_at(algorithm, said, engine, digits, tmp_path):
    with pytest.raises(fl.SettingError, match=said):
        fl.train(algorithm, digits, SMALL, 1, participation=0.5, engine=engine, store=tmp_path, progress=False)


class Dealt(fl.data.Drawn):
    kind: Literal["dealt"] = "dealt"

    def deal(self, labels, classes, clients, rng):
        return GIVEN["rule"](labels, clients)


class Assigned(fl.Partition):
    kind: Literal["assigned"] = "assigned"

    def assign(self, labels, clients, seed):
        return GIVEN["rule"](labels.train, clients)


@pytest.mark.parametrize(
    ("partition", "given", "said"),
    [
        (Dealt(), lambda labels, clients: [np.arange(10)] * clients, "dealt.deal: image 0 is held by 4 clients"),
        (Dealt(), lambda labels, clients: [[1, 2], [3], [5]], "dealt.deal returned 3 parts: needs 4, one for each"),
        (Dealt(), lambda labels, clients: None, "dealt.deal returned NoneType: needs a list, an array for each client"),
        (Dealt(), lambda labels, clients: [[1], [2], [3], [0.5]], r"client 3: float64 \[1\]: needs indices in 0..1437"),
        (Dealt(), lambda labels, clients: [[1], [2], [3], [10**6]], "client 3: needs a list of indices in 0..1437"),
        (Assigned(), lambda labels, clients: [[1], [2], [3], [4]], r"assigned.assign returned list: needs \(train, test"),
        (Assigned(), lambda labels, clients: ([[1], [2], [3], [4]], [[1]]), "assign: test returned 1 parts: needs 4"),
        (Assigned(), lambda labels, clients: (range(4), [[1]] * 4), "assign: train, client 0: int: needs indices"),
    ],
)  # fmt: skip
def test_what_a_partition_returns_is_looked_at(partition, given, said, monkeypatch):
    monkeypatch.setitem(GIVEN, "rule", given)
    with pytest.raises(fl.SettingError, match=said):
        fl.load("digits").federate(partition, clients=4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of test sets that say little
def test_lists_of_numbers_do_for_arrays(monkeypatch):
    monkeypatch.setitem(GIVEN, "rule", lambda labels, clients: ([[2, 1], [3]], [[1], []]))
    data = fl.load("digits").federate(Assigned(), clients=2)
    assert [part.tolist() for part in data.train] == [[1, 2], [3]]
