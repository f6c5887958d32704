"""Segmentation: loss and scores beside plain loops, in every engine; one pixel is classification."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.data.augment import moved
from flatlab.models import build
from flatlab.models.segnet import Resize
from flatlab.tasks import class_scores
from flatlab.training.batches import batches, plan
from flatlab.training.lockstep import shape, train_together

SMALL = fl.ModelSpec(name="segnet", width=0.25)
CLASSES, BEYOND = 3, 255


def source(size=(10, 13), count=60):
    """Stripes of three brightnesses, which move from frame to frame; three videos, and a fourth that is only tested."""
    rng = np.random.default_rng(0)
    place = (np.arange(count)[:, None, None] + np.arange(size[0])[:, None] // 2 + np.arange(size[1])) // 4
    masks = (place % CLASSES).astype(np.uint8)
    images = (60 * masks + 40 + rng.integers(-30, 30, masks.shape)).astype(np.uint8)
    masks[:, :2, :3] = BEYOND
    groups = np.repeat(["a", "b", "c", "a", "new"], [count // 5] * 5)
    cut = 3 * count // 5
    parts = {
        "train_masks": masks[:cut],
        "test_masks": masks[cut:],
        "train_groups": groups[:cut],
        "test_groups": groups[cut:],
    }
    return fl.Source.from_arrays("stripes", images[:cut], None, images[cut:], None, ["dark", "grey", "light"], **parts)


@pytest.fixture(scope="module")
def data():
    return source().federate(fl.Consecutive(), clients=3, augment=fl.Augmentation(crop=1, flip=True))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return fl.train(
        fl.FedBABU(lr=0.1, batch_size=5), data, SMALL, 2, task="segmentation", progress=False,
        store=tmp_path_factory.mktemp("runs"), evaluation=fl.Evaluation(clients_every=1),
    )  # fmt: skip


def plain_loss(logits, mask, void=None, hard=1.0, weights=()):
    """The loss of one image, pixel by pixel."""
    pixels = []
    for z, y in zip(logits.reshape(len(logits), -1).T.tolist(), mask.reshape(-1).tolist(), strict=True):
        if y < len(z) and y != void:
            pixels.append((math.log(sum(map(math.exp, z))) - z[y], weights[y] if weights else 1.0))
    pixels.sort(key=lambda pixel: -pixel[0] * pixel[1])
    kept = pixels[: max(1, math.ceil(hard * len(pixels) - 1e-3))]
    return sum(loss * weight for loss, weight in kept) / max(sum(weight for _, weight in kept), 1e-30)


@pytest.mark.parametrize("void", [None, 1])
@pytest.mark.parametrize("hard", [1.0, 0.25, 0.01, 1e-6])
@pytest.mark.parametrize("weights", [(), (0.5, 2.0, 1.0, 0.0)])
def test_the_loss_is_that_of_a_plain_loop(void, hard, weights):
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 4, 3, 7, generator=random, dtype=torch.float64)
    masks = torch.randint(0, 5, (5, 3, 7), generator=random, dtype=torch.uint8)
    masks[2], masks[3, 0] = BEYOND, BEYOND
    task = fl.Segmentation(void=void, hard=hard, weights=weights)
    wanted = [plain_loss(z, y, void, hard, weights) for z, y in zip(outputs, masks, strict=True)]
    assert wanted[2] == 0
    assert task.losses(outputs, masks).tolist() == pytest.approx(wanted, rel=1e-12)
    one_by_one = torch.func.vmap(lambda z, y: task.losses(z[None], y[None])[0])(outputs, masks)
    assert one_by_one.tolist() == pytest.approx(wanted, rel=1e-12)
    plain = task.plain.losses(outputs, masks)
    assert plain.tolist() == pytest.approx([plain_loss(z, y, void) for z, y in zip(outputs, masks, strict=True)])


def test_void_pixels_have_no_gradient_and_no_count():
    random = torch.Generator().manual_seed(1)
    outputs = torch.randn(2, 3, 4, 4, generator=random, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 4), generator=random, dtype=torch.uint8)
    masks[0, 1:3] = BEYOND
    for task in (fl.Segmentation(), fl.Segmentation(hard=0.5, weights=(1.0, 2.0, 3.0))):
        (gradient,) = torch.autograd.grad(task.losses(outputs, masks).sum(), outputs)
        assert (gradient[0, :, 1:3] == 0).all() and (gradient[1] != 0).any()
        counted = task.counts(outputs, masks)["confusion"]
        assert counted.sum((1, 2)).tolist() == [8, 16]
    inside = masks.where(masks != BEYOND, 2)  # the same pixels as a class, with more of them
    assert (fl.Segmentation(void=2).counts(outputs, inside)["confusion"][:, 2] == 0).all()


def test_the_confusion_is_summed_and_classes_that_the_truth_lacks_do_not_count():
    task, one = fl.Segmentation(), torch.tensor([[3.0, 1.0], [1.0, 5.0]], dtype=torch.float64)
    found = task.measures({"confusion": one}, 7)
    assert (round(float(found["miou"]), 4), float(found["accuracy"])) == (0.6571, 0.8)
    assert class_scores(one)["iou"].tolist() == pytest.approx([3 / 5, 5 / 7])
    wider = torch.zeros(3, 3, dtype=torch.float64)
    wider[:2, :2] = one
    assert task.measures({"confusion": wider}, 7) == {
        name: pytest.approx(float(value)) for name, value in found.items()
    }
    wider[0, 2] = 1  # predicted, never true: it costs the class it was taken from, and is none itself
    assert float(task.measures({"confusion": wider}, 7)["miou"]) == pytest.approx((3 / 6 + 5 / 7) / 2)
    random = torch.Generator().manual_seed(2)
    outputs, masks = torch.randn(6, 4, 5, 5, generator=random), torch.randint(0, 5, (6, 5, 5), generator=random)
    whole = task.counts(outputs, masks)["confusion"].sum(0)
    assert torch.equal(
        whole, sum(task.counts(outputs[part], masks[part])["confusion"].sum(0) for part in (slice(2), slice(2, 6)))
    )
    looped = torch.zeros(4, 4)
    for said, true in zip(outputs.argmax(1).reshape(-1).tolist(), masks.reshape(-1).tolist(), strict=True):
        if true < 4:
            looped[true, said] += 1
    assert torch.equal(whole, looped)


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_a_round_is_that_of_a_plain_loop_in_every_engine(data, engine, tmp_path):
    """Masks move with their images; the history has pixel accuracy and mIoU of summed confusions."""
    task = fl.Segmentation(hard=0.5)
    run = fl.train(
        fl.FedAvg(lr=0.1, batch_size=5, momentum=0.9), data, SMALL, 1, task=task, engine=engine, store=tmp_path,
        progress=False, evaluation=fl.Evaluation(clients_every=1, batch_size=4),
    )  # fmt: skip
    drawn = plan(data, data.train, [("train", 0, client) for client in range(3)], 0, 1, 5)
    ends = []
    for client in range(3):
        model = build(SMALL, data.shape, data.classes, 0)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step, batch in enumerate(batches(data, drawn, 0)):
            draws = {key: torch.from_numpy(value[client, 0, step]) for key, value in drawn.draws.items()}
            masks = moved(data.masks[torch.from_numpy(drawn.index[client, 0, step])], draws, data.augmentation)
            assert torch.equal(batch.labels[client], masks) and (masks == BEYOND).any()
            optimiser.zero_grad()
            task.losses(model(batch.images[client]), batch.labels[client]).mean().backward()
            optimiser.step()
        ends.append(model)
    trained = run.model().cpu()
    for name, value in trained.named_parameters():
        mean = torch.stack([model.get_parameter(name) for model in ends]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-3, atol=2e-5)
    order = torch.from_numpy(fl.streams.stream(0, "holdout order").permutation(len(data.holdout)))
    with torch.no_grad():
        for split, client, parts in (
            ("holdout", -1, data.holdout[order].split(4)), ("unseen", 0, None), ("test", 2, [data.test[2]])
        ):  # fmt: skip
            if parts is None:
                shuffled = torch.from_numpy(fl.streams.stream(0, "unseen order", 0).permutation(12))
                parts = data.unseen["new"][shuffled].split(4)
            pairs = [(trained(data.prepared(part)), data.targets(part)) for part in parts]
            confusion = sum(task.counts(*pair)["confusion"].sum(0) for pair in pairs)
            hit, row, column = confusion.diag(), confusion.sum(1), confusion.sum(0)
            wanted = {
                "loss": float(torch.cat([task.losses(*pair) for pair in pairs]).mean()),
                "accuracy": float(hit.sum() / confusion.sum()),
                "miou": float((hit / (row + column - hit))[row > 0].mean()),
            }
            rows = run.history.query(f"split == '{split}' and client == {client}")
            assert dict(zip(rows["metric"], rows["value"], strict=True)) == pytest.approx(wanted, rel=1e-4)


def test_one_pixel_is_classification(tmp_path):
    """The same numbers from images of one pixel with labels, and with masks of one pixel."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60).astype(np.uint8)
    images = (labels[:, None] * 60 + rng.integers(0, 90, (60, 3))).astype(np.uint8)[:, None, None]
    named = {"class_names": ["a", "b", "c"], "mean": [0.5] * 3, "std": [0.25] * 3}
    kinds = np.zeros(40, int), np.zeros(20, int)
    plain = fl.Source.from_arrays(
        "one", images[:40], labels[:40].astype(int), images[40:], labels[40:].astype(int), **named
    )
    masks = labels[:, None, None]
    dense = fl.Source.from_arrays(
        "one", images[:40], None, images[40:], None, **named, train_masks=masks[:40], test_masks=masks[40:]
    )
    assert dense.labels.tolist() == [*kinds[0], *kinds[1]]
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1)
    flat = nn.Linear(6, 3)
    flat.load_state_dict({"weight": last.weight.detach().flatten(1), "bias": last.bias.detach()})
    networks = (
        fl.Model(nn.Sequential(first, nn.ReLU(), nn.Flatten()), flat),
        fl.Model(nn.Sequential(first, nn.ReLU()), last),
    )
    runs = [
        fl.train(
            fl.FedSAM(lr=0.5, batch_size=7, epochs=2, rho=0.1), one.federate(fl.Consecutive(), clients=4), net, 3,
            task=task, store=tmp_path, progress=False, evaluation=fl.Evaluation(clients_every=1),
        )
        for one, net, task in zip((plain, dense), networks, ("classification", "segmentation"), strict=True)
    ]  # fmt: skip
    classified, segmented = (run.history[run.history["metric"] != "miou"].reset_index(drop=True) for run in runs)
    assert classified.drop(columns="value").equals(segmented.drop(columns="value"))
    assert classified["value"].tolist() == pytest.approx(segmented["value"].tolist(), rel=1e-5, abs=1e-7)
    assert classified.query("split == 'holdout' and metric == 'accuracy'")["value"].iloc[-1] > 0.6
    tuned = [fl.personalize(run, epochs=1, lr=0.1).frame for run in runs]
    assert tuned[0]["accuracy"].tolist() == tuned[1]["accuracy"].tolist()
    assert (
        fl.headless(runs[0])
        .frame[["accuracy", "with head"]]
        .equals(fl.headless(runs[1]).frame[["accuracy", "with head"]])
    )
    top = [float(fl.hessian(run, limit=None).top(1).frame["eigenvalue"].iloc[0]) for run in runs]
    assert top[0] == pytest.approx(top[1], rel=1e-3)


def test_a_run_goes_on_where_it_was(data, run, tmp_path):
    experiment = run.experiment
    first = fl.Run(experiment, data, store=tmp_path).to(1)
    del first
    again = fl.Run(experiment, data, store=tmp_path).to()
    assert again.history.equals(run.history)
    whole = run.state().flat()
    assert {name for name, value in again.state().flat().items() if torch.equal(value, whole[name])} == {*whole}
    assert fl.Experiment.from_json(experiment.to_json()) == experiment
    assert experiment.to_dict()["task"] == {"kind": "segmentation", "hard": 1.0, "void": None, "weights": []}


def test_runs_of_different_tasks_or_sizes_are_not_one_batch(data, run, tmp_path):
    """Together each has the numbers that it has alone."""
    other = run.experiment.replace(task=fl.Segmentation(hard=0.3))
    assert shape(other) != shape(run.experiment)
    assert shape(run.experiment.replace(**{"data.shrink": 2})) != shape(run.experiment)
    twins = [fl.Run(run.experiment.replace(seed=seed), data, store=tmp_path, engine="batch") for seed in (0, 1)]
    assert not train_together(twins)
    last = [rows["value"].iloc[-1] for rows in (run.history, twins[0].history)]
    assert last[0] == pytest.approx(last[1], rel=1e-3)


def test_the_head_of_fedbabu_stays_and_templates_are_means_over_pixels(data, run):
    start = build(SMALL, data.shape, data.classes, 0)
    model = run.model().cpu()
    assert torch.equal(model.head.linear.weight, start.head.linear.weight)
    assert not torch.equal(model.body.stem[0].conv.weight, start.body.stem[0].conv.weight)
    found = fl.headless(run).frame
    client = 1
    with torch.no_grad():
        order = torch.from_numpy(fl.streams.stream(0, "templates", client).permutation(len(data.train[client])))
        held, tests = data.train[client][order], data.test[client]
        maps = [
            nn.functional.interpolate(model.body(data.prepared(part)), data.shape[1:], mode="bilinear")
            for part in (held, tests)
        ]
    truth = [data.targets(part).long() for part in (held, tests)]
    means = torch.stack([maps[0].movedim(1, -1)[truth[0] == label].mean(0) for label in range(CLASSES)])
    real = truth[1] < CLASSES
    rows = maps[1].movedim(1, -1)[real]
    said = ((rows[:, None] - means) ** 2).sum(-1).argmin(1)
    assert found["accuracy"][client] == pytest.approx(float((said == truth[1][real]).double().mean()), abs=0.01)
    logits = model.head(model.body(data.prepared(tests))).movedim(1, -1)[real]
    assert found["with head"][client] == pytest.approx(
        float((logits.argmax(1) == truth[1][real]).double().mean()), abs=0.01
    )


def test_what_is_measured_is_the_plain_loss(data, run, tmp_path):
    """Landscape, Hessian and tuning; a hard or weighted loss is for training only."""
    images, masks = run.data.samples("holdout")
    model = run.model().requires_grad_(False)
    loss = float(fl.Segmentation().losses(model(images), masks).mean())
    plane = fl.landscape(run, points=3, limit=None, store=False).frame
    centre = plane[(plane["x"] == 0) & (plane["y"] == 0)].iloc[0]
    assert centre["loss"] == pytest.approx(loss, rel=1e-4)
    real = masks != BEYOND  # of all pixels of the set, as in the history, and no mean over images
    right = float(((model(images).argmax(1) == masks) & real).sum() / real.sum())
    assert centre["accuracy"] == pytest.approx(right, abs=1e-6)
    (kept,) = run.history.query("round == 2 and split == 'holdout' and metric == 'accuracy'")["value"]
    assert right == pytest.approx(kept, abs=1e-6)
    assert fl.path(run, model, points=3, limit=None).frame["accuracy"].iloc[0] == pytest.approx(right, abs=1e-6)
    with pytest.raises(fl.SettingError, match=r"loss = .*is of labels, which given samples are not"):
        fl.landscape(model, (images, masks), points=3, loss=fl.Classification(), store=False)
    task = fl.Segmentation(void=1)  # of which some images have more than others
    void = fl.landscape(model, (images, masks), points=3, loss=task, store=False).summary()
    assert void["loss"].item() == pytest.approx(float(task.losses(model(images), masks).mean()), rel=1e-4)
    real &= masks != 1
    right = float(((model(images).argmax(1) == masks) & real).sum() / real.sum())
    shares = float(task.scores(model(images), masks)["accuracy"].mean())
    assert void["accuracy"].item() == pytest.approx(right, abs=1e-6) and abs(right - shares) > 1e-4
    hard = fl.Run(run.experiment.replace(task=fl.Segmentation(hard=0.2, weights=(1, 5, 0))), data, store=tmp_path)
    both = [fl.hessian(one, "holdout", part="head", limit=None, round=0, dtype="float64") for one in (run, hard)]
    values = [found.top(1).frame["eigenvalue"].iloc[0] for found in both]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    start = run.model(0).double()
    order = [name for name, _ in start.named_parameters() if name.startswith("head.")]

    def flat(weights):
        parts = dict(zip(order, weights.split([start.get_parameter(name).numel() for name in order]), strict=True))
        handed = {name: part.view(start.get_parameter(name).shape) for name, part in parts.items()}
        outputs = torch.func.functional_call(start, handed, (images.double(),))
        return fl.Segmentation().losses(outputs, masks).mean()

    point = torch.cat([start.get_parameter(name).detach().reshape(-1) for name in order])
    dense = torch.autograd.functional.hessian(flat, point)
    assert values[0] == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-3)
    tuned = fl.personalize(run, epochs=1, lr=0.05)
    assert tuned.frame["miou"].between(0, 1).all()
    assert tuned.curve("miou")["clients"].tolist() == [3, 3]
    table = fl.compare(run, tuned).frame.iloc[0]
    rows = run.history.query("round == 2 and metric == 'miou'").set_index("split")["value"]
    assert (table["miou"], table["unseen miou"]) == (rows["holdout"], rows["unseen"])


def test_classes_and_pictures_are_of_the_summed_confusion(data, run, tmp_path):
    """Their mean is the history's mIoU; what is drawn says whose batch statistics these are."""
    rows = run.history.query("round == 2 and metric == 'miou'").set_index("split")["value"]
    for split in ("holdout", "unseen"):
        found = fl.per_class(run, split, pictures=2)
        assert found.frame["iou"].mean() == pytest.approx(rows[split], rel=1e-6)
        assert found.summary()["FedBABU IoU %"].iloc[-1] == pytest.approx(100 * rows[split], abs=0.01)
        assert found.frame["share"].sum() == pytest.approx(1)
    images, masks = data.prepared(data.unseen["new"]), data.targets(data.unseen["new"])
    with torch.no_grad():  # the twelve images of the unseen video are one batch
        said = run.model().cpu()(images).argmax(1).numpy()
    picture = found.pictures[0]
    place = next(
        n
        for n, index in enumerate(data.unseen["new"])
        if (data.images[index, 0].numpy() == picture.image[..., 0]).all()
    )
    assert (picture.said["FedBABU"] == said[place]).mean() > 0.99
    assert ((picture.truth == -1) == (masks[place] == BEYOND).numpy()).all()
    drawn = found.plot()
    assert "SiloBN" in drawn.caption and len(drawn.axes) == 2 * 3 + 1
    said = {name: fl.plot(run, metrics=[name]).caption for name in ("accuracy", "unseen", "miou", "unseen miou")}
    assert [name for name, caption in said.items() if "SiloBN" in caption] == ["unseen", "miou", "unseen miou"]
    kept = fl.train(fl.FedPer(batch_size=5), data, SMALL, 1, task="segmentation", progress=False, store=tmp_path)
    both = fl.per_class([kept, run], "test", clients=[2], pictures=1)
    own, score = kept.history.query("split == 'test' and client == 2 and metric == 'miou'")["value"], both.frame
    assert score[score["name"] == "FedPer"]["iou"].mean() == pytest.approx(own.iloc[-1], rel=1e-6)
    with pytest.raises(fl.SettingError, match="clients keep head, so no model is global"):
        fl.per_class(kept)


def test_the_networks_size_is_as_stated_and_its_maps_as_torch_interpolates():
    for width, numbers in ((1.0, 37_771), (2.0, 149_259)):
        model = build(fl.ModelSpec(name="segnet", width=width), (3, 60, 80), 11)
        assert sum(value.numel() for value in model.parameters()) == numbers
    assert build(SMALL, (3, 60, 80), 11)(torch.zeros(2, 3, 60, 80)).shape == (2, 11, 60, 80)
    maps = torch.randn(2, 3, 8, 5, dtype=torch.float64)
    for size in ((15, 9), (8, 5), (31, 5), (1, 1)):
        wanted = nn.functional.interpolate(maps, size, mode="bilinear")
        torch.testing.assert_close(
            Resize((8, 5), size).double()(maps), wanted, rtol=1e-5, atol=1e-5
        )  # constants in float32


def test_what_does_not_fit_is_refused(data, few, run, tmp_path):
    options = {"rounds": 1, "store": tmp_path, "progress": False}
    with pytest.raises(fl.SettingError, match="stripes has masks, a class for each pixel: give task='segmentation'"):
        fl.train(fl.FedAvg(), data, SMALL, **options)
    with pytest.raises(fl.SettingError, match="has labels, no masks"):
        fl.train(fl.FedAvg(), fl.load("few", few).federate(fl.IID(), clients=2), SMALL, task="segmentation", **options)
    with pytest.raises(fl.SettingError, match=r"gives \(2, 3\) for two images; needs \(2, 3 classes, height, width\)"):
        fl.train(fl.FedAvg(), data, "cnn4", task="segmentation", **options)
    with pytest.raises(fl.SettingError, match="needs 3 numbers"):
        fl.train(fl.FedAvg(), data, SMALL, task=fl.Segmentation(weights=(1, 2)), **options)
    half = fl.Model(nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 3, 1))
    with pytest.raises(fl.SettingError, match=r"gives maps \(5, 7\) of images \(10, 13\)"):
        fl.train(fl.FedAvg(), data, half, task="segmentation", **options)
    world = fl.World(adversary=fl.Adversary(share=0.4, data=fl.attacks.Patch(margin=0)))
    with pytest.raises(fl.SettingError, match="have masks"):
        fl.train(fl.FedAvg(), data, SMALL, task="segmentation", world=world, **options)
    with pytest.raises(fl.SettingError, match="wholly right"):
        fl.corrected(run, [0], epochs=1)


def test_under_no_attack_pixels_are_as_right_as_in_the_history(run):
    accuracy = run.history.query("split == 'holdout' and metric == 'accuracy'")["value"].iloc[-1]
    attacked = fl.evade(run, [fl.FGSM(eps=0.0), fl.PGD(eps=0.1, step=0.05, steps=2, restarts=2)]).frame
    assert attacked["accuracy"].tolist()[:2] == [accuracy] * 2
    assert attacked["accuracy"].iloc[2] <= accuracy and attacked["loss"].iloc[2] > attacked["loss"].iloc[0]


def test_a_set_of_no_images_has_losses_and_counts_of_none():
    for axes in ((), (3, 7)):
        outputs, masks = torch.randn(0, 4, *axes), torch.zeros(0, *axes, dtype=torch.uint8)
        for task in (fl.Segmentation(), fl.Segmentation(hard=0.5, weights=(1.0, 2.0, 1.0, 0.0))):
            assert task.losses(outputs, masks).shape == task.scores(outputs, masks)["accuracy"].shape == (0,)
            assert task.counts(outputs, masks)["confusion"].shape == (0, 4, 4)


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_a_client_without_test_images_has_no_score_and_stops_no_run(data, engine, tmp_path):
    bare = dataclasses.replace(data, test=(data.test[0], data.test[1][:0], data.test[2]))
    options = {"task": "segmentation", "engine": engine, "store": tmp_path, "progress": False}
    run = fl.train(fl.FedAvg(lr=0.1, batch_size=5), bare, SMALL, 1, **options)
    found = run.history.query("split == 'test' and metric == 'miou'")["value"].tolist()
    network = run.model()
    with torch.no_grad():
        for client in (0, 2):
            said = network(data.prepared(data.test[client])).argmax(1)
            true = data.targets(data.test[client])
            said, true = said[true < CLASSES], true[true < CLASSES]
            over = [((said == c) & (true == c)).sum() / ((said == c) | (true == c)).sum() for c in true.unique()]
            assert found[client] == pytest.approx(float(np.mean(over)), abs=1e-6)
    assert math.isnan(found[1])


def test_triggers_are_for_labels(data):
    with pytest.raises(fl.SettingError, match=r"poison = .*stripes have masks"):
        fl.triggered(data, fl.attacks.Patch(target=1, margin=0))
