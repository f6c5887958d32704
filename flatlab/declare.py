"""Declared settings: each hyperparameter is stated once and serves validation, JSON, the CLI, widgets and docs.

A setting is a typed class attribute made by `setting(default, help, ...)`; a class of settings derives from `Declared`.
Kinds of one thing (partitions, algorithms, schedules) derive from a common `Family` and are told apart by `kind`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from .describe import describe
from .errors import Problem, SettingError, near, refusal, shown, tell
from .values import Misfit, fit, plain, spoken

__all__ = [
    "Declared", "Family", "Problem", "SettingError", "declared_classes", "kind_of", "near", "setting", "shown", "tell",
    "walked", "with_changes",
]  # fmt: skip

LONGEST_TEXT = 4096  # signs of a setting: as long as a path may be


def setting(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: str | None = None,
    log: bool = False,
    span: tuple[float, float] | None = None,
    new: bool = False,
) -> Any:
    """One hyperparameter: its default (`...` if it must be given), a line of help, its allowed range and unit.

    `log` and `span` (usual lowest and highest value) only tell a slider how to look; they do not restrict. A setting
    that came after runs were recorded is `new`: at its default it is left out of the JSON, so that those runs keep
    their ids. Its default then means what was done before it came, and must never change.

    >>> class Oven(fl.declare.Declared):
    ...     heat: float = fl.setting(180.0, "how hot", gt=0, le=300, unit="degrees")
    >>> Oven(heat=200.0)
    Oven(heat=200.0)
    >>> Oven(heat=900.0)
    Traceback (most recent call last):
        ...
    flatlab.errors.SettingError: Oven.heat = 900.0: must be a number > 0 and ≤ 300
    """
    extra: Any = {"unit": unit, "log": log, "span": span, "new": new}
    extra = {key: value for key, value in extra.items() if value}
    rules: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    return Field(default, description=help, json_schema_extra=extra or None, **rules)


class Declared(BaseModel):
    """A frozen, validated set of settings with an exact JSON round trip.

    Raises:
        SettingError: naming each field that is unknown, missing or out of range, its value, and what is allowed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, arbitrary_types_allowed=True
    )
    __str__ = BaseModel.__repr__  # pydantic's lacks the name: of settings at their defaults nothing was printed

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(type(self), error) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        describe(cls)

    def __repr_args__(self) -> Iterable[tuple[str, Any]]:
        return self.changed().items()

    def changed(self) -> dict[str, Any]:
        """What is not at its default: the arguments that a call needs to make these settings."""
        return {name: value for name, value in self if value != type(self).model_fields[name].get_default()}

    @classmethod
    def called(cls, name: str, values: Mapping[str, Any]) -> Self:
        """Settings that errors call `name` in place of their class: the function, say, whose arguments they are."""
        made = cls.__new__(cls)
        try:
            BaseModel.__init__(made, **values)
        except ValidationError as error:
            raise refusal(cls, error, name) from None
        return made

    @classmethod
    def judged(cls, hint: Any) -> bool:
        """Whether `flatlab.values` judges a value of this annotation, before pydantic does."""
        return plain(hint)

    @field_validator("*", mode="before")
    @classmethod
    def _plainly(cls, value: Any, info: ValidationInfo) -> Any:
        hint, judged = _hint(cls, str(info.field_name))
        try:
            fitting = fit(value, hint) if judged else value
        except Misfit as misfit:
            raise ValueError(f"must be {spoken(hint)}{misfit}") from None
        if isinstance(fitting, str) and len(fitting) > LONGEST_TEXT:
            raise ValueError(f"must be a text of at most {LONGEST_TEXT} signs")
        return fitting

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name, default in _new_defaults(type(self)).items():
            if getattr(self, name) == default:
                written.pop(name, None)
        return written

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON or TOML; without `new` settings that have their defaults."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, so that equal settings give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refusal(cls, error) from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls.from_dict(cls.values(text))

    @classmethod
    def values(cls, text: str) -> Any:
        """What a JSON text holds, not yet looked at."""
        try:
            return json.loads(text)
        except RecursionError:
            raise SettingError(cls.__name__, allowed="not valid JSON: nested too deeply") from None
        except ValueError as error:
            raise SettingError(cls.__name__, allowed=f"not valid JSON: {error}") from None

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some settings changed; those inside others by dotted names.

        >>> experiment = fl.Experiment(data=data.spec, algorithm=fl.FedBABU(lr=0.1))
        >>> experiment.replace(seed=1, **{"algorithm.lr": 0.05}).algorithm
        FedBABU(lr=0.05)
        """
        return self.from_dict(with_changes({name: getattr(self, name) for name in type(self).model_fields}, changes))


Declared.__init__.__doc__ = ""  # else `?` shows pydantic's; the class itself says what it takes


class Family(Declared):
    """A base class whose subclasses are told apart by `kind`; a field of the base's type takes any of them.

    Such a field also takes a kind's name, or a dictionary with its settings. A user's own subclass counts as soon as
    it is defined.
    """

    abstract: ClassVar[bool] = True
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        abstract, cls.abstract = "kind" not in cls.__annotations__, True  # not yet among the others
        if not abstract and not cls.__module__.startswith("flatlab."):
            family: Any = cls.__mro__[cls.__mro__.index(Family) - 1]
            kind = cls.model_fields["kind"].default
            if getattr(family.members().get(kind), "__module__", "").startswith("flatlab."):
                tell(f"{cls.__name__}.kind = {kind!r} hides flatlab's own of that name in files; choose another")
        cls.abstract = abstract

    @classmethod
    def members(cls) -> dict[str, type[Self]]:
        """Every concrete kind of this family, by name."""
        members = {} if cls.abstract else {cls.model_fields["kind"].default: cls}
        for child in cls.__subclasses__():
            members |= child.members()
        return members

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if isinstance(value, dict) and "kind" in value:
            members = cls.members()
            kind = value["kind"] if isinstance(value["kind"], str) else ""
            chosen = members.get(kind)
            if chosen is None:
                raise ValueError(
                    f"unknown kind {shown(value['kind'])}{near(kind, members)}; known:"
                    f" {', '.join(sorted(members))}; for a class of your own, import its module first (on the command"
                    " line: --import MODULE)"
                )
            if chosen is not cls:
                return chosen(**value)
        if cls.abstract and not isinstance(value, cls):
            known, name = ", ".join(sorted(cls.members())), cls.__name__
            raise ValueError(
                f"needs one of {known}" if known else f'give it a kind: `kind: Literal["{name}"] = "{name}"`'
            )
        return handler(value)


def walked(settings: Declared, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting by the path of its names; a group of settings comes before what it holds."""
    for name, value in settings:
        yield (*path, name), value
        if isinstance(value, Declared):
            yield from walked(value, (*path, name))


def kind_of(settings: Declared) -> str | None:
    """The kind of a group of settings, or its name; None if it has neither."""
    return next((getattr(settings, name) for name in ("kind", "name") if hasattr(settings, name)), None)


def declared_classes(values: Any) -> Iterator[type[Declared]]:
    """The class of some settings and those of the settings within them, in order, a class again for each place."""
    if isinstance(values, Declared):
        yield type(values)
        for name in type(values).model_fields:
            yield from declared_classes(getattr(values, name))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from declared_classes(value)


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, plain or `Declared`, of which some are changed; not yet looked at.

    Args:
        values: all of them; they stay as they are.
        changes: by dotted names, such as {"algorithm.lr": 0.05}; what is given by its kind alone, or missing, comes to
            hold what is set inside it.

    Raises:
        SettingError: if a name leads through something that holds no settings.
    """
    changed = dict(values)
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = changed
        for parent in parents:
            inner = place.get(parent)
            if isinstance(inner, Declared):
                inner = {**({"kind": inner.kind} if isinstance(inner, Family) else {}), **inner.changed()}
            elif isinstance(inner, str):
                inner = {("name" if parent in ("model", "data") else "kind"): inner}
            if not isinstance(inner, Mapping | None):
                raise SettingError(name, value, f"{parent} = {shown(inner)} holds no settings")
            place[parent] = place = dict(inner or {})
        place[last] = value
    return changed


@functools.cache
def _hint(declared: type[Declared], name: str) -> tuple[Any, bool]:
    hint: Any = declared.model_fields[name].rebuild_annotation()
    return hint, declared.judged(hint)


@functools.cache
def _new_defaults(declared: type[Declared]) -> dict[str, Any]:
    return {
        name: TypeAdapter(field.rebuild_annotation()).validate_python(field.default)  # a kind may be given by its name
        for name, field in declared.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("new")
    }
