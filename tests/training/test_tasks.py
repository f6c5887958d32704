"""A task of one's own, trained and scored in every engine beside a plain loop; classification is the default."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

import flatlab as fl
from flatlab.data import prepare
from flatlab.models import build
from flatlab.training.batches import plan

SMALL = fl.ModelSpec(name="lenet", width=0.125)


class Smoothed(fl.Task):
    """Cross-entropy with smoothed labels; how sure the network is of the right class."""

    kind: Literal["label_smoothing"] = "label_smoothing"
    share: float = fl.setting(0.1, "given to all classes alike", ge=0, lt=1)

    def losses(self, outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.share)

    def scores(self, outputs, targets):
        sure = outputs.softmax(1)[torch.arange(len(targets)), targets]
        return {"sure": sure, "accuracy": outputs.argmax(1) == targets}


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_a_task_of_ones_own_is_trained_and_scored_as_it_says(digits, engine, tmp_path):
    task = Smoothed(share=0.3)
    run = fl.train(
        fl.FedAvg(lr=0.05, batch_size=16), digits, SMALL, 1, participation=0.1, task=task, engine=engine,
        store=tmp_path, progress=False, evaluation=fl.Evaluation(clients_every=1),
    )  # fmt: skip
    (client,) = run.clients(1)
    model = build(SMALL, digits.shape, digits.classes, 0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    drawn = plan(digits, [digits.train[client]], [("train", 0, client)], 0, 1, 16)
    order = drawn.index.reshape(-1)[: len(digits.train[client])]
    for start in range(0, len(order), 16):
        index = order[start : start + 16]
        optimiser.zero_grad()
        outputs = model(prepare(digits.images[index], *digits.scale))
        F.cross_entropy(outputs, digits.labels[index], label_smoothing=0.3).backward()
        optimiser.step()
    for name, value in run.model().named_parameters():
        torch.testing.assert_close(value.cpu(), model.get_parameter(name), rtol=1e-3, atol=1e-5)
    trained = run.model().cpu()
    with torch.no_grad():
        for split, index in (("holdout", digits.holdout), ("test", digits.test[3])):
            outputs, labels = trained(digits.prepared(index)), digits.labels[index]
            wanted = {
                "loss": F.cross_entropy(outputs, labels, label_smoothing=0.3),
                "sure": outputs.softmax(1)[range(len(labels)), labels].mean(),
                "accuracy": (outputs.argmax(1) == labels).double().mean(),
            }
            rows = run.history.query(f"split == '{split}' and client == {3 if split == 'test' else -1}")
            found = dict(zip(rows["metric"], rows["value"], strict=True))
            assert found == pytest.approx({name: float(value) for name, value in wanted.items()}, rel=1e-4)
    again = fl.Run.open(run.directory)
    assert again.experiment.task == task


def test_classification_is_the_default_and_left_out_of_the_record():
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert "task" not in experiment.to_dict()
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4"
    other = experiment.replace(task=Smoothed())
    assert other.id != experiment.id
    assert fl.Experiment.from_json(other.to_json()) == other


def test_a_network_that_does_not_fit_the_task_is_refused(digits, tmp_path):
    few = fl.models.split(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)), "1", (1, 8, 8))
    with pytest.raises(fl.SettingError, match=r"gives \(2, 5\) for two images; needs \(2, at least 10 classes\)"):
        fl.train(fl.FedAvg(), digits, few, 1, store=tmp_path, progress=False)


class MeanLoss(fl.Classification):
    kind: Literal["mean_loss"] = "mean_loss"

    def losses(self, outputs, targets):
        return F.cross_entropy(outputs, targets)  # over the batch: divided by the samples again, it would look small


class MeanScore(fl.Classification):
    kind: Literal["mean_score"] = "mean_score"

    def scores(self, outputs, targets):
        return {"accuracy": (outputs.argmax(1) == targets).float().mean()}


class CountedLoss(fl.Classification):
    kind: Literal["counted_loss"] = "counted_loss"

    def scores(self, outputs, targets):
        return super().scores(outputs, targets) | {"loss": outputs.argmax(1) == targets}


class MeasuredLoss(fl.Classification):
    kind: Literal["measured_loss"] = "measured_loss"

    def measures(self, sums, count):
        return super().measures(sums, count) | {"loss": torch.zeros(())}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (MeanLoss(), r"MeanLoss.losses gives torch.float32 \[\] for 2 samples: needs the loss of each"),
        (MeanScore(), r"counts\['accuracy'\] is torch.float32 \[\] for 2 samples: needs a number, or an array, for each"),
        (CountedLoss(), "CountedLoss: a score named 'loss'"),
        (MeasuredLoss(), "MeasuredLoss: a score named 'loss'"),
    ],
)  # fmt: skip
def test_what_does_not_look_at_samples_one_by_one_is_refused(task, said, digits, tmp_path):
    with pytest.raises(fl.SettingError, match=said):
        fl.Run(fl.Experiment(data=digits.spec, algorithm=fl.FedAvg(), model=SMALL, task=task), digits, store=tmp_path)


class Binary(fl.Classification):
    """One logit with a loss of its own."""

    kind: Literal["binary"] = "binary"

    def losses(self, outputs, targets):
        return F.binary_cross_entropy_with_logits(outputs.reshape(-1), targets.to(outputs.dtype), reduction="none")


def test_one_logit_is_judged_by_its_sign_where_the_loss_is_no_softmax(tmp_path):
    outputs, targets = torch.tensor([[-2.0], [3.0], [-1.0]]), torch.tensor([0, 0, 1])
    assert Binary().scores(outputs, targets)["accuracy"].tolist() == [True, False, False]
    assert fl.Classification().scores(outputs, 0 * targets)["accuracy"].tolist() == [True] * 3  # softmax of one is 1
    images = torch.arange(10 * 64, dtype=torch.int32).to(torch.uint8).reshape(10, 8, 8).numpy()
    only = fl.Source.from_arrays("one", images, [0] * 10, images, [0] * 10, ["only"]).federate(fl.IID(), clients=2)
    run = fl.train(fl.FedAvg(), only, SMALL, 1, store=tmp_path, progress=False)
    assert run.history.query("metric == 'loss' and split == 'holdout'")["value"].tolist() == [0.0]
    assert set(run.history.query("metric == 'accuracy'")["value"]) == {1.0}
    assert set(fl.landscape(run, points=3, one_class=True).frame["accuracy"]) == {1.0}
