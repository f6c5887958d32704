"""What `help` and `?` show of a class of settings."""

import doctest
import inspect
import itertools
import pydoc
import re
from typing import Literal

import pytest

import flatlab as fl
from flatlab.declare import Declared, setting
from flatlab.geometry import HessianSettings


class Oven(Declared):
    """Bakes.

    >>> 1 + 1
    2
    """

    heat: float = setting(180.0, "how hot", gt=0, le=300, unit="degrees")
    loaves: int | None = setting(None, "how many; none: all that fit", ge=1)
    flour: Literal["rye", "wheat"] = setting(..., "what of")
    sizes: tuple[int, ...] = setting((1, 2), "of the loaves")


def test_a_docstring_has_a_line_for_each_setting_before_the_examples():
    assert inspect.getdoc(Oven) == "\n".join(
        [
            "Bakes.",
            "",
            "Args:",
            "    flour ('rye' | 'wheat'): what of.",
            "    heat (float > 0, ≤ 300 [degrees]; default 180.0): how hot.",
            "    loaves (int ≥ 1 | None; default None): how many; none: all that fit.",
            "    sizes (tuple[int, ...]; default (1, 2)): of the loaves.",
            "",
            ">>> 1 + 1",
            "2",
        ]
    )


def test_a_signature_has_names_and_defaults_what_must_be_given_first():
    assert str(inspect.signature(Oven)) == "(*, flour, heat=180.0, loaves=None, sizes=(1, 2))"
    assert str(inspect.signature(fl.FedASAM)).startswith("(*, rho=None, eta=None, local=ASAM(), lr=0.1, ")
    assert len(str(inspect.signature(fl.FedBABU))) < 350


@pytest.mark.parametrize(
    "settings", [fl.FedBABU, fl.Dirichlet, fl.Experiment, fl.Evaluation, fl.Tuning, HessianSettings]
)
def test_every_setting_is_shown_with_its_help(settings):
    helped = pydoc.plain(pydoc.render_doc(settings)).replace("\n |  ", "\n")
    for text, (name, field) in itertools.product((inspect.getdoc(settings), helped), settings.model_fields.items()):
        if name != "kind":
            assert re.search(rf"^    {name} \(.+", text, re.M)
            assert re.sub(r"\s+", "", field.description) in re.sub(r"\s+", "", text)


def test_a_class_without_settings_or_words_of_its_own_shows_none():
    class Plain(fl.Schedule):
        kind: Literal["plain"] = "plain"

    class Bare(Oven):
        pass

    assert Plain.__doc__ is None
    assert Bare.__doc__.startswith("Args:\n    flour")


def test_functions_of_declared_settings_show_them_alike():
    assert "    lr (float > 0; default 0.001): learning rate; its own, not the training's." in fl.personalize.__doc__


def test_settings_are_shown_as_the_call_that_makes_them():
    given = fl.FedBABU(lr=0.05, local=fl.ASAM(rho=0.7), swa=fl.SWA())
    assert repr(given) == "FedBABU(lr=0.05, local=ASAM(rho=0.7), swa=SWA())"
    assert eval(repr(given), vars(fl)) == given
    assert doctest.DocTestFinder().find(Oven, module=False)[0].examples
