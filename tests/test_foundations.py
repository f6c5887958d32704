"""Settings, random streams and results: what everything else stands on."""

import ast
import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flatlab as fl
from flatlab import figures
from flatlab.declare import Declared, Family, SettingError, setting
from flatlab.describe import first_line, rows, within
from flatlab.results import Result
from flatlab.streams import key, stream, torch_stream


class Shape(Family):
    """A kind of shape."""


class Circle(Shape):
    """Round."""

    kind: Literal["circle"] = "circle"
    radius: float = setting(1.0, "how wide", gt=0, unit="cm")


class Scene(Declared):
    """What is seen."""

    shape: Shape = setting(Circle(), "what")
    count: int = setting(1, "how many", ge=1, le=9)


@given(st.floats(1e-6, 1e6), st.integers(1, 9))
def test_settings_survive_json(radius, count):
    scene = Scene(shape=Circle(radius=radius), count=count)
    assert Scene.from_json(scene.to_json()) == scene


def test_a_kind_of_flatlabs_own_is_not_hidden_without_a_word():
    class Cube(Shape):
        __module__ = "flatlab.shapes"
        kind: Literal["cube"] = "cube"

    with pytest.warns(UserWarning, match=r"Mine\.kind = 'cube' hides flatlab's own of that name"):

        class Mine(Shape):
            kind: Literal["cube"] = "cube"

    for _ in range(2):  # a notebook's cell, run again, hides only what it made before

        class Own(Cube):
            kind: Literal["own cube"] = "own cube"

    assert Shape.members()["own cube"] is Own
    assert not Own.abstract


class Lamp(Shape):
    """A kind that a later version gave two settings."""

    kind: Literal["lamp"] = "lamp"
    watts: int = setting(40, "power")
    shade: Shape = setting("circle", "its form", new=True)
    colour: str | None = setting(None, "of the light", new=True)


class Spot(Lamp):
    """A kind with another default of the same setting."""

    kind: Literal["spot"] = "spot"
    colour: str | None = setting("white", "of the light", new=True)


def test_a_setting_that_came_later_does_not_rename_what_was_recorded_before():
    old = '{"count":1,"shape":{"kind":"lamp","watts":40}}'
    assert Scene(shape=Lamp()).to_json() == old
    assert Scene.from_json(old) == Scene(shape=Lamp())
    assert Scene(shape="spot").to_json() == '{"count":1,"shape":{"kind":"spot","watts":40}}'
    for shape in (Lamp(colour="red"), Spot(colour="red"), Spot(colour=None), Lamp(shade=Circle(radius=2))):
        scene = Scene(shape=shape)
        assert Scene.from_json(scene.to_json()) == scene
        assert scene.to_json() not in (old, Scene(shape="spot").to_json())


IDS = [  # as flatlab 0.1.0 recorded them
    "fedavg-cnn4-digits-cf3e416ff4",
    "fedavg-cnn4-digits-5938afeec4",
    "fedbabu-lenet-digits-c45e259b85",
    "fedasam-lenet-digits-cca840e123",
    "fedper-cnn4-digits-1bc63f9889",
]


def test_ids_of_recorded_runs_stay():
    data = fl.load("digits").federate(fl.IID(), clients=4)
    small = fl.ModelSpec(name="lenet", width=0.125)
    asam = fl.FedASAM(rho=0.7, swa=fl.SWA(cycle=5), schedule=fl.Steps(), server=fl.Adaptive())
    ids = [
        fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg()).id,
        fl.Experiment(data=data.spec, algorithm=fl.FedAvg()).id,
        fl.Experiment(data=data.spec, algorithm=fl.FedBABU(), model=small, rounds=4, participation=0.5, seed=3).id,
        fl.Experiment(data=data.spec, algorithm=asam, model=small, evaluation=fl.Evaluation(clients_every=2)).id,
        fl.Experiment(data=data.spec, algorithm=fl.FedPer(), parent={"run": "a", "round": 4}).id,
    ]
    assert ids == IDS


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Scene(count=10), ("Scene.count", "10", "≤ 9")),
        (lambda: Scene(count=True), ("Scene.count", "True", "must be a whole number")),
        (lambda: fl.Evaluation(final=False), ("Evaluation.final", "False", "'both'", "'none'")),
        (lambda: Scene(shape="square"), ("Scene.shape", "square", "circle")),
        (lambda: Scene(shape={"kind": ["circle"]}), ("unknown kind", "circle")),
        (lambda: Scene(shape={"kind": "circle", "radius": 0}), ("Circle.radius", "0", "> 0")),
        (lambda: Scene(size=2), ("Scene.size", "no such setting", "count, shape")),
        (lambda: Scene.from_json("{oops"), ("Scene", "not valid JSON")),
        (lambda: Scene().replace(count=0), ("Scene.count", "0")),
    ],
)
def test_errors_name_field_value_and_what_is_allowed(make, parts):
    with pytest.raises(SettingError) as error:
        make()
    for part in parts:
        assert part in str(error.value)


def test_a_class_without_a_kind_is_told_what_it_lacks():
    class Oval(Shape):
        """Nobody can name it in a file."""

    with pytest.raises(SettingError, match=r'Oval: give it a kind: `kind: Literal\["Oval"\] = "Oval"`'):
        Oval()


def test_settings_are_printed_as_they_are_made():
    for made in (fl.FedAvg(), fl.IID(), fl.FedASAM(rho=0.3, swa=fl.SWA(cycle=2))):
        assert str(made) == repr(made) and eval(str(made), {name: getattr(fl, name) for name in fl.__all__}) == made


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Scene().count = 2


def test_rows_of_settings_tell_type_range_default_unit_and_help():
    assert Circle in within(Scene)
    assert rows(Circle)[1] == {
        "name": "radius", "type": "float", "allowed": "> 0", "default": 1.0, "unit": "cm", "help": "how wide",
    }  # fmt: skip
    assert rows(Scene)[1]["allowed"] == "≥ 1, ≤ 9"


def test_streams_depend_on_their_name_alone():
    draws = stream(0, "order", 3, 7).random(4)
    stream(0, "order", 3, 8).random(100)
    assert (stream(0, "order", 3, 7).random(4) == draws).all()
    assert (stream(0, "order", np.int64(3), np.int32(7)).random(4) == draws).all()
    names = [(0, "a", 1, 2), (0, "a", 2, 1), (0, "a", 12), (0, "a", "1", 2), (1, "a", 1, 2), (0, "b", 1, 2)]
    assert len({key(*name) for name in names}) == len(names)
    with pytest.raises(TypeError):
        key(0, "a", 1.5)


def test_torch_streams_leave_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with torch_stream(0, "init"):
        first = torch.rand(2)
    with torch_stream(0, "init"):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(3), wanted)


def test_a_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    result = Result(pd.DataFrame({"x": [1.5, float("nan")], "name": ["a", "b"]}), {"made": [1, 2]})
    path = result.save(tmp_path / "deep" / "result.parquet")
    assert Result.load(path).frame.equals(result.frame)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Result(result.frame.head(1)).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["result.parquet"]


def test_figures_are_equal_files_and_keep_dots_in_their_names(tmp_path, digits):
    first = figures.save(figures.draw(digits), tmp_path / "alpha0.3")
    second = figures.save(figures.draw(digits), tmp_path / "again.png")
    assert [path.name for path in first] == ["alpha0.3.png", "alpha0.3.pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(TypeError, match="no drawing for int"):
        fl.plot(3)


def test_a_class_without_a_docstring_has_no_first_line():
    class Silent(Declared):
        size: int = setting(1, "how big")

    assert (first_line(Silent), first_line(Circle)) == ("", "Round.")


def test_every_error_of_the_package_names_its_setting():
    plain = []
    for path in Path(fl.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "SettingError":
                named = {keyword.arg for keyword in node.keywords} & {"allowed", "problems"}
                if len(node.args) < 3 and not named:
                    plain.append(f"{path.name}:{node.lineno}")
    assert not plain


def test_an_error_of_settings_says_which_one_whatever_its_words():
    with pytest.raises(SettingError) as caught:
        fl.Experiment.from_dict({"data": {"name": "digits", "clients": 0}, "algorithm": {"kind": "FedAvg", "lr": -1.0}})
    told = {problem.field: problem.value for problem in caught.value.problems}
    assert told == {"data.clients": 0, "algorithm.lr": -1.0}
    again = pickle.loads(pickle.dumps(SettingError("own", lambda: 0, "must be: a = b: number")))
    assert again.problems[0].field == "own" and "lambda" in again.problems[0].value and "a = b: number" in str(again)
    plain = SettingError("the disk = full: on fire").problems[0]
    assert (plain.field, plain.path, str(plain)) == ("", [], "the disk = full: on fire")


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: fl.Experiment.from_dict({"data": {"name": "digits"}, "algorithm": "FedAvg", "round": 3}), "rounds"),
        (lambda: fl.Experiment.from_dict({"data": {"name": "digits"}, "algorithm": "FedBABBU"}), "FedBABU"),
        (
            lambda: fl.Experiment.from_dict({"data": {"name": "digits"}, "algorithm": "FedAvg", "model": "resnet8"}),
            "resnet",
        ),
        (lambda: fl.train("FedAvg", fl.load("digits").federate(clients=4), round=3), "rounds"),
        (lambda: fl.sweep([], progres=False), "progress"),
    ],
)
def test_of_an_unknown_name_the_near_one_is_suggested(call, meant):
    with pytest.raises((SettingError, TypeError), match=f"did you mean {meant}"):
        call()
