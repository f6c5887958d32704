"""Running a notebook is no change for git; editing one, or building it anew, is."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SCRIPT = NOTEBOOKS / "unchanged.py"
spec = importlib.util.spec_from_file_location("unchanged", SCRIPT)
unchanged = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unchanged)


@pytest.fixture
def stored():
    return json.loads(next(NOTEBOOKS.glob("00_*.ipynb")).read_text("utf-8"))


def run_by_hand(notebook):
    """What JupyterLab saves after a run: other outputs, numbers and metadata."""
    other = copy.deepcopy(notebook)
    for number, cell in enumerate(other["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number + 40
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"now {number}"]}]
    other["metadata"]["widgets"] = {"state": {}}
    return other


def test_a_run_by_hand_leaves_what_is_stored(stored):
    before = json.dumps(stored)
    assert unchanged.cleaned(json.dumps(run_by_hand(stored)), before) == before


def test_an_edited_cell_and_a_new_build_are_taken(stored):
    edited, built = run_by_hand(stored), run_by_hand(stored)
    edited["cells"][1]["source"] = ["1 + 1"]
    built["metadata"]["flatlab"] = {"outputs": unchanged.digest(built)}
    for changed in (edited, built):
        assert unchanged.cleaned(json.dumps(changed), json.dumps(stored)) == json.dumps(changed)
    assert unchanged.cleaned("no notebook", json.dumps(stored)) == "no notebook"


def test_git_has_nothing_to_commit_after_a_run(stored, tmp_path):
    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    for name, value in (
        ("filter.flatlab-notebook.clean", f'"{sys.executable}" "{SCRIPT}" %f'),
        ("user.name", "a"),
        ("user.email", "a@b.invalid"),
    ):
        git("config", name, value)
    (tmp_path / ".gitattributes").write_text("*.ipynb filter=flatlab-notebook\n")
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(json.dumps(stored))
    git("add", ".")
    git("commit", "--quiet", "--message", "a")
    notebook.write_text(json.dumps(run_by_hand(stored)))
    assert git("diff") == ""
    git("add", "--update")  # as `git commit --all` does
    assert git("status", "--porcelain") == ""
    notebook.write_text(json.dumps({**stored, "cells": stored["cells"][:-1]}))
    assert git("status", "--porcelain") == " M a.ipynb\n"
