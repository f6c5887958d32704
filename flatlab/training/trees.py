"""Functions over nested dictionaries and named tuples of tensors: what local training carries from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree like `tree`, of `function(leaf, *leaves of the others in the same place)`."""
    if isinstance(tree, dict):
        return {name: mapped(function, value, *(other[name] for other in others)) for name, value in tree.items()}
    if isinstance(tree, tuple):
        values = [mapped(function, *places) for places in zip(tree, *others, strict=True)]
        return type(tree)(*values) if hasattr(tree, "_fields") else tuple(values)
    return function(tree, *others)


def leaves(tree: Any) -> Iterator[Tensor]:
    """Its tensors, in order."""
    return (leaf for leaf, _ in pairs(tree, tree))


def pairs(tree: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors of two trees of one shape, place by place, in the order of the first."""
    if isinstance(tree, Tensor):
        yield tree, other
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from pairs(value, other[name])
    else:
        for value, place in zip(tree, other, strict=True):
            yield from pairs(value, place)
