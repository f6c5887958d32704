"""Measurements of a run are of its own task's loss, beside a dense float64 Hessian and plain means."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

import flatlab as fl

SMALL = fl.ModelSpec(name="lenet", width=0.125)
EXACT = {"limit": 40, "part": "head", "dtype": "float64"}


class Squares(fl.Task):
    """The squared distance of the outputs from the one-hot labels."""

    kind: Literal["squares"] = "squares"

    def losses(self, outputs, targets):
        return (outputs - F.one_hot(targets, outputs.shape[1])).square().sum(1)

    def scores(self, outputs, targets):
        return {"accuracy": outputs.argmax(1) == targets}


def squares(outputs, targets):
    """The mean loss, written out anew."""
    wanted = torch.zeros_like(outputs)
    wanted[torch.arange(len(targets)), targets] = 1
    return ((outputs - wanted) ** 2).sum(1).mean()


@pytest.fixture(scope="module")
def run(few_digits, tmp_path_factory):
    options = {"participation": 0.2, "seed": 1, "store": tmp_path_factory.mktemp("own"), "progress": False}
    return fl.train(fl.FedAvg(lr=0.01, batch_size=16), few_digits, SMALL, 1, task=Squares(), **options)


def held(run, limit):
    """The samples that measurements take of the holdout."""
    images, labels = run.data.samples("holdout", limit=limit)
    return images.double(), labels


def dense_top(model, images, labels, loss=squares):
    """The largest eigenvalue of the head's dense Hessian."""
    model = model.double().eval()
    weights = {name: value.detach() for name, value in model.named_parameters() if name.startswith("head")}
    sizes = [value.numel() for value in weights.values()]

    def mean(flat):
        pieces = zip(weights.items(), flat.split(sizes), strict=True)
        return loss(functional_call(model, {k: part.view(v.shape) for (k, v), part in pieces}, (images,)), labels)

    flat = torch.cat([value.reshape(-1) for value in weights.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(mean, flat))[-1].item()


def test_eigenvalues_are_of_the_runs_task_and_of_cross_entropy_for_a_bare_model(run):
    images, labels = held(run, 40)
    wanted, other = (dense_top(run.model().cpu(), images, labels, loss) for loss in (squares, F.cross_entropy))
    assert abs(wanted - other) > 0.5 * wanted  # or nothing is told apart
    top = fl.hessian(run, **EXACT).top()
    assert top.frame["eigenvalue"][0] == pytest.approx(wanted, rel=1e-3)
    assert top.about["loss"] == "of the task Squares()"
    series = fl.hessian(run, **EXACT).along()
    assert series.frame["value"].iloc[-1] == pytest.approx(wanted, rel=1e-3)
    bare = fl.hessian(run.model(), run.data, **EXACT).top()
    assert bare.frame["eigenvalue"][0] == pytest.approx(other, rel=1e-3)
    chosen = fl.hessian(run, loss=fl.Classification().losses, **EXACT).top()
    assert chosen.frame["eigenvalue"][0] == pytest.approx(other, rel=1e-3)
    sharp = fl.sharpness(run, limit=40, part="head", measures=["top"]).frame
    assert sharp["value"][0] == pytest.approx(wanted, rel=1e-2)
    assert "fisher_rao" not in set(fl.sharpness(run, limit=40).frame["measure"])


def test_clients_hessians_are_of_the_runs_task(run):
    found = fl.hessian(run, **EXACT).per_client().frame
    models = run.clients(1)
    for client, value in zip(found["client"], found["value"], strict=True):
        images, labels = run.data.samples("train", client=client, limit=40)
        assert value == pytest.approx(dense_top(models[client].cpu(), images.double(), labels), rel=1e-3)


def test_pictures_paths_and_distances_are_of_the_runs_task(run):
    images, labels = held(run, 40)
    with torch.no_grad():
        wanted, other = (loss(run.model().cpu().double()(images), labels).item() for loss in (squares, F.cross_entropy))
    at = {"limit": 40, "dtype": "float64"}
    drawn = fl.landscape(run, dimensions=1, points=3, **at)
    assert drawn.frame.set_index("x")["loss"][0] == pytest.approx(wanted)
    entropy = fl.landscape(run, dimensions=1, points=3, loss=fl.Classification().losses, **at)  # of the same store
    assert entropy.frame.set_index("x")["loss"][0] == pytest.approx(other)
    ends = fl.path(run, run, points=3, **at).frame["loss"]
    assert ends.tolist() == pytest.approx([wanted] * 3)
    pulled = fl.pulls(run, rounds=1, **at).frame
    last = pulled[(pulled["series"] == "global") & (pulled["round"] == 1)]
    assert last["loss"].item() == pytest.approx(wanted, rel=1e-5)
    apart = fl.disagreement(run, **EXACT).frame
    assert apart["lambda_1"].item() == pytest.approx(dense_top(_mean(run), images, labels), rel=1e-3)


def _mean(run):
    model, several = run.model().cpu(), [dict(one.cpu().named_parameters()) for one in run.clients(1).values()]
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.stack([each[name] for each in several]).mean(0))
    return model


def test_fine_tuning_and_evasion_score_by_the_runs_task(run):
    images, labels = run.data.samples("test", client=0)
    with torch.no_grad():
        wanted = squares(run.model().cpu()(images), labels).item()
    tuned = fl.personalize(run, epochs=1, clients=[0]).frame
    assert tuned.set_index("epoch")["loss"][0] == pytest.approx(wanted, rel=1e-4)
    attacked = fl.evade(run, fl.FGSM(eps=1e-6), clients=[0]).frame
    assert attacked.query("client == 0")["loss"].iloc[0] == pytest.approx(wanted, rel=1e-4)


def test_runs_of_different_tasks_need_one_loss(run, few_digits, tmp_path):
    plain = fl.train(fl.FedAvg(), few_digits, SMALL, 1, participation=0.2, store=tmp_path, progress=False)
    with pytest.raises(fl.SettingError, match=r"tasks differ: Squares\(\), Classification\(\); one loss for all"):
        fl.landscape([run, plain], dimensions=1, points=3, limit=20)
    with pytest.raises(fl.SettingError, match="tasks differ"):
        fl.disagreement([run, plain], limit=20)
    both = fl.sharpness([run, plain], limit=20, measures=["sam"], loss=run.experiment.task.losses)
    assert len(both.frame) == 2


class Regression(fl.Task):
    """Labels as numbers: no class is right or wrong, so there is no accuracy."""

    kind: Literal["numbers"] = "numbers"

    def losses(self, outputs, targets):
        return (outputs[:, 0] - targets).square()

    def scores(self, outputs, targets):
        return {"near": ((outputs[:, 0] - targets).abs() < 1).float()}


@pytest.fixture(scope="module")
def numbers(few_digits, tmp_path_factory):
    options = {"participation": 0.2, "store": tmp_path_factory.mktemp("numbers"), "progress": True}
    return fl.train(fl.FedAvg(lr=0.001), few_digits, SMALL, 1, task=Regression(), **options)


def test_a_task_without_accuracy_has_pictures_of_its_loss(numbers, capsys):
    images, labels = numbers.data.samples("holdout", limit=40)
    with torch.no_grad():
        outputs = numbers.model().cpu().train()(images)[:, 0]  # of one batch: batch statistics
    wanted = ((outputs - labels) ** 2).mean().item()
    drawn = (
        fl.landscape(numbers, points=3, limit=40, store=False),
        fl.path(numbers, numbers, limit=40, points=3),
        fl.pulls(numbers, limit=40),
    )
    for result in drawn:
        result.plot()
    centre = drawn[0].surfaces.query("x == 0 and y == 0").iloc[0]
    assert centre["loss"] == pytest.approx(wanted, rel=1e-4) and torch.isnan(torch.tensor(centre["accuracy"]))


def test_models_taken_from_a_run_are_measured_by_its_task(numbers):
    """The lab's plane through three models, and surrogates."""
    panel = fl.lab.Landscape(numbers)
    panel.settings.change(directions="plane", points=3, limit=40)
    panel.measure()
    plane = panel.settle()
    loss = fl.landscape(numbers, points=3, limit=40, store=False)
    assert plane.about["loss"] == loss.about["loss"]
    centre = loss.surfaces.query("x == 0 and y == 0")["loss"].item()
    assert plane.marks()["loss"].iloc[0] == pytest.approx(centre, rel=1e-4)
    space = {"fl": fl, "run1": numbers}
    exec(panel.code(), space)
    assert space["landscape"].frame.equals(plane.frame)
    made = fl.geometry.surrogates(numbers, ipc=1, iterations=1, points=3, limit=40)
    images, labels = numbers.data.samples("train", limit=40)
    with torch.no_grad():
        wanted = ((numbers.model()(images)[:, 0] - labels) ** 2).mean().item()
    assert made.frame.query("distance == 0")["real"].iloc[0] == pytest.approx(wanted, rel=1e-4)


def test_what_needs_an_accuracy_says_so(numbers, few_digits, tmp_path, monkeypatch):
    tuned = fl.personalize(numbers, epochs=1, clients=[0, 1])
    near = tuned.frame.query("epoch == 1")["near"]
    assert tuned.curve("near")["mean"].tolist()[1] == pytest.approx(near.mean())
    with pytest.raises(fl.SettingError, match="of = 'accuracy': these runs have the scores near, loss"):
        tuned.plot()
    monkeypatch.setattr("flatlab.personalization.finetune._tuning", None)  # refused before anything is tuned
    best = lambda run: fl.personalize(run, round="best")  # noqa: E731
    for measure in (fl.evade, fl.flatness_vs_gain, best, lambda run: fl.compare([run])):
        with pytest.raises(fl.SettingError, match="accuracy"):
            measure(numbers)
    poisoned = numbers.experiment.replace(world=fl.World(adversary=fl.Adversary(data=fl.attacks.LabelFlip())))
    with pytest.raises(fl.SettingError, match=r"the success of world\.adversary\.data needs a score called accuracy"):
        fl.Run(poisoned, few_digits, store=tmp_path)
