"""Same experiment, same machine, same bits: whatever was timed before, and whoever computes it beside whom."""

import contextlib
import hashlib
import itertools
import json
import shutil
import sys
import textwrap
import threading
from typing import ClassVar, Literal

import numpy as np
import programs
import pytest
import torch

import flatlab as fl
from flatlab.models import cuda_kernels

SPEC = fl.ModelSpec(name="cnn4", width=0.125)
PROGRAM = textwrap.dedent(
    """
    import sys, threading, torch
    import flatlab as fl
    if __name__ == "__main__":
        wanted, done = fl.Experiment.from_json(sys.argv[1]), threading.Event()

        def bother():  # what else goes on in the process must not matter either
            while not done.is_set():
                torch.randn(300, 300) @ torch.randn(300, 300)

        torch.set_num_threads(2)
        company = threading.Thread(target=bother)
        company.start()
        for _ in fl.Run(wanted, store="run", device="cpu"):
            pass
        done.set()
        company.join()
        torch.set_num_threads(3)
        fl.sweep([wanted], store="sweep", progress=False, device="cpu")
    """
)


def digest(run):
    """Of states, history and measurements: every bit."""
    sums = hashlib.blake2b()
    for round in range(run.round + 1):
        for name, value in sorted(run.state(round).flat().items()):
            sums.update(f"{round} {name}".encode() + value.cpu().numpy().tobytes())
    sums.update(run.history.to_json(double_precision=15).encode())
    return sums.hexdigest()


def measured(run):
    """Numbers of each kind of measurement, as written."""
    options = {"limit": 60}
    found = [
        fl.hessian(run, **options).top(2).frame,
        fl.landscape(run, points=3, store=False, **options).frame,
        fl.sharpness(run, measures=["sam", "average"], **options).frame,
        fl.personalize(run, epochs=1).frame,
        fl.headless(run).frame,
    ]
    return [frame.to_json(double_precision=15) for frame in found]


@pytest.mark.filterwarnings("ignore:top. the largest eigenvalue")  # of a network that has hardly learned
def test_stores_caches_and_company_change_no_bit(few, tmp_path):
    shutil.copytree(few, tmp_path / "data")  # where the program looks
    data = fl.load("few", few).federate(fl.Dirichlet(alpha=0.5), clients=6, seed=0)
    evaluation = fl.Evaluation(clients_every=1)
    wanted = fl.Experiment(
        data=data.spec, model=SPEC, algorithm=fl.FedASAM(lr=0.1), rounds=2, participation=0.5, evaluation=evaluation
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    away = programs.start(["program.py", wanted.to_json()], cwd=tmp_path)
    options = {"participation": 0.5, "evaluation": evaluation, "progress": False, "device": "cpu"}
    fl.train(wanted.algorithm, data, wanted.model, wanted.rounds, store=tmp_path / "train", **options)
    _, said = away.communicate()
    assert away.returncode == 0, said
    runs = [fl.Run(wanted, data, store=tmp_path / how, device="cpu") for how in ("train", "run", "sweep")]
    assert all(run.done for run in runs)
    assert len({digest(run) for run in runs}) == 1
    recorded = [json.loads((run.directory / "versions.json").read_text()) for run in runs]
    assert {(one["threads"], one["channels_last"], one["convolution"]) for one in recorded} == {(1, True, "grouped")}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = measured(runs[0])
        torch.set_num_threads(3)
        assert measured(runs[1]) == alone
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_single_client_is_shared_among_cores_by_its_work_alone(digits, monkeypatch, tmp_path):
    """Not by a timing, nor by how many threads torch happens to have."""
    small = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.Centralized(), rounds=1)
    threads = set()
    for limit, count in itertools.product((1, 10**12), (1, 2)):
        monkeypatch.setattr("flatlab.training.pace.SHARED", limit)
        monkeypatch.setattr("os.cpu_count", lambda: 4)
        torch.set_num_threads(count)
        threads.add((limit, fl.Run(small, digits, store=tmp_path, device="cpu").cohort.threads))
    torch.set_num_threads(1)
    assert threads == {(1, 4), (10**12, 1)}
    monkeypatch.setattr("flatlab.training.pace.SHARED", 1)
    many = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=1)
    assert fl.Run(many, digits, store=tmp_path, device="cpu").cohort.threads == 1


def test_a_run_keeps_the_pace_that_it_began_with_or_says_that_it_cannot(digits, tmp_path, caplog):
    wanted = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=2, participation=0.3)
    run = fl.Run(wanted, digits, store=tmp_path, device="cpu", channels_last=False, engine="loop")
    run.step()
    file = run.directory / "versions.json"
    before = {"threads": 3, "workers": 1, "channels_last": True}  # as a timing once chose
    later = ("check", "format", "device_type")
    written = {name: value for name, value in json.loads(file.read_text()).items() if name not in later}
    file.write_text(json.dumps(written | before))
    again = fl.Run(wanted, digits, store=tmp_path, device="cpu")
    assert (again.cohort.threads, again.cohort.channels_last) == (3, True)
    assert not caplog.records
    again.step()
    assert "whose batch statistics were inexact" in caplog.text
    assert torch.get_num_threads() == 1
    with pytest.raises(fl.SettingError, match=r"channels_last = False: this run began with True"):
        fl.Run(wanted, digits, store=tmp_path, device="cpu", channels_last=False)


def test_a_run_that_began_as_one_batch_goes_on_as_one_batch(digits, tmp_path, caplog):
    wanted = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=2, participation=0.3)
    fl.Run(wanted, digits, store=tmp_path, engine="batch").step()
    assert fl.Run(wanted, digits, store=tmp_path).cohort.way == "batch"
    looped = fl.Run(wanted, digits, store=tmp_path, engine="loop")  # to measure it
    assert looped.cohort.way == "loop" and not caplog.records
    looped.step()
    kind = looped.device.type
    assert f"with engine 'batch' on {kind} and goes on with 'loop' on {kind}, which rounds differently" in caplog.text


def test_a_run_of_the_time_of_one_graph_for_all_clients_is_told(digits, tmp_path, caplog):
    wanted = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=3, participation=0.3)
    fl.Run(wanted, digits, store=tmp_path, engine="graph").step()
    fl.Run(wanted, digits, store=tmp_path, engine="graph").step()
    assert not caplog.records
    file = tmp_path / wanted.id / "versions.json"
    file.write_text(
        json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in ("graphs", "check", "format")})
    )
    fl.Run(wanted, digits, store=tmp_path, engine="graph").step()
    assert "began with one graph for all clients" in caplog.text


def test_a_memory_format_is_not_dropped_where_clients_are_one_batch(digits, tmp_path):
    wanted = fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=1)
    with pytest.raises(fl.SettingError, match="channels_last = True: of engine 'loop' alone"):
        fl.Run(wanted, digits, store=tmp_path, engine="batch", channels_last=True)
    assert not fl.Run(wanted, digits, store=tmp_path, engine="batch", channels_last=False).cohort.channels_last


def test_first_weights_do_not_depend_on_what_other_threads_draw():
    """Module initialisers draw from torch's global generator, which all threads share."""
    wanted = [value.clone() for value in fl.models.build(SPEC, (3, 32, 32), 10, 7).parameters()]
    done = threading.Event()

    def draw():
        while not done.is_set():
            torch.randn(100)

    def build(seed):
        return [fl.models.build(SPEC, (3, 32, 32), 10, seed).parameters() for _ in range(5)][-1]

    company = [threading.Thread(target=draw), threading.Thread(target=build, args=(1,))]
    for thread in company:
        thread.start()
    try:
        found = [fl.models.build(SPEC, (3, 32, 32), 10, 7).parameters() for _ in range(10)]
    finally:
        done.set()
        for thread in company:
            thread.join()
    assert all(torch.equal(a, b) for weights in found for a, b in zip(weights, wanted, strict=True))


@contextlib.contextmanager
def all_switched():
    """Whatever a program may have switched on or off, at once; afterwards it must still be so."""
    backends = torch.backends
    switches = {
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float64),
        "oneDNN": (lambda: backends.mkldnn.enabled, lambda on: setattr(backends.mkldnn, "enabled", on), False),
        "digits": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
        "fast path": (backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled, True),
        "attention": (backends.cuda.flash_sdp_enabled, backends.cuda.enable_flash_sdp, False),
    }
    before = {name: read() for name, (read, _, _) in switches.items()}
    with (
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
        torch.device("meta"),
        np.errstate(all="raise"),
    ):
        for _, put, wanted in switches.values():
            put(wanted)
        torch.set_flush_denormal(True)
        try:
            yield
            assert [read() for read, _, _ in switches.values()] == [wanted for _, _, wanted in switches.values()]
            assert sys.float_info.min / 2 == 0 and torch.empty(0).is_meta
        finally:
            torch.set_flush_denormal(False)
            for name, (_, put, _) in switches.items():
                put(before[name])


class Watching(fl.Classification):
    """Remembers in what frame it is computed."""

    kind: Literal["watching"] = "watching"
    seen: ClassVar[set[tuple]] = set()

    def losses(self, outputs, targets):
        backends, small = torch.backends, sys.float_info.min
        kernels = (backends.mkldnn.enabled, backends.mha.get_fastpath_enabled(), backends.cuda.flash_sdp_enabled())
        digits = (torch.get_default_dtype(), backends.mkldnn.matmul.fp32_precision, small / 2 == 0)
        self.seen.add((*kernels, *digits, torch.empty(0).device.type, torch.is_autocast_enabled("cpu")))
        return super().losses(outputs, targets)


def everything(store, device):
    """A run from its images to its measurements, in bits."""
    Watching.seen.clear()  # it is part of the class, and so of the id
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.5), clients=3)
    evaluation = fl.Evaluation(clients_every=1)
    settings = {"store": store, "progress": False, "evaluation": evaluation, "task": Watching(), "device": device}
    run = fl.train(fl.FedASAM(aggregation="krum"), data, fl.ModelSpec(name="lenet", width=0.125), 1, **settings)
    run = fl.Run.open(run.directory, device=device)
    path = fl.path(run, run.clients(1)[0], limit=60, points=3, curve=True, steps=2, loss=Watching().losses)
    return [run.id, digest(run), *measured(run), path.frame.to_json(double_precision=15)]


@pytest.mark.filterwarnings("ignore:.*classes of its own")  # which remember
def test_what_a_program_has_switched_on_around_changes_no_bit(digits, tmp_path, device):
    """Nor does it fail somewhere inside: under inference_mode it is refused before work starts."""
    plain = everything(tmp_path / "plain", device)
    with all_switched():
        assert everything(tmp_path / "switched", device) == plain
    kernels = (True, False, device == "cpu")  # on CUDA attention is products
    assert Watching.seen == {(*kernels, torch.float32, "ieee", False, "cpu", False)}
    settings = {"store": tmp_path / "none", "progress": False, "rounds": 1}
    begun = fl.Run(fl.Experiment(data=digits.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=1), store=tmp_path)
    with torch.inference_mode():
        for work in (begun.step, lambda: fl.train(fl.FedAvg(), digits, SPEC, **settings)):
            with pytest.raises(ValueError, match="leave that block"):
                work()
    assert not (tmp_path / "none").exists() and begun.step().number == 1


@pytest.mark.parametrize("fast", [False, True])
def test_cuda_computes_with_cudnns_repeatable_kernels_and_a_programs_choice_holds_again(fast):
    def read():
        cudnn = torch.backends.cudnn
        switches = (cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
        return *switches, torch.get_float32_matmul_precision()

    before = read()
    with cuda_kernels(fast):
        assert read() == (True, True, False, fast, "high" if fast else "highest")
    assert read() == before
