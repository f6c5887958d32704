"""versions.json says which code made a run, wherever that code lies."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import flatlab
import flatlab as fl
from flatlab.training.provenance import checkout

HOME = Path(flatlab.__file__).parent
GIT = shutil.which("git")


def git(folder, *command):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *who, *command], capture_output=True, text=True, check=True).stdout


def test_versions_say_code_packages_and_processor(tmp_path):
    data = fl.load("digits").federate(fl.IID(), clients=3)
    run = fl.train(fl.FedAvg(), data, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    said = json.loads((run.directory / "versions.json").read_text())
    assert (said["torch"], said["numpy"], said["pandas"]) == (torch.__version__, np.__version__, pd.__version__)
    assert said["torchvision"] == importlib.metadata.version("torchvision")
    assert said["processor"] and said["device"]
    assert said["flatlab"] == fl.__version__ == fl.version.version()
    if GIT and (HOME.parent / ".git").exists():
        assert said["commit"] == git(HOME, "rev-parse", "HEAD").strip()
        assert said["dirty"] in (True, False)


@pytest.mark.skipif(not GIT, reason="needs git")
def test_a_checkout_has_a_commit_and_is_dirty_once_its_files_differ(tmp_path):
    package = tmp_path / "tree" / "flatlab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert checkout(package) == {}
    git(tmp_path / "tree", "init", "-q")
    assert checkout(package) == {}  # no commit yet
    git(tmp_path / "tree", "add", ".")
    git(tmp_path / "tree", "commit", "-qm", "first")
    commit = git(tmp_path / "tree", "rev-parse", "HEAD").strip()
    assert checkout(package) == {"commit": commit, "dirty": False}
    (tmp_path / "tree" / "notes.txt").write_text("beside the package")
    assert checkout(package) == {"commit": commit, "dirty": False}
    (package / "more.py").write_text("")
    assert checkout(package) == {"commit": commit, "dirty": True}
    installed = tmp_path / "tree" / "venv" / "flatlab"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert checkout(installed) == {}  # somebody's project is not the package's


def test_a_source_tree_without_package_metadata_works(tmp_path):
    shutil.copytree(HOME, tmp_path / "flatlab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text('[tool.setuptools_scm]\nfallback_version = "7.8.9"\n')
    script = (
        "import importlib.metadata as m; old = m.version\n"
        "def version(name):\n"
        "    if name == 'flatlab': raise m.PackageNotFoundError(name)\n"
        "    return old(name)\n"
        "m.version = version\n"
        "from flatlab.training.provenance import made_by\n"
        "print(made_by()['flatlab'], 'commit' in made_by())\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])  # which may hold what it imports
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["7.8.9", "False"]
