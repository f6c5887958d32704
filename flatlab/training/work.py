"""What some clients are to do, and what they come to: trees of tensors, each with a leading client axis.

A tree is nested dictionaries and named tuples; `mapped` and `leaves` go through all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm, Carry, Message, Params, Slots
from .batches import Plan

Epoch = tuple[int, Carry, Tensor]  # epochs done, the carry, mean losses so far; a leading client axis
Epochs = Iterator[Epoch]


class Work(NamedTuple):
    """What some clients start from and are to do."""

    trained: Params
    frozen: Params
    memory: Slots
    received: Slots
    steps: Tensor  # [clients] how many steps each takes
    drawn: Plan
    lr: Tensor  # [clients]
    algorithms: tuple[Algorithm, ...]  # each client's; what they keep and send is alike


@dataclass(frozen=True)
class Orders:
    """What some clients are to train in a round: arguments of `Cohort.train`."""

    indices: list[Tensor]
    streams: list[tuple[str | int, ...]]
    seed: int
    lr: float
    own: Params
    memory: Slots
    received: Slots


@dataclass(frozen=True)
class Trained:
    """A chunk of clients after an epoch."""

    clients: list[int]  # positions in the list that was handed in
    epoch: int  # epochs done, from 1
    params: Params  # the trained part
    message: Message
    loss: Tensor  # [clients] mean training loss over the epochs so far, each step counted by its samples


def counted(before: Carry, after: Carry) -> Carry:
    """The carry after a step; what the client received stays as it was."""
    return Carry(
        after.params, after.velocity, before.anchor, after.memory, before.received, before.steps, before.step + 1
    )


def in_a_row(algorithms: Sequence[Algorithm]) -> list[tuple[Algorithm, int]]:
    """Each algorithm, and how many clients have it one after the other."""
    return [(algorithm, len([*same])) for algorithm, same in itertools.groupby(algorithms)]


def finished(clients: list[int], done: Epoch, work: Work) -> Trained:
    """What clients, at these positions, have come to."""
    epoch, carry, losses = done
    message = torch.func.vmap(work.algorithms[0].finish)(carry, work.lr)
    return Trained(clients, epoch, carry.params, message, losses)


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
