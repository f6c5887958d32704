"""Gradients of samples a second: as stated, as kept runs had them on this GPU, or as measured now.

A CPU is measured when it is asked for, by real rounds on noise: what earlier runs had depends on what else it did then.
"""

from __future__ import annotations

import json
import time

import numpy as np
import torch
from torch import Tensor

from ..algorithms import FedAvg
from ..data import DataSpec, FederatedDataset
from ..declare import SettingError
from ..tasks import Segmentation
from ..training import Experiment
from ..training.clients import Cohort
from ..training.device import keep_freed_memory
from ..training.network import network
from ..training.pace import with_pace
from ..training.round import Federation
from ..training.threads import cores
from .archive import Archive, gradients, machine, network_key
from .costs import Rate, Speed, samples_a_round, sizes, training_flops

# Stated where nothing is measured: arithmetic of training on one core, what a step costs besides, and a GPU's.
CORE_FLOPS, STEP_SECONDS = 6e10, 2e-3
GPU_FLOPS = 5e12
SECONDS = 0.3  # of rounds that are timed, for each kind of network
FAST = 75  # percentile of kept rates


def arithmetic(experiment: Experiment) -> Rate:
    """One core by a stated rate of arithmetic: the same wherever it is asked, so by it parts of a plan are dealt."""
    each = training_flops(experiment) / CORE_FLOPS + STEP_SECONDS / experiment.algorithm.batch_size
    return 1 / each, f"{CORE_FLOPS:g} FLOP/s stated"


def here(archive: Archive, device: torch.device, gradients_per_second: float | None = None) -> Speed:
    """The speed of this machine.

    Args:
        archive: kept runs, which tell the speed of a GPU.
        device: to compute on.
        gradients_per_second: of all networks, instead.

    Raises:
        SettingError: if that is not positive.
    """
    if gradients_per_second is None:
        return _kept(archive) if device.type == "cuda" else _measured(device)
    if not gradients_per_second > 0:
        raise SettingError("samples_per_second", gradients_per_second, "must be positive")
    return lambda experiment: (gradients_per_second, "stated by the user")


def _kept(archive: Archive) -> Speed:
    """Of runs on this kind of GPU the upper quartile, as a plan trains twelve runs at a time.

    Those that were trained alone, or while others computed, show less than the device can.
    """
    name, speeds = machine({"device": torch.cuda.get_device_name()})["name"], archive.speeds()
    known = {key: [rate for where, rate in rates if where == name] for key, rates in speeds.items()}

    def speed(experiment: Experiment) -> Rate:
        if rates := known.get(network_key(experiment.to_dict())):
            return float(np.percentile(rates, FAST)), "kept runs on this GPU"
        return GPU_FLOPS / training_flops(experiment), f"{GPU_FLOPS:g} FLOP/s stated"

    return speed


def _measured(device: torch.device) -> Speed:
    """Measured now, once for all experiments that compute alike."""
    rates: dict[str, float] = {}

    def speed(experiment: Experiment) -> Rate:
        model, shape = experiment.model.to_dict() | {"head_init": None}, sizes(experiment).shape
        alone = _clients(experiment) == 1  # its steps may be shared among the cores
        key = json.dumps([model, shape, experiment.algorithm.batch_size, alone, experiment.task.kind])
        if key not in rates:
            rates[key] = timed(experiment, device)
        return rates[key], "measured now on this machine"

    return speed


def timed(experiment: Experiment, device: torch.device, seconds: float = SECONDS) -> float:
    """Gradients of samples a second in rounds of plain averaging, of this network, batch size and local step, on noise.

    Clients are as many as keep all cores busy, and do no more than the experiment's, or what takes half the time.
    """
    algorithm, clients = experiment.algorithm, min(_clients(experiment), 2 * cores())
    wanted = samples_a_round(experiment) / _clients(experiment)
    fitting = max(algorithm.batch_size, seconds / 4 * cores() * CORE_FLOPS / training_flops(experiment) / clients)
    held = max(1, int(min(sizes(experiment).train / (experiment.data.clients or 1), wanted, fitting)))
    data = _noise(experiment, clients, held).to(device)
    settings = {name: getattr(algorithm, name) for name in ("batch_size", "momentum", "weight_decay", "local")}
    plain = FedAvg(lr=1e-6, epochs=max(1, int(min(wanted, fitting) / held)), **settings)
    probe = Experiment(data=data.spec, model=experiment.model, algorithm=plain, task=experiment.task, rounds=10**6)
    net = network(probe, None, data, False).to(device)
    federation = Federation(probe, data, net, with_pace(Cohort(net, data, task=probe.task), probe, {}))
    keep_freed_memory()
    state, samples = federation.start(), 0
    state, _ = federation.advance(state)  # the first one also asks for memory and chooses kernels
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        state, report = federation.advance(state)
        samples += report.samples
    return samples * gradients(probe) / spent


def _clients(experiment: Experiment) -> int:
    return experiment.cohort_size(1 if experiment.algorithm.pooled else experiment.data.clients or 1)


def _noise(experiment: Experiment, clients: int, held: int) -> FederatedDataset:
    """Random images of the experiment's shape for so many clients."""
    _, _, _, shape, classes = sizes(experiment)
    count, half = clients * held, (0.5,) * shape[0]

    def drawn(high: int, *size: int) -> Tensor:
        return torch.randint(high, (count, *size), generator=torch.Generator().manual_seed(0))

    masks = drawn(classes, *shape[1:]).byte() if isinstance(experiment.task, Segmentation) else None
    parts, names = torch.arange(count).split(held), tuple(map(str, range(classes)))
    spec = DataSpec(name="noise", clients=clients, augmentation=experiment.data.augmentation)
    images, labels = drawn(256, *shape).byte(), drawn(classes)
    return FederatedDataset(images, labels, parts, parts, torch.arange(1), names, half, half, spec, "", masks=masks)
