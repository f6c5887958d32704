"""What the clients of a round send, added up chunk by chunk; processes that share a cohort add up their parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..algorithms import Message, Params
from ..algorithms.aggregation import Aggregation
from .hooks import aggregated
from .trees import leaves, mapped
from .work import Trained


class Fold:
    """Sums over a cohort, and what each of its clients keeps.

    Args:
        rule: how updates become one; a linear rule's are added up as they come, another's are kept until all are there.
        sizes: [clients of the whole cohort] their numbers of samples.
        sent: names of the tensors that are aggregated.
        personal: names of the trained tensors that each client keeps.
        template: a message of one client, for shapes.
        params: tensors of the shapes of the trained part.
        keep: keep the updates of a linear rule, too, for somebody who changes them.
    """

    def __init__(
        self,
        rule: Aggregation,
        sizes: Sequence[int],
        sent: Sequence[str],
        personal: Sequence[str],
        template: Message,
        params: Params,
        keep: bool = False,
    ) -> None:
        like, count = next(iter(params.values())), len(sizes)
        self.rule, self.sizes, self.summed = rule, sizes, rule.linear and not keep
        self.weights = like.new_tensor(rule.weights(list(sizes)) if rule.linear else sizes, dtype=torch.float32)

        def each(value: Tensor) -> Tensor:
            return value.new_zeros(count, *value.shape)

        self.total = {
            name: torch.zeros_like(params[name], memory_format=torch.contiguous_format)
            if self.summed
            else each(params[name])
            for name in sent
        }
        self.loss, self.drift = (like.new_zeros(count, dtype=torch.float32) for _ in range(2))
        self.personal = {name: each(params[name]) for name in personal}
        self.memory = mapped(each, template.memory)
        self.extra = mapped(torch.zeros_like, template.extra)

    def add(self, chunk: Trained, places: Sequence[int]) -> None:
        """Take in some clients; `places` are theirs in the cohort."""
        # A slice where it says the same: an index would have to be copied to a GPU, which waits for it to be idle.
        first, last = places[0], places[-1]
        together = last - first == len(places) - 1
        rows = slice(first, last + 1) if together else torch.tensor(places, device=self.loss.device)
        update, memory, extra = chunk.message
        moves = {name: value.reshape(len(places), -1) for name, value in update.items()}
        for name, value in self.total.items():
            if self.summed:
                value.view(-1).addmv_(moves[name].T, self.weights[rows].to(value.dtype))
            else:
                value[rows] = update[name]
        self.loss[rows] = chunk.loss.to(self.loss)
        lengths = torch.stack([torch.linalg.vector_norm(move, dim=1) for move in moves.values()])
        self.drift[rows] = torch.linalg.vector_norm(lengths, dim=0).to(self.drift)
        for name, value in self.personal.items():
            value[rows] = chunk.params[name]

        def keep(place: Tensor, value: Tensor) -> Tensor:
            place[rows] = value
            return place

        mapped(keep, self.memory, memory)
        self.extra = mapped(lambda total, value: total + value.sum(0), self.extra, extra)

    def tensors(self) -> list[Tensor]:
        """All sums, to be added to those of other processes in place."""
        return [*leaves((self.total, self.personal, self.memory, self.extra)), self.loss, self.drift]

    def combined(self) -> tuple[Params, list[float] | None]:
        """The aggregate of the updates, and the weight that a rule gave to each client where it is not known before."""
        if self.rule.linear:
            mass, total = float(sum(self.rule.weights(list(self.sizes)))), self.total
            if not self.summed:
                total = {name: torch.tensordot(self.weights.to(value), value, 1) for name, value in total.items()}
            return {name: value / mass for name, value in total.items()}, None
        combined, weights = aggregated(self.rule, self.total, self.weights)
        return combined, None if weights is None else weights.tolist()
