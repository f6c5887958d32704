"""What only a GPU would show: tensors of two devices in one operation, and steps that wait for numbers."""

import contextlib
import dataclasses

import pytest
import torch
from elsewhere import DEVICE, elsewhere, moved

import flatlab as fl
from flatlab.geometry.sharpness_measures import MEASURES
from flatlab.models import build
from flatlab.training import Cohort, score_clients, score_holdout
from flatlab.training.cuda_graph import Recorded
from flatlab.training.hooks import WholeGradient
from flatlab.training.round import Federation

ALGORITHMS = {
    "FedAvg": fl.FedAvg(batch_size=8, momentum=0.9, weight_decay=0.01, clip=1.0),
    "FedProx": fl.FedProx(mu=0.1, batch_size=8, epochs=2),
    "FedBABU": fl.FedBABU(batch_size=8),
    "FedASAM + SWA": fl.FedASAM(rho=0.5, batch_size=8, momentum=0.9, swa=fl.SWA(start=0.25, cycle=1)),
    "kept parts and momentum": fl.FedPer(batch_size=8, momentum=0.9, keep_momentum=True),
    "adaptive server": fl.FedAvg(batch_size=8, server="adaptive"),
    "server data": fl.FedBABU(batch_size=8, server_data=fl.ServerData(share=0.1)),
}
EIGEN = ("top", "ratio", "trace")  # measured on their own
AUGMENTATIONS = {
    "plain": fl.Augmentation(),
    "crop, flip, hole": fl.Augmentation(crop=2, flip=True, cutout=3),
    "mixup": fl.Augmentation(mixup=0.4),
}


def federated(clients=8, augment=AUGMENTATIONS["plain"]):
    """Few samples each: a step takes as long here as on images, for its operations are looked at one by one."""
    data = fl.load("digits").federate(fl.IID(), clients=clients, seed=1, augment=augment)
    train = tuple(part[: 10 + 3 * client % 7] for client, part in enumerate(data.train))
    return dataclasses.replace(data, train=train, test=tuple(part[:9] for part in data.test))


def network(data, norm="batch"):
    return build(fl.ModelSpec(name="cnn4", norm=norm, width=0.25), data.shape, data.classes, 0)


def federation(data, watched, algorithm, chunk=None, norm="batch"):
    model = network(data, norm).to(DEVICE)
    every = fl.Evaluation(clients_every=1)
    made = fl.Experiment(data=data.spec, algorithm=algorithm, rounds=4, participation=0.5, evaluation=every)
    return Federation(made, watched, model, Cohort(model, watched, "graph", chunk))


def test_the_watch_sees_mixing_and_waiting(monkeypatch):
    here, there = torch.ones(3), torch.ones(3, device=DEVICE)
    with elsewhere(monkeypatch) as watch:
        with contextlib.suppress(RuntimeError):
            here + there
        assert [name for name, _ in watch.mixed] == ["aten::add.Tensor"]
        for wait in (
            lambda: there.sum().item(),
            lambda: there.tolist(),
            lambda: there.cpu(),
            lambda: there.to(DEVICE).copy_(here),
            lambda: there[torch.tensor([0])],
            lambda: here.to(DEVICE),
            lambda: here.copy_(there),
            lambda: torch.tensor([1.0], device=DEVICE),
            lambda: torch.as_tensor([1.0], device=DEVICE),
            lambda: there.new_tensor([1.0]),
            lambda: torch.ones(()).to(there),
            lambda: there[0].copy_(torch.ones(())),
            lambda: bool((there > 0).all()),
        ):
            watch.clear()
            wait()
            assert watch.waits and not watch.mixed
        for wait in (there.nonzero, lambda: there.masked_select(there > 0)):  # of a size that only the numbers tell
            watch.clear()
            with contextlib.suppress(RuntimeError):
                wait()
            assert watch.waits and not watch.mixed
        watch.clear()
        (there * 2 + 1).sum() + torch.ones(3, device=DEVICE)[torch.zeros(2, dtype=torch.int64, device=DEVICE)]
        torch.as_tensor(there), there[1:].copy_(there[:2])
        assert not watch.waits and not watch.mixed


EQUAL, UNEQUAL = (20, 20), (20, 31)  # samples of the clients: the latter's batches are masked
STEPS = [(name, "plain", "batch", UNEQUAL) for name in ALGORITHMS]
STEPS += [("FedAvg", "plain", "group", UNEQUAL), ("FedAvg", "crop, flip, hole", "batch", UNEQUAL)]
STEPS += [("FedAvg", "mixup", "group", UNEQUAL), ("FedAvg", "mixup", "batch", EQUAL)]
STEPS += [
    ("whole gradient", "plain", "batch", EQUAL),
    ("FedAvg", "plain", "group", EQUAL),
    ("FedASAM + SWA", "plain", "batch", EQUAL),
]


@pytest.mark.parametrize(("algorithm", "augment", "norm", "held"), STEPS, ids=str)
def test_no_step_waits_so_each_can_be_recorded(algorithm, augment, norm, held, monkeypatch):
    data, steps = federated(augment=AUGMENTATIONS[augment]), 0
    indices = [torch.arange(count) for count in held]
    model, found = network(data, norm).to(DEVICE), []
    whole = Recorded._step

    def watched(self, client, kept):
        nonlocal steps
        watch.clear()
        whole(self, client, kept)
        found.extend(watch.waits + watch.mixed)
        steps += 1

    monkeypatch.setattr(Recorded, "_step", watched)
    with elsewhere(monkeypatch) as watch:
        there = moved(data)
        cohort = Cohort(model, there, "graph")
        params = {name: value.detach() for name, value in model.named_parameters()}
        streams = [("train", 0, client) for client in range(len(held))]
        work = WholeGradient(8, "all") if algorithm == "whole gradient" else ALGORITHMS[algorithm]
        for _ in cohort.train(work, params, indices, streams, seed=0, lr=0.1):
            pass
    assert steps > 1
    assert not found


@pytest.mark.parametrize(("algorithm", "chunk"), [("FedAvg", None), *((name, 3) for name in ALGORITHMS)])
def test_a_round_and_its_scores_stay_on_the_device(algorithm, chunk, monkeypatch):
    data = federated()
    with elsewhere(monkeypatch) as watch:
        work = federation(data, moved(data), ALGORITHMS[algorithm], chunk)
        state, averaged = work.start(), ALGORITHMS[algorithm].swa is not None
        for _ in range(2 + averaged):  # the second has what the first left, the third adds to an average
            state, report = work.advance(state)
            work.evaluate(state, report)
        for protocol in ("client", "batch128"):
            score_clients(work.cohort, state.served, range(8), protocol, state.personal)
        assert {value.device.type for value in state.flat().values()} == {DEVICE}
        assert not watch.mixed


def test_a_round_waits_as_often_for_many_clients_as_for_few(monkeypatch):
    waits = []
    for clients in (6, 12):
        data = federated(clients)
        with elsewhere(monkeypatch) as watch:
            work = federation(data, moved(data), ALGORITHMS["FedAvg"])
            state, report = work.advance(work.start())
            watch.clear()
            state, report = work.advance(state)
            work.evaluate(state, report)
            waits.append(len(watch.waits))
    assert waits[0] == waits[1]


def test_scoring_waits_as_often_for_many_batches_as_for_few(monkeypatch):
    data = federated()
    with elsewhere(monkeypatch) as watch:
        there, model, waits = moved(data), network(data).to(DEVICE), []
        params = {name: value.detach() for name, value in model.named_parameters()}
        for batch_size in (16, 200):
            watch.clear()
            score_holdout(Cohort(model, there, "loop"), params, batch_size)
            waits.append(len(watch.waits))
    assert waits[0] == waits[1]


MEASUREMENTS = {
    "top": lambda *on, **with_: fl.hessian(*on, budget=6, **with_).top(2),
    "trace": lambda *on, **with_: fl.hessian(*on, budget=20, **with_).trace(),
    "spectrum": lambda *on, **with_: fl.hessian(*on, **with_).spectrum(steps=4),
    "power": lambda *on, **with_: fl.hessian(*on, method="power", **with_).top(2),
    "landscape": lambda *on, **with_: fl.landscape(*on, points=5, **with_),
    "sharpness": lambda *on, **with_: fl.sharpness(
        *on, measures=[m for m in MEASURES if m not in EIGEN], draws=2, **with_
    ),
}


@pytest.mark.parametrize(
    ("name", "norm"), [*((name, "batch") for name in MEASUREMENTS), ("top", "group"), ("landscape", "group")]
)
@pytest.mark.filterwarnings("ignore:.*not converged")  # there are no numbers to converge
def test_geometry_stays_on_the_device(name, norm, monkeypatch):
    data = federated()
    images, labels = (value.to(DEVICE) for value in data.samples(limit=64))
    model = network(data, norm).to(DEVICE)
    with elsewhere(monkeypatch) as watch:
        MEASUREMENTS[name](model, (images, labels), one_class=True)  # all numbers are 1 here, labels too
        assert not watch.mixed
