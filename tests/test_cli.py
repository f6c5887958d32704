"""The command line as a person uses it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from flatlab.cli import main

TOML = """
rounds = 3
participation = 0.5
model = "cnn4"

[data]
name = "digits"
clients = 6
partition = {kind = "dirichlet", alpha = 0.5}

[algorithm]
kind = "FedBABU"
lr = 0.1
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(TOML)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_run_then_show(toml, tmp_path, capsys):
    assert (
        run("run", toml, "--store", tmp_path / "runs", "--set", "algorithm.lr=0.05", "--set", "model.width=0.25") == 0
    )
    out = capsys.readouterr().out
    assert "FedBABU, 3 of 3 rounds" in out and "global test set" in out and "clients' own test sets" in out
    (directory,) = (tmp_path / "runs").glob("fedbabu*")
    written = json.loads((directory / "experiment.json").read_text())
    assert written["algorithm"]["lr"] == 0.05 and written["model"]["width"] == 0.25
    assert run("show", directory) == 0
    figure = re.search(r"figure: (.*)", capsys.readouterr().out)[1]
    assert os.path.getsize(figure) > 5_000


def test_show_measures_the_geometry_when_asked(toml, tmp_path, capsys):
    settings = ["--set", "model.width=0.25", "--set", "rounds=1", "--set", "data.clients=40"]
    assert run("run", toml, "--store", tmp_path / "runs", *settings) == 0
    (directory,) = (tmp_path / "runs").glob("fedbabu*")
    assert run("show", directory, "--hessian", "--landscape") == 0
    out = capsys.readouterr().out
    assert "eigenvalue" in out
    assert "trace" in out
    assert {"curves.png", "spectrum.pdf", "landscape.png"} <= {path.name for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["algorithm.lr=-1"], ("lr", "-1", "greater than 0")),
        (["algorithm.kind=FedFoo"], ("FedFoo", "FedBABU")),
        (["data.name=imagenet"], ("imagenet", "cifar10", "digits")),
        (["data.partition.alpha=-0.1"], ("alpha", "-0.1", "greater than or equal to 0")),
        (["participation=0"], ("participation", "greater than 0")),
        (["data.partition={kind='classes', per_client=11}"], ("11", "10")),
        (["round=3"], ("round", "no such setting", "rounds")),
        (["data.clients=100000"], ("clients", "100000")),
    ],
)
def test_a_wrong_value_ends_with_2_and_names_it(toml, tmp_path, capsys, changes, parts):
    changed = [word for change in changes for word in ("--set", change)]
    assert run("run", toml, "--store", tmp_path / "runs", *changed) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message
    assert "Traceback" not in message and not list(tmp_path.glob("runs/fed*"))


def test_missing_files_are_named(tmp_path, capsys):
    assert run("run", tmp_path / "none.toml") == 2
    assert "none.toml" in capsys.readouterr().err
    assert run("show", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_schema_lists_every_setting_once(capsys):
    assert run("schema") == 0
    out = capsys.readouterr().out
    for word in ("participation", "rho", "eta", "alpha", "FedBABU", "SWA", "cutout", "head_init"):
        assert word in out
    assert out.count("\nFedBABU:") == 1
    assert run("schema", "--json") == 0
    schema = json.loads(capsys.readouterr().out)
    assert "participation" in schema["Experiment"]["properties"]
    assert schema["kinds"]["Local"]["asam"]["properties"]["rho"]["minimum"] == 0


def test_ctrl_c_ends_after_the_round_in_flight_and_says_how_to_go_on(toml, tmp_path):
    command = [sys.executable, "-m", "flatlab.cli", "run", str(toml), "--store", str(tmp_path / "runs")]
    process = subprocess.Popen([*command, "--set", "rounds=400"], stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "runs"
    deadline = time.monotonic() + 60
    while len(list(checkpoints.glob("*/checkpoints/round-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130, message
    assert re.search(r"stopped after round \d+ of 400; go on with: flatlab run .*rounds=400", message)
    assert "\r" not in message  # no bar where there is no terminal
