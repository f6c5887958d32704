"""Wrong arguments of every public function: refused by name and value, before any work starts."""

import dataclasses
import inspect
import json
import math
import re
import typing
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import flatlab as fl
from flatlab import figures
from flatlab.arguments import Count, Seed, Share, Whole, check_arguments, checked, fitted
from flatlab.declare import Declared, setting, shown
from flatlab.geometry import Landscape, Spectrum
from flatlab.geometry.hessian_api import Hessian
from flatlab.geometry.model_hessian import ModelHessian
from flatlab.models import build, split, stateless
from flatlab.training.run_view import RunView

FUNCTIONS = [getattr(fl, name) for name in fl.__all__ if inspect.isfunction(getattr(fl, name))]
FUNCTIONS += [build, split, stateless, figures.cohort_table, figures.draw_cohort, figures.draw_gains, figures.save]
CLASSES = [
    fl.Run,
    RunView,
    fl.Source,
    fl.FederatedDataset,
    fl.DataSpec,
    Hessian,
    ModelHessian,
    Landscape,
    Spectrum,
    fl.lab.Session,
    fl.lab.Lab,
]
UNCHECKED = {
    "plot": "a door: the drawings behind it are checked",
    "setting": "declares, for who writes a class; pydantic checks it",
    "Run.step": "takes nothing",
    "to": "FederatedDataset.to: torch knows its devices",
    "prepared": "tensors only",
    "targets": "tensors only, for each batch",
    "compute": "for panels",
    "fill": "for panels",
    "from_arrays": "arrays, each with its own checks",
    "aensure": "by what it calls",
}
JUNK = (object(), "nonsense", -1, 1.5, True, math.nan, math.inf, 10**400, b"x", {"a": 1}, [object()], "9" * 10**6)


def methods():
    for cls in CLASSES:
        for name, member in vars(cls).items():
            member = getattr(member, "__func__", member)
            made = name == "__init__" and dataclasses.is_dataclass(cls)
            if inspect.isfunction(member) and not made and (not name.startswith("_") or name == "__init__"):
                yield cls, name, member


CALLABLES = [(function.__name__, function) for function in FUNCTIONS]
CALLABLES += [(f"{cls.__name__}.{name}", member) for cls, name, member in methods()]
CHECKED = [(name, function) for name, function in CALLABLES if hasattr(function, "__wrapped__")]


def hints(function):
    """Of its arguments, and of the settings that are made of some of them."""
    declared = getattr(function, "settings", None)
    settings = {} if declared is None else typing.get_type_hints(declared, include_extras=True)
    function = inspect.unwrap(function)
    found = typing.get_type_hints(function, include_extras=True)
    kinds = {name: parameter.kind for name, parameter in inspect.signature(function).parameters.items()}
    own = {name: hint for name, hint in found.items() if kinds.get(name) in (1, 3)}  # no *rest, no **rest
    own.pop("settings", None)
    return own | {name: settings[name] for name in getattr(declared, "model_fields", ())}


def fits(value: Any, hint: Any) -> bool:
    """Plainly, and apart from the mechanism: whether a value is what an annotation says."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        if isinstance(value, int) and abs(value) >= 2**63 and hint is not Seed:
            return False
        rules = [rule for part in parts[1:] for rule in getattr(part, "metadata", ())]
        low = [rule.ge for rule in rules if hasattr(rule, "ge")] + [rule.gt for rule in rules if hasattr(rule, "gt")]
        high = [rule.le for rule in rules if hasattr(rule, "le")] + [rule.lt for rule in rules if hasattr(rule, "lt")]
        inside = fits(value, parts[0]) and all(value >= limit for limit in low) and all(value <= li for li in high)
        return inside and not any(
            value == getattr(rule, sign) for rule in rules for sign in ("gt", "lt") if hasattr(rule, sign)
        )
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin in (Sequence, Iterable):
        return isinstance(value, list) and all(fits(one, parts[0]) for one in value)
    if hint is int:
        return type(value) is int
    if hint is float:
        return type(value) in (int, float) and abs(value) < 1e300
    if origin is dict or origin is typing.Mapping:
        return isinstance(value, dict)
    if origin is not None:
        return isinstance(value, origin)
    return type(value) is hint if hint is bool else isinstance(value, hint)


def test_every_public_function_is_checked():
    open_ones = [name for name, function in CALLABLES if not hasattr(function, "__wrapped__") and hints(function)]
    assert not [name for name in open_ones if name.split(".")[-1] not in UNCHECKED and name not in UNCHECKED]


@pytest.mark.parametrize(("name", "function"), CHECKED, ids=[name for name, _ in CHECKED])
def test_what_does_not_fit_is_refused_by_name_and_value(name, function):
    tried = 0
    for argument, hint in hints(function).items():
        for junk in JUNK:
            if fits(junk, hint):
                continue
            with pytest.raises(fl.SettingError) as caught:
                check_arguments(function, {argument: junk})
            said = str(caught.value)
            if argument in getattr(getattr(function, "settings", None), "model_fields", ()):
                given = "" if isinstance(junk, dict) else f" = {shown(junk)}"
                assert said.startswith(f"{name.removesuffix('.__init__')}.{argument}{given}: ") and len(said) < 600
                continue
            assert said.startswith(f"{argument} = {shown(junk)}: must be ") and len(said) < 600 and "\n" not in said
            tried += 1
    assert tried or all(hint is Any for hint in hints(function).values())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = fl.load("digits").federate(fl.IID(), clients=6, seed=0)
    evaluation = fl.Evaluation(clients_every=1)
    where = {"store": tmp_path_factory.mktemp("runs"), "progress": False, "evaluation": evaluation}
    return fl.train(fl.FedAvg(lr=0.05), data, fl.ModelSpec(name="lenet", width=0.125), 2, **where)


WRONG = {
    "round = 1.5": lambda run: run.rewind(1.5),
    "round = -1": lambda run: run.rewind(-1),
    "round = True": lambda run: run.to(True),
    "round = 3": lambda run: run.to(3),
    "round = 7": lambda run: run.state(7),
    "wait = nan": lambda run: run.to(wait=math.nan),
    "round = '1'": lambda run: run.fork("1", rounds=9),
    "round = 0": lambda run: run.clients(0),
    "which = 'best'": lambda run: run.model(which="best"),
    "client = 1.0": lambda run: run.model(client=1.0),
    "client = 6": lambda run: run.model(client=6),
    "channels_last = '1'": lambda run: fl.train("FedAvg", run.data, channels_last="1"),
    "rounds = 2.0": lambda run: fl.train("FedAvg", run.data, rounds=2.0),
    "progress = 'no'": lambda run: fl.train("FedAvg", run.data, progress="no"),
    "data = Source": lambda run: fl.train("FedAvg", fl.load("digits")),
    "data = 'x'": lambda run: fl.train("FedAvg", "x"),
    "clients = [1.9]": lambda run: fl.personalize(run, clients=[1.9]),
    "clients = [True]": lambda run: fl.personalize(run, clients=[True]),
    "clients = [6]": lambda run: fl.personalize(run, clients=[6]),
    "clients = '12'": lambda run: fl.personalize(run, clients="12"),
    "round = 'last'": lambda run: fl.personalize(run, round="last"),
    "personalize.lr = nan": lambda run: fl.personalize(run, lr=math.nan),
    "runs = 'x'": lambda run: fl.personalize("x"),
    "runs = []": lambda run: fl.personalize([]),
    "fine_tuned.epochs = 0": lambda run: fl.fine_tuned(run, [0], 0),
    "batch_size = 2.5": lambda run: fl.headless(run, batch_size=2.5),
    "sharpness.limit = nan": lambda run: fl.sharpness(run, limit=math.nan),
    "hessian.limit = 0": lambda run: fl.hessian(run, limit=0),
    "sharpness.rho = inf": lambda run: fl.sharpness(run, rho=math.inf),
    "measures = ['tip']": lambda run: fl.sharpness(run, measures=["tip"]),
    "clients = [9]": lambda run: fl.sharpness(run, clients=[9]),
    "measure = 'tip'": lambda run: fl.flatness_vs_gain(run, "tip"),
    "flatness_vs_gain.which = 3": lambda run: fl.flatness_vs_gain(run, which=3),
    "personalize.epochs = -2": lambda run: fl.flatness_vs_gain(run, tuning={"epochs": -2}),
    "path.curve = 1000": lambda run: fl.path(run, run, curve=10**400),
    "landscape: points = 4": lambda run: fl.landscape(run, points=4),
    "landscape.points = 1000000001": lambda run: fl.landscape(run, points=10**9 + 1),
    "landscape.directions = 'up'": lambda run: fl.landscape(run, directions="up"),
    "landscape.dimensions = 3": lambda run: fl.landscape(run, dimensions=3),
    "landscape.span = 0": lambda run: fl.landscape(run, span=0),
    "data = 'all'": lambda run: fl.landscape(run, "all"),
    "run = 'abc'": lambda run: fl.landscape("abc"),
    "data = ''": lambda run: fl.sharpness(run, "", measures=["sam"]),
    "client = 0": lambda run: fl.sharpness(run, [], clients=[0]),
    "store = 'xxx": lambda run: fl.Run(run.experiment, store="x" * 5000),
    "directory = 'xxx": lambda run: fl.Run.open("x" * 5000),
    "landscape.batch = '8'": lambda run: fl.landscape(run, batch="8"),
    "k = 0": lambda run: fl.hessian(run).top(0),
    "k = 1.5": lambda run: fl.hessian(run).bottom(1.5),
    "tolerance = 0": lambda run: fl.hessian(run).trace(0),
    "probes = 0": lambda run: fl.hessian(run).spectrum(probes=0),
    "every = 0": lambda run: fl.hessian(run).along(every=0),
    "models = 'all'": lambda run: fl.hessian(run).per_client(models="all"),
    "experiments = [1]": lambda run: fl.sweep([1]),
    "experiments = []": lambda run: fl.sweep([]),
    "workers = 0": lambda run: fl.sweep([run.experiment], workers=0),
    "x = 'hour'": lambda run: run.plot(x="hour"),
    "smooth = 1.0": lambda run: run.plot(smooth=1.0),
    "metrics = ['speed']": lambda run: run.plot(metrics=["speed"]),
    "which = 'all'": lambda run: run.data.plot(which="all"),
    "client = 66": lambda run: run.data.samples("train", client=66),
    "limit = -3": lambda run: run.data.samples(limit=-3),
    "clients = 2.5": lambda run: fl.load("digits").federate(clients=2.5),
    "seed = 0.5": lambda run: fl.load("digits").federate(clients=2, seed=0.5),
    "root = 3": lambda run: fl.load("mnist", root=3),
    "device = 'x'": lambda run: run.data.to("x"),
    "markers = 'x'": lambda run: fl.lab.Landscape(run, markers="x"),
    "path = None": lambda run: run.data.save_partition(None),
    "example = [0, 1, 1]": lambda run: split(torch.nn.Linear(2, 2), example=[0, 1, 1]),
    "n = 0": lambda run: fl.lab.Session(run).step(0),
    "rounds = 1.5": lambda run: fl.lab.Session(run).ensure(1.5),
}


@pytest.mark.parametrize("said", WRONG)
def test_nothing_wrong_is_accepted_or_done(said, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=" = ") as caught:
        WRONG[said](run)
    assert str(caught.value).startswith(said), str(caught.value)
    assert not list(tmp_path.iterdir())  # no store was begun


def test_numbers_of_numpy_and_torch_are_numbers(run):
    tuned = fl.personalize(run, np.int64(1), clients=np.arange(2), round=torch.tensor(1), lr=np.float32(0.01))
    assert tuned.frame["client"].unique().tolist() == [0, 1] and tuned.about["epochs"] == 1
    assert fitted("share", np.float64(0.5), Share) == 0.5 and fitted("clients", range(3), Sequence[Whole]) == [0, 1, 2]


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.binary(), st.none()))
def test_a_count_is_a_whole_number_from_one_on(value):
    if type(value) is int and 1 <= value < 2**63:
        assert fitted("k", value, Count) == value
    else:
        with pytest.raises(fl.SettingError, match=r"^k = (?s:.*): must be a whole number ≥ 1(, below 2\*\*63)?$"):
            fitted("k", value, Count)


def test_the_same_kinds_serve_declared_settings():
    class Settings(Declared):
        points: Count = setting(3, "how many")
        share: Annotated[float, Field(gt=0, lt=1)] = setting(0.5, "of all")

    for wrong in ({"points": 0}, {"points": True}, {"points": 1.5}, {"share": 1.0}, {"share": math.nan}):
        (name,) = wrong
        with pytest.raises(fl.SettingError, match=rf"Settings.{name} = "):
            Settings(**wrong)


def test_messages_are_short_whatever_was_given(tmp_path):
    long, split = "x" * 10**6, tmp_path / "split.json"
    split.write_text(json.dumps({"user_data": {"0": {"x": [long], "y": [0]}}}))
    for wrong in (
        lambda: fl.FedAvg(lr=long),
        lambda: fl.Experiment.from_dict({"algorithm": {"kind": long}}),
        lambda: fl.load(long),
        lambda: fl.load("digits").federate(fl.Fixed(path=str(split))),
    ):
        with pytest.raises((fl.SettingError, OSError)) as caught:
            wrong()
        assert len(str(caught.value)) < 4000
    told = str(fl.SettingError("data", allowed=f"not those of {10**4000}"))
    assert told == f"data: not those of 1{'0' * 19}...00000"
    assert len(shown([list(range(10**5))] * 10**5)) < 500 and shown(10**5000)


HUGE = {
    "batch_size = 1000000": lambda run: fl.headless(run, batch_size=10**400),
    "k = 1000000": lambda run: fl.hessian(run, limit=20).top(10**400),
    "headless round": lambda run: fl.headless(run, round=10**400),
    "Augmentation.crop = 1000000": lambda run: fl.load("digits").federate(
        clients=2, augment=fl.Augmentation(crop=10**400)
    ),
    "augmentation.crop = 9:": lambda run: fl.load("digits").federate(clients=2, augment=fl.Augmentation(crop=9)),
    "ModelSpec.width = 1e+18": lambda run: build(fl.ModelSpec(width=1e18), (1, 8, 8), 10),
    "ModelSpec.width = 1e+308": lambda run: build(fl.ModelSpec(name="resnet18", width=1e308), (3, 8, 8), 10),
}


@pytest.mark.parametrize("said", HUGE)
def test_a_huge_number_is_refused_in_few_digits(said, run):
    with pytest.raises(fl.SettingError) as caught:
        HUGE[said](run)
    told = str(caught.value)
    assert (said in told or said == "headless round") and max(map(len, re.findall(r"\d+", told))) < 90


def test_a_huge_number_that_means_something_is_taken(run, tmp_path):
    """Batches of more images than there are hold all; a hole larger than the image covers it."""
    all_at_once = fl.headless(run, batch_size=2**62).frame
    assert all_at_once.equals(fl.headless(run, batch_size=2000).frame)
    weights = []
    for large in (10**4, 2**62):
        data = fl.load("digits").federate(clients=2, augment=fl.Augmentation(cutout=large))
        settings = {"evaluation": fl.Evaluation(batch_size=large, every=large), "store": tmp_path, "progress": False}
        done = fl.train(fl.FedAvg(batch_size=large), data, fl.ModelSpec(name="lenet", width=0.125), 1, **settings)
        weights.append(done.state().params)
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    assert build(fl.ModelSpec(width=0.125), (1, 8, 8), 10, seed=2**255)


def test_a_function_keeps_its_name_and_help():
    @checked
    def scaled(value: float, times: Count = 1) -> float:
        """Its help."""
        return value * times

    assert scaled.__doc__ == "Its help." and scaled(2, 3) == 6
    with pytest.raises(TypeError, match="unexpected"):
        scaled(2, by=3)


CALLED = [
    (fl.train, "listener", 2), (fl.Run.to, "listener", 2), (fl.sweep, "progress", 2), (fl.hessian, "watch", 1),
    (Hessian, "watch", 1), (Hessian.along, "progress", 2), (Hessian.per_client, "progress", 2),
    (fl.landscape, "progress", 2), (fl.landscape, "watch", 1), (fl.path, "progress", 2), (fl.sharpness, "progress", 2),
    (fl.personalize, "progress", 2), (fl.flatness_vs_gain, "progress", 2), (fl.hessian, "loss", 2),
    (fl.disagreement, "progress", 2), (fl.evade, "progress", 2), (fl.distil, "progress", 2), (fl.pulls, "progress", 2),
    (fl.lab.Session.listen, "callback", 1),
]  # fmt: skip


@pytest.mark.parametrize(("function", "name", "count"), CALLED)
def test_a_function_that_cannot_be_called_so_is_refused_before_work_starts(function, name, count):
    def judge(value):
        check_arguments(function.__init__ if inspect.isclass(function) else function, {name: value})

    wrong = [lambda: None, lambda *, by: None, lambda a, b, c: None, [lambda a, b: None, lambda a: None][count - 1]]
    for value in wrong:
        with pytest.raises(fl.SettingError, match=rf"{name} = .*must be .*a function of {count} argument.*; it takes "):
            judge(value)
    with pytest.raises(fl.SettingError, match=r"must be .*a function"):
        judge("nonsense")
    for fine in (lambda *args: None, lambda a, b=0, c=0: None, print, torch.nn.CrossEntropyLoss(reduction="none")):
        judge(fine)


def test_every_argument_that_is_called_is_among_those():
    listed = {(getattr(function, "__qualname__", ""), name) for function, name, _ in CALLED}
    for function in FUNCTIONS:
        for name, hint in typing.get_type_hints(inspect.unwrap(function), include_extras=True).items():
            if name != "return" and "collections.abc.Callable[[" in str(hint):
                assert (function.__qualname__, name) in listed


def test_a_warning_points_at_the_line_that_called(run):
    with pytest.warns(UserWarning, match="have not converged") as told:
        fl.hessian(run, limit=100, budget=6).top(5)
    assert [one.filename for one in told] == [__file__]
