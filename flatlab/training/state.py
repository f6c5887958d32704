"""What a round leaves: the state that the next one depends on, and the report of what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..algorithms import Params, Slots
from ..digest import digest
from .evaluate import Score

SERVER = -1  # stands for the server where a client's id is expected


@dataclass(frozen=True)
class State:
    """Everything that the next round depends on, besides the experiment."""

    round: int  # rounds done
    params: Params  # the global model
    slots: Slots = field(default_factory=dict)  # the server's: its optimiser's, and what an algorithm keeps there
    swa: Params = field(default_factory=dict)  # the average, or the models it is of, [models, ...]; empty at first
    swa_count: int = 0
    personal: Params = field(default_factory=dict)  # parts that each client keeps, [population, ...]
    memory: Slots = field(default_factory=dict)  # what else the algorithm lets clients remember, [population, ...]
    pending: Params = field(default_factory=dict)  # sums of late messages by rounds until they come, [delay, ...]

    @property
    def digest(self) -> str:
        """What stands for its tensors and numbers."""
        return digest(self.round, self.swa_count, sorted(self.flat().items()))

    def flat(self) -> dict[str, Tensor]:
        """One dictionary of tensors, for a file."""
        groups = {"params": self.params, "swa": self.swa, "personal": self.personal, "pending": self.pending}
        groups |= {f"slots/{slot}": values for slot, values in self.slots.items()}
        groups |= {f"memory/{slot}": values for slot, values in self.memory.items()}
        return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}

    @classmethod
    def from_flat(cls, tensors: dict[str, Tensor], round: int, swa_count: int, device: torch.device) -> State:
        """The inverse of `flat`."""
        parts: dict[str, Params] = {"params": {}}
        nested: dict[str, Slots] = {"slots": {}, "memory": {}}
        for key, value in tensors.items():
            group, *inner, name = key.split("/")
            if group == "velocity":  # as files had it when momentum was all that a client could remember
                group, inner = "memory", ["momentum"]
            place = nested[group].setdefault(inner[0], {}) if inner else parts.setdefault(group, {})
            place[name] = value.to(device)
        return cls(round, swa_count=swa_count, **parts, slots=nested["slots"], memory=nested["memory"])

    def plain(self) -> State:
        """The same with plain strides, as if read from a file: kernels round differently for other strides."""
        tensors = {k: _plain(v) for k, v in self.flat().items()}
        return State.from_flat(tensors, self.round, self.swa_count, next(iter(self.params.values())).device)

    @property
    def average(self) -> Params:
        """The server's average; empty before it starts."""
        models = {name for name, value in self.swa.items() if value.dim() > self.params[name].dim()}
        return {name: value.mean(0) if name in models else value for name, value in self.swa.items()}

    @property
    def served(self) -> Params:
        """The parameters to evaluate: the average once it exists, else the global model."""
        return self.average or self.params


@dataclass(frozen=True)
class Round:
    """What happened in a round."""

    number: int  # from 1
    lr: float
    clients: tuple[int, ...]
    samples: int  # sample passes: samples held x epochs
    loss: tuple[float, ...]  # per sampled client: mean training loss
    drift: tuple[float, ...]  # per sampled client: Euclidean distance moved by the trained part
    heard: tuple[float, ...] = ()  # per sampled client: its weight in the aggregate, where the rule decides it
    megabytes: float = 0.0  # sent between clients and server, or along the edges of a topology, 10^6 bytes
    bad: tuple[int, ...] = ()  # per sampled client: whether it attacked, where there is an adversary
    ages: tuple[int | None, ...] = ()  # per sampled client: rounds that its message is late, None if it is lost
    holdout: Score | None = None
    unseen: Score | None = None  # per group of images that no client trains on
    success: Score | None = None  # of an attack on the data: on triggered holdout images
    initial: Score | None = None  # per client of the federation, on its own test set
    seconds: float = 0.0  # training
    evaluation_seconds: float = 0.0

    def rows(self) -> list[dict[str, object]]:
        """The round as rows of the history. Timings are not among them: they differ from run to run."""
        rows: list[tuple[str, str, float, int]] = [("train", "lr", self.lr, SERVER)]
        rows += [("train", "megabytes", self.megabytes, SERVER)]
        for client, loss, drift in zip(self.clients, self.loss, self.drift, strict=True):
            rows += [("train", "loss", loss, client), ("train", "drift", drift, client)]
        rows += [("train", "weight", value, client) for client, value in zip(self.clients, self.heard, strict=False)]
        rows += [("train", "bad", float(value), client) for client, value in zip(self.clients, self.bad, strict=False)]
        for client, age in zip(self.clients, self.ages, strict=False):
            rows.append(("train", "lost", float(age is None), client))
            rows += [("train", "late", float(age), client)] if age is not None else []
        if self.success is not None:
            rows.append(("attack", "success", float(self.success.accuracy), SERVER))
        if self.holdout is not None:
            scores = {"loss": self.holdout.loss, **self.holdout.scores}
            rows += [("holdout", name, float(value), SERVER) for name, value in scores.items()]
        for split, score in (("unseen", self.unseen), ("test", self.initial)):
            if score is not None:
                columns = {name: value.tolist() for name, value in {"loss": score.loss, **score.scores}.items()}
                for place in range(len(score.loss)):  # a client, or a group
                    rows += [(split, name, column[place], place) for name, column in columns.items()]
        keys = ("split", "metric", "value", "client")
        return [{"round": self.number, **dict(zip(keys, row, strict=True))} for row in rows]


def _plain(value: Tensor) -> Tensor:
    # contiguous() would keep what it calls contiguous: an axis of length 1 may have any stride.
    if value.stride() == torch.empty(value.shape, device="meta").stride():
        return value
    return value.clone(memory_format=torch.contiguous_format)
