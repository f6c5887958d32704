"""What measurements can be told: declared once; a wrong value is refused by name, JSON gives the same back."""

import inspect
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flatlab as fl
from flatlab.arguments import Settings, check_arguments
from flatlab.geometry import (
    HessianSettings,
    Landscape,
    LandscapeSettings,
    PathSettings,
    PullSettings,
    SharpnessSettings,
)
from flatlab.lab.controls import Controls

FUNCTIONS = {
    fl.personalize: fl.Tuning,
    fl.fine_tuned: fl.Tuning,
    fl.hessian: HessianSettings,
    fl.landscape: LandscapeSettings,
    fl.sharpness: SharpnessSettings,
    fl.flatness_vs_gain: SharpnessSettings,
    fl.path: PathSettings,
    fl.pulls: PullSettings,
}
SETTINGS = dict.fromkeys(FUNCTIONS.values())
SELECTED = {"part": "head", "batch": 8, "loss": None, "dtype": "float64", "one_class": True, "statistics": "batch"}
SELECTED |= {"round": 3, "which": "swa", "client": 1, "source": None, "limit": None, "seed": 4}
WRONG = ("1", -1, 0.5j, True, math.nan, math.inf, -math.inf, -(10**400), b"1", [1], (), object(), "9" * 1000, 1e-320j)
VALUES = {
    fl.Tuning: {"epochs": 3, "part": "head", "lr": 0.1, "momentum": 0.5, "weight_decay": 1e-3, "batch_size": 7}
    | {"local": fl.SAM(rho=0.2)},
    HessianSettings: SELECTED | {"method": "power", "tolerance": 0.01, "budget": 9, "memory": 10**6},
    LandscapeSettings: SELECTED
    | {"dimensions": 1, "directions": "random", "points": 23, "span": 0.25, "repeats": 3}
    | {"refine": True, "tolerance": 0.1, "trajectory": True},
    SharpnessSettings: SELECTED
    | {"rho": 1.0, "adaptive_rho": 2.0, "steps": 3, "sigma": 0.1, "adaptive_sigma": 0.3, "draws": 2}
    | {"tolerance": 0.2, "subsets": 5},
    PullSettings: {name: value for name, value in SELECTED.items() if name != "which"} | {"rounds": 7},
    PathSettings: SELECTED | {"points": 9, "curve": True, "steps": 3, "lr": 0.5},
}
CASES = [
    (function, name, wrong)
    for function, declared in FUNCTIONS.items()
    for name, field in declared.model_fields.items()
    for wrong in WRONG
    if not (wrong is True and field.annotation is bool)
    if not (isinstance(wrong, str) and field.annotation is str)  # a module's name: the model says whether it has it
]


def test_there_are_more_than_three_hundred_wrong_arguments():
    assert len(CASES) > 300 and {name for _, name, _ in CASES} >= set(VALUES[fl.Tuning]) | set(VALUES[PathSettings])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_wrong_setting_is_refused_by_function_name_and_value(function):
    for _, name, wrong in [case for case in CASES if case[0] is function]:
        with pytest.raises(fl.SettingError) as caught:
            check_arguments(function, {name: wrong})
        assert str(caught.value).startswith(f"{function.__name__}.{name} = "), (name, wrong, str(caught.value))
        assert [problem.field for problem in caught.value.problems] == [name]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@given(given_value=st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.binary(), st.lists(st.integers())))
def test_what_is_taken_is_of_the_declared_kind_and_comes_back_from_json(function, given_value):
    declared = FUNCTIONS[function]
    for name in declared.model_fields:
        try:
            settings = declared(**{name: given_value})
        except fl.SettingError as error:
            assert re.match(rf"{declared.__name__}(\.{name}|: )", str(error))  # noqa: PT017
            continue
        value = getattr(settings, name)
        assert type(value) is not float or math.isfinite(value)
        # Nothing is bent into shape, but for whole numbers of more digits than a float has.
        assert isinstance(value, fl.Local) or value == given_value or value == float(given_value)
        assert declared.from_json(settings.to_json()) == settings


@pytest.mark.parametrize("declared", SETTINGS, ids=lambda declared: declared.__name__)
def test_settings_come_back_from_json_and_say_what_differs_from_the_defaults(declared):
    assert set(VALUES[declared]) == set(declared.model_fields)
    settings = declared(**VALUES[declared])
    assert declared.from_json(settings.to_json()) == settings and declared(**settings.changed()) == settings
    assert declared().changed() == {} and dict(settings) == VALUES[declared]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_signature_and_help_are_those_of_the_declaration(function):
    parameters = inspect.signature(function).parameters
    said = inspect.getdoc(function)  # Python 3.13 takes the indentation away itself
    for name, field in FUNCTIONS[function].model_fields.items():
        assert parameters[name].default == field.default
        assert re.search(rf"\n    {name} \(.+?\):\s+{re.escape(field.description.split()[0])}", said, re.S)
    assert "settings" not in parameters and "settings:" not in said


@pytest.mark.parametrize("declared", SETTINGS, ids=lambda declared: declared.__name__)
def test_the_labs_controls_are_those_of_the_declaration(declared):
    controls = Controls(declared)
    assert list(controls.fields) == list(declared.model_fields) and controls.value == declared()
    controls.value = declared(**VALUES[declared])
    assert controls.value == declared(**VALUES[declared])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"points": 8}, "landscape: points = 8: an odd number"),
        ({"repeats": 2}, "landscape: repeats = 2: 1, or more for random lines"),
        ({"directions": "plane", "dimensions": 1}, "landscape: dimensions = 1: a plane through three models has 2"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong, said):
    with pytest.raises(fl.SettingError) as caught:
        fl.landscape(None, **wrong)
    assert str(caught.value).startswith(said) and caught.value.problems[0].field in wrong


def test_code_and_data_are_written_by_name_and_not_taken_back():
    def own(logits, labels):
        return logits.sum(1)

    settings = HessianSettings(loss=own, dtype=torch.float64)
    assert settings.to_dict()["loss"] == "own" and settings.to_dict()["dtype"] == "float64"
    with pytest.raises(
        fl.SettingError, match=r"HessianSettings\.loss = 'own': must be a function of 2 arguments or a Task or None"
    ):
        HessianSettings.from_json(settings.to_json())
    with pytest.raises(fl.SettingError, match=r"^HessianSettings\.dtype = torch\.bfloat16: must be torch\.float32"):
        HessianSettings(dtype=torch.bfloat16)
    assert issubclass(HessianSettings, Settings) and not issubclass(Landscape, Settings)


@pytest.mark.parametrize("declared", [declared for declared in SETTINGS if "source" in declared.model_fields])
def test_a_data_set_given_as_source_is_written_as_its_settings(declared, few_digits):
    assert declared(source=few_digits).to_dict()["source"] == few_digits.spec.to_dict()
