"""What the follow-ups of FedSAM share: a gradient taken beside the weights, and what they refuse to be crossed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from ..algorithms import SGD, Algorithm, LocalBatch, Params
from ..declare import SettingError


@dataclass(frozen=True)
class Beside:
    """A client's batch that is looked at from w + shift where a step looks from w."""

    batch: LocalBatch
    shift: Params

    @property
    def size(self) -> Tensor:
        """Samples in it, []."""
        return self.batch.size

    def gradient(self, params: Params, loss: Callable[[Tensor], Tensor] | None = None) -> tuple[Params, Tensor]:
        """Gradients and loss at w + shift."""
        return self.batch.gradient(self._at(params), loss)

    def outputs(self, params: Params) -> Tensor:
        """The network's outputs at w + shift."""
        return self.batch.outputs(self._at(params))

    def halves(self) -> tuple[Beside, Beside]:
        """Every second sample, and the others."""
        first, second = self.batch.halves()
        return Beside(first, self.shift), Beside(second, self.shift)

    def _at(self, params: Params) -> Params:
        return {name: value + self.shift[name] for name, value in params.items()}


def zeros(like: Params) -> Params:
    """Tensors of these shapes."""
    return {name: torch.zeros_like(value) for name, value in like.items()}


def check_server(algorithm: Algorithm) -> None:
    """Refuse clients that send nothing that they train: there is no global model to look at, or it never moves.

    Raises:
        SettingError: naming `share`.
    """
    if algorithm.share == "none":
        raise SettingError("share", "none", f"{algorithm.kind} needs a global model; share 'all', 'body' or 'head'")
    if {algorithm.share, algorithm.train} == {"body", "head"}:
        refuse_unsent(algorithm)


def refuse_unsent(algorithm: Algorithm) -> NoReturn:
    """Of clients that train one part and send another.

    Raises:
        SettingError: naming `share`.
    """
    told = f"of what they train ({algorithm.train!r}) clients send nothing that {algorithm.kind} could look at"
    raise SettingError("share", algorithm.share, told)


def check_own_perturbation(algorithm: Algorithm) -> None:
    """Refuse a local step that perturbs, too, in a method that does so itself; and clients that send nothing.

    Raises:
        SettingError: naming `local` or `share`.
    """
    check_server(algorithm)
    if algorithm.local != SGD():
        raise SettingError(
            "local", algorithm.local.kind, f"{algorithm.kind} perturbs the weights itself; leave it at 'sgd'"
        )
