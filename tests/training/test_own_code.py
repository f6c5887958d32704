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


class WeightsAsList(fl.Aggregation):
    kind: Literal["weights_as_list"] = "weights_as_list"

    def combine(self, updates, sizes):
        return {name: value.mean(0) for name, value in updates.items()}, [1.0] * len(sizes)


class Double(fl.Aggregation):
    kind: Literal["double"] = "double"

    def combine(self, updates, sizes):
        return {name: value.double().mean(0) for name, value in updates.items()}, None


class Shaped(fl.Local):
    """Gradients changed in some way."""

    kind: Literal["shaped"] = "shaped"
    how: str = fl.setting("", "in which")

    def gradient(self, at, params):
        grads, loss = at(params)
        match self.how:
            case "means":  # they would be stretched to the parameters' shapes
                grads = {name: value.mean() for name, value in grads.items()}
            case "more":
                grads = {**grads, "more": loss}
            case "fewer":
                grads.popitem()
            case "double":
                grads = {name: value.double() for name, value in grads.items()}
            case "alone":
                return grads
            case "losses":
                return grads, loss.expand(3)
        return grads, loss


@pytest.mark.parametrize("engine", ["loop", "batch"])
@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (StepGivesTheCarryAlone(), r"StepGivesTheCarryAlone.step returned Carry: needs \(carry, loss\)"),
        (ServeGivesParamsAlone(), r"ServeGivesParamsAlone.serve returned dict: needs \(params, slots\)"),
        (ServeLosesAParameter(), r"ServeLosesAParameter.serve lacks head.bias"),
        (fl.FedAvg(aggregation=MeanAlone()), r"mean_alone.combine returned dict: needs \(updates, weights"),
        (fl.FedAvg(aggregation=StillApart()), r"still_apart.combine\['.*'\] has shape \(5, .*\): needs \("),
        (fl.FedAvg(aggregation=TooManyWeights()), r"too_many_weights.combine: weights are shape \(7,\): needs a tensor \[5\]"),
        (fl.FedAvg(aggregation=WeightsAsList()), r"weights_as_list.combine: weights are list: needs a tensor \[5\]"),
        (fl.FedAvg(aggregation=Double()), r"double.combine\['.*'\] is torch.float64: needs torch.float32"),
        (fl.FedAvg(local=Shaped(how="means")), r"FedAvg: gradients\['.*'\] has shape \(\): needs \("),
        (fl.FedAvg(local=Shaped(how="more")), "FedAvg: gradients has more: needs"),
        (fl.FedAvg(local=Shaped(how="fewer")), "FedAvg: gradients lacks head.bias: needs"),
        (fl.FedAvg(local=Shaped(how="double")), r"FedAvg: gradients\['.*'\] is torch.float64: needs torch.float32"),
        (fl.FedAvg(local=Shaped(how="alone")), r"shaped.gradient returned dict: needs \(gradients, loss\)"),
        (fl.FedAvg(local=Shaped(how="losses")), r"FedAvg.step: the loss is shape \(3,\): needs a tensor of one number"),
    ],
    ids=lambda value: value.name if isinstance(value, fl.Algorithm) else "",
)  # fmt: skip
def test_what_an_algorithm_or_a_rule_returns_is_looked_at(algorithm, said, engine, digits, tmp_path):
    with pytest.raises(fl.SettingError, match=said):
        fl.train(algorithm, digits, SMALL, 1, participation=0.5, engine=engine, store=tmp_path, progress=False)


class Weighing(fl.Aggregation):
    """Weights by a formula."""

    kind: Literal["weighing"] = "weighing"
    linear = True
    how: str = fl.setting("", "which")

    def weights(self, sizes):
        return {
            "": sizes,
            "zero": [max(0, size - 10**6) for size in sizes],  # no update would ever move the model
            "negative": [-size for size in sizes],  # the mean would turn them round
            "nan": [float("nan")] * len(sizes),
            "fewer": sizes[1:],
            "none": None,
        }[self.how]


class Undefined(fl.Aggregation):
    kind: Literal["undefined"] = "undefined"


class UndefinedWeights(fl.Aggregation):
    kind: Literal["undefined_weights"] = "undefined_weights"
    linear = True


class Personal(fl.Algorithm):
    """A model of one's own, of which something is wrong."""

    kind: Literal["Personal"] = "Personal"
    what: str = fl.setting("", "what")

    def personal(self, params, memory):
        return {
            "name": {"hed.weight": params["head.weight"]},
            "shape": {"head.weight": params["head.weight"][:1]},
            "type": {"head.weight": params["head.weight"].double()},
            "none": None,
            "part": {"head.weight": params["head.weight"] + 1},
        }[self.what]


class NoCarry(fl.Algorithm):
    kind: Literal["NoCarry"] = "NoCarry"

    def init(self, trained, memory, received, steps):
        return None


class Rate(fl.Schedule):
    """A rate that is none."""

    kind: Literal["rate"] = "rate"
    what: str = fl.setting("", "what")

    def lr(self, base, round, rounds):
        made = {"down": base - round, "nan": float("nan"), "tensor": torch.tensor(base), "none": None}
        return made[self.what] if round else base


RATE = "needs a finite number, 0 or more"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fl.FedAvg(aggregation=Weighing(how="zero")), r"weighing.weights returned \[0, .*whose sum is more than 0"),
        (lambda: fl.FedAvg(aggregation=Weighing(how="negative")), "weighing.weights returned .*whose sum is more than 0"),
        (lambda: fl.FedAvg(aggregation=Weighing(how="nan")), "weighing.weights returned .*finite numbers"),
        (lambda: fl.FedAvg(aggregation=Weighing(how="fewer")), "weighing.weights returned .*needs 10 finite"),
        (lambda: fl.FedAvg(aggregation=Weighing(how="none")), "weighing.weights returned None: needs 10 numbers"),
        (lambda: fl.FedAvg(aggregation=Undefined()), "aggregation = 'undefined': define combine"),
        (lambda: fl.FedAvg(aggregation=UndefinedWeights()), "aggregation = 'undefined_weights': .*define weights"),
        (lambda: Personal(what="name"), r"Personal.personal returned 'hed.weight': .*did you mean head\.weight"),
        (lambda: Personal(what="shape"), r"Personal.personal\['head.weight'\] has shape \(1, .*\): needs \(10,"),
        (lambda: Personal(what="type"), r"Personal.personal\['head.weight'\] is torch.float64"),
        (lambda: Personal(what="none"), "Personal.personal returned NoneType"),
        (NoCarry, "NoCarry.init returned NoneType: needs a Carry"),
        (lambda: fl.FedAvg(schedule=Rate(what="down")), rf"schedule = .*gives -0.9 in round 1 \(from 0\): {RATE}"),
        (lambda: fl.FedAvg(schedule=Rate(what="nan")), f"schedule = .*gives nan in round 1 .*{RATE}"),
        (lambda: fl.FedAvg(schedule=Rate(what="tensor")), rf"schedule = .*gives tensor\(0.1.*{RATE}"),
        (lambda: fl.FedAvg(schedule=Rate(what="none")), f"schedule = .*gives None in round 1 .*{RATE}"),
    ],
)  # fmt: skip
def test_what_can_be_known_before_a_round_is_refused_before_one(make, said, digits, tmp_path):
    with pytest.raises(fl.SettingError, match=said):
        fl.Run(fl.Experiment(data=digits.spec, algorithm=make(), model=SMALL, rounds=3), digits, store=tmp_path)


def test_a_model_of_ones_own_may_be_a_part_of_it(digits, tmp_path):
    run = fl.train(Personal(what="part"), digits, SMALL, 1, participation=0.2, store=tmp_path, progress=False)
    moved = run.model(client=3).state_dict()["head.weight"] - run.model().state_dict()["head.weight"]
    assert torch.allclose(moved, torch.ones_like(moved))


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
