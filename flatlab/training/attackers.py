"""The bad clients of a federation at work: what they train on, what they send, and how far they get."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..algorithms.aggregation import flat
from ..streams import stream
from .accumulate import Fold
from .clients import Cohort
from .evaluate import Score, score_holdout
from .experiment import Experiment
from .world import poisoned, triggered


class Attackers:
    """The bad clients of an experiment.

    Args:
        experiment: whose world has an adversary, or not.
        clean: how clients are computed on the data as they are.

    Attributes:
        bad: their ids.
        aimed: the cohort on triggered test images; None if no data are poisoned.
    """

    def __init__(self, experiment: Experiment, clean: Cohort) -> None:
        world, data = experiment.world, clean.data
        self.experiment, self.clean = experiment, clean
        self.adversary = None if world is None else world.adversary
        self.message = self.adversary.message if self.adversary else None
        self.bad = self.adversary.chosen(data.clients, experiment.seed) if self.adversary else ()
        self.dirty = self.aimed = None
        if self.adversary and (poison := self.adversary.data):
            self.dirty = clean.on(poisoned(data, poison, self.bad, experiment.seed))
            self.aimed = clean.on(triggered(data, poison))

    def active(self, round: int) -> bool:
        """Whether they attack in a round (from 0)."""
        return self.adversary is not None and self.adversary.active(round, self.experiment.rounds)

    def cohort(self, round: int) -> Cohort:
        """How clients train in a round: on poisoned data while the attack lasts."""
        return self.dirty if self.dirty is not None and self.active(round) else self.clean

    def forges(self, round: int) -> bool:
        """Whether the round's messages are needed one by one."""
        return self.message is not None and self.active(round)

    def marks(self, round: int, clients: Sequence[int]) -> tuple[int, ...]:
        """Which of a round's clients attack in it, 1 or 0 each; nothing where there is no adversary."""
        active = self.active(round)
        return tuple(int(active and client in self.bad) for client in clients) if self.adversary else ()

    def forge(self, round: int, clients: Sequence[int], fold: Fold) -> None:
        """Put the forged messages in place of the bad clients' updates."""
        lies = [client in self.bad for client in clients]
        if self.message is None or not self.forges(round) or not any(lies):
            return
        bad = torch.tensor(lies, device=fold.loss.device)
        pull = self.experiment.algorithm.server.lr * fold.weights / fold.weights.sum()
        sizes = [value[0].numel() for value in fold.total.values()]
        updates = torch.cat([flat(value) for value in fold.total.values()], 1)
        forged = self.message.forge(updates, bad, pull, stream(self.experiment.seed, "forgery", round))
        for value, part in zip(fold.total.values(), forged.split(sizes, 1), strict=True):
            value[bad] = part.reshape(-1, *value.shape[1:]).to(value.dtype)

    def success(self, params: dict[str, torch.Tensor]) -> Score | None:
        """The share of triggered holdout images that `params` call what the attackers want."""
        if self.aimed is None:
            return None
        return score_holdout(self.aimed, params, self.experiment.evaluation.batch_size)
