"""What is said to a person: errors that name a setting, its value and what is allowed, and warnings."""

from __future__ import annotations

import contextlib
import difflib
import re
import reprlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

_PACKAGE = str(Path(__file__).parent / "_")[:-1]
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_LONG_NUMBER = re.compile(r"\d{60,}")
LONGEST = 3000  # signs of a message
_ADVICE = {
    FileNotFoundError: "it was moved or deleted: choose another, or make it again",
    PermissionError: "allow it, or choose another folder (`store=`, `root=` of the Lab)",
    ConnectionError: "try again once there is a connection",
    TimeoutError: "try again once there is a connection",
}


class Problem(NamedTuple):
    """What is wrong with one setting: its dotted name ("" if no single one is to blame), value and what is allowed."""

    field: str
    value: Any  # `...` if there is none to tell
    allowed: str

    @property
    def path(self) -> list[str]:
        """The names that lead to the setting, without that of its class."""
        return [name for name in self.field.split(".") if name and not name[0].isupper()]

    def __str__(self) -> str:
        given = "" if self.value is ... else f" = {shown(self.value)}"
        return f"{self.field}{given}: {self.allowed}" if self.field else self.allowed


class SettingError(ValueError):
    """A value that cannot be used.

    Args:
        field: dotted name of the setting; without `allowed`, the whole message.
        value: what was given.
        allowed: what may be given, or what to do.
        problems: what is wrong, if it is more than that.

    Attributes:
        problems: what is wrong, setting by setting.

    >>> print(SettingError("rounds", 0, "must be a whole number ≥ 1"))
    rounds = 0: must be a whole number ≥ 1
    """

    def __init__(self, field: str, value: Any = ..., allowed: str = "", problems: Iterable[Problem] = ()) -> None:
        problem = Problem(field, value, allowed) if allowed else Problem("", ..., field)
        super().__init__(short(str(problem)))
        self.problems = tuple(problems) or (problem,)

    def __reduce__(self) -> tuple[Any, ...]:  # to another process a value goes as text
        problems = [
            problem if problem.value is ... else problem._replace(value=shown(problem.value))
            for problem in self.problems
        ]
        return type(self), (str(self), ..., "", problems)


def refusal(cls: type[BaseModel], error: ValidationError, called: str = "") -> SettingError:
    """What pydantic found wrong with settings of a class, which the message may call otherwise, in our words."""
    called = called or cls.__name__
    lines: list[str] = []
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        message = str(cause or detail["msg"])
        if detail["type"] == "extra_forbidden":
            meant = near(where, cls.model_fields) or _elsewhere(where, cls)
            message = f"no such setting{meant}; known: {', '.join(sorted(cls.model_fields))}"
        if detail["type"] == "missing":
            message = "is required: it has no default"
        untold = detail["type"] == "missing" or not where or isinstance(detail["input"], (dict, BaseModel))
        problem = Problem(where, ... if untold else detail["input"], message)
        inner = cause.problems if isinstance(cause, SettingError) else ()
        if not untold and [part.path for part in inner] == [list(detail["loc"])]:  # the field's own check named it, too
            problem, inner = problem._replace(allowed=inner[0].allowed), ()
        problems += [part._replace(field=".".join(filter(None, [where, *part.path]))) for part in inner] or [problem]
        told = where == "" and message.startswith((f"{called}.", f"{called}: "))  # by the class itself, as it was made
        lines.append(message if told else f"{called}.{problem}" if where else f"{called}: {problem}")
    return SettingError("\n".join(lines), problems=problems)


def _elsewhere(name: str, cls: Any) -> str:
    """The same end of a message, if settings inside of others are called so."""
    last = name.rpartition(".")[2]
    places = sorted({place for place in _places(cls) if place.rpartition(".")[2] == last}, key=lambda p: p.count("."))
    return f"; did you mean {' or '.join(places[:2])}?" if places else ""


def _places(cls: Any, path: str = "", above: tuple[Any, ...] = ()) -> Iterator[str]:
    """Dotted names of all settings in a class and in the classes of its fields; of a family in those of its members."""
    if get_args(cls):
        for part in get_args(cls):
            yield from _places(part, path, above)
    elif isinstance(cls, type) and issubclass(cls, BaseModel) and cls not in above:
        members: Any = getattr(cls, "members", None)
        for member in members().values() if getattr(cls, "abstract", False) else (cls,):
            for name, field in member.model_fields.items():
                yield f"{path}{name}"
                yield from _places(field.annotation, f"{path}{name}.", (*above, cls, member))


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that was perhaps meant, if there is one."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: Any) -> str:
    """A value as messages show it: `repr`, but never longer than a line."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a number of more digits than Python prints, a broken `__repr__`
        return f"<{type(value).__name__}>"


def short(message: str) -> str:
    """A message as it is told: what others made of a person's files and values may be long."""
    message = _LONG_NUMBER.sub(lambda number: f"{number[0][:20]}...{number[0][-5:]}", message)
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}... ({len(message):,} signs)"


def tell(message: str) -> None:
    """Warn at the line that called this package, however deep the reason was found.

    Python shows a warning once for each line: one inside the package would hide all later ones.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, contextlib.__file__)):
        level, frame = level + 1, frame.f_back
    warnings.warn(short(message), stacklevel=level)


def plain_words(error: BaseException) -> str:
    """What went wrong and what to do, without names of classes and numbers of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        advice = next((f"; {advice}" for kind, advice in _ADVICE.items() if isinstance(error, kind)), "")
        return f"{where}{error.strerror}{advice}"
    if isinstance(error, (ValueError, RuntimeError, OSError)):  # as flatlab's own, which say what to do
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}; if that is no code of yours, please report the traceback"
