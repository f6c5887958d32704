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


@pytest.fixture
def checkout(stored, tmp_path, monkeypatch):
    """A repository with the filter and one notebook; gives what asks git there."""

    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    for name, value in (("user.name", "a"), ("user.email", "a@b.invalid")):
        git("config", name, value)
    monkeypatch.setattr(unchanged, "HERE", tmp_path / "notebooks" / SCRIPT.name)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / SCRIPT.name).write_text(SCRIPT.read_text("utf-8"), "utf-8")
    unchanged.install()
    (tmp_path / ".gitattributes").write_text("a.ipynb filter=flatlab-notebook\n")
    for name in ("a.ipynb", "b.ipynb"):
        (tmp_path / name).write_text(json.dumps(stored))
    git("add", ".gitattributes", "a.ipynb", "b.ipynb")
    git("commit", "--quiet", "--message", "a")
    (tmp_path / ".git" / "info" / "exclude").write_text("notebooks\nenvironment\n")
    return git


def test_git_has_nothing_to_commit_after_a_run(checkout, stored, tmp_path):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(json.dumps(run_by_hand(stored)))
    assert checkout("diff") == ""
    checkout("add", "--update")  # as `git commit --all` does
    assert checkout("status", "--porcelain") == ""
    notebook.write_text(json.dumps({**stored, "cells": stored["cells"][:-1]}))
    assert checkout("status", "--porcelain") == " M a.ipynb\n"


def test_git_lists_no_notebook_that_jupyter_saved_after_a_run(checkout, stored, tmp_path):
    def save(name, notebook):
        (tmp_path / name).write_text(json.dumps(notebook))
        unchanged.saved({"type": "notebook"}, str(tmp_path / name), None)
        return checkout("status", "--porcelain")

    assert save("a.ipynb", run_by_hand(stored)) == ""
    assert save("a.ipynb", {**stored, "cells": stored["cells"][:-1]}) == " M a.ipynb\n"  # not staged
    assert save("a.ipynb", run_by_hand(stored)) == ""
    assert save("b.ipynb", run_by_hand(stored)) == " M b.ipynb\n"  # nobody said that this one is ours


def test_git_lists_no_notebook_that_a_command_of_jupyter_ran_in_place(checkout, stored, tmp_path):
    notebook, settings = tmp_path / "a.ipynb", tmp_path / "environment" / "etc" / "jupyter" / "jupyter_config.py"
    command = "import sys, types; c = types.SimpleNamespace(ContentsManager=types.SimpleNamespace());"
    command += "exec(open(sys.argv[1]).read()); open(sys.argv[2], 'w').write(sys.stdin.read())"
    hook = settings.read_text("utf-8").replace(str(SCRIPT.parent), str(tmp_path / "notebooks"))
    settings.write_text(hook, "utf-8")
    for text, listed in ((run_by_hand(stored), ""), ({**stored, "cells": stored["cells"][:-1]}, " M a.ipynb\n")):
        subprocess.run(
            [sys.executable, "-c", command, settings, notebook], input=json.dumps(text), text=True, check=True
        )
        assert checkout("status", "--porcelain") == listed


def test_a_checkout_without_environment_or_script_is_no_error_for_git(checkout, stored, tmp_path):
    (tmp_path / "notebooks" / SCRIPT.name).unlink()
    (tmp_path / "a.ipynb").write_text(json.dumps(run_by_hand(stored)))
    said = subprocess.run(["git", "diff", "--stat"], cwd=tmp_path, capture_output=True, text=True)
    assert "a.ipynb" in said.stdout and not said.stderr


def test_settings_of_jupyter_that_others_wrote_stay(checkout, tmp_path):
    settings = tmp_path / "environment" / "etc" / "jupyter" / "jupyter_config.py"
    assert "unchanged.saved" in settings.read_text("utf-8")
    settings.write_text("# mine\n")
    unchanged.install()
    assert settings.read_text("utf-8") == "# mine\n"


def test_a_save_in_jupyter_leaves_the_script_as_it_is(tmp_path):
    jupytext = pytest.importorskip("jupytext")
    for file in (NOTEBOOKS.parent / "jupytext.toml", NOTEBOOKS / "02_landscape.py", NOTEBOOKS / "02_landscape.ipynb"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    script = tmp_path / "02_landscape.py"
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    model = manager.get("02_landscape.ipynb")
    model["content"].metadata.kernelspec.display_name = "Python 3 (ipykernel)"  # as the kernel is called where it runs
    model["content"].cells[0].metadata["trusted"] = True
    before = script.stat().st_mtime_ns
    manager.save(model, "02_landscape.ipynb")
    assert script.stat().st_mtime_ns > before
    assert script.read_text("utf-8") == (NOTEBOOKS / "02_landscape.py").read_text("utf-8")
