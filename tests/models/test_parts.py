"""Parts of a network by kind: norms by the modules' types, a user's context, and one without another."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatlab as fl
from flatlab.declare import SettingError
from flatlab.models import build, names, split, stateless, with_context

NORMED = fl.ModelSpec(name="cnn4", width=0.125)
PLAIN = fl.ModelSpec(name="lenet", width=0.125)
OPTIONS = {"rounds": 2, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def data(few):
    return fl.load("few", root=few).federate("iid", clients=3, seed=0)


def test_norms_are_told_by_the_types_of_modules_not_by_names():
    import torchvision

    net = torchvision.models.resnet18(num_classes=3)
    model = split(stateless(net), head="fc", example=(3, 32, 32))
    norms = names(model, "norms")
    assert len(norms) == 2 * 20 and sum("downsample.1" in name for name in norms) == 6
    assert set(names(model, "all-norms")) == set(names(model)) - set(norms)
    odd = fl.Model(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 2)))
    assert names(odd, "norms") == ("body.1.weight", "body.1.bias", "head.0.weight", "head.0.bias")
    assert names(odd, "body-norms") == ("body.0.weight", "body.0.bias")
    assert names(odd, "head-norms") == ("head.1.weight", "head.1.bias")
    assert names(with_context(build(PLAIN, (1, 8, 8), 10), 2), "context") == ("head.context",)
    for part in ("norms-all", "context", "body.1", "limbs", "all-limbs", ""):
        with pytest.raises(SettingError, match="part"):
            names(odd, part)


def rounds_by_hand(run, kept, lr):
    """Two rounds of full-batch steps of everybody in float64, in which the tensors `kept` are never averaged."""
    data, model = run.data, run.model(0, client=0).double()
    sizes = [len(part) for part in data.train]
    images = [(data.prepared(part).double(), data.labels[part]) for part in data.train]
    start = {name: value.detach() for name, value in model.named_parameters()}
    clients = [dict(start) for _ in sizes]
    for _ in range(2):
        for client, (inputs, labels) in enumerate(images):
            leaves = {name: value.requires_grad_() for name, value in clients[client].items()}
            loss = F.cross_entropy(torch.func.functional_call(model, leaves, (inputs,)), labels)
            grads = torch.autograd.grad(loss, list(leaves.values()))
            clients[client] = {
                name: (value - lr * grad).detach() for (name, value), grad in zip(leaves.items(), grads, strict=True)
            }
        for name in start:
            if name not in kept:
                mean = sum(own[name] * size for own, size in zip(clients, sizes, strict=True)) / sum(sizes)
                clients = [{**own, name: mean.clone()} for own in clients]
    return clients


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_fedbn_is_a_loop_in_which_norms_are_never_averaged(engine, data, tmp_path):
    shifted = data.images.clone()
    shifted[data.train[1]] = 255 - shifted[data.train[1]]
    data = dataclasses.replace(data, images=shifted)
    run = fl.train(
        fl.FedAvg(lr=0.05, share="all-norms", batch_size=1000), data, NORMED, store=tmp_path, engine=engine, **OPTIONS
    )
    norms = names(run.cohort.model, "norms")
    assert run.kept == norms and run.kept_part == "norms" and "holdout" not in set(run.history["split"])
    with pytest.raises(SettingError, match="keep norms for themselves"):
        run.model()
    wanted = rounds_by_hand(run, norms, 0.05)
    for client in range(3):
        for name, value in run.model(client=client).named_parameters():
            torch.testing.assert_close(value.double(), wanted[client][name], rtol=2e-3, atol=2e-5)
    own = [dict(run.model(client=client).named_parameters()) for client in (0, 1)]
    assert all(torch.equal(own[0][name], own[1][name]) != (name in norms) for name in own[0])
    tuned = fl.fine_tuned(run, [1], epochs=1, part="norms")[1]
    changed = [name for name, value in tuned.named_parameters() if not torch.equal(value, own[1][name])]
    assert set(changed) <= set(norms) and changed
    assert fl.hessian(run, limit=40, part="norms", client=1).top(1, order="magnitude").about["parameters"] == sum(
        own[0][name].numel() for name in norms
    )


def test_without_norms_nothing_is_kept(data, tmp_path):
    runs = [
        fl.train(fl.FedAvg(lr=0.05, share=share), data, PLAIN, store=tmp_path, **OPTIONS)
        for share in ("all", "all-norms")
    ]
    first, second = (run.state().params for run in runs)
    assert not runs[1].kept and all(torch.equal(first[name], second[name]) for name in first)
    for wrong in ({"train": "norms"}, {"share": "norms"}, {"share": "context"}):
        with pytest.raises(SettingError, match="this model has no parameters there"):
            fl.train(fl.FedAvg(**wrong), data, PLAIN, store=tmp_path, **OPTIONS)
    for part in ("norms", "context"):
        with pytest.raises(SettingError, match=f"part = '{part}'"):
            fl.personalize(runs[0], epochs=1, part=part)


def test_a_context_of_zeros_changes_no_output_and_no_other_gradient(data):
    plain = build(PLAIN, data.shape, data.classes, seed=3)
    model = build(PLAIN.replace(context=5), data.shape, data.classes, seed=3)
    images, labels = data.samples("holdout", limit=20)
    assert torch.equal(plain.body(images), model.body(images))
    torch.testing.assert_close(plain(images), model(images))
    grads = []
    for network in (plain, model):
        values = torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
        grads.append({name: value for (name, _), value in zip(network.named_parameters(), values, strict=True)})
    features = plain.head.in_features
    for name, value in grads[0].items():
        other = grads[1][name]
        torch.testing.assert_close(other[:, :features] if name == "head.weight" else other, value, rtol=1e-5, atol=1e-7)
    assert float(grads[1]["head.context"].abs().max()) > 0


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_contexts_stay_with_their_clients_and_are_equal_where_clients_are(engine, data, tmp_path):
    twins = data.images.clone(), data.labels.clone()
    first, second = (data.train[client][:20] for client in (0, 1))
    for tensor in twins:
        tensor[second] = tensor[first]
    data = dataclasses.replace(data, images=twins[0], labels=twins[1], train=(first, second, data.train[2]))
    algorithm = fl.FedAvg(lr=0.1, share="all-context", batch_size=1000)
    run = fl.train(algorithm, data, PLAIN.replace(context=4), store=tmp_path, engine=engine, **OPTIONS)
    contexts = run.state().personal["head.context"]
    torch.testing.assert_close(contexts[0], contexts[1], rtol=1e-5, atol=1e-7)
    assert float((contexts[0] - contexts[2]).abs().max()) > 1e-5 and run.kept == ("head.context",)
    wanted = rounds_by_hand(run, run.kept, 0.1)
    for name, value in run.model(client=2).named_parameters():
        torch.testing.assert_close(value.double(), wanted[2][name], rtol=2e-3, atol=2e-5)
    before, after = run.model(client=2), fl.fine_tuned(run, [2], epochs=1, lr=0.1, part="context")[2]
    moved = [
        name
        for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert moved == ["head.context"]
    assert len(fl.headless(run).frame) == 3


def test_older_ids_stay_and_a_context_needs_a_linear_head():
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4"
    deep = fl.Model(nn.Flatten(), nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 2)))
    with pytest.raises(SettingError, match="needs one linear layer"):
        with_context(deep)
    with pytest.raises(SettingError, match="size"):
        with_context(build(PLAIN, (1, 8, 8), 10), 0)
