"""One federated round as a pure function of the state: sample, train locally, fold, update the server, average.

No files, no progress, no choice of device: `Run` adds those.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm, FedAvg, Params, Slots
from ..data import FederatedDataset
from ..declare import SettingError
from ..digest import digest
from ..models import Model, names, refuse_inference
from ..streams import stream
from .accumulate import Fold
from .clients import Cohort, Trained
from .evaluate import Score, score_clients, score_holdout
from .experiment import Experiment
from .hooks import WholeGradient, checked_slots, same_slots, served, shapes
from .process_group import Ranks
from .threads import computing_with
from .trees import mapped

SERVER = -1  # stands for the server where a client's id is expected


class Diverged(RuntimeError):
    """The training loss or the weights of a client stopped being numbers."""


@dataclass(frozen=True)
class State:
    """Everything that the next round depends on, besides the experiment."""

    round: int  # rounds done
    params: Params  # the global model
    slots: Slots = field(default_factory=dict)  # the server's: its optimiser's, and what an algorithm keeps there
    swa: Params = field(default_factory=dict)  # the average, empty before it starts
    swa_count: int = 0
    personal: Params = field(default_factory=dict)  # parts that each client keeps, [population, ...]
    memory: Slots = field(default_factory=dict)  # what else the algorithm lets clients remember, [population, ...]

    @property
    def digest(self) -> str:
        """What stands for its tensors and numbers."""
        return digest(self.round, self.swa_count, sorted(self.flat().items()))

    def flat(self) -> dict[str, Tensor]:
        """One dictionary of tensors, for a file."""
        groups = {"params": self.params, "swa": self.swa, "personal": self.personal}
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
        one = {k: _plain(v) for k, v in self.flat().items()}
        return State.from_flat(one, self.round, self.swa_count, next(iter(self.params.values())).device)

    @property
    def served(self) -> Params:
        """The parameters to evaluate: the average once it exists, else the global model."""
        return self.swa or self.params


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
    holdout: Score | None = None
    initial: Score | None = None  # per client of the federation, on its own test set
    seconds: float = 0.0  # training
    evaluation_seconds: float = 0.0

    def rows(self) -> list[dict[str, object]]:
        """The round as rows of the history. Timings are not among them: they differ from run to run."""
        found: list[tuple[str, str, float, int]] = [("train", "lr", self.lr, SERVER)]
        for client, loss, drift in zip(self.clients, self.loss, self.drift, strict=True):
            found += [("train", "loss", loss, client), ("train", "drift", drift, client)]
        found += [("train", "weight", value, client) for client, value in zip(self.clients, self.heard, strict=False)]
        if self.holdout is not None:
            scores = {"loss": self.holdout.loss, **self.holdout.scores}
            found += [("holdout", name, float(value), SERVER) for name, value in scores.items()]
        if self.initial is not None:
            each = {"loss": self.initial.loss, **self.initial.scores}
            columns = {name: value.tolist() for name, value in each.items()}
            for client in range(len(self.initial.loss)):
                found += [("test", name, column[client], client) for name, column in columns.items()]
        keys = ("split", "metric", "value", "client")
        return [{"round": self.number, **dict(zip(keys, row, strict=True))} for row in found]


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


class Federation:
    """An experiment on its data, ready to be computed.

    Args:
        experiment: what to train.
        data: on the device to compute on.
        model: the network; gives the first weights.
        cohort: how clients are computed.

    Attributes:
        ranks: the processes that share the clients of a round, while there are several; see `train_shared`.
    """

    def __init__(self, experiment: Experiment, data: FederatedDataset, model: Model, cohort: Cohort) -> None:
        self.experiment, self.data, self.model, self.cohort = experiment, data, model, cohort
        self.ranks: Ranks | None = None
        algorithm = experiment.algorithm
        trained = set(names(model, algorithm.train))
        shared = set() if algorithm.share == "none" else set(names(model, algorithm.share))
        self.sent = trained & shared
        self.kept = trained - shared
        if not trained:
            raise SettingError("algorithm.train", algorithm.train, "this model has no parameters there")
        if algorithm.pooled and self.kept:
            raise SettingError(
                "algorithm.share",
                algorithm.share,
                "with pooled = True there is one client, and its model is the global one; set share = 'all'",
            )
        self.shapes = shapes(algorithm, self._trained(dict(model.named_parameters())))
        if algorithm.batches_per_step > 1 and data.augmentation.mixup:
            raise SettingError(
                "augment.mixup", data.augmentation.mixup, f"{algorithm.kind} halves its batches; set it to 0"
            )
        algorithm.aggregation.check(experiment.cohort_size(1 if algorithm.pooled else data.clients))
        held = tuple(part.cpu() for part in data.train)  # batches are drawn there; asking a busy GPU would wait for it
        self.holders = (torch.cat(held),) if algorithm.pooled else held

    def start(self, params: Params | None = None) -> State:
        """The state before the first round: the model's own weights unless `params` are given."""
        device = self.data.images.device
        params = params or {name: value.detach().to(device) for name, value in self.model.named_parameters()}
        return self.with_client_state(State(0, params).plain())

    def adopt(self, start: State) -> State:
        """A state that was given, as one to train from.

        Raises:
            SettingError: if it is another network's, or leaves no round to do.
        """
        wanted = {name: tuple(value.shape) for name, value in self.model.named_parameters()}
        given = {name: tuple(value.shape) for name, value in start.params.items()}
        if given != wanted:
            name = next(name for name in (wanted | given) if wanted.get(name) != given.get(name))
            raise SettingError(
                "start",
                allowed=f"its {name} is {given.get(name, 'missing')}, that of {self.experiment.model.name} is"
                f" {wanted.get(name, 'missing')}; give a state of the same network",
            )
        if not 0 <= start.round < self.experiment.rounds:
            raise SettingError(
                "start", allowed=f"after round {start.round}; rounds = {self.experiment.rounds} must exceed that"
            )
        device = self.data.images.device
        return self.with_client_state(State.from_flat(start.flat(), start.round, start.swa_count, device).plain())

    def with_client_state(self, state: State) -> State:
        """Give each client the parts it keeps, where the state has none yet (also when forking changes them)."""
        population, algorithm = len(self.holders), self.experiment.algorithm

        def each(value: Tensor) -> Tensor:
            return value.unsqueeze(0).repeat(population, *(1 for _ in value.shape))

        def old(values: Params, name: str) -> Tensor | None:
            return values[name] if name in values and len(values[name]) == population else None

        personal = {}
        for name in sorted(self.kept):
            found = old(state.personal, name)
            personal[name] = each(state.params[name]) if found is None else found
        memory: Slots = {}
        for slot, values in algorithm.memory(self._trained(state.params)).items():
            before = state.memory.get(slot, {})
            memory[slot] = {
                name: each(value) if (kept := old(before, name)) is None else kept for name, value in values.items()
            }
        return dataclasses.replace(state, personal=personal, memory=memory)

    def _trained(self, params: Params) -> Params:
        """The part that clients train, in the model's order."""
        return {name: params[name].detach() for name in names(self.model, self.experiment.algorithm.train)}

    def own(self, state: State, clients: list[int], which: Params | None = None) -> Params:
        """The parameters [clients, ...] in which these clients' own models differ from the global one.

        Args:
            state: after some round.
            clients: their ids.
            which: the global model; the one that is evaluated by default.
        """
        algorithm, shared = self.experiment.algorithm, which or state.served
        kept = {name: value[clients] for name, value in state.personal.items()}
        if not algorithm.personalizes:
            return kept
        rows = []
        for row, client in enumerate(clients):
            memory = mapped(lambda value, client=client: value[client], state.memory)
            rows.append(algorithm.personal(shared | {name: value[row] for name, value in kept.items()}, memory))
        changed = [name for name in rows[0] if any(mine[name] is not shared.get(name) for mine in rows)]
        return {name: torch.stack([mine[name] for mine in rows]) for name in changed}

    def differs(self, state: State) -> str:
        """How a state differs from what this experiment's look like, in names and shapes; nothing if it does not."""
        wanted = {name: (value.shape, value.dtype) for name, value in self.model.named_parameters()}
        held = {name: (value.shape, value.dtype) for name, value in state.params.items()}
        if held != wanted:
            return f"holds the parameters of another model than {self.experiment.model.name}"
        population, memory = len(self.holders), self.experiment.algorithm.memory(self._trained(state.params))
        kept = {"": {name: state.params[name] for name in self.kept}, **memory}
        found = {"": state.personal, **state.memory}
        shapes = {slot: {name: (population, *value.shape) for name, value in own.items()} for slot, own in kept.items()}
        if {slot: {name: (*value.shape,) for name, value in own.items()} for slot, own in found.items()} != shapes:
            return "holds something else of clients than this algorithm has them keep"
        if state.swa.keys() not in (set(), wanted.keys()) or (state.swa_count and not state.swa):
            return "holds another average than this algorithm makes"
        return ""

    def sample(self, round: int) -> list[int]:
        """The clients of `round` (from 0), ascending; without replacement."""
        population = len(self.holders)
        size = self.experiment.cohort_size(population)
        if self.experiment.sampling == "round_seed":
            ids = sorted(range(population), key=str)
            drawn = np.random.RandomState(round).choice(ids, size, replace=False)
        else:
            drawn = stream(self.experiment.seed, "sampling", round).choice(population, size, replace=False)
        return sorted(int(client) for client in drawn)

    def orders(self, state: State, clients: list[int]) -> Orders:
        """What `clients` are to do in the round after `state`."""
        experiment, algorithm = self.experiment, self.experiment.algorithm
        indices, streams = self._batches(state.round, clients)
        own = {name: value[clients] for name, value in state.personal.items()}
        where = f"{algorithm.kind}.broadcast"
        words = checked_slots(where, algorithm.broadcast(state.slots, self._trained(state.params)))
        same_slots(where, words, self.shapes.received)
        # In the algorithm's order, whatever order a file has: joint norms add up in it.
        memory = mapped(lambda _, value: value[clients], self.shapes.message.memory, state.memory)
        received = mapped(lambda _, value: value.expand(len(clients), *value.shape), self.shapes.received, words)
        if algorithm.whole_gradient and clients:
            every = WholeGradient(algorithm.batch_size, algorithm.train)
            sums = self.cohort.train(
                cast(Algorithm, every), state.params, indices, streams, seed=experiment.seed, lr=0.0, own=own
            )
            whole = [chunk.message.update for chunk in sums]
            received["gradient"] = {name: torch.cat([chunk[name] for chunk in whole]) for name in whole[0]}
        return Orders(
            indices,
            streams,
            experiment.seed,
            algorithm.rate(state.round, experiment.rounds),
            own,
            memory,
            received,
        )

    def local(self, state: State, clients: list[int]) -> Iterator[Trained]:
        """Local training of `clients` from `state`, chunk by chunk; nothing if there are none."""
        orders = self.orders(state, clients)
        return self.cohort.train(self.experiment.algorithm, state.params, **vars(orders)) if clients else iter(())

    @computing_with(1)  # but for what the cohort does
    def advance(self, state: State, trained: Iterable[Trained] | None = None) -> tuple[State, Round]:
        """The next state, and what happened.

        Args:
            state: the present one.
            trained: what local training of this round's clients came to, if another has done it.

        Raises:
            Diverged: if a client's loss or weights are not finite, naming round and client.
            SettingError: under `torch.inference_mode`.
        """
        refuse_inference()
        experiment, algorithm = self.experiment, self.experiment.algorithm
        round, rounds = state.round, experiment.rounds
        clients = self.sample(round)
        swa, count = state.swa, state.swa_count
        if algorithm.swa is not None:
            swa, count = algorithm.swa.before(round, rounds, state.params, swa, count)

        sizes = [len(self.holders[client]) for client in clients]
        order = names(self.model)  # the model's, whatever order a file has: processes add up by place
        sent, personal = ([name for name in order if name in group] for group in (self.sent, state.personal))
        fold = Fold(algorithm.aggregation, sizes, sent, personal, self.shapes.message, state.params)
        mine = list(range(len(clients))) if self.ranks is None else self.ranks.share(sizes)
        chosen = [clients[place] for place in mine]
        for chunk in self.local(state, chosen) if trained is None else trained:
            fold.add(chunk, [mine[row] for row in chunk.clients])
        if trained is None:
            self._foresee(round + 1)
        if self.ranks is not None:
            self.ranks.add_up(fold.tensors())
        losses, drifts = torch.stack([fold.loss, fold.drift]).tolist()
        self._check(round, clients, losses, drifts)

        where = torch.tensor(clients, device=fold.loss.device)

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(0, where, new)

        own, memory = mapped(put, state.personal, fold.personal), mapped(put, state.memory, fold.memory)
        slots = algorithm.receive(state.slots, fold.extra, len(clients), len(self.holders))
        slots, params, heard = checked_slots(f"{algorithm.kind}.receive", slots), dict(state.params), None
        if sent:
            combined, heard = fold.combined()
            moved, slots = served(algorithm, {name: params[name] for name in sent}, combined, slots)
            params |= moved
        if algorithm.server_data is not None:
            tuned = self._server_epoch(round, params)
            params |= tuned if self.ranks is None else self.ranks.agree(tuned)
        self._check_server(round + 1, torch.stack([value.sum() for value in params.values()]))
        if algorithm.swa is not None:
            swa, count = algorithm.swa.after(round, rounds, params, swa, count)
        samples = algorithm.epochs * sum(sizes)
        lr = algorithm.rate(round, rounds)
        report = Round(round + 1, lr, tuple(clients), samples, tuple(losses), tuple(drifts), tuple(heard or ()))
        return State(round + 1, params, slots, swa, count, own, memory).plain(), report

    def evaluate(self, state: State, report: Round) -> Round:
        """Add the scores that are due after this round."""
        evaluation, rounds = self.experiment.evaluation, self.experiment.rounds
        # A model of which clients keep parts is no global model: it has no holdout score.
        if evaluation.holdout_due(state.round, rounds) and not self.kept:
            holdout = score_holdout(self.cohort, state.served, evaluation.batch_size)
            self._check_server(state.round, holdout.loss)
            report = dataclasses.replace(report, holdout=holdout)
        if evaluation.clients_due(state.round, rounds):
            everyone = range(self.data.clients)
            own = self.own(state, list(everyone))
            initial = score_clients(self.cohort, state.served, everyone, evaluation.bn_eval, own)
            report = dataclasses.replace(report, initial=initial)
        return report

    def _foresee(self, round: int) -> None:
        """While the device is busy: draw the batches of the round after."""
        if round < self.experiment.rounds and self.ranks is None:
            clients = self.sample(round)
            self.cohort.foresee(self.experiment.algorithm, *self._batches(round, clients), self.experiment.seed)

    def _batches(self, round: int, clients: list[int]) -> tuple[list[Tensor], list[tuple[str | int, ...]]]:
        """What these clients hold, and the streams that order it in a round."""
        return [self.holders[client] for client in clients], [("train", round, client) for client in clients]

    def _server_epoch(self, round: int, params: Params) -> Params:
        algorithm, seed = self.experiment.algorithm, self.experiment.seed
        held = algorithm.server_data
        assert held is not None
        pool = torch.cat(self.holders)
        size = max(1, int(held.share * len(pool)))
        chosen = stream(seed, "server data").choice(len(pool), size, replace=False)
        index = pool[torch.from_numpy(chosen)]
        # Only what the server's own steps need: a client's memory and the server's words are not for it.
        settings = {name: getattr(algorithm, name) for name in Algorithm.model_fields if name != "kind"}
        plain = FedAvg.from_dict(settings | {"epochs": 1, "mu": 0.0, "keep_momentum": False})
        lr = algorithm.rate(round, self.experiment.rounds)
        trained = next(
            self.cohort.train(plain, params, [index], [("train", round, "server")], seed=seed, lr=lr, part=held.train)
        )
        self._check(round, [SERVER], trained.loss.tolist(), [0.0])
        return {name: value[0] for name, value in trained.params.items()}

    def _check_server(self, round: int, numbers: Tensor) -> None:
        if not numbers.isfinite().all():
            raise Diverged(
                f"round {round}, the server: the global model is no longer finite; lower"
                f" algorithm.server.lr = {self.experiment.algorithm.server.lr:g}"
            )

    def _check(self, round: int, ids: list[int], losses: list[float], drifts: list[float]) -> None:
        for client, loss, drift in zip(ids, losses, drifts, strict=True):
            if not (math.isfinite(loss) and math.isfinite(drift)):
                who = "the server's own data" if client == SERVER else f"client {client}"
                raise Diverged(
                    f"round {round + 1}, {who}: the training loss became {loss}, the step {drift}; lower"
                    f" algorithm.{self.experiment.algorithm.suspect()}, or set algorithm.clip"
                )


def _plain(value: Tensor) -> Tensor:
    # contiguous() would keep what it calls contiguous: an axis of length 1 may have any stride.
    if value.stride() == torch.empty(value.shape, device="meta").stride():
        return value
    return value.clone(memory_format=torch.contiguous_format)
