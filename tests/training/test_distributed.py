"""One run by several processes: the same numbers as by one, and no harm if one of them is killed."""

import json
import os
import signal
import subprocess
import sys

import programs
import pytest
import torch
from patience import PATIENCE, free_port, until

import flatlab as fl
from flatlab.training import Ranks
from flatlab.training.checkpoints import Store
from flatlab.training.distributed import _device

ALGORITHMS = {
    "swa, server data": fl.FedBABU(
        lr=0.05,
        local=fl.ASAM(),
        momentum=0.9,
        swa=fl.SWA(start=0.5, cycle=2, low=0.01),
        server_data=fl.ServerData(share=0.1, train="all"),
    ),
    "kept parts, adam": fl.FedPer(lr=0.05, momentum=0.9, keep_momentum=True, server=fl.Adaptive()),
    "gossip": fl.FedBABU(lr=0.05, topology=fl.topology.Matcha(base="complete"), local_steps=5, batch_size=16),
}


@pytest.fixture(scope="module")
def digits(few):
    """Ten clients, whose images no process has to import scikit-learn for."""
    return fl.load("few", few).federate(fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.5), clients=10, seed=0)


def experiment(digits, algorithm, rounds=4):
    return fl.Experiment(
        data=digits.spec,
        model=fl.ModelSpec(name="cnn4", width=0.125, norm="group", groups=2),  # batch statistics amplify rounding
        algorithm=algorithm,
        rounds=rounds,
        participation=0.3 if algorithm.topology is None else 1.0,
        evaluation=fl.Evaluation(clients_every=2),
    )


def toml(value, path):
    """An experiment as a file that `flatlab run` takes."""
    lines = []

    def write(prefix, table):
        simple = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
        lines.append(f"[{prefix}]" if prefix else "")
        lines.extend(f"{k} = {json.dumps(v)}" for k, v in simple.items())
        for k, v in table.items():
            if isinstance(v, dict):
                write(f"{prefix}.{k}".strip("."), v)

    write("", value.to_dict())
    path.write_text("\n".join(lines))
    return path


def alone(digits, value, store):
    return fl.Run(value, digits, store=store, engine="loop", device="cpu").to()


def command(file, store, root):
    return ["-m", "flatlab", "run", str(file), "--store", str(store), "--root", str(root), "--device", "cpu"]


IN_TURN = """
import os, sys
from flatlab.cli import main
commands, last = eval(sys.argv[1]), int(os.environ["MASTER_PORT"])
for place, command in enumerate(commands):  # each in a group of its own, which meets at another port
    os.environ["MASTER_PORT"] = str(last - place)
    if status := main(command):
        sys.exit(status)
"""


def two_ranks(arguments):
    """Two processes that are told what torchrun tells its own, without torchrun."""
    told = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
    }
    return [
        programs.start(arguments, env=os.environ | told | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]


@pytest.fixture(scope="module")
def shared(digits, few, tmp_path_factory):
    """A store in which two processes trained an experiment with each of `ALGORITHMS`; what they said."""
    folder, commands = tmp_path_factory.mktemp("shared"), []
    for place, algorithm in enumerate(ALGORITHMS.values()):
        file = toml(experiment(digits, algorithm), folder / f"{place}.toml")
        commands.append(command(file, folder / "two", few)[2:])
    ranks = two_ranks(["-c", IN_TURN, repr(commands)])
    said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return folder / "two", *map("".join, zip(*said, strict=True))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_processes_give_the_numbers_of_one(digits, shared, tmp_path, name):
    value, (store, out, said) = experiment(digits, ALGORITHMS[name]), shared
    assert out.count(value.id) == 1 and said.count("2 processes") == len(ALGORITHMS)
    two, one = fl.Run(value, digits, store=store, device="cpu"), alone(digits, value, tmp_path / "one")
    keys = ["round", "split", "metric", "client"]
    found, wanted = (run.history.set_index(keys)["value"].sort_index() for run in (two, one))
    assert found.index.equals(wanted.index)
    # Two processes add up in another order than one; accuracies jump where a sample lies between two classes.
    assert (found - wanted).drop("accuracy", level="metric").abs().max() < 2e-4
    state = two.state().flat()
    for key, tensor in one.state().flat().items():
        assert (state[key] - tensor).abs().max() < 2e-4, key


@pytest.mark.slow  # what torchrun tells its processes is told to those above
def test_torchrun_starts_them(digits, few, tmp_path):
    value, store = experiment(digits, ALGORITHMS["gossip"], rounds=2), tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += command(toml(value, tmp_path / "run.toml"), store, few)
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(value.id) == 1 and done.stderr.count("2 processes") == 1
    assert fl.Run(value, digits, store=store, device="cpu").done


def test_a_killed_process_ends_the_others_with_a_message_and_the_run_goes_on(digits, few, tmp_path):
    value = experiment(digits, ALGORITHMS["swa, server data"], rounds=100_000)
    file, store = toml(value, tmp_path / "run.toml"), tmp_path / "two"
    ranks = two_ranks(command(file, store, few))  # torchrun would end the survivor before it can speak
    until(lambda: max(Store(store / value.id).checkpoints(), default=0) >= 3, process=ranks[0])
    ranks[1].send_signal(signal.SIGKILL)
    _, said = ranks[0].communicate(timeout=PATIENCE)
    ranks[1].communicate()
    assert ranks[0].returncode == 1
    assert "another process of this run ended" in said and "go on" in said
    reached = fl.Run(value, digits, store=store, device="cpu")
    assert 3 <= reached.round < 100_000
    assert not reached.history.duplicated(["round", "split", "metric", "client"]).any()
    assert reached.to(reached.round + 2).round > 4


@pytest.mark.parametrize(
    ("asked", "gpus", "wanted"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:1"), ("cuda", 4, "cuda:1"), ("cpu", 2, "cpu"), ("auto", 1, None)],
)
def test_all_processes_of_a_machine_have_a_gpu_or_none(asked, gpus, wanted, monkeypatch):
    """The one without would wait for the others in another kind of group, forever."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for name, value in (("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    if wanted:
        assert _device(asked) == torch.device(wanted)
        return
    with pytest.raises(fl.SettingError, match=r"2 processes on a machine with 1 GPU\(s\); start one for each"):
        _device(asked)


def test_work_is_shared_without_loss_and_evenly():
    ranks = [object.__new__(Ranks) for _ in range(3)]
    for rank, one in enumerate(ranks):
        one.rank, one.size = rank, 3
    work = [50, 10, 10, 10, 10, 10, 10, 5, 5, 30]
    shares = [one.share(work) for one in ranks]
    assert sorted(place for share in shares for place in share) == list(range(10))
    assert [sum(work[place] for place in share) for share in shares] == [50, 50, 50]
    assert [one.share([7]) for one in ranks] == [[0], [], []]
