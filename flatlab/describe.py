"""Text made from declarations: what `help` and `?` show of a class of settings, and rows for tables and tooltips.

A class of settings shows its own docstring with a line for each setting, and a signature of names and defaults. Both
are made when somebody looks, so that importing costs nothing.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, SupportsIndex, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
WIDTH = 100
NOTED = ("kind", "fingerprint", "code", "initial", "parent")  # by flatlab itself


class Described:
    """An attribute of a class that is made from the class when it is read."""

    def __init__(self, make: Callable[[type[BaseModel]], Any]) -> None:
        self.make = make

    def __get__(self, instance: Any, owner: type[BaseModel]) -> Any:
        return self.make(owner)


class Docstring(Described, str):
    """The same for a docstring: `help` takes it out of the class unread, and wants a text, of which it expands tabs."""

    def __new__(cls, make: Callable[[type[BaseModel]], Any], owner: type[BaseModel]) -> Self:
        return str.__new__(cls)

    def __init__(self, make: Callable[[type[BaseModel]], Any], owner: type[BaseModel]) -> None:
        super().__init__(make)
        self.owner = owner

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        """Of what is made."""
        return (self.make(self.owner) or "").expandtabs(tabsize)


def describe(declared: type[BaseModel]) -> None:
    """Give a class of settings its docstring and its signature."""
    written = declared.__dict__.get("__doc__")
    declared.__doc__ = Docstring(lambda cls: docstring(cls, written), declared)
    declared.__signature__ = Described(signature)  # type: ignore[assignment]


def docstring(declared: type[BaseModel], written: str | None) -> str | None:
    """What the author wrote, with a line for each setting before the first section or example."""
    settings = [line for name in _order(declared) for line in setting_lines(name, declared.model_fields[name])]
    if not settings:
        return written
    lines = inspect.cleandoc(written or "").splitlines()
    at = next((i for i, line in enumerate(lines) if re.match(r"\w+:$|>>> ", line)), len(lines))
    args = "Args:\n" + textwrap.indent("\n".join(settings), "    ")
    return "\n\n".join(filter(None, ["\n".join(lines[:at]).rstrip(), args, "\n".join(lines[at:])]))


def signature(declared: type[BaseModel]) -> inspect.Signature:
    """Names and defaults: what the constructor takes besides its settings, then those, the class's own first."""
    taken = inspect.signature(declared.__init__).parameters.values()
    keyword, nothing = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    parameters = [parameter.replace(annotation=nothing) for parameter in taken if parameter.kind is keyword]
    for name in _order(declared):
        default = declared.model_fields[name].default
        default = nothing if default is PydanticUndefined else default
        parameters.append(inspect.Parameter(name, keyword, default=default))
    return inspect.Signature(parameters)


def setting_lines(name: str, field: FieldInfo) -> list[str]:
    """A setting as a docstring has it: name, type, range, unit, default, help."""
    default = "" if field.is_required() else f"; default {field.default!r}"
    text = f"{name} ({_kind(field)}{default}): {field.description}."
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def first_line(declared: type[BaseModel]) -> str:
    """What the author says of a class in one line; a user's own may say nothing."""
    line, _, _ = (declared.__doc__ or "").partition("\n")
    return "" if line == "Args:" else line


def rows(declared: type[BaseModel]) -> list[dict[str, Any]]:
    """The settings of one class: name, type, allowed, default, unit, help."""
    return [
        {
            "name": name,
            "type": type_name(field.annotation),
            "allowed": allowed(field),
            "default": _short(field.default),
            "unit": _extra(field).get("unit", ""),
            "help": field.description or "",
        }
        for name, field in declared.model_fields.items()
    ]


def within(
    declared: type[BaseModel], names: dict[type[BaseModel], set[str]] | None = None
) -> Iterator[type[BaseModel]]:
    """A class of settings, and those of its fields and theirs, each once; a family as its members.

    Args:
        declared: the class.
        names: comes to hold what each is called: class, kind, and fields that hold it.
    """
    names = {} if names is None else names
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[Any, str]] = [(declared, "")]
    while waiting:
        cls, name = waiting.pop(0)
        kind = getattr(cls.model_fields.get("kind"), "default", "")
        names.setdefault(cls, {cls.__name__}).update(filter(None, [name, str(kind or "")]))
        if cls in seen:
            continue
        if getattr(cls, "abstract", False):
            waiting[:0] = [(member, name) for member in cls.members().values()]
            continue
        seen.add(cls)
        yield cls
        for field_name, field in cls.model_fields.items():
            waiting += [(inner, field_name) for inner in _classes(field.annotation)]


def settings_text(declared: type[BaseModel]) -> str:
    """A class of settings as lines to be read: what it is, then each setting with type, range, default and help."""
    lines = [line for name in _order(declared) for line in setting_lines(name, declared.model_fields[name])]
    return "\n".join([f"{declared.__name__}: {first_line(declared)}", *(f"  {line}" for line in lines)])


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [cls for part in get_args(annotation) for cls in _classes(part)]


def type_name(annotation: Any, members: bool = False) -> str:
    """An annotation as a person writes it: without modules and ranges; if wanted, a family as its `members`."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, list):  # what a callable takes
        return f"[{', '.join(type_name(part, members) for part in annotation)}]"
    if origin is Annotated:
        return type_name(parts[0], members)
    if origin is Literal:
        return " | ".join(repr(value) for value in parts)
    if origin in (Union, UnionType):
        return " | ".join(type_name(part, members) for part in parts)
    if annotation in (None, NoneType):
        return "None"
    if isinstance(origin, type) and parts:
        inner = ("..." if part is ... else type_name(part, members) for part in parts)
        return f"{origin.__name__}[{', '.join(inner)}]"
    if members and getattr(annotation, "abstract", False):
        return " | ".join(kind.__name__ for kind in annotation.members().values())
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def allowed(field: FieldInfo) -> str:
    """The range of a number."""
    return ", ".join(f"{SIGNS[name]} {limit}" for name, limit in limits(field.metadata))


def limits(rules: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """The limits of a number, each by its name in `SIGNS`, from what annotates it."""
    for field in rules:
        for rule in field.metadata if isinstance(field, FieldInfo) else [field]:
            yield from ((name, getattr(rule, name)) for name in SIGNS if hasattr(rule, name))


def sample(settings: BaseModel, table: str = "") -> str:
    """Settings as TOML, each with its help; what is off (None) is commented out, so that it can be switched on."""
    lines, inner = [f"[{table}]"] if table else [], ""
    if kind := getattr(settings, "kind", None):
        lines.append(f"kind = {json.dumps(kind)}")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            inner += "\n" + sample(value, f"{table}.{name}".strip("."))
        elif name not in NOTED:
            given = f"# {name} = ..." if value is None else f"{name} = {json.dumps(value)}"
            lines.append(f"{given}  # {field.description} ({_kind(field)})")
    return "\n".join(lines) + "\n" + inner


def _kind(field: FieldInfo) -> str:
    """Type, range and unit."""
    kind, none, _ = type_name(field.annotation, members=True).partition(" | None")
    span, unit = allowed(field), _extra(field).get("unit")
    return "".join(filter(None, [kind, span and f" {span}", unit and f" [{unit}]", none]))


def _order(declared: type[BaseModel]) -> list[str]:
    """Settings as a reader wants them: what must be given, what the class declares itself, what it inherits.

    Its kind is its name, and not among them.
    """
    own, fields = inspect.get_annotations(declared), declared.model_fields
    return sorted(
        fields.keys() - {"kind"},
        key=lambda name: (not fields[name].is_required(), name not in own, [*fields].index(name)),
    )


def _short(default: Any) -> Any:
    """A default as a table shows it."""
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        return getattr(default, "kind", f"{type(default).__name__}()")
    return default


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
