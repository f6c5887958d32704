"""`flatlab reproduce` as a person uses it."""

import dataclasses
import shlex

import pytest

from flatlab.cli import main
from flatlab.papers import registry
from flatlab.papers.fedbabu import experiment
from flatlab.papers.judging import Claim, Part, Side
from flatlab.papers.quantities import score
from flatlab.papers.tables import Table, cell


@pytest.fixture
def small(monkeypatch):
    """A table of two short runs under the name test.small."""

    def build(scale):
        def make(seed):
            made = experiment("FedAvg", scale="quick", shards=10, epochs=5, seed=seed)
            return made.replace(rounds=2, model=made.model.replace(width=0.125))

        cells = (cell("FedAvg", "holdout", score(), make, (0, 1)),)
        return Table("test.small", "Small", scale, cells, "protocol", "all but two rounds")

    monkeypatch.setitem(registry.BUILDERS, "test.small", build)
    monkeypatch.setattr("flatlab.papers.command.BUILDERS", registry.BUILDERS)


def run(*arguments):
    return main(["reproduce", "--samples-per-second", "1000", *map(str, arguments)])  # no time to measure it


def test_without_names_it_lists_what_there_is(capsys):
    assert run() == 0
    out = capsys.readouterr().out
    for word in ("fedbabu.table13", "fedasam.cifar10", "crossing.table", "fedasam.q3", "quick, short, paper"):
        assert word in out


def test_a_plan_says_runs_samples_hours_disk_and_what_is_left_out(tmp_path, capsys):
    assert run("fedasam.cifar10", "--scale", "short", "--plan", "--results", tmp_path) == 0
    out = capsys.readouterr().out
    for word in ("to train: 36 runs", "samples", "time:", "shared beginnings spare", "disk:", "400 rounds instead of"):
        assert word in out
    assert not list(tmp_path.iterdir())


def test_a_stated_speed_gives_the_hours(tmp_path, capsys):
    assert run("fedasam.figure2", "--scale", "paper", "--plan", "--results", tmp_path) == 0
    # two runs of 20,000 rounds of 2,500 gradients, and 2,020 scorings (+ 21 of the clients) of 10,000 images
    passes = 2 * (20_000 * 2_500 + (2_000 + 20) * 10_000 * 0.45)
    assert f"time: {passes / 1e3 / 3600:.1f} h, of which 0 s measuring (stated by the user)" in capsys.readouterr().out


def test_a_plan_for_slurm_is_an_array_of_parts(tmp_path, capsys):
    assert run("fedasam.cifar10", "--scale", "short", "--plan", "slurm", "--results", tmp_path) == 0
    out = capsys.readouterr().out
    assert "--gres=gpu:1" in out and "--cell" not in out
    assert out.startswith("#!/bin/bash") and "--array=0-17" in out and "--part $SLURM_ARRAY_TASK_ID/18" in out
    assert run("fedasam.cifar10", "--precision", "tf32", "--plan", "slurm", "--results", tmp_path) == 0
    assert "--precision tf32" not in out and "--precision tf32" in capsys.readouterr().out


def test_a_table_is_run_written_and_run_again_with_the_same_numbers(small, tmp_path, capsys):
    where = ("--results", tmp_path / "results", "--store", tmp_path / "runs", "--device", "cpu")
    assert run("test.small", *where) == 0
    out = capsys.readouterr().out
    assert "to train: 2 runs" in out and out.count("written:") == 3
    table = (tmp_path / "results" / "quick" / "test.small.md").read_text()
    assert run("test.small", *where) == 0
    assert "to train: 0 runs (2 are kept)" in capsys.readouterr().out
    assert (tmp_path / "results" / "quick" / "test.small.md").read_text() == table
    assert run("test.small", "--cell", "FedAvg", "holdout", "--again", *where) == 0
    assert capsys.readouterr().out.count(": same") == 2
    assert run("--merge", tmp_path / "results", "--results", tmp_path / "other") == 0
    assert "0 with others" in capsys.readouterr().out
    assert (tmp_path / "other" / "quick" / "test.small.md").exists()


def test_a_cell_is_all_that_is_done_and_the_whole_table_is_written(monkeypatch, small, tmp_path, capsys):
    def build(scale, whole=registry.BUILDERS["test.small"]):
        (known,) = whole(scale).cells
        others = tuple(run.replace(rounds=3) for run in known.experiments)
        return dataclasses.replace(
            whole(scale), cells=(known, dataclasses.replace(known, row="more", experiments=others))
        )

    monkeypatch.setitem(registry.BUILDERS, "test.small", build)
    registry.built.cache_clear()
    where = ("--results", tmp_path / "all results", "--store", tmp_path / "runs", "--device", "cpu")
    assert run("test.small", *where) == 0
    written = {path: path.read_bytes() for path in (tmp_path / "all results" / "quick").iterdir()}
    capsys.readouterr()
    assert run("test.small", "--cell", "more", "holdout", *where) == 0
    assert "to train: 0 runs (2 are kept)" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in written.items())
    assert run("test.small", "--cell", "more", "holdout", "--plan", "slurm", *where) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    asked = shlex.split(line)
    assert asked[asked.index("--cell") :][1:3] == ["more", "holdout"] and asked[asked.index("--device") + 1] == "cpu"
    assert asked[asked.index("--results") + 1] == str(tmp_path / "all results")
    registry.built.cache_clear()


def test_a_part_is_one_of_so_many(capsys):
    with pytest.raises(SystemExit):
        run("fedbabu.table1", "--plan", "--part", "3")
    assert "'3': must be I/N" in capsys.readouterr().err


def test_a_claim_is_said_and_the_file_of_all_claims_is_written_anew(small, tmp_path, capsys, monkeypatch):
    (known,) = registry.BUILDERS["test.small"]("quick").cells
    side = Side("FedAvg", known.quantity, known.experiments)
    made = {
        name: Claim(name, "Small?", (Part("holdout", side, side, "="),), "quick") for name in ("test.q1", "test.q2")
    }
    for module in ("command", "registry", "report"):
        monkeypatch.setattr(f"flatlab.papers.{module}.claims", lambda scale: made)
    assert run("test.q2", "--results", tmp_path / "results", "--store", tmp_path / "runs", "--device", "cpu") == 0
    out, kept = capsys.readouterr().out, (tmp_path / "results" / "quick" / "claims.md").read_text()
    assert "`test.q2`" in out and "difference +0.00 points" in out and "`test.q1`" not in out
    assert "`test.q1`" in kept and "`test.q2`" in kept and out.count("written:") == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fedbabu.tabel1"], ("fedbabu.tabel1", "fedbabu.table1")),
        (["fedbabu.table1", "--cell", "x", "y"], ("'x'", "f=0.1")),
        (["fedbabu.table1", "--plan", "--part", "9/3"], ("9/3",)),
        (["fedbabu.table6", "--cell", "FedAvg, s=10", "5", "--again"], ("--again", "FedAvg, s=10 / 5")),
        (["--merge", "/no/such/folder"], ("/no/such/folder",)),
        (["fedbabu.table1", "--plan", "--samples-per-second", "0"], ("0", "positive")),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, capsys, arguments, parts):
    assert run(*arguments, "--results", tmp_path) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts) and "Traceback" not in message
