"""Arguments of public functions, checked against their own annotations before any work starts.

    @checked
    def path(a: Any, b: Any, *, points: Axis = 21, curve: bool = False) -> Path: ...

    path(a, b, points=2)    # SettingError: points = 2: must be a whole number ≥ 3 and ≤ 10001
    path(a, b, curve="no")  # SettingError: curve = 'no': must be True or False

A number with a range, such as `Count`, does as well for a field of `Declared`. What a measurement can be told is
declared once, as `Settings`, and makes the arguments of its function, their checks and their help:

    @with_settings(Tuning)
    def personalize(runs: Any, settings: Tuning, *, round: Whole | None = None) -> Personalization: ...

    personalize(run, lr=-1)  # SettingError: personalize.lr = -1: must be a number > 0
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from .declare import Declared, SettingError, near
from .describe import setting_lines, type_name
from .values import (
    Axis,
    Count,
    Misfit,
    NotNegative,
    Positive,
    Seconds,
    Seed,
    Several,
    Share,
    Whole,
    fit,
    spoken,
)  # fmt: skip

__all__ = [
    "Axis", "Count", "NotNegative", "Positive", "Seconds", "Seed", "Settings", "Several", "Share", "Whole",
    "check_arguments", "checked", "fitted", "refuse_unknown", "with_settings",
]  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])
Returned = TypeVar("Returned")


class Settings(Declared):
    """What a measurement can be told: `Declared`, with functions, data sets and whatever else an argument may be.

    A subclass serves `with_settings`, is saved with what was measured, and makes the lab's controls.
    """

    @classmethod
    def judged(cls, hint: Any) -> bool:
        """All but settings within them."""
        return not (isinstance(hint, type) and issubclass(hint, Declared))

    def of(self, declared: type[Settings]) -> dict[str, Any]:
        """What another class declares of these and is not at its default: the arguments that its function needs."""
        return {name: value for name, value in self.changed().items() if name in declared.model_fields}


def checked(function: Function) -> Function:
    """A function that refuses arguments which do not fit its annotations, and is given plain numbers.

    Checked are numbers, switches, texts, paths, choices, classes, lists of them and unions of all these, with their
    ranges. `Any`, and what is within mappings, is the function's own to judge.

    Raises:
        SettingError: naming the argument, its value and what is allowed.
    """
    signature = inspect.signature(function)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not (open_ended or kwargs.keys() <= signature.parameters.keys()):
            refuse_unknown(kwargs, function)
        bound = signature.bind(*args, **kwargs)
        bound.arguments |= check_arguments(function, bound.arguments)
        return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


def with_settings(declared: type[Settings]) -> Callable[[Callable[..., Returned]], Callable[..., Returned]]:
    """`checked`, for a function whose parameter `settings` is made of keyword arguments, those that are declared.

    They stand in its signature (the first by position, too, if `settings` may), and in its docstring in place of the
    line of `settings`.
    """

    def decorate(function: Callable[..., Returned]) -> Callable[..., Returned]:
        parameters = [*inspect.signature(function).parameters.values()]
        at = [parameter.name for parameter in parameters].index("settings")
        made = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=type_name(field.annotation)
            )
            for name, field in declared.model_fields.items()
        ]
        made[0] = made[0].replace(kind=parameters[at].kind)
        signature = inspect.Signature([*parameters[:at], *made, *parameters[at + 1 :]])
        rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), "")

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Returned:
            if not rest:
                refuse_unknown(kwargs, call)
            given = signature.bind(*args, **kwargs).arguments
            others = given.pop(rest, {})
            fields = {name: given.pop(name) for name in declared.model_fields if name in given}
            settings = declared.called(_name(function), fields)
            return function(**given | check_arguments(function, given), settings=settings, **others)

        call.__doc__ = _with_help(function.__doc__ or "", declared)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.settings = declared  # type: ignore[attr-defined]
        return call

    return decorate


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as the function's annotations want them, before it is called; names that it has not are left out.

    Raises:
        SettingError: naming the first that does not fit.
    """
    if (declared := getattr(function, "settings", None)) is not None:
        declared.called(_name(function), {name: given[name] for name in declared.model_fields if name in given})
    return {name: fitted(name, given[name], hint) for name, hint in _hints(function).items() if name in given}


def fitted(name: str, value: Any, hint: Any) -> Any:
    """A value as its annotation wants it: numpy's whole numbers as int, say.

    Raises:
        SettingError: if it does not fit.
    """
    try:
        return fit(value, hint)
    except Misfit as misfit:
        raise SettingError(name, value, f"must be {spoken(hint)}{misfit}") from None


def refuse_unknown(given: Iterable[str], *functions: Callable[..., Any]) -> None:
    """Refuse names that are arguments of none of these functions.

    Raises:
        TypeError: naming the first, and the argument that was perhaps meant.
    """
    allowed = [name for function in functions for name in inspect.signature(function).parameters]
    for name in given:
        if name not in allowed:
            said = f"{functions[0].__qualname__}() got an unexpected keyword argument {name!r}"
            raise TypeError(said + near(name, allowed))


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(function)
    hints = get_type_hints(function, include_extras=True)
    lists = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind not in lists]
    return {name: hints[name] for name in named if name in hints}


def _name(function: Callable[..., Any]) -> str:
    """What errors call a function; its class, if it makes one."""
    return function.__qualname__.removesuffix(".__init__").removesuffix(".of").rpartition(".")[2]


def _with_help(doc: str, declared: type[Settings]) -> str:
    """A docstring with a line for each setting, in place of the line of `settings`."""
    lines = []
    for line in doc.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if not line.lstrip().startswith("settings:"):
            lines.append(line)
            continue
        for name, field in declared.model_fields.items():
            lines += [indent + part for part in setting_lines(name, field)]
    return "\n".join(lines)
