"""Networks by name: those that flatlab brings, and the user's own.

    # nets.py, somewhere on Python's path
    def tiny(spec, shape):
        channels = spec.channels(16)  # at width 1
        layers = [nn.Conv2d(shape[0], channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers), channels

    fl.train(fl.FedBABU(), data, "nets:tiny")

A name "module:function" is imported where it is needed: in a worker of a sweep, on the command line, when a run is
opened again. `@network("tiny")` gives it a short name besides, which the lab and `flatlab schema` list; it holds where
the module has been imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import nn

from ..arguments import checked, fitted
from ..declare import SettingError, near

# From a `ModelSpec` and the shape (C, H, W) of an image: the body, images to features [batch, n], and n.
Builder = Callable[[Any, tuple[int, int, int]], tuple[nn.Module, int]]


class Network(NamedTuple):
    """A network that has a name."""

    build: Builder
    norm: str = "batch"  # what `norm = "default"` means for it: "batch", "group" or "none"
    dense: bool = False  # whether its body gives a map of features, and its head a class for each pixel


_KNOWN: dict[str, Network] = {}


@checked
def network(
    name: str, norm: Literal["batch", "group", "none"] = "batch", dense: bool = False
) -> Callable[[Builder], Builder]:
    """Register the decorated function under a name.

    Args:
        name: short, without ":".
        norm: what `norm = "default"` means for it: "batch", "group" or "none".
        dense: its body gives maps of features [batch, n, h, w]; the head classifies each pixel of the image.

    Raises:
        SettingError: if the name is taken, or no name, or the function does not take (spec, shape).
    """
    if not name.strip() or ":" in name or name == "custom" or (name in _KNOWN and not is_own(name)):
        raise SettingError("name", name, "taken, or not a short name")

    def keep(build: Builder) -> Builder:
        _KNOWN[name] = Network(fitted(f"network {name}", build, Builder), norm, dense)
        return build

    return keep


def is_own(name: str) -> bool:
    """Whether the user's own code makes the network of a name, and may have changed since it was last used."""
    return ":" in name or (name in _KNOWN and not _KNOWN[name].build.__module__.startswith("flatlab."))


def registered() -> list[str]:
    """The short names, in the order in which they came."""
    return list(_KNOWN)


def find(name: str) -> Network:
    """The network of a short name or of "module:function".

    Raises:
        SettingError: if there is none.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = f"known are {', '.join(_KNOWN)}, and functions of your own as 'module:function'"
        raise SettingError("ModelSpec.name", name, known + near(name, _KNOWN))
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise SettingError("ModelSpec.name", name, f"cannot be imported ({error})") from None
    build = fitted(f"ModelSpec.name = {name!r}", build, Builder)
    return next((known for known in _KNOWN.values() if known.build is build), Network(build))
