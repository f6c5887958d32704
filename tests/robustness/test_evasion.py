"""Attacks on images, by closed forms and plain loops; on every kind of model; and training against them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatlab as fl
from flatlab.declare import SettingError
from flatlab.robustness import Evasions

SMALL = fl.ModelSpec(name="lenet", width=0.125)
OPTIONS = {"rounds": 2, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def data(few):
    return fl.load("few", root=few).federate("iid", clients=4, seed=0)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Runs by name, trained when they are first asked for."""
    store, runs = tmp_path_factory.mktemp("runs"), {}
    made = {
        "plain": (fl.FedAvg(lr=0.1), SMALL),
        "batch": (fl.FedAvg(lr=0.1), fl.ModelSpec(name="cnn4", width=0.125)),
        "averaged": (fl.FedAvg(lr=0.1, swa=fl.SWA(start=0.0, cycle=1)), SMALL),
        "ring": (fl.FedAvg(lr=0.1, topology="ring"), SMALL),
        "kept": (fl.FedPer(lr=0.1), SMALL),
    }

    def of(name):
        if name not in runs:
            algorithm, model = made[name]
            runs[name] = fl.train(algorithm, data, model, store=store, **OPTIONS)
        return runs[name]

    return of


def scaled(channels=1, mean=0.4, std=0.25):
    return torch.full((channels,), mean, dtype=torch.float64), torch.full((channels,), std, dtype=torch.float64)


def test_on_linear_logits_nothing_does_more_harm_than_a_sign_and_the_margin_falls_by_eps_times_its_l1_norm():
    random = torch.Generator().manual_seed(0)
    pixels = 0.3 + 0.4 * torch.rand(20, 1, 4, 4, generator=random, dtype=torch.float64)
    weight = torch.randn(2, 16, generator=random, dtype=torch.float64)
    labels = torch.arange(20) % 2
    mean, std = scale = scaled()
    images = (pixels - mean) / std

    def slope(at):
        at = at.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(at.flatten(1) @ weight.T, labels, reduction="sum"), at)[0]

    def margin(at):
        logits = at.flatten(1) @ weight.T
        return logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, 1 - labels[:, None])[:, 0]

    for eps in (0.0, 0.05, 0.2):
        fall = eps / std * (weight[1] - weight[0]).abs().sum()
        fast = fl.FGSM(eps=eps).perturbed(slope, images, scale)
        torch.testing.assert_close(margin(images) - margin(fast), fall.expand(20), rtol=1e-12, atol=1e-12)
        slow = fl.PGD(eps=eps, step=0.03, steps=16).perturbed(slope, images, scale, torch.rand_like(images) * 2 - 1)
        torch.testing.assert_close(slow, fast, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attack", [fl.FGSM(eps=0.2), fl.PGD(eps=0.2, step=0.15, steps=3)])
def test_attacked_images_stay_in_the_ball_and_are_pictures(attack, data):
    images, _ = data.samples("holdout", limit=40)
    mean, std = (value.view(-1, 1, 1) for value in data.scale)
    for draw in range(3):
        towards = torch.randn(images.shape, generator=torch.Generator().manual_seed(draw))
        shown = attack.perturbed(lambda at, to=towards: to, images, data.scale, torch.sign(towards))
        assert float(((shown - images) * std).abs().max()) <= 0.2 + 1e-6
        pixels = shown * std + mean
        assert float(pixels.min()) >= -1e-6 and float(pixels.max()) <= 1 + 1e-6
        assert float((shown != images).double().mean()) > 0.5
    none = attack.replace(eps=0.0).perturbed(lambda at: torch.ones_like(at), images, data.scale)
    assert torch.equal(none, images)


def by_hand(run, params, index, eps, step, steps):
    """Loss and accuracy under attack in pixels, float64, image by image."""
    data, model = run.data, run.model(client=0 if run.kept else None).double().eval()
    model.load_state_dict({name: value.double() for name, value in params.items()})
    mean, std = (value.double().view(-1, 1, 1) for value in data.scale)
    losses, right = [], []
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for place in index.tolist():
        clean, label = data.images[place : place + 1].double() / 255, data.labels[place : place + 1]
        pixels = clean.clone()
        for _ in range(steps):
            pixels = pixels.detach().requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(model((pixels - mean) / std), label), pixels)
            moved = pixels.detach() + step * grad.sign()
            pixels = torch.min(torch.max(moved, clean - eps), clean + eps).clamp(0, 1)
        outputs = model((pixels.detach() - mean) / std)
        losses.append(float(F.cross_entropy(outputs, label)))
        right.append(int(outputs.argmax()) == int(label))
    return sum(losses) / len(losses), sum(right) / len(right)


def test_accuracy_and_loss_are_those_of_a_plain_loop_in_pixels(trained):
    run = trained("plain")
    attacks = [fl.FGSM(eps=0.1), fl.PGD(eps=0.1, step=0.04, steps=4, restarts=0)]
    frame = fl.evade(run, attacks).frame
    steps = [(0.0, 1), (0.1, 1), (0.04, 4)]
    for row, (step, count) in zip(frame.to_dict("records"), steps, strict=True):
        loss, accuracy = by_hand(run, run.state().params, run.data.holdout, row["eps"], step, count)
        assert row["loss"] == pytest.approx(loss, rel=2e-3) and row["accuracy"] == pytest.approx(accuracy, abs=0.02)
    assert frame["loss"].is_monotonic_increasing and frame["accuracy"].iloc[2] <= frame["accuracy"].iloc[0]
    one, more = (fl.evade(run, fl.PGD(eps=0.1, step=0.04, steps=2, restarts=n)).frame.iloc[1] for n in (1, 3))
    assert more["loss"] >= one["loss"] and more["accuracy"] <= one["accuracy"]


@pytest.mark.parametrize("name", ["plain", "batch", "averaged", "ring", "kept"])
def test_without_a_ball_accuracy_is_the_clean_one_exactly(name, trained):
    run = trained(name)
    none = fl.evade(run, fl.FGSM(eps=0.0)).frame
    history = run.history.query("round == 2 and metric == 'accuracy'")
    wanted = history[history["split"] == ("test" if name == "kept" else "holdout")]["value"]
    for kind in ("none", "fgsm"):
        assert none[none["attack"] == kind]["accuracy"].tolist() == wanted.tolist()
    tuned = fl.personalize(run, epochs=1, lr=0.05, clients=[0, 2])
    attacked = fl.evade(run, fl.FGSM(eps=0.0), epochs=1, lr=0.05, clients=[0, 2]).frame
    assert (
        attacked[attacked["attack"] == "fgsm"]["accuracy"].tolist()
        == tuned.frame.query("epoch == 1")["accuracy"].tolist()
    )


def test_a_client_s_own_model_is_attacked_also_from_another_s(trained):
    run, attack = trained("ring"), fl.FGSM(eps=0.1)
    own = run.model(client=2)
    row = fl.evade(run, attack, clients=[2]).frame.iloc[1]
    loss, _ = by_hand(run, dict(own.named_parameters()), run.data.test[2], 0.1, 0.1, 1)
    assert row["loss"] == pytest.approx(loss, rel=2e-3)
    same = fl.evade(run, attack, clients=[2], source=own).frame.iloc[1]
    other = fl.evade(run, attack, clients=[2], source=run.model(0, client=1)).frame.iloc[1]
    double = fl.evade(run, attack, clients=[2], source=run.model(client=2).double()).frame.iloc[1]
    assert double["loss"] == same["loss"]  # measured in float32
    assert same["loss"] == pytest.approx(row["loss"], rel=1e-6) and other["loss"] < row["loss"]
    assert len(fl.evade(run, attack, clients="all").frame) == 8


def test_the_result_is_kept_and_drawn(trained, tmp_path):
    runs = [trained("plain"), trained("averaged")]
    result = fl.evade(runs, [fl.FGSM(eps=eps) for eps in (0.02, 0.1)])
    again = Evasions.load(result.save(tmp_path / "evasions.parquet"))
    assert again.frame.equals(result.frame) and again.about == result.about
    assert result.summary().groupby("run").size().tolist() == [3, 3]
    figure = result.plot()
    assert len(figure.axes[0].lines) == 2 and "holdout" in figure.caption
    assert not result.about["jointly"] and fl.evade(trained("batch")).about["jointly"]
    stopped = fl.evade(runs, progress=lambda done, total: False)
    assert not stopped.about["complete"] and len(stopped.frame) == 1


def test_a_network_of_one_s_own_is_said_to_be_attacked_jointly_only_if_its_batches_are(data, tmp_path):
    layers = [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    own = fl.models.split(nn.Sequential(*layers), head="4")
    run = fl.train(fl.FedAvg(), data, own, store=tmp_path, **OPTIONS | {"rounds": 1})
    assert not fl.evade(run).about["jointly"]


def test_adversarial_training_beside_sam_is_the_same_in_every_engine_and_by_hand(data, tmp_path):
    local = fl.SAM(rho=0.1)
    attack = fl.PGD(eps=0.1, step=0.05, steps=2)
    algorithm = fl.FedAvg(lr=0.1, local=local, adversarial=attack, batch_size=1000)
    assert algorithm.gradients_per_step == local.gradients_per_step + 2
    runs = [
        fl.train(algorithm, data, SMALL, store=tmp_path / engine, engine=engine, **{**OPTIONS, "rounds": 1})
        for engine in ("loop", "batch")
    ]
    start, end = runs[0].state(0).params, [run.state().params for run in runs]
    moved = {name: value - start[name] for name, value in end[0].items()}
    scale = max(float(value.abs().max()) for value in moved.values())
    for other in end[1:]:
        assert all(float((other[name] - end[0][name]).abs().max()) < 2e-3 * scale for name in moved)
    model = runs[0].model(0)
    start = {name: value.detach() for name, value in model.named_parameters()}
    names, total = list(start), dict.fromkeys(start, 0)
    sizes = [len(part) for part in data.train]
    for part, size in zip(data.train, sizes, strict=True):
        clean, labels = data.prepared(part), data.labels[part]
        mean, std = (value.view(-1, 1, 1) for value in data.scale)
        images = clean

        def gradient(params, images, labels=labels):
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            loss = F.cross_entropy(torch.func.functional_call(model, leaves, (images,)), labels)
            return dict(zip(names, torch.autograd.grad(loss, list(leaves.values())), strict=True))

        for _ in range(2):
            free = images.detach().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(free), labels), free)
            images = images + 0.05 / std * slope.sign()
            images = torch.min(torch.max(images, clean - 0.1 / std), clean + 0.1 / std)
            images = torch.min(torch.max(images, -mean / std), (1 - mean) / std)
        grads = gradient(start, images)
        norm = torch.stack([value.square().sum() for value in grads.values()]).sum().sqrt()
        grads = gradient({name: value + 0.1 * grads[name] / norm for name, value in start.items()}, images)
        for name in names:
            total[name] = total[name] - 0.1 * grads[name] * size / sum(sizes)
    assert all(float((total[name] - moved[name]).abs().max()) < 2e-3 * scale for name in names)


def test_older_ids_stay_and_what_cannot_be_is_refused(trained, data):
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4"
    hard = experiment.replace(algorithm=fl.FedAvg(adversarial="pgd"))
    assert fl.Experiment.from_json(hard.to_json()) == hard and hard.id != experiment.id
    with pytest.raises(SettingError, match=r"restarts = 3: training attacks once"):
        experiment.replace(algorithm=fl.FedAvg(adversarial=fl.PGD(restarts=3)))
    with pytest.raises(SettingError, match="eps"):
        fl.FGSM(eps=1.5)
    run = trained("plain")
    for wrong, said in (
        ({"attack": []}, "at least one"),
        ({"attack": "fgsm"}, "attack = 'fgsm'"),
        ({"clients": [9]}, "clients"),
        ({"source": run}, "source"),
        ({"source": nn.Linear(3, 3)}, r"source: does not take images \("),
        ({"source": nn.Sequential(nn.Flatten(), nn.LazyLinear(3))}, r"source: model: gives \(2, 3\) for two images"),
        ({"epochs": -1}, "epochs"),
    ):
        with pytest.raises(SettingError, match=said):
            fl.evade(run, **wrong)


def test_a_caption_says_whose_models_each_run_shows(trained):
    both = fl.evade([trained("plain"), trained("kept")], fl.FGSM(eps=0.05), progress=False).plot().caption
    said = "the global model on the holdout (FedAvg) or clients' models on their own test sets (FedPer)"
    assert f"Mean over {said}; circles FGSM." in both.replace("\n", " ")
    alone = fl.evade(trained("plain"), fl.FGSM(eps=0.05), progress=False).plot().caption
    assert alone.startswith("Mean over the global model on the holdout;")


def test_attacks_of_one_eps_are_told_apart_by_what_differs(trained):
    weak, strong = fl.PGD(eps=0.05, step=0.002, steps=1, restarts=0), fl.PGD(eps=0.05, step=0.01, steps=5, restarts=0)
    found = fl.evade(trained("plain"), [weak, strong, fl.FGSM(eps=0.05), strong])
    assert found.frame["attack"].tolist() == ["none", "pgd, step 0.002, steps 1", "pgd, step 0.01, steps 5", "fgsm"]
    alone = [fl.evade(trained("plain"), way).frame["accuracy"].iloc[1] for way in (weak, strong)]
    assert found.summary()["mean"].tolist()[1:3] == alone and set(found.summary()["models"]) == {1}
    lines = [line.get_ydata().tolist() for line in found.plot().axes[0].lines]
    assert [line[-1] for line in lines[:2]] == pytest.approx([100 * value for value in alone])
    drawn = found.plot()
    assert [line.get_marker() for line in drawn.axes[0].lines] == ["D", "^", "o"]
    said = "diamonds pgd (step 0.002, steps 1), triangles pgd (step 0.01, steps 5), circles FGSM."
    assert said in drawn.caption.replace("\n", " ")


def test_a_run_at_two_rounds_is_two_lines_and_one_where_a_round_is_asked_for(trained, data):
    run = trained("plain")
    early = fl.Run.open(run.directory, data).rewind(1)
    other = fl.train(fl.FedAvg(lr=0.02), data, SMALL, store=run.directory.parent, **OPTIONS)
    several = [run, early, other]
    rows = fl.evade(several, fl.FGSM(eps=0.1)).summary()
    assert rows["name"].nunique() == 3 and set(rows["models"]) == {1}
    for measure in (fl.headless, lambda runs: fl.personalize(runs, epochs=0)):
        found = measure(several).frame
        alone = [measure(each).frame["accuracy"].mean() for each in several]
        assert found.groupby("name", sort=False)["accuracy"].mean().tolist() == pytest.approx(alone, nan_ok=True)
        assert set(found.groupby("name")["client"].nunique()) == set(found.groupby("name").size()) == {data.clients}
    asked = fl.personalize(several, epochs=0, round=1).frame
    assert asked["name"].nunique() == 2 and len(asked) == 2 * data.clients
    later = fl.personalize(run, epochs=0)
    assert fl.compare(early, later).frame["holdout"].item() == fl.compare(run, later).frame["holdout"].item()
