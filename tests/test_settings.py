"""Wrong settings, drawn: each is refused by class, field and value, or is taken as it is and comes back from JSON."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import flatlab as fl
from flatlab.declare import Declared, shown
from flatlab.papers.measurements import Measurement


def declared(cls=Declared):
    """All classes of settings that flatlab has."""
    for child in cls.__subclasses__():
        if child.__module__.startswith("flatlab.") and not getattr(child, "abstract", False):
            yield child
        yield from declared(child)


NOTED = {"code", "kind"}  # the first is flatlab's own to note, the second is the class's name
CLASSES = sorted({*declared()}, key=lambda cls: cls.__qualname__)
FIELDS = [(cls, name) for cls in CLASSES for name in cls.model_fields if name not in NOTED]
NEEDED = {
    fl.Experiment: {"data": fl.DataSpec(name="digits", clients=4), "algorithm": fl.FedAvg()},
    fl.DataSpec: {"name": "digits"},
    fl.Dirichlet: {"alpha": 0.3},
    fl.DirichletClasses: {"alpha": 0.3},
    fl.Fixed: {"path": "split.json"},
    Measurement: {"kind": "landscape"},
}
NEEDED |= {cls: {"run": "a", "round": 0} for cls in CLASSES if cls.__name__ == "Parent"}
ODD = [
    "",
    "1",
    "nan",
    "\ud800",
    "x" * 10**6,
    b"1",
    b"",
    None,
    True,
    False,
    [],
    (),
    {},
    {"kind": "x"},
    {1},
    [True],
    ["1"],
]
ODD += [[1], [0.5], 1j, object(), int, len, np.int64(3), np.float32(0.25), np.bool_(True), np.array([1.0, 2.0])]
ODD += [np.array(3), torch.tensor(2), iter([1]), range(2), fl.FedAvg, fl.SGD(), 2**63 - 1, 2**63, 2**255, 2**256]
ODD += [10**400, -(10**400), 10**5000, 1e308, 5e-324, float("nan"), float("inf"), 2.0]
VALUES = st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3))


def same(taken, given):
    """Whether a setting is what was given; one made of settings, or numbers as a tuple, in its own form."""
    if isinstance(taken, BaseModel):
        return isinstance(given, (str, dict, BaseModel)) or given is None
    if isinstance(taken, tuple):
        return list(taken) == list(given)
    if isinstance(taken, (int, float)):
        alike = isinstance(taken, bool) == isinstance(given, (bool, np.bool_)) and not isinstance(given, (str, bytes))
        return alike and bool(taken == type(taken)(given))
    return taken is given or taken == given


@settings(max_examples=600)
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_a_wrong_setting_is_refused_by_name_or_taken_as_it_is(field, value):
    cls, name = field
    try:
        made = cls(**NEEDED.get(cls, {}) | {name: value})
    except fl.SettingError as error:
        said = str(error)
        assert said.startswith((f"{cls.__name__}.{name}", f"{cls.__name__}: {name}")) and len(said) < 1500
        assert {problem.path[0] for problem in error.problems} == {name}  # noqa: PT017
        return
    assert same(getattr(made, name), value), (shown(value), shown(getattr(made, name)))
    assert len(repr(made)) < 6000
    if not callable(value):  # code is written by its name, and not taken back
        assert cls.from_json(made.to_json()) == made
