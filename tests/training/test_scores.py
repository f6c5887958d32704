"""Scores: exact counts, nothing stated of outputs that are no numbers."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

import flatlab as fl
from flatlab.training import Cohort, score, score_clients, score_holdout
from flatlab.training.device import filling


@pytest.fixture(scope="module")
def model(digits):
    torch.manual_seed(0)
    return fl.models.build(fl.ModelSpec(name="lenet", width=0.125), digits.shape, digits.classes)


def cohort(model, data, batched):
    return Cohort(model, data, "batch" if batched else "loop")


@pytest.mark.parametrize("batched", [False, True])
def test_accuracies_are_counts_over_numbers_to_the_last_bit(digits, model, batched):
    params = {name: value.detach() for name, value in model.named_parameters()}
    found = score_clients(cohort(model, digits, batched), params, range(digits.clients)).accuracy
    for client, share in enumerate(found.tolist()):
        count = len(digits.test[client])
        assert share == round(share * count) / count
    whole = float(score_holdout(cohort(model, digits, batched), params, 128).accuracy)
    assert whole == round(whole * len(digits.holdout)) / len(digits.holdout)


@pytest.mark.parametrize("batched", [False, True])
def test_a_network_whose_outputs_are_no_numbers_has_no_accuracy(digits, model, batched):
    params = {name: value.detach() for name, value in model.named_parameters()}
    own = {"head.weight": torch.stack([params["head.weight"]] * 2)}
    own["head.weight"][1] = math.nan
    found = score_clients(cohort(model, digits, batched), params, [0, 1], own=own)
    assert found.accuracy[0] >= 0 and found.accuracy[1].isnan() and found.loss[1].isnan()


@pytest.mark.parametrize(
    ("final", "wanted"),
    [("both", {"holdout", "test"}), ("holdout", {"holdout"}), ("clients", {"test"}), ("none", set())],
)
def test_the_scoring_that_ends_a_run_can_be_left_out(final, wanted, digits, tmp_path):
    spec, scored = fl.ModelSpec(name="lenet", width=0.125), fl.Evaluation(every=2, clients_every=2, final=final)
    run = fl.train(fl.FedAvg(), digits, spec, 3, evaluation=scored, store=tmp_path, progress=False)
    at = run.history.groupby("round")["split"].agg(set)
    assert at[2] == {"train", "holdout", "test"} and at[3] - {"train"} == wanted
    table = fl.compare(run, fl.personalize(run, 0))
    assert table.frame["scored"].item() == (3 if "holdout" in wanted else 2)
    assert ("(round 2)" in table.summary()["holdout %"].item()) == ("holdout" not in wanted)


def test_the_switch_came_later_and_does_not_rename_runs(digits):
    plain = fl.Experiment(data=digits.spec, algorithm=fl.FedAvg())
    assert "final" not in plain.to_json()
    assert plain.replace(evaluation=fl.Evaluation(final="both")).id == plain.id
    assert plain.replace(evaluation=fl.Evaluation(final="none")).id != plain.id


class Centred(torch.nn.Module):
    """A layer of one's own, which looks at the batch."""

    def forward(self, x):
        return x - x.mean(0)


def test_a_gpu_scores_more_images_at_a_time_where_outputs_do_not_depend_on_the_batch():
    gpu = SimpleNamespace(images=SimpleNamespace(device=torch.device("cuda")), shape=(3, 32, 32))
    cpu = SimpleNamespace(images=SimpleNamespace(device=torch.device("cpu")), shape=(3, 32, 32))
    lenet = fl.models.build(fl.ModelSpec(name="lenet"), gpu.shape, 10)
    assert filling(lenet, gpu) > 1000 and filling(lenet, cpu) == 1
    assert filling(fl.models.build(fl.ModelSpec(name="cnn4"), gpu.shape, 10), gpu) == 1  # batch statistics
    grouped = fl.models.build(fl.ModelSpec(name="cnn4", norm="group"), gpu.shape, 10)
    assert filling(grouped, gpu) > 100
    scripted = torch.jit.script(torch.nn.BatchNorm2d(3, track_running_stats=False))
    for layer in (Centred(), torch.nn.BatchNorm2d(3, track_running_stats=False), scripted):
        assert filling(torch.nn.Sequential(copy.deepcopy(layer), lenet), gpu) == 1


def test_scores_of_larger_batches_are_the_same_but_for_rounding(digits, model):
    params = {name: value.detach() for name, value in model.named_parameters()}
    small = score(cohort(model, digits, False), params, digits.holdout, 7)
    larger = cohort(model, digits, False)
    vars(larger)["filling"] = 100
    found = score(larger, params, digits.holdout, 7)
    assert found.accuracy == small.accuracy
    torch.testing.assert_close(found.loss, small.loss, rtol=1e-6, atol=0)
