"""What the clients of a round send, added up chunk by chunk; processes that share a cohort add up their parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..algorithms import Message, Params
from ..algorithms.aggregation import Aggregation
from ..declare import SettingError
from .hooks import aggregated, weighed
from .work import Trained, leaves, mapped


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
        factors: [ages, clients] how much of each client's weight comes so many rounds later; all of it now by default.
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
        factors: Sequence[Sequence[float]] | None = None,
    ) -> None:
        like, count = next(iter(params.values())), len(sizes)
        self.rule, self.sizes, self.summed = rule, sizes, rule.linear and not keep
        self.given = weighed(rule, list(sizes))
        self.weights = like.new_tensor(self.given, dtype=torch.float32)
        self.shares = factors or [[1.0] * count]
        self.lossy, self.factors = factors is not None, like.new_tensor(self.shares, dtype=torch.float32)

        def each(value: Tensor) -> Tensor:
            return value.new_zeros(count, *value.shape)

        self.total = {
            name: torch.zeros_like(params[name], memory_format=torch.contiguous_format)
            if self.summed
            else each(params[name])
            for name in sent
        }
        ages = len(self.shares) - 1 if self.summed else 0
        self.late = {name: params[name].new_zeros(ages, *params[name].shape) for name in sent} if ages else {}
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
                for place, factors in zip((value, *self.late.get(name, ())), self.factors, strict=True):
                    place.view(-1).addmv_(moves[name].T, (self.weights * factors)[rows].to(value.dtype))
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
        if self.lossy:
            arrived = self.factors[0, rows]
            extra = mapped(lambda value: value * arrived.to(value).view(-1, *[1] * (value.dim() - 1)), extra)
        self.extra = mapped(lambda total, value: total + value.sum(0), self.extra, extra)

    def tensors(self) -> list[Tensor]:
        """All sums, to be added to those of other processes in place."""
        return [*leaves((self.total, self.late, self.personal, self.memory, self.extra)), self.loss, self.drift]

    @property
    def heard(self) -> int:
        """How many messages arrive in the round itself."""
        return sum(factor > 0 for factor in self.shares[0])

    def combined(self, pending: Params) -> tuple[Params | None, list[float] | None, Params]:
        """The aggregate of the updates, None if too few arrive; the weight that a rule gave to each client where it is
        not known before; and what is still on its way.

        Args:
            pending: by name the sums [rounds, ...] that come in this round and the next, and their weights, "mass".
        """
        if not self.rule.linear:
            return *self._ruled(), pending
        total, mass = self._sum(0)
        if pending:
            later = [self._sum(age) for age in range(1, len(self.shares))]
            total = {name: value + pending[name][0] for name, value in total.items()}
            mass += float(pending["mass"][0])
            moved = {name: torch.cat([value[1:], torch.zeros_like(value[:1])]) for name, value in pending.items()}
            pending = {name: moved[name] + torch.stack([sums[name] for sums, _ in later]) for name in total}
            pending["mass"] = moved["mass"] + moved["mass"].new_tensor([weight for _, weight in later])
        return {name: value / mass for name, value in total.items()} if mass else None, None, pending

    def _sum(self, age: int) -> tuple[Params, float]:
        """Of a linear rule: the weighted sum of the updates that come so many rounds later, and of their weights."""
        mass = sum(weight * share for weight, share in zip(self.given, self.shares[age], strict=True))
        if self.summed:
            return {name: self.late[name][age - 1] if age else value for name, value in self.total.items()}, mass
        weights = self.weights * self.factors[age]
        return {name: torch.tensordot(weights.to(value), value, 1) for name, value in self.total.items()}, mass

    def _ruled(self) -> tuple[Params | None, list[float] | None]:
        """What a rule that sees all messages makes of those that arrive."""
        if not self.lossy:
            combined, weights = aggregated(self.rule, self.total, self.weights)
            return combined, None if weights is None else weights.tolist()
        arrived = self.factors[0] > 0
        try:
            self.rule.check(self.heard)
        except SettingError:
            return None, None
        if not self.heard:
            return None, None
        updates = {name: value[arrived] for name, value in self.total.items()}
        combined, weights = aggregated(self.rule, updates, self.weights[arrived])
        if weights is None:
            return combined, None
        every = weights.new_zeros(len(self.sizes))
        every[arrived] = weights
        return combined, every.tolist()
