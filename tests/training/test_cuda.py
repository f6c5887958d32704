"""What is promised on a GPU: the same bits again, whoever is computed beside; float32's own digits; runs that go on."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatlab as fl
from flatlab.models import Model, build, split
from flatlab.training import Cohort
from flatlab.training.device import computing_in
from flatlab.training.pool import Workers

DEVICE = "cuda"
NET = fl.ModelSpec(name="cnn4", width=0.25)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="is about a CUDA device"),
]


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.4), clients=8, seed=0)


def experiment(data, **changes):
    options = {"data": data.spec, "model": NET, "algorithm": fl.FedASAM(lr=0.05, momentum=0.9, batch_size=16)}
    options |= {"rounds": 2, "participation": 0.5, "evaluation": fl.Evaluation(clients_every=1)}
    return fl.Experiment(**options | changes)


def bits(run):
    """Of the state and history, all of them."""
    sums = hashlib.blake2b(run.history.to_json(double_precision=15).encode())
    for name, value in sorted(run.state().flat().items()):
        sums.update(name.encode() + value.cpu().numpy().tobytes())
    return sums.hexdigest()


@pytest.mark.parametrize("engine", ["graph", "batch", "loop"])
def test_the_same_experiment_gives_the_same_bits_again(data, engine, tmp_path):
    wanted = experiment(data)
    twice = [
        fl.Run(wanted, data, store=tmp_path / name, device=DEVICE, engine=engine).to() for name in ("first", "again")
    ]
    assert bits(twice[0]) == bits(twice[1])


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.fc = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.fc(self.rows(x.squeeze(1))[0][:, -1])


def test_recurrent_layers_are_trained_one_client_after_another_to_the_same_bits(data, tmp_path):
    torch.manual_seed(0)
    model = split(Rows(), head="fc", example=(1, 8, 8))
    options = {"rounds": 2, "progress": False, "device": DEVICE}
    twice = [fl.train(fl.FedAvg(lr=0.1), data, model, store=tmp_path / name, **options) for name in ("first", "again")]
    assert twice[0].cohort.way == "loop"
    assert bits(twice[0]) == bits(twice[1])


def trained(model, data, clients, algorithm, engine="graph", samples=None, lr=0.05):
    """What clients come to that hold so many samples, or all of theirs: one after another."""
    cohort = Cohort(model.to(DEVICE), data.to(DEVICE), engine)
    params = {name: value.detach() for name, value in cohort.model.named_parameters()}
    indices = [cohort.data.train[client][:samples] for client in clients]
    streams = [("train", 0, client) for client in clients]
    chunks = list(cohort.train(algorithm, params, indices, streams, seed=0, lr=lr))
    return {name: torch.cat([chunk.params[name] for chunk in chunks]).cpu() for name in chunks[0].params}


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("samples", [None, 40], ids=["unequal", "equal"])
def test_a_clients_numbers_do_not_depend_on_how_many_others_are_computed_with_it(data, norm, samples):
    if samples:
        data = dataclasses.replace(data, train=[part[:samples] for part in data.train])
    model = build(NET.replace(norm=norm, groups=2), data.shape, data.classes, 0)
    algorithm = fl.FedASAM(lr=0.05, momentum=0.9, batch_size=16)
    together = trained(model, data, range(8), algorithm)
    for clients in ([3], [2, 3, 7]):
        fewer = trained(model, data, clients, algorithm)
        for name, value in fewer.items():
            assert torch.equal(value, together[name][list(clients)]), (clients, name)


@contextlib.contextmanager
def in_this_process(*_):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool, None, Workers()


def test_a_sweep_together_equals_the_runs_alone_bit_for_bit(data, tmp_path):
    wanted = [experiment(data, seed=seed) for seed in (0, 1)]
    with mock.patch("flatlab.training.sweeping.Pool.started", in_this_process):
        swept = fl.sweep(
            wanted, store=tmp_path / "swept", device=DEVICE, together=True, workers=1, progress=lambda done, total: None
        )
    for run, one in zip(swept, wanted, strict=True):
        assert bits(run) == bits(fl.Run(one, data, store=tmp_path / "alone", device=DEVICE).to())


@pytest.mark.parametrize("engine", ["graph", "loop"])
def test_the_gradient_of_a_step_is_that_of_float64_up_to_rounding(data, engine):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten())
        model = Model(body, nn.Linear(8 * 6 * 6, 10))
    index = data.train[0][:32]
    first = {name: value.detach().clone() for name, value in model.named_parameters()}
    after = trained(model, data, [0], fl.FedAvg(lr=1.0, batch_size=32), engine, samples=32, lr=1.0)
    exact = model.cpu().double()
    F.cross_entropy(exact(data.prepared(index).double()), data.labels[index]).backward()
    for name, weight in exact.named_parameters():
        step = first[name].double() - after[name][0].double()
        assert (step - weight.grad).norm() <= 1e-5 * weight.grad.norm(), name


def test_products_have_float32s_own_digits_or_those_of_tf32():
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=random) for _ in range(2))
    exact = left.double() @ right.double()

    def error(precision):
        with computing_in(precision, DEVICE):
            product = left.to(DEVICE) @ right.to(DEVICE)
        return ((product.cpu().double() - exact).norm() / exact.norm()).item()

    assert error("float32") < 1e-6
    if torch.cuda.get_device_capability() >= (8, 0):  # earlier ones have no TF32
        assert 1e-5 < error("tf32") < 1e-2
        assert error("float32") < 1e-6


@pytest.mark.parametrize("engine", ["graph", "loop"])
def test_a_run_that_diverges_stops_and_shows_the_step(data, engine, tmp_path):
    wanted = experiment(data, algorithm=fl.FedAvg(lr=1e6, batch_size=16), rounds=20)
    run = fl.Run(wanted, data, store=tmp_path, device=DEVICE, engine=engine)
    with pytest.raises(fl.Diverged) as caught:
        run.to()
    error = caught.value
    assert error.round == run.round + 1 and error.step is not None
    assert set(error.indices) <= set(data.train[error.client].tolist())
    assert all(value.isfinite().all() for value in error.params.values())
    assert error.replay().about["step"] == error.step


DYING = """
import os, signal, sys
import flatlab as fl
run = fl.Run(fl.Experiment.from_json(sys.argv[1]), store=sys.argv[2], device=sys.argv[3])
local = run.federation.local
def dying(state, clients):
    for chunk in local(state, clients):
        if state.round == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield chunk
run.federation.local = dying
run.to()
"""


def test_a_run_killed_inside_a_round_goes_on_to_the_same_bits(data, tmp_path):
    wanted = experiment(data, rounds=4)
    command = [sys.executable, "-c", DYING, wanted.to_json(), str(tmp_path / "killed"), DEVICE]
    paths = os.pathsep.join(filter(None, sys.path))
    killed = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = fl.Run(wanted, data, store=tmp_path / "killed", device=DEVICE)
    assert run.round == 2
    assert bits(run.to()) == bits(fl.Run(wanted, data, store=tmp_path / "whole", device=DEVICE).to())
