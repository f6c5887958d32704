"""The command line as a person uses it."""

import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import programs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE, until
from planted import experiments, plant

import flatlab as fl
from flatlab.cli import main
from flatlab.command_line import _change
from flatlab.models import registry

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


@pytest.fixture
def quick(monkeypatch):
    """What `show` measures, it measures on few samples and points."""
    monkeypatch.setattr("flatlab.cli.hessian", functools.partial(fl.hessian, limit=60))
    monkeypatch.setattr("flatlab.cli.landscape", functools.partial(fl.landscape, limit=60, points=21))


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


def test_run_and_show_say_every_split_that_is_scored(tmp_path, capsys):
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    images, groups = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.repeat(["ink", "pen", "print"], 20)
    drawn = fl.Source.from_pool("drawn", images, labels, ["no", "yes"], groups=groups)
    drawn.save(tmp_path / "drawn.npz")
    experiment = fl.Experiment(
        data=drawn.federate(fl.Domains(unseen=("ink",), clients_per_domain=2)).spec,
        algorithm=fl.FedAvg(),
        model=fl.ModelSpec(name="lenet", width=0.25),
        rounds=1,
        world=fl.World(adversary=fl.Adversary(share=0.5, data="label_flip")),
    )
    (tmp_path / "experiment.json").write_text(experiment.to_json())
    assert run("run", tmp_path / "experiment.json", "--store", tmp_path / "runs", "--root", tmp_path) == 0
    (directory,) = (tmp_path / "runs").glob("fedavg*")
    said = capsys.readouterr().out
    assert run("show", directory, "--root", tmp_path) == 0
    for out in (said, capsys.readouterr().out):
        assert re.search(r"triggered images +success +1 .*\n", out) and re.search(r"unseen domains +accuracy +1 ", out)


@pytest.mark.usefixtures("quick")
def test_show_measures_the_geometry_when_asked(toml, tmp_path, capsys):
    settings = ["--set", "model.width=0.25", "--set", "rounds=1", "--set", "data.clients=40"]
    assert run("run", toml, "--store", tmp_path / "runs", *settings) == 0
    (directory,) = (tmp_path / "runs").glob("fedbabu*")
    assert run("show", directory, "--hessian", "--landscape") == 0
    out = capsys.readouterr().out
    assert "eigenvalue" in out
    assert "trace" in out
    assert {"curves.png", "spectrum.pdf", "landscape.png"} <= {path.name for path in directory.iterdir()}


def test_numbers_after_set_are_read_as_people_write_them():
    for text, value in {".05": 0.05, "5.": 5.0, "+.5": 0.5, "1_0": 10, "007": 7, "sam": "sam", "true": True}.items():
        assert _change(f"algorithm.lr={text}") == ("algorithm.lr", value)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["algorithm.lr=-1"], ("lr", "-1", "> 0")),
        (["algorithm.kind=FedFoo"], ("FedFoo", "FedBABU")),
        (["data.name=imagenet"], ("imagenet", "cifar10", "digits")),
        (["data.partition.alpha=-0.1"], ("alpha", "-0.1", "≥ 0")),
        (["participation=0"], ("participation", "> 0")),
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


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"flatlab {fl.__version__}\n"


def test_a_mistyped_command_or_option_is_told_the_near_one(capsys):
    for words, meant in ((["shwo", "x"], "did you mean show?"), (["watch", "--stroe", "x"], "did you mean --store?")):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert meant in capsys.readouterr().err


def test_missing_files_are_named(tmp_path, capsys):
    assert run("run", tmp_path / "none.toml") == 2
    assert "none.toml" in capsys.readouterr().err
    assert run("run", tmp_path) == 2
    assert "experiment.json" in capsys.readouterr().err
    assert run("show", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_schema_lists_every_setting_once(capsys, monkeypatch):
    monkeypatch.setattr("flatlab.models.registry._KNOWN", dict(registry._KNOWN))
    fl.models.network("of_my_own")(lambda spec, shape: None)
    assert run("schema") == 0
    out = capsys.readouterr().out
    for word in ("participation", "rho", "eta", "alpha", "FedBABU", "SWA", "cutout", "head_init"):
        assert word in out
    assert out.count("\nFedBABU:") == 1
    assert "Networks: cnn4, lenet" in out and ", of_my_own\n" in out
    costs = dict(re.findall(r"^ *(\S+|local = \S+) +(\d)$", out.partition("Cost of a local step")[2], re.M))
    wanted = {"FedAvg": "1", "FedASAM": "2", "Ditto": "2", "PerFedAvg": "2", "SCAFFOLD": "1", "local = sam": "2"}
    wanted |= {"FedSpeed": "2", "MoFedSAM": "2", "FedGAMMA": "2", "FedSMOO": "2", "FedGloSS": "2", "FedSOL": "2"}
    wanted |= {"FedLESAM": "1", "FedLESAMS": "1", "FedSWA": "1", "FedMoSWA": "1", "FedWMSAM": "1"}
    assert costs.items() >= wanted.items()
    assert run("schema", "--json") == 0
    schema = json.loads(capsys.readouterr().out)
    assert "participation" in schema["Experiment"]["properties"]
    assert run("schema", "--json", "--toml") == 2
    assert "--toml: --json prints something else" in capsys.readouterr().err
    assert schema["kinds"]["Local"]["asam"]["properties"]["rho"]["minimum"] == 0


def test_ctrl_c_ends_after_the_round_in_flight_and_says_how_to_go_on(toml, few, tmp_path):
    command = ["-m", "flatlab.cli", "run", toml, "--store", tmp_path / "runs"]
    command += ["--root", few, "--set", "data.name=few"]  # which needs no scikit-learn
    process = programs.start([*command, "--set", "model.width=0.125", "--set", "rounds=100000"])
    until(lambda: len(list(tmp_path.glob("runs/*/checkpoints/round-*"))) > 1, process=process)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, message
    assert re.search(r"stopped after round \d+ of 100000; go on with: flatlab run .*rounds=100000", message)
    assert "\r" not in message  # no bar where there is no terminal


def test_watch_prints_the_runs_of_a_store(tmp_path, capsys):
    wanted = experiments(2)
    plant(tmp_path, wanted[0], 10)
    plant(tmp_path, wanted[1], 4)
    assert run("watch", "--store", tmp_path) == 0
    head, first, second, total = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["name", "seed", "rounds", "accuracy"]
    assert "10 of 10" in first and "50.0 %" in first and "done" in first and first.endswith(wanted[0].id)
    assert "4 of 10" in second and "00:12" in second and second.endswith(wanted[1].id)
    assert total == "14 of 20 rounds, 1 of 2 runs done, 00:12 left"


@pytest.mark.filterwarnings("ignore:trace")  # an untrained net takes more products than the budget
@pytest.mark.usefixtures("quick")
def test_show_asks_for_a_client_where_no_model_is_global(tmp_path, capsys):
    data = fl.load("digits").federate(fl.IID(), clients=3)
    model = fl.ModelSpec(name="lenet", width=0.125)
    own, shared = (
        fl.train(one, data, model, rounds=1, store=tmp_path, progress=False) for one in (fl.FedPer(), fl.FedAvg())
    )
    for arguments, part in (
        ([own.directory, "--hessian"], "--client 0 to 2"),
        ([own.directory, "--landscape", "--client", "3"], "client = 3: must be one of 0 to 2"),
        ([shared.directory, "--hessian", "--client", "1"], "has a global model"),
        ([own.directory, "--client", "1"], "--client = 1: is of a measurement: give --hessian or --landscape, too"),
        (
            [shared.directory, "--landscape", "--budget", "5"],
            "--budget = 5: is of a measurement: give --hessian, too",
        ),
        ([shared.directory, "--tolerance", "0.1"], "--tolerance = 0.1: is of a measurement: give --hessian, too"),
    ):
        assert run("show", *arguments) == 2
        shown = capsys.readouterr()
        assert part in shown.err and len(shown.err.splitlines()) == 1 and not shown.out
    assert run("show", own.directory) == 0
    assert run("show", own.directory, "--hessian", "--client", "2") == 0
    table = fl.hessian(own, client=2, limit=60).top(5).summary().to_string(index=False)
    assert table in capsys.readouterr().out


def test_watch_goes_on_until_all_are_done(tmp_path, capsys, monkeypatch):
    (one,), rounds = experiments(), iter([3, 10])
    monkeypatch.setattr(time, "sleep", lambda seconds: plant(tmp_path, one, next(rounds)))
    assert run("watch", "--store", tmp_path, "--every", "0.5") == 0
    out = capsys.readouterr().out
    assert re.findall(r"no runs yet|\d+ of 10 rounds", out) == ["no runs yet", "3 of 10 rounds", "10 of 10 rounds"]
    assert "\x1b" not in out  # it may be a file


def test_watch_on_a_terminal_draws_in_place_and_ends_with_ctrl_c(tmp_path, capsys, monkeypatch):
    (one,) = experiments()
    plant(tmp_path, one, 3)
    sleeps = iter([lambda: plant(tmp_path, one, 4), lambda: signal.raise_signal(signal.SIGINT)])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(sleeps)())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("watch", "--store", tmp_path, "--every", "2") == 0
    before, after = capsys.readouterr().out.split("\x1b[3A")  # up over head, row and total
    assert "3 of 10 rounds" in before and "4 of 10 rounds" in after


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [(["--every", "0"], ("every = 0", "more than 0")), (["--every", "nan"], ("every", "nan")), ([], ("holds no run",))],
)
def test_watch_refuses_what_it_cannot_do(tmp_path, capsys, arguments, parts):
    assert run("watch", "--store", tmp_path, *arguments) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts)


JUNK = [
    "",
    "-1",
    "0",
    "1.5",
    "nan",
    "inf",
    "1e400",
    "true",
    "null",
    "[]",
    "{}",
    "[1, 2]",
    "{a = 1}",
    "'",
    '"',
    "[" * 3000,
]
JUNK += [
    "9" * 5000,
    "x" * 100_000,
    "\x1b[31mred",
    "\0",
    "../..",
    "~nobody/x",
    "1\nrounds = 2",
    "\u7f8e$\\frac",
    "2**64",
    "0x10",
]
NAMES = ["rounds", "seed", "participation", "algorithm", "algorithm.lr", "algorithm.kind", "algorithm.local", "model"]
NAMES += ["algorithm.swa", "algorithm.schedule.at", "data", "data.name", "data.clients", "data.partition", "evaluation"]
NAMES += [
    "data.partition.alpha",
    "model.width",
    "model.fingerprint",
    "parent",
    "",
    ".",
    "a.b.c",
    "rounds.x",
    "data.seed",
]
SETTINGS = st.tuples(st.sampled_from(NAMES), st.sampled_from(JUNK)).map("=".join)
OPTIONS = [
    "--store",
    "--root",
    "--device",
    "--wait",
    "--every",
    "--client",
    "--set",
    "--json",
    "--hessian",
    "--nothing",
]
WORDS = st.one_of(SETTINGS, st.sampled_from(JUNK), st.sampled_from(OPTIONS))
LAB = ["lab"] if importlib.util.find_spec("jupyterlab") else []  # left out where only the backend is installed
COMMANDS = st.sampled_from(["run", "show", "watch", "schema", *LAB, "reproduce", "demon", ""])


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(command=COMMANDS, words=st.lists(WORDS, max_size=4), sets=st.lists(SETTINGS, max_size=2), data=st.data())
def test_whatever_is_typed_is_done_or_refused_in_one_line(toml, tmp_path, monkeypatch, command, words, sets, data):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fl.Run, "to", lambda self, **options: self)  # what is right need not be trained here
    monkeypatch.setattr(time, "sleep", mock.Mock(side_effect=KeyboardInterrupt))  # `watch --every` goes on until then
    if LAB:
        monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", lambda **options: None)
    arguments = [command, *words]
    if command == "run" and data.draw(st.booleans()):
        arguments = ["run", str(toml), *(word for one in sets for word in ("--set", one))]
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as ended:  # argparse
            status = ended.code
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("run: ")]
    assert status in (0, 2)
    if status:
        assert len(lines) == 1 and lines[0].startswith("flatlab: ") and len(lines[0]) < 2000 and "\x1b" not in lines[0]


def test_lab_copies_the_notebooks_to_a_folder_and_hands_jupyter_its_options(tmp_path, monkeypatch, capsys):
    nbformat, jupytext = pytest.importorskip("nbformat"), pytest.importorskip("jupytext")
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", lambda argv: started.append(argv))
    assert main(["lab", "--", "--no-browser", "--port=8899"]) == 0
    scripts = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*_*.py"))
    assert f"{len(scripts)} notebooks copied to {tmp_path / 'notebooks'}" in capsys.readouterr().err
    assert Path(started[0][0]).name == "notebooks" and started[0][-2:] == ["--no-browser", "--port=8899"]
    theirs = tmp_path / "course" / "00_tour.ipynb"
    theirs.parent.mkdir()
    theirs.write_text("{}")
    assert main(["lab", "--to", "course"]) == 0 and theirs.read_text() == "{}"
    for script in scripts[1:]:
        copied = nbformat.read(tmp_path / "course" / f"{script.stem}.ipynb", as_version=4)
        wanted = jupytext.read(script)
        assert [(cell.cell_type, cell.source) for cell in copied.cells] == [
            (cell.cell_type, cell.source) for cell in wanted.cells
        ]
    assert main(["lab", "nowhere"]) == 2 and "--to FOLDER" in capsys.readouterr().err
