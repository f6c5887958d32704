"""What the clients of a round send, added up chunk by chunk; processes that share a cohort add up their parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..algorithms import Params
from .cohort import Trained


class Fold:
    """Sums over a cohort.

    Args:
        weights: [clients of the whole cohort] how much each client's message counts.
        sent: names of the tensors that are averaged.
        personal, velocity: names of the tensors that each client keeps.
        params: tensors of the shapes in question.
    """

    def __init__(
        self,
        weights: Sequence[float],
        sent: Sequence[str],
        personal: Sequence[str],
        velocity: Sequence[str],
        params: Params,
    ) -> None:
        like, count = next(iter(params.values())), len(weights)
        self.weights = like.new_tensor(weights, dtype=torch.float32)
        self.mass = float(sum(weights))
        self.total = {name: torch.zeros_like(params[name], memory_format=torch.contiguous_format) for name in sent}
        self.loss, self.drift = (like.new_zeros(count, dtype=torch.float32) for _ in range(2))
        self.personal, self.velocity = (
            {name: params[name].new_zeros(count, *params[name].shape) for name in kept} for kept in (personal, velocity)
        )

    def add(self, chunk: Trained, places: Sequence[int]) -> None:
        """Take in some clients; `places` are theirs in the cohort."""
        # A slice where it says the same: an index would have to be copied to a GPU, which waits for it to be idle.
        first, last = places[0], places[-1]
        together = last - first == len(places) - 1
        rows = slice(first, last + 1) if together else torch.tensor(places, device=self.loss.device)
        weights = self.weights[rows]
        moves = {name: value.reshape(len(places), -1) for name, value in chunk.message.items()}
        for name, value in self.total.items():
            value.view(-1).addmv_(moves[name].T, weights.to(value.dtype))
        self.loss[rows] = chunk.loss.to(self.loss)
        lengths = torch.stack([torch.linalg.vector_norm(move, dim=1) for move in moves.values()])
        self.drift[rows] = torch.linalg.vector_norm(lengths, dim=0).to(self.drift)
        for mine, given in ((self.personal, chunk.params), (self.velocity, chunk.velocity)):
            for name, value in mine.items():
                value[rows] = given[name]

    def tensors(self) -> list[Tensor]:
        """All sums, to be added to those of other processes in place."""
        groups = (self.total, self.personal, self.velocity)
        return [*(value for group in groups for value in group.values()), self.loss, self.drift]

    def mean(self) -> Params:
        """The weighted mean of the messages."""
        return {name: value / self.mass for name, value in self.total.items()}
