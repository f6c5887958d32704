"""Whether a value is what an annotation asks for, plainly: nothing is bent into shape, and no text is a number.

Settings (`flatlab.declare`) and arguments of functions (`flatlab.arguments`) are judged alike. A number with a range,
such as `Count`, does for both.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import numbers
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field

from .describe import SIGNS, limits

DIGITS = 63  # binary ones: whole numbers are for torch, numpy and tables
SEED_DIGITS = 256
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Seed = Annotated[int, Field(ge=0), SEED_DIGITS]  # it is only hashed
Axis = Annotated[int, Field(ge=3, le=10_001)]  # on an axis or curve
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]

_SPOKEN: dict[Any, str] = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
_SPOKEN |= {NoneType: "None", Callable: "a function"}


class Misfit(Exception):
    """A value is not what an annotation asks for; the text is what to add to that."""


def read_number(text: str) -> int | float | str:
    """A number as people write it, also `.05`, `5.` and `007`; any other text as it is."""
    if re.match(r"[+-]?\.?\d", text):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
    return text


def plain(hint: Any) -> bool:
    """Whether an annotation is of numbers, switches, texts and choices, and lists of them, alone."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal or hint in (int, float, bool, str, None, NoneType):
        return True
    if origin is tuple:
        return parts[1:] == (...,) and plain(parts[0])
    return (origin is Annotated and plain(parts[0])) or (origin in (Union, UnionType) and all(map(plain, parts)))


def fit(value: Any, hint: Any) -> Any:
    """A value as its annotation wants it: numpy's whole numbers as int, say.

    Raises:
        Misfit: if it does not fit.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _within(value, hint)
    if origin in (Union, UnionType):
        more: set[str] = set()
        for part in parts:
            try:
                return fit(value, part)
            except Misfit as misfit:
                more.add(str(misfit))
        raise Misfit(max(more))
    if origin is Literal:
        for choice in parts:
            alike = type(value) is type(choice) or (isinstance(value, str) and isinstance(choice, str))  # numpy's, too
            if alike and value == choice:
                return choice
        raise Misfit
    if origin in (Sequence, Iterable, tuple):
        return _list(value, origin, parts[0])
    if hint in (int, float, bool):
        return _number(value, hint)
    if origin is Callable and callable(value):
        return _function(value, parts[0])
    if hint is Any or isinstance(value, origin or hint):
        return value
    raise Misfit


def _within(value: Any, hint: Any) -> Any:
    kind, hashed, bounds = _range(hint)
    number = _number(value, int, SEED_DIGITS) if hashed else fit(value, kind)
    if number is not None and not all(within(number, bound) for within, bound in bounds):
        raise Misfit
    return number


@functools.cache
def _range(hint: Any) -> tuple[Any, bool, list[tuple[Callable[[Any, Any], bool], float]]]:
    """The kind of number, whether it is as long as what is hashed, and how it compares with what."""
    kind, *rules = get_args(hint)
    return kind, SEED_DIGITS in rules, [(getattr(operator, sign), limit) for sign, limit in limits(rules)]


def _number(value: Any, kind: type, digits: int = DIGITS) -> Any:
    truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        if truth is (kind is bool):
            if kind is int:
                number = operator.index(value)
                if number.bit_length() > digits:
                    raise Misfit(f", below 2**{digits}")
                return number
            if kind is bool:
                return bool(value)
            if isinstance(value, numbers.Real):
                if not math.isfinite(value):
                    raise Misfit(", finite")
                return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # of many numbers, or one beyond all floats
        pass
    raise Misfit


def _function(value: Any, arguments: Any) -> Any:
    """A function that can be called with so many arguments by position; of some nobody can tell."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return value
    try:
        if arguments is not ...:
            signature.bind(*arguments)
    except TypeError:
        raise Misfit(f"; it takes {signature}") from None
    return value


def _list(value: Any, kind: Any, hint: Any) -> Any:
    """Numbers as a list or tuple; other things as they are, an iterator among them untouched."""
    items = value.tolist() if hasattr(value, "tolist") else value
    number = (get_args(hint)[0] if get_origin(hint) is Annotated else hint) in (int, float)
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Sequence if kind is tuple else kind):
        raise Misfit
    if not number and not isinstance(items, Sequence):
        return value
    fitted = [fit(item, hint) for item in items]
    return tuple(fitted) if kind is tuple else fitted if number else value


def spoken(hint: Any, span: str = "") -> str:
    """What an annotation asks for, in words; a number with its range, `span`."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return spoken(parts[0], " and".join(f" {SIGNS[sign]} {limit:g}" for sign, limit in limits(parts[1:])))
    if origin in (Union, UnionType):
        return " or ".join(spoken(part, span) for part in parts if part is not Path or str not in parts)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Sequence, Iterable, tuple):
        return f"several, each {spoken(parts[0])}"
    if origin is Callable and parts[0] is not ...:
        return f"a function of {len(parts[0])} argument{'s' * (len(parts[0]) != 1)}"
    kind = origin or hint
    made_by = getattr(kind, "made_by", "")
    name = _SPOKEN.get(kind) or f"a {kind.__name__}" + (f", as {made_by} gives it" if made_by else "")
    return name + span * (kind in (int, float))
