"""One setting of an experiment at several values: which values are worth a try, and the experiments that have them.

values = values_to_try(experiment, "algorithm.lr")              # [0.02, 0.05, 0.1, 0.2]
runs = fl.sweep([with_setting(experiment, "algorithm.lr", value) for value in values])
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from ..declare import Declared, Family, SettingError, walked
from ..values import read_number
from .experiment import Experiment

# What changes no weight, or cannot be set.
FIXED = {"kind", "name", "parent", "fingerprint", "digest", "initial", "code", "evaluation"}
STEPS = (1, 2, 5)  # times powers of ten: where values lie on a logarithmic scale


def with_setting(experiment: Experiment, path: str, value: Any) -> Experiment:
    """The experiment with another value of the setting of that dotted name; another kind stands for its defaults.

    Raises:
        SettingError: if there is no such setting, or the value is refused.
    """
    owner, name = _owner(experiment, path)
    now = getattr(owner, name)
    same_kind = isinstance(value, str) and getattr(now, "kind", "") == value
    return experiment.replace(**{path: now if same_kind else value})


def values_to_try(experiment: Experiment, path: str, count: int = 4) -> list[Any]:
    """Some sensible values of a setting, that it has among them: by its type, its usual range and its scale.

    Raises:
        SettingError: if there is no such setting, or it is none that has several values.
    """
    owner, name = _owner(experiment, path)
    info, now = type(owner).model_fields[name], getattr(owner, name)
    extra: Any = info.json_schema_extra or {}
    annotation = next((part for part in _parts(info.annotation) if part is not NoneType), Any)

    def allowed(value: Any) -> bool:
        with suppress(SettingError):
            return bool(with_setting(experiment, path, value))
        return False

    choices = _choices(annotation, now, extra.get("span"), bool(extra.get("log")), count, allowed)
    fine: list[Any] = list({repr(value): value for value in choices if allowed(value)}.values())
    if len(fine) < 2:
        raise SettingError(path, now, "there are no other values to try by itself; write them")
    return fine


def settings_to_try(experiment: Experiment) -> list[str]:
    """The dotted names of the settings that have other values to try."""
    paths = []
    for names, _ in walked(experiment):
        if FIXED.isdisjoint(names):
            with suppress(SettingError):
                values_to_try(experiment, ".".join(names))
                paths.append(".".join(names))
    return paths


def read_values(text: str) -> list[Any]:
    """Values as a person writes them, with commas between: JSON where they are, else words."""
    values: list[Any] = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            values.append(json.loads(part))
        except ValueError:
            values.append(read_number(part))
    return values


def _owner(experiment: Experiment, path: str) -> tuple[Declared, str]:
    """The group of settings that holds the one of a dotted name, and its name there."""
    *groups, name = path.split(".")
    owner: Any = experiment
    for group in groups:
        owner = getattr(owner, group, None)
    if not isinstance(owner, Declared) or name not in type(owner).model_fields:
        raise SettingError(path, allowed="no such setting in this experiment")
    return owner, name


def _parts(annotation: Any) -> list[Any]:
    """What a setting may be: the members of a union, without their rules."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) is Literal or not get_args(annotation):
        return [annotation]
    return [part for member in get_args(annotation) for part in _parts(member)]


def _choices(
    annotation: Any, now: Any, span: tuple[float, float] | None, log: bool, count: int, allowed: Callable[[Any], bool]
) -> list[Any]:
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Family)):
        every = list(get_args(annotation)) if get_origin(annotation) is Literal else list(annotation.members())
        own = getattr(now, "kind", now)
        return [own, *[choice for choice in every if choice != own]][:count]
    if annotation not in (int, float):
        return []
    if span is not None and not log:
        low, high = span
        even = [low + (high - low) * place / max(count - 1, 1) for place in range(count)]
        even = [annotation(round(value)) if annotation is int else float(f"{value:.2g}") for value in even]
        if isinstance(now, (int, float)):
            even[min(range(count), key=lambda place: abs(even[place] - now))] = now
        return sorted(even)
    if annotation is int and span is None:
        return [int(now or 0) + step for step in range(count)]  # such as seeds
    ladder = [annotation(step * 10.0**power) for power in range(-9, 10) for step in STEPS]
    if annotation is int:
        ladder = [value for value in ladder if value >= 1]
    if span is not None:
        ladder = [value for value in ladder if span[0] <= value <= span[1]]
    at = now if isinstance(now, (int, float)) and now > 0 else math.sqrt(span[0] * span[1]) if span else 1.0
    near = min(range(len(ladder)), key=lambda place: abs(math.log(ladder[place] / at)))
    around = [value for value in ladder[max(0, near - count) : near + count] if allowed(value)]
    at_now = around.index(ladder[near]) if ladder[near] in around else 0
    begin = max(0, min(at_now - 1, len(around) - count))
    chosen = around[begin : begin + count]
    return sorted({now if value == ladder[near] and isinstance(now, (int, float)) else value for value in chosen})
