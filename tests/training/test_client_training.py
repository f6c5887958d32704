"""One batch, one after another, and a plain loop in the test: the same numbers for every algorithm."""

import copy
import dataclasses
import functools
import math
import threading
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

import flatlab as fl
from flatlab.data import prepare
from flatlab.models import build, names
from flatlab.training import Cohort
from flatlab.training import clients as computing
from flatlab.training.batches import batches, plan
from flatlab.training.cuda_graph import Recorded, _rows
from flatlab.training.work import pairs

SWEEP = {
    "FedAvg": fl.FedAvg(batch_size=16, epochs=2),
    "momentum and decay": fl.FedAvg(batch_size=16, momentum=0.9, weight_decay=0.01, clip=1.0),
    "FedProx": fl.FedProx(mu=0.1, batch_size=16, epochs=2),
    "FedBABU": fl.FedBABU(batch_size=16, momentum=0.9),
    "FedSAM": fl.FedSAM(rho=0.05, batch_size=16),
    "FedASAM": fl.FedASAM(rho=0.5, batch_size=16, momentum=0.9),
    "FedBABU with ASAM and FedProx": fl.FedBABU(local=fl.ASAM(rho=0.5), mu=0.1, batch_size=16, epochs=2),
}
# Batch statistics of few samples amplify rounding, and ReLU and max-pool turn it into other branches now and then: in
# float64 the two engines agree to 1e-9, which rules out anything but rounding.
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@functools.cache
def federation(augmentation=None):
    options = {} if augmentation is None else {"augment": augmentation}
    partition = fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.7)
    return fl.load("digits").federate(partition, clients=24, seed=1, **options)


def doubled(model):
    return copy.deepcopy(model).double()


@pytest.fixture
def float64(monkeypatch):
    monkeypatch.setattr("flatlab.data.federated.prepare", lambda *a: prepare(*a).double())


def train(
    algorithm,
    engine,
    chunk=None,
    norm="batch",
    data=None,
    every_epoch=False,
    channels_last=False,
    device="cpu",
    clients=(0, 3, 5, 11),
):
    data = (data or federation()).to(device)
    model = doubled(build(fl.ModelSpec(name="cnn4", norm=norm, width=0.125), data.shape, data.classes, 0)).to(device)
    cohort = Cohort(model, data, engine, chunk, channels_last)
    params = {name: value.detach() for name, value in model.named_parameters()}
    found = list(
        cohort.train(
            algorithm,
            params,
            [data.train[c] for c in clients],
            [("train", 0, c) for c in clients],
            seed=0,
            lr=0.05,
            every_epoch=every_epoch,
        )
    )
    return params, found


def joined(found):
    return {name: torch.cat([part.params[name] for part in found]) for name in found[0].params}


PLAIN, WHOLE = "FedAvg", "FedBABU with ASAM and FedProx"
PAIRS = [(name, "batch") for name in SWEEP] + [(PLAIN, "group"), (WHOLE, "group")]
PAIRS += [pytest.param(name, "group", marks=pytest.mark.slow) for name in SWEEP if name not in (PLAIN, WHOLE)]


@functools.cache
def trained_alone(name, norm, device):
    return train(SWEEP[name], "loop", norm=norm, device=device)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize("engine", ["batch", "graph"])
def test_one_batch_equals_one_after_another(name, engine, norm, device):
    _, alone = trained_alone(name, norm, device)
    _, together = train(SWEEP[name], engine, norm=norm, device=device)
    assert len(alone) == 4 and len(together) == 1
    wanted, found = joined(alone), joined(together)
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], **CLOSE)
    torch.testing.assert_close(together[0].loss, torch.cat([part.loss for part in alone]), **CLOSE)


@pytest.mark.usefixtures("float64")
def test_chunks_of_any_size_give_the_same_numbers():
    algorithm = SWEEP["FedASAM"]
    wanted = joined(train(algorithm, "batch")[1])
    for chunk in (1, 3):
        found = joined(train(algorithm, "batch", chunk)[1])
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key], **CLOSE)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["batch", "graph"])
def test_augmented_batches_with_mixup_are_the_same_in_all_engines(engine, device):
    data = federation(fl.Augmentation(crop=2, flip=True, cutout=2, mixup=1.0))
    wanted = joined(train(SWEEP["FedSAM"], "loop", data=data, device=device)[1])
    found = joined(train(SWEEP["FedSAM"], engine, data=data, device=device)[1])
    plain = joined(train(SWEEP["FedSAM"], "loop", device=device)[1])
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], **CLOSE)
    name = next(iter(plain))
    assert not torch.allclose(plain[name], wanted[name])


@pytest.mark.usefixtures("float64")
def test_the_memory_format_changes_nothing():
    wanted = joined(train(SWEEP["FedAvg"], "loop")[1])
    found = joined(train(SWEEP["FedAvg"], "loop", channels_last=True)[1])
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], **CLOSE)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_local_training_equals_torch_sgd_on_the_same_batches(engine):
    """The reference: torch's own modules, optimiser and autograd, one client, no code of the cohort."""
    data = federation()
    algorithm = fl.FedAvg(batch_size=16, epochs=2, momentum=0.9, weight_decay=0.01)
    _, found = train(algorithm, engine, data=data)
    got = joined(found)
    for row, client in enumerate((0, 3, 5, 11)):
        model = doubled(build(fl.ModelSpec(name="cnn4", norm="batch", width=0.125), data.shape, data.classes, 0))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
        drawn = plan(data, [data.train[client]], [("train", 0, client)], 0, 2, 16)
        for epoch in range(2):
            seen = []
            for start in range(0, len(data.train[client]), 16):
                index = drawn.index[0, epoch].reshape(-1)[start : min(start + 16, len(data.train[client]))]
                seen += index.tolist()
                pixels = data.images[index].double() / 255
                mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (data.mean, data.std))
                optimiser.zero_grad()
                F.cross_entropy(model((pixels - mean) / std), data.labels[index]).backward()
                optimiser.step()
            assert sorted(seen) == sorted(data.train[client].tolist())  # every sample once an epoch, none dropped
        for name, value in model.named_parameters():
            # prepare() normalises in float32, this reference in float64.
            torch.testing.assert_close(got[name][row], value.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("float64")
def test_training_only_the_body_does_not_touch_the_head():
    _, found = train(fl.FedBABU(weight_decay=0.1, momentum=0.9), "batch")
    assert not any(name.startswith("head.") for name in found[0].params)


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_the_model_handed_in_is_never_changed(engine):
    data = federation()
    model = build("cnn4", data.shape, data.classes, 0)
    before = copy.deepcopy(model.state_dict())
    params = {name: value.detach() for name, value in model.named_parameters()}
    list(
        Cohort(model, data, engine).train(
            fl.FedAvg(), params, list(data.train[:3]), [(i,) for i in range(3)], seed=0, lr=0.1
        )
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_snapshots_after_each_epoch_lie_on_the_way_to_the_last(engine):
    one = joined(train(fl.FedAvg(batch_size=16, epochs=1), engine)[1])
    three = train(fl.FedAvg(batch_size=16, epochs=3), engine, every_epoch=True)[1]
    first = joined([part for part in three if part.epoch == 1])
    for key in one:
        torch.testing.assert_close(first[key], one[key], **CLOSE)
    assert sorted({part.epoch for part in three}) == [1, 2, 3]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("partition", [fl.IID(), fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.7)])
def test_a_recorded_step_serves_other_clients_rates_weights_and_momentum(partition, device):
    """Nothing of the round before may be left in the tensors that a graph works on; 60 samples: a shorter last step."""
    data = fl.load("digits").federate(partition, clients=23, seed=1, augment=fl.Augmentation(crop=1, mixup=0.5))
    data = data.to(device)
    model = doubled(build(fl.ModelSpec(name="cnn4", width=0.125), data.shape, data.classes, 0)).to(device)
    graph, loop = (Cohort(model, data, engine) for engine in ("graph", "loop"))
    algorithm = fl.FedASAM(batch_size=16, momentum=0.9, keep_momentum=True, epochs=2)
    random = torch.Generator().manual_seed(0)
    for round, (clients, lr) in enumerate([((0, 1, 2), 0.1), ((7, 3, 9), 0.02), ((5, 1, 8), 0.05)]):
        params = {
            name: value.detach() + 0.01 * torch.randn(value.shape, generator=random).to(value)
            for name, value in model.named_parameters()
        }
        velocity = {
            name: 0.1 * torch.randn(3, *value.shape, generator=random).to(value) for name, value in params.items()
        }
        asked = {
            "indices": [data.train[c] for c in clients],
            "streams": [("train", round, c) for c in clients],
            "seed": [4, 5, 6],
            "lr": lr,
            "memory": {"momentum": velocity},
        }
        (found,) = graph.train(algorithm, params, **asked)
        wanted = list(loop.train(algorithm, params, **asked))
        for key, value in joined(wanted).items():
            torch.testing.assert_close(found.params[key], value, **CLOSE)
            updates = torch.cat([one.message.update[key] for one in wanted])
            torch.testing.assert_close(found.message.update[key], updates, **CLOSE)
            momenta = torch.cat([one.message.memory["momentum"][key] for one in wanted])
            torch.testing.assert_close(found.message.memory["momentum"][key], momenta, **CLOSE)
        torch.testing.assert_close(found.loss, torch.cat([one.loss for one in wanted]), **CLOSE)
    assert len(graph.recordings) == 1


class Elsewhere(fl.Algorithm):
    """Hands on what it received under other names: its former model as momentum, what it remembered as its model."""

    kind: Literal["Elsewhere"] = "Elsewhere"

    def init(self, trained, memory, received, steps):
        return super().init(trained, {"previous": trained}, received, steps)

    def step(self, carry, batch, lr):
        with torch.enable_grad():  # what is given back may still know where it comes from
            leaves = {name: value.detach().requires_grad_() for name, value in carry.params.items()}
            grads, value = batch.gradient(carry.params)
            loss = value + sum(value.pow(2).sum() for value in leaves.values())
            slopes = dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))
            moved = {name: value - lr * (grads[name] + slopes[name]) for name, value in leaves.items()}
        before = carry.memory["previous"]
        mixed = {name: value + 0.3 * before[name] + 0.1 * carry.velocity[name] for name, value in moved.items()}
        return carry._replace(params=mixed, velocity=carry.params, memory={"previous": carry.velocity}), loss


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("held", [None, 40], ids=["padded", "alike"])
def test_a_step_may_hand_on_what_it_received_under_another_name(held, device):
    algorithm, data = Elsewhere(batch_size=16, momentum=0.5, epochs=2), federation()
    if held is not None:
        data = fl.load("digits").federate(fl.IID(), clients=24, seed=1)
        data = dataclasses.replace(data, train=tuple(part[:held] for part in data.train))
    start, wanted = train(algorithm, "loop", data=data, device=device)
    _, found = train(algorithm, "graph", data=data, device=device)
    for name, value in joined(wanted).items():
        assert name != "head.weight" or not torch.allclose(value, start[name].expand_as(value))
        torch.testing.assert_close(joined(found)[name], value, **CLOSE)
    losses = [torch.cat([one.loss for one in made]) for made in (found, wanted)]
    torch.testing.assert_close(*losses, **CLOSE)
    assert not losses[0].requires_grad and not any(value.requires_grad for value in joined(found).values())


@pytest.mark.parametrize("shape", [(3, 10), (3,), (3, 2, 5, 7), (1, 300)])
def test_each_client_s_row_begins_where_a_tensor_of_its_own_would(shape):
    values = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    placed = _rows(values)
    assert torch.equal(placed, values)
    assert all(row.is_contiguous() and (row.data_ptr() - placed.data_ptr()) % 512 == 0 for row in placed)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["batch", "graph"])
def test_out_of_memory_halves_the_chunk_and_is_remembered(engine, monkeypatch, caplog):
    data = federation()
    model = doubled(build(fl.ModelSpec(name="cnn4", width=0.125), data.shape, data.classes, 0))
    params = {name: value.detach() for name, value in model.named_parameters()}
    tried = []

    whole = {"batch": computing.eager, "graph": Recorded.epochs}[engine]

    def small(*given):
        tried.append(len(given[-1].steps))
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("no room for four")
        return whole(*given)

    asked = [fl.FedAvg(batch_size=16), params, list(data.train[:7]), [("train", 0, c) for c in range(7)]]
    wanted = joined(list(Cohort(model, data, "loop").train(*asked, seed=0, lr=0.05)))
    monkeypatch.setattr(*{"batch": (computing, "eager"), "graph": (Recorded, "epochs")}[engine], small)
    cohort = Cohort(model, data, engine)
    for _ in range(2):
        found = list(cohort.train(*asked, seed=0, lr=0.05))
        assert [one.clients for one in found] == [[0, 1, 2], [3, 4, 5], [6]]
        for key, value in wanted.items():
            torch.testing.assert_close(joined(found)[key], value, **CLOSE)
    assert tried.count(7) == 1 and caplog.text.count("out of memory: going on with 3 clients") == 1


@pytest.mark.parametrize("every_epoch", [False, True])
def test_clients_side_by_side_are_bit_equal_to_one_after_another(every_epoch):
    data = federation(fl.Augmentation(crop=1, mixup=0.5))
    model = build(fl.ModelSpec(name="cnn4", width=0.125), data.shape, data.classes, 0)
    params = {name: value.detach() for name, value in model.named_parameters()}
    asked = {
        "indices": list(data.train[:9]),
        "streams": [("train", 0, c) for c in range(9)],
        "seed": 0,
        "lr": 0.05,
        "every_epoch": every_epoch,
    }
    algorithm = fl.FedASAM(batch_size=16, momentum=0.9, keep_momentum=True, epochs=2)
    wanted = list(Cohort(model, data, "loop", threads=1).train(algorithm, params, **asked))
    threads = torch.get_num_threads()
    found = []
    for one in Cohort(model, data, "loop", threads=1, workers=2).train(algorithm, params, **asked):
        assert torch.is_grad_enabled()  # what clients switch off stays theirs
        found.append(one)
    assert torch.get_num_threads() == threads
    assert [(one.clients, one.epoch) for one in found] == [(one.clients, one.epoch) for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.loss, other.loss)
        for mine, value in pairs((one.params, one.message), (other.params, other.message)):
            assert torch.equal(mine, value)


def test_what_a_client_raises_ends_all_that_are_trained_beside_it():
    data = federation()
    model = build(fl.ModelSpec(name="cnn4", width=0.125), data.shape, data.classes, 0)
    params = {name: value.detach() for name, value in model.named_parameters()}
    lost = [*data.train[:3], torch.tensor([10**9]), *data.train[4:9]]
    cohort = Cohort(model, data, "loop", threads=1, workers=2)
    found = cohort.train(fl.FedAvg(), params, lost, [("train", 0, c) for c in range(9)], seed=0, lr=0.05)
    assert [next(found).clients for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(IndexError):
        next(found)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("client")]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_settings_that_differ_between_clients_are_each_clients_own(engine):
    """As in a sweep: each client under its own seed, rate and settings equals the client trained alone under them."""
    data = federation()
    model = doubled(build(fl.ModelSpec(name="cnn4", width=0.125), data.shape, data.classes, 0))
    params = {name: value.detach() for name, value in model.named_parameters()}
    values = {
        "local.rho": [0.1, 0.4, 0.7],
        "local.eta": [0.1, 0.2, 0.3],
        "mu": [0.1, 0.2, 0.5],
        "momentum": [0.9, 0.5, 0.1],
        "weight_decay": [0.1, 0.01, 0.02],
        "clip": [0.5, 1.0, 5.0],
    }
    rates, seeds, clients = [0.1, 0.05, 0.02], [3, 4, 5], [0, 3, 3]

    def under(row):
        inner = {name.removeprefix("local."): value[row] for name, value in values.items() if "." in name}
        outer = {name: value[row] for name, value in values.items() if "." not in name}
        return fl.FedASAM(batch_size=16, local=fl.ASAM(**inner), **outer)

    found = joined(
        list(
            Cohort(model, data, engine).train(
                [under(row) for row in range(3)],
                params,
                [data.train[c] for c in clients],
                [("train", 0, c) for c in clients],
                seed=seeds,
                lr=rates,
            )
        )
    )
    for row, client in enumerate(clients):
        (alone,) = Cohort(model, data, "loop").train(
            under(row), params, [data.train[client]], [("train", 0, client)], seed=seeds[row], lr=rates[row]
        )
        for key, value in alone.params.items():
            torch.testing.assert_close(found[key][row], value[0], **CLOSE)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_bfloat16_is_float32_up_to_its_rounding(engine, norm, device):
    """8 bits of mantissa: the last layer's gradient is off by 1 %, ReLUs that flip make it 5 to 25 % further down."""
    data = federation().to(device)
    model = build(fl.ModelSpec(name="cnn4", norm=norm, width=0.5), data.shape, data.classes, 0).to(device)
    params = {name: value.detach() for name, value in model.named_parameters()}
    moved = {}
    for precision in ("float32", "tf32", "bfloat16"):
        cohort = Cohort(model, data, engine, precision=precision)
        asked = {"indices": [data.train[0][:16]], "streams": [("a",)], "seed": 0, "lr": 0.1}
        (found,) = cohort.train(fl.FedAvg(batch_size=16), params, **asked)
        assert all(value.dtype == torch.float32 for value in [*found.params.values(), found.loss])
        moved[precision] = found.message.update

    def off(name):
        exact = moved["float32"][name]
        return (moved["bfloat16"][name] - exact).norm() / exact.norm()

    assert 1e-4 < off("head.weight") < 0.02
    assert max(off(name) for name in params if name.endswith("conv.weight")) < 0.4
    if device == "cpu":  # which has no tf32
        assert all(torch.equal(moved["tf32"][name], moved["float32"][name]) for name in params)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled(device)


def test_a_plan_draws_the_same_whoever_is_in_the_chunk():
    data = federation(fl.Augmentation(crop=2, flip=True, mixup=0.5))
    both = plan(data, [data.train[0], data.train[1]], [("a", 0), ("a", 1)], 0, 2, 16)
    alone = plan(data, [data.train[1]], [("a", 1)], 0, 2, 16)
    steps = alone.index.shape[2]
    kept = alone.weight[0] > 0
    assert (both.index[1, :, :steps][kept] == alone.index[0][kept]).all()
    for key in alone.draws:
        assert (both.draws[key][1, :, :steps][kept] == alone.draws[key][0][kept]).all()
    assert (both.partner[1, :, :steps][kept] == alone.partner[0][kept]).all()


def test_padding_has_weight_zero_and_full_batches_have_none():
    data = federation()
    counts = [len(data.train[c]) for c in (0, 1)]
    drawn = plan(data, [data.train[0], data.train[1]], [("a", 0), ("a", 1)], 0, 1, 16)
    weights = [b.weight for b in batches(data, drawn, 0)]
    full = min(counts) // 16
    assert all(weight is None for weight in weights[:full])
    assert drawn.weight.sum(axis=(1, 2, 3)).tolist() == counts
    assert names(build("cnn4", data.shape, data.classes, 0), "head") == ("head.weight", "head.bias")
