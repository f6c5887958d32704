"""What the documentation shows is run as it stands."""

import importlib.util
import inspect
import re
import sys
from collections import OrderedDict
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from torch import nn

import flatlab as fl
from flatlab import figures

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page):
    """The Python blocks of a page, each with the line that it begins in."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.S | re.M):
        yield text[: match.start()].count("\n") + 2, match[1]


@pytest.fixture
def loggers(monkeypatch):
    """Stand-ins for the logging libraries of the how-tos, none of which flatlab needs."""
    stands = {name: MagicMock() for name in ("wandb", "mlflow", "torch.utils.tensorboard")}
    for name, stand in stands.items():
        monkeypatch.setitem(sys.modules, name, stand)
    if importlib.util.find_spec("timm") is None:
        layers = {"conv": nn.Conv2d(1, 4, 3), "bn": nn.BatchNorm2d(4), "flat": nn.Flatten(), "fc": nn.Linear(144, 10)}
        made = MagicMock(return_value=nn.Sequential(OrderedDict(layers)))
        monkeypatch.setitem(sys.modules, "timm", MagicMock(create_model=made))
    return stands


def test_recipes_log_every_round(loggers, tmp_path, monkeypatch):
    test_blocks_run_one_after_another("howto_runs.md", tmp_path, monkeypatch, loggers)
    writer = loggers["torch.utils.tensorboard"].SummaryWriter.return_value.__enter__.return_value
    scored = [(name, step) for (name, _, step), _ in writer.add_scalar.call_args_list]
    assert {("holdout/accuracy", 1), ("holdout/accuracy", 2), ("train/loss", 1), ("train/drift", 2)} <= {*scored}
    for calls in (
        loggers["wandb"].init.return_value.__enter__.return_value.log.call_args_list,
        loggers["mlflow"].log_metrics.call_args_list,
    ):
        assert [told["step"] for _, told in calls] == [1, 2]
        assert all(0 <= values["holdout/accuracy"] <= 1 for (values,), _ in calls)


@pytest.mark.parametrize("page", ["extending.md", "howto.md", "howto_results.md"])
def test_blocks_run_one_after_another(page, tmp_path, monkeypatch, loggers):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code in blocks(page):
        exec(compile("\n" * (line - 1) + code, str(DOCS / page), "exec"), names)


@pytest.mark.slow  # for `make check-docs`
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["../README.md", "guide.md"])
def test_blocks_of_the_first_pages_run_as_they_stand_but_for_widths_and_the_readmes_rounds(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", "small": fl.ModelSpec(name="lenet", width=0.125)}
    for line, code in blocks(page):
        quick = code.replace('"cnn4"', "small")
        if page.endswith("README.md"):
            quick = quick.replace("rounds=40", "rounds=20")
        exec(compile("\n" * (line - 1) + quick, str(DOCS / page), "exec"), names)


def block(page, part):
    return next(code for _, code in blocks(page) if part in code)


def test_a_network_of_timm_trains(digits, tmp_path, monkeypatch):
    pytest.importorskip("timm", reason="the how-to needs timm: pip install timm")
    monkeypatch.chdir(tmp_path)
    names = {"fl": fl, "data": digits}
    exec(block("howto.md", "import timm"), names)
    assert names["model"].head is names["net"].fc or names["model"].head.out_features == 10


def test_a_data_set_of_huggingface_is_federated(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the how-to needs HuggingFace's: pip install datasets")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    rows = [{"image": image, "label": place % 2} for place, image in enumerate(images)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    held = datasets.Dataset.from_list(rows, features=features).train_test_split(0.5, seed=0)
    names = {"np": np, "fl": fl, "images": images, "labels": np.arange(40) % 2}
    exec(block("howto.md", "def from_rows").partition("\n\n\n")[0], names)
    source = names["from_rows"]("hf", held["train"], held["test"], held["train"].features["label"].names)
    assert sorted(map(len, source.federate(fl.IID(), clients=2).train)) == [10, 10]


def test_where_to_change_what_names_files_that_hold_it():
    table = (DOCS / "where.md").read_text(encoding="utf-8").split("|---|\n")[1]
    assert len(table.splitlines()) >= 30
    for row in table.splitlines():
        _, paths, *words = (re.findall("`(.+?)`", cell) for cell in row.strip("| ").split(" | "))
        places = [DOCS.parent / path for path in paths]
        files = [file for place in places for file in (place.glob("*.py") if place.is_dir() else [place])]
        assert files, row
        text = "".join(file.read_text(encoding="utf-8") for file in files)
        for word in [word for cell in words for word in cell]:
            assert word in text, row


def test_the_table_of_drawing_options_names_those_of_each_drawing():
    text = (DOCS / "howto_results.md").read_text(encoding="utf-8").partition("| drawn | options")[2]
    rows = [row.strip("| ").split(" | ") for row in text.partition("\n\n")[0].splitlines()[2:]]
    names = {call: set(re.findall("`([a-z]+)=", options)) for call, options in rows}
    drawings = {kind.__name__: draw for kind, draw in figures._DRAWINGS.items()} | {"Run": figures.draw_runs}
    for call, given in names.items():
        kinds = re.findall("`([A-Z][A-Za-z]+)`", call)
        assert kinds
        for kind in kinds:
            assert set([*inspect.signature(drawings[kind]).parameters][1:]) == given, call
    with_options = {kind for kind, draw in drawings.items() if len(inspect.signature(draw).parameters) > 1} - {
        "list",
        "dict",
    }
    assert with_options == {kind for call in names for kind in re.findall("`([A-Z][A-Za-z]+)`", call)}
