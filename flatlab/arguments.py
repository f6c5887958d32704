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
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from .declare import Declared, SettingError, near
from .describe import SIGNS, setting_lines

COUNTABLE = 2**63  # by torch, numpy and tables, which is what whole numbers but seeds are for
OF_ANY_SIZE = "of any size"
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Seed = Annotated[int, Field(ge=0), OF_ANY_SIZE]
Axis = Annotated[int, Field(ge=3, le=10_001)]  # on an axis or curve
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]

_SPOKEN: dict[Any, str] = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
_SPOKEN |= {NoneType: "None", Callable: "a function"}

Function = TypeVar("Function", bound=Callable[..., Any])
Returned = TypeVar("Returned")


class _Misfit(Exception):
    """A value is not what an annotation asks for; the text is what to add to that."""


class Settings(Declared):
    """What a measurement can be told: `Declared`, and as strict as the arguments of a function are (no "1" for 1).

    A subclass serves `with_settings`, is saved with what was measured, and makes the lab's controls.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _strictly(cls, value: Any, info: ValidationInfo) -> Any:
        hint = cls.model_fields[str(info.field_name)].rebuild_annotation()
        if isinstance(hint, type) and issubclass(hint, Declared):
            return value
        try:
            return _fit(value, hint)
        except _Misfit as misfit:
            raise ValueError(f"must be {_allowed(hint)}{misfit}") from None

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
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
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
        return _fit(value, hint)
    except _Misfit as misfit:
        raise SettingError(name, value, f"must be {_allowed(hint)}{misfit}") from None


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


def _fit(value: Any, hint: Any) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number = _fit(value, parts[0])
        if not all(getattr(operator, sign)(number, limit) for sign, limit in _limits(hint)):
            raise _Misfit
        if isinstance(number, int) and abs(number) >= COUNTABLE and OF_ANY_SIZE not in parts:
            raise _Misfit(", below 2**63")
        return number
    if origin in (Union, UnionType):
        more: set[str] = set()
        for part in parts:
            try:
                return _fit(value, part)
            except _Misfit as misfit:
                more.add(str(misfit))
        raise _Misfit(max(more))
    if origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in parts):
            return value
        raise _Misfit
    if origin in (Sequence, Iterable):
        return _list(value, origin, parts[0])
    if hint in (int, float, bool):
        return _number(value, hint)
    if hint is Any or isinstance(value, origin or hint):
        return value
    raise _Misfit


def _number(value: Any, kind: type) -> Any:
    truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        if truth is (kind is bool):
            if kind is int:
                return operator.index(value)
            if kind is bool:
                return bool(value)
            if isinstance(value, numbers.Real) and math.isfinite(value):
                return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # of many numbers, or one beyond all floats
        pass
    raise _Misfit


def _list(value: Any, kind: Any, hint: Any) -> Any:
    """Numbers as a list; other things as they are, an iterator among them untouched."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    number = (get_args(hint)[0] if get_origin(hint) is Annotated else hint) in (int, float)
    if isinstance(plain, (str, bytes, Mapping)) or not isinstance(plain, kind):
        raise _Misfit
    if not number and not isinstance(plain, Sequence):
        return value
    items = [_fit(item, hint) for item in plain]
    return items if number else value


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


def _limits(hint: Any) -> Iterator[tuple[str, float]]:
    for field in get_args(hint)[1:]:
        for rule in field.metadata if isinstance(field, FieldInfo) else [field]:
            yield from ((sign, getattr(rule, sign)) for sign in SIGNS if hasattr(rule, sign))


def _allowed(hint: Any) -> str:
    """What an annotation asks for, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_allowed(parts[0])} " + " and ".join(f"{SIGNS[sign]} {limit:g}" for sign, limit in _limits(hint))
    if origin in (Union, UnionType):
        return " or ".join(_allowed(part) for part in parts if part is not Path or str not in parts)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Sequence, Iterable):
        return f"several, each {_allowed(parts[0])}"
    kind = origin or hint
    made_by = getattr(kind, "made_by", "")
    return _SPOKEN.get(kind) or f"a {kind.__name__}" + (f", as {made_by} gives it" if made_by else "")
