"""A public share for every client, by hand; synthetic images: where they stand still, where they go, and what they are."""

import dataclasses

import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.declare import SettingError

SMALL = fl.ModelSpec(name="lenet", width=0.125)
OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def data(few):
    return fl.load("few", root=few).federate(fl.Dirichlet(alpha=1.0), clients=4, seed=0)


def train(data, store, held, rounds=1, **settings):
    algorithm = fl.FedAvg(lr=0.05, server_data=held, **settings)
    return fl.train(algorithm, data, SMALL, rounds=rounds, store=store, **OPTIONS)


def same(first, second):
    values = [run.state().params for run in (first, second)]
    return all(torch.equal(values[0][name], values[1][name]) for name in values[0])


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_clients_train_on_their_own_and_on_public_samples(engine, data, tmp_path):
    public = fl.ServerData(share=0.1, train="none", clients=True)
    algorithm = fl.FedAvg(lr=0.05, server_data=public)
    run = fl.train(algorithm, data, SMALL, rounds=2, store=tmp_path, engine=engine, **OPTIONS)
    pool = torch.cat(data.train)
    shared = set.intersection(*(set(part.tolist()) for part in run.federation.holders))
    assert len(shared) == int(0.1 * len(pool)) and shared <= set(pool.tolist())
    wider = tuple(torch.tensor(sorted({*part.tolist(), *shared})) for part in data.train)
    assert all(torch.equal(held, part) for held, part in zip(run.federation.holders, wider, strict=True))
    plain = fl.Run(
        run.experiment.replace(algorithm=fl.FedAvg(lr=0.05)),
        data,
        store=tmp_path / "plain",
        engine=engine,
        device="cpu",
    )
    plain.federation.holders = wider
    assert same(run, plain.to(2))


def test_a_public_set_of_everything_makes_clients_alike(data, tmp_path):
    run = train(data, tmp_path, fl.ServerData(share=1.0, train="none", clients=True))
    assert all(torch.equal(held, run.federation.holders[0]) for held in run.federation.holders)
    alike = train(data, tmp_path / "alike", fl.ServerData(share=1.0, train="none", clients=True), batch_size=10_000)
    models = [dict(model.named_parameters()) for model in alike.clients(1).values()]
    for name, value in models[0].items():
        assert all(torch.allclose(value, other[name], rtol=1e-4, atol=1e-6) for other in models)


def test_the_server_may_train_on_public_samples_as_well(data, tmp_path):
    runs = [train(data, tmp_path, fl.ServerData(share=0.2, train=part, clients=True)) for part in ("none", "head")]
    states = [run.state().params for run in runs]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) == name.startswith("body.")
    kept = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg(server_data=fl.ServerData()))
    assert "clients" not in kept.to_dict()["algorithm"]["server_data"]
    with pytest.raises(SettingError, match="nobody trains on it"):
        train(data, tmp_path, fl.ServerData(train="none"))
    poison = fl.World(adversary=fl.Adversary(data=fl.attacks.LabelFlip(), share=0.25))
    with pytest.raises(SettingError, match="where they are public"):
        fl.Experiment(data=data.spec, algorithm=fl.FedAvg(server_data=fl.ServerData(clients=True)), world=poison)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_as_many_synthetic_images_as_real_ones_stay_where_they_are(norm, data):
    still = fl.distil(data, SMALL.replace(norm=norm), ipc=1000, iterations=2)
    for real, made in zip(data.train, still.train, strict=True):
        for label in data.labels[real].unique():
            first = data.images[real[data.labels[real] == label]].flatten(1)
            second = still.images[made[still.labels[made] == label]].flatten(1)
            assert sorted(first.tolist()) == sorted(second.tolist())


def test_through_an_identity_means_of_classes_become_equal(data):
    model = fl.Model(nn.Flatten(), nn.Linear(64, 10))
    start = fl.distil(data, at=model, rho=0.0, ipc=3, iterations=0)
    moved = fl.distil(data, at=model, rho=0.0, ipc=3, iterations=30, lr=0.5)
    mean, std = (value.view(-1, 1, 1) for value in data.scale)

    def gaps(made):
        for real, own in zip(data.train, made.train, strict=True):
            for label in data.labels[real].unique():
                values = [part[labels == label].double().mean(0) / 255 for part, labels in (
                    (data.images[real], data.labels[real]), (made.images[own], made.labels[own]))]  # fmt: skip
                yield float((values[0] - values[1]).abs().mean())

    before, after = (sum(gaps(made)) for made in (start, moved))
    assert after < 0.25 * before  # pixels below 0 and above 255 are cut off at the end
    assert moved.images.dtype == torch.uint8 and float(std.min()) > 0 and mean.shape == (1, 1, 1)


def test_one_step_is_that_of_a_plain_loop_at_a_distance_from_a_model(data, tmp_path):
    base = train(data, tmp_path, None)
    model = base.model()
    for rho in (0.0, 5.0):
        start = fl.distil(data, at=model, rho=rho, ipc=2, iterations=0, real=1000)
        once = fl.distil(data, at=model, rho=rho, ipc=2, iterations=1, lr=300.0, momentum=0.0, real=1000)
        images = start.prepared(start.train[0]).requires_grad_()
        if rho:
            assert not torch.equal(once.images[once.train[0]], start.images[start.train[0]])
            continue
        loss = 0.0
        for label in start.labels[start.train[0]].unique():
            real = data.prepared(data.train[0][data.labels[data.train[0]] == label])
            for matched in (model.body, model):
                loss = (
                    loss
                    + (matched(real).mean(0) - matched(images)[start.labels[start.train[0]] == label].mean(0))
                    .square()
                    .sum()
                )
        moved = images - 300.0 * torch.autograd.grad(loss, images)[0]
        pixels = ((moved.detach() * start.scale[1].view(-1, 1, 1) + start.scale[0].view(-1, 1, 1)) * 255).clamp(0, 255)
        found = once.images[once.train[0]].float()
        assert float((found - pixels).abs().max()) <= 0.51
        assert float((found - start.images[start.train[0]].float()).abs().max()) >= 1


@pytest.mark.parametrize("change", ["mean", "holdout", "labels"])
def test_distilled_data_that_were_changed_by_hand_are_not_opened_without_them(change, data, few, tmp_path):
    tiny = fl.distil(data, SMALL, ipc=1, iterations=0)
    labels = tiny.labels.clone()
    labels[tiny.holdout[0]] = (labels[tiny.holdout[0]] + 1) % 10
    parts = {"mean": (0.1,), "holdout": tiny.holdout[:20], "labels": labels}
    changed = dataclasses.replace(tiny, **{change: parts[change]})
    runs = [fl.train(fl.FedAvg(), part, SMALL, rounds=1, store=tmp_path, **OPTIONS) for part in (tiny, changed)]
    assert runs[0].id != runs[1].id and fl.Run.open(runs[0].directory, root=few).data.fingerprint == tiny.fingerprint
    with pytest.raises(fl.SettingError, match=r"changed by hand after .* was distilled; give data="):
        fl.Run.open(runs[1].directory, root=few)
    assert fl.Run.open(runs[1].directory, changed).round == 1


def test_what_comes_out_is_a_federation_of_its_own(data, tmp_path):
    tiny = fl.distil(data, SMALL, ipc=2, iterations=2)
    assert (tiny.class_counts() <= 2).all() and tiny.clients == data.clients and torch.equal(tiny.holdout, data.holdout)
    again, other = fl.distil(data, SMALL, ipc=2, iterations=2), fl.distil(data, SMALL, ipc=2, iterations=2, seed=1)
    assert again.fingerprint == tiny.fingerprint != other.fingerprint and torch.equal(again.images, tiny.images)
    runs = [fl.train(fl.FedAvg(), part, SMALL, rounds=1, store=tmp_path, **OPTIONS) for part in (data, tiny, other)]
    assert len({run.id for run in runs}) == 3
    pooled = fl.train(fl.Centralized(), tiny, SMALL, rounds=1, store=tmp_path, **OPTIONS)
    assert pooled.done and len(fl.personalize(runs[1], epochs=1).curve()) == 2
    views = [fl.landscape(runs[0], data=part.samples("train", limit=40), points=3) for part in (data, tiny)]
    plane = ["panel", "name", "x", "y"]
    assert views[0].frame[plane].equals(views[1].frame[plane])
    assert not views[0].frame["loss"].equals(views[1].frame["loss"])
    stopped = fl.distil(data, SMALL, ipc=2, iterations=9, progress=lambda done, total: done < 2)
    assert torch.equal(stopped.images, tiny.images)
    assert dataclasses.is_dataclass(tiny) and tiny.spec.name == "few-distilled"
    for wrong, said in (
        ({"rho": 1.0}, "rho"),
        ({"momentum": 1.0}, "momentum"),
        ({"ipc": 0}, "ipc"),
        ({"at": nn.Linear(2, 2)}, "at"),
    ):
        with pytest.raises(SettingError, match=said):
            fl.distil(data, **wrong)


def test_synthetic_images_are_shown_by_class_beside_real_ones(data):
    tiny = fl.distil(data, SMALL, ipc=2, iterations=1)
    fig = fl.plot(tiny, images=3)
    real, made = (axes.images[0].get_array() for axes in fig.axes)
    assert [axes.get_title() for axes in fig.axes] == ["real", "synthetic"] and real.shape == (90, 27)
    pools = (torch.cat(data.train), torch.cat(tiny.train))
    for label in range(10):
        for shown, pool in zip((real, made), pools, strict=True):
            drawn = torch.tensor(shown[9 * label : 9 * label + 8, :8].astype(int))
            of_class = tiny.images[pool[tiny.labels[pool] == label], 0]
            assert (of_class == drawn).flatten(1).all(1).any()
    assert [axes.get_title() for axes in fl.plot(data, images=2).axes] == ["train images"]


def test_a_run_on_distilled_images_opens_and_goes_on_by_itself(data, few, tmp_path):
    tiny = fl.distil(data, SMALL, ipc=2, iterations=1)
    whole = fl.train(fl.FedAvg(lr=0.05), tiny, SMALL, rounds=2, store=tmp_path / "whole", **OPTIONS)
    made = fl.Run(whole.experiment, tiny, store=tmp_path / "broken", device="cpu").to(1)
    again = fl.Run.open(made.directory, root=few, device="cpu")
    assert again.round == 1 and again.data.spec == tiny.spec and again.data.fingerprint == tiny.fingerprint
    assert torch.equal(again.data.images, tiny.images) and torch.equal(again.data.labels, tiny.labels)
    assert same(again.to(2), whole) and again.history.equals(whole.history)
    assert [run.id for run in fl.runs(tmp_path / "whole", root=few)] == [whole.id]
    other = fl.load("digits").save(tmp_path / "few.npz").parent
    with pytest.raises(SettingError, match=r"distilled from .*data="):
        fl.Run.open(made.directory, root=other)
    with pytest.raises(SettingError, match=r"synthetic images .* no place in such a file; a run that trains on them"):
        tiny.save_partition(tmp_path / "split.json")
    (made.directory / "distilled.npz").unlink()
    with pytest.raises(SettingError, match=r"few-distilled.*data=fl.distil"):
        fl.Run.open(made.directory, root=few)
    assert fl.Run.open(made.directory, tiny).done


def test_distilled_images_keep_fedbabus_constants():
    assert fl.DataSpec(name="cifar10-distilled", normalise="fedbabu").normalise == "fedbabu"
    with pytest.raises(SettingError, match="cifar10 and cifar100"):
        fl.DataSpec(name="digits-distilled", normalise="fedbabu")


def test_a_model_in_other_digits_is_taken_in_float32_and_one_of_other_images_refused(data, few):
    model = fl.models.build(SMALL, data.shape, data.classes, 0)
    settings = {"ipc": 1, "iterations": 2, "real": 16}
    plain, double = (
        fl.distil(data, at=at, **settings)
        for at in (model, fl.models.build(SMALL, data.shape, data.classes, 0).double())
    )
    assert torch.equal(plain.images, double.images)
    other = fl.models.build(SMALL, (data.shape[0] + 1, *data.shape[1:]), data.classes, 0)
    with pytest.raises(SettingError, match=r"at: does not take images \("):
        fl.distil(data, at=other, **settings)


@pytest.mark.parametrize("near", [False, True])
def test_steps_that_turn_images_into_no_numbers_are_refused(near, data):
    model = fl.models.build(SMALL, data.shape, data.classes, 0)
    settings = {"at": model, "rho": 50.0, "lr": 1e6} if near else {"lr": 1e38}
    with pytest.raises(SettingError, match=r"lr = .* no numbers after [0-9]+ iterations"):
        fl.distil(data, ipc=1, iterations=30, real=32, **settings)
