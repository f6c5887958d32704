"""Which control a setting gets, by its type; and what it begins with, and is said to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..declare import Declared, Family
from .fields import Field, Group, Maybe, Menu, Words, switch
from .number_field import Number

if TYPE_CHECKING:
    from .controls import Controls

FEW = 4  # settings up to which a group is not folded


def field_of(
    name: str,
    annotation: Any,
    info: FieldInfo,
    tooltip: str,
    menu: Sequence[Any] | None,
    nested: Callable[[str], Callable[[Any, type[Family] | None], Controls]],
) -> Field:
    """The control of a setting.

    Args:
        name: of the setting.
        annotation: its type, which may be a part of the declared one.
        info: as declared.
        tooltip: what it means.
        menu: the values to choose from, in place of free text.
        nested: gives what makes the controls of settings inside of the one of that name.
    """
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if menu is not None:
        return Menu(name, menu, tooltip)
    if get_origin(annotation) is Annotated:  # within a union
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation):
        kinds = [part for part in get_args(annotation) if part is not NoneType]
        if len(kinds) == 1:
            # Settings inside have a heading of their own; a number stands beside the switch that names it.
            inside = name if isinstance(kinds[0], type) and issubclass(kinds[0], Family) else ""
            make = lambda: field_of(inside, kinds[0], info, tooltip, None, nested)  # noqa: E731
            return Maybe(name, tooltip, make, _start(kinds[0], info))
    if get_origin(annotation) is Literal:
        return Menu(name, get_args(annotation), tooltip)
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        family = annotation if issubclass(annotation, Family) else None
        make_controls = nested(name)
        return Group(lambda value: make_controls(value, family), "" if family else name, tooltip)
    if annotation is bool:
        return switch(name, tooltip)
    if annotation in (int, float):
        span: Any = extra.get("span")
        return Number(name, tooltip, annotation is int, span, bool(extra.get("log")))
    return Words(name, tooltip, plain=annotation is str)


def tooltip_of(row: dict[str, Any]) -> str:
    parts = [
        row["help"],
        f"allowed: {row['allowed']}" if row["allowed"] else "",
        f"unit: {row['unit']}" if row["unit"] else "",
    ]
    return "; ".join(part for part in parts if part)


def default_of(info: FieldInfo) -> Any:
    return _start(info.annotation, info) if info.default is PydanticUndefined else info.default


def _start(annotation: Any, info: FieldInfo) -> Any:
    """A value to begin with where the declaration has none."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        return annotation  # `Controls` of a class begin with its defaults
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    if annotation in (int, float):
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        span: Any = extra.get("span", (1, 1))
        low, high = span
        return annotation(min(max(1, low), high))
    return ""


def first_of(chosen: type[Declared], fields: Mapping[str, Field], first: Mapping[type[Declared], Sequence[str]]) -> Any:
    """The settings of a class that are seen at first: those given for it, else its own and those of its parents."""
    if chosen in first:
        return first[chosen]
    base = next((first[parent] for parent in chosen.__mro__ if parent in first), ())
    own = chosen.__annotations__ if issubclass(chosen, Family) or len(fields) > FEW else fields
    return [name for name in fields if name in own or name in base]
