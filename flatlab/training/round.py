"""One federated round as a pure function of the state: sample, train locally, fold, update the server, average.

No files, no progress, no choice of device: `Run` adds those.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm, Average, Params, ServerData, Slots, Topology
from ..data import FederatedDataset
from ..models import Model, frame, names
from ..streams import stream
from .accumulate import Fold
from .attackers import Attackers
from .batches import at_server, holders, passes, servers_own
from .clients import Cohort
from .diverged import Diverged, diverging, local_fault
from .evaluate import score_clients, score_holdout, score_unseen
from .experiment import Experiment
from .hooks import WholeGradient, checked_slots, megabytes, same_slots, served, traffic, weighed
from .layout import Layout, means
from .state import Round, State
from .threads import computing_with
from .work import Orders, Trained, mapped

if TYPE_CHECKING:
    from .distributed import Ranks


class Federation(Layout):
    """An experiment on its data, ready to be computed.

    Args:
        experiment: what to train.
        data: on the device to compute on.
        model: the network; gives the first weights.
        cohort: how clients are computed.

    Attributes:
        at_server: the samples that the server holds.
        holders: those that each client trains on.
        attackers: the clients that lie, if any.
        ranks: the processes that share the clients of a round, while there are several; see `train_shared`.
    """

    def __init__(self, experiment: Experiment, data: FederatedDataset, model: Model, cohort: Cohort) -> None:
        algorithm = experiment.algorithm
        own = [part.cpu() for part in data.train]  # batches are drawn there; asking a busy GPU would wait for it
        self.at_server = at_server(algorithm, own, experiment.seed)
        self.holders = holders(algorithm, own, self.at_server)
        super().__init__(experiment, model, len(self.holders), data.images.device)
        self.data, self.cohort, self.attackers = data, cohort, Attackers(experiment, cohort)
        self.channel = None if experiment.world is None else experiment.world.channel
        self.ranks: Ranks | None = None
        experiment.check(data)
        weighed(algorithm.aggregation, [len(part) for part in self.holders])

    def sample(self, round: int) -> list[int]:
        """The clients of `round` (from 0), ascending; without replacement."""
        population, size = self.population, self.experiment.cohort_size(self.population)
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
        words = checked_slots(where, algorithm.broadcast(state.slots, self.trained(state.params)))
        same_slots(where, words, self.shapes.received)
        # In the algorithm's order, whatever order a file has: joint norms add up in it.
        memory = mapped(lambda _, value: value[clients], self.shapes.message.memory, state.memory)
        received = mapped(lambda _, value: value.expand(len(clients), *value.shape), self.shapes.received, words)
        if algorithm.whole_gradient and clients:
            every = WholeGradient(algorithm.batch_size, algorithm.train, algorithm.adversarial)
            sums = self.attackers.cohort(state.round).train(
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
        cohort = self.attackers.cohort(state.round)
        return cohort.train(self.experiment.algorithm, state.params, **vars(orders)) if clients else iter(())

    @frame()
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
        algorithm, round, rounds = self.experiment.algorithm, state.round, self.experiment.rounds
        swa, count = state.swa, state.swa_count
        if algorithm.swa is not None:
            swa, count = algorithm.swa.before(round, rounds, state.params, swa, count)
        clients = self.sample(round)
        sizes = [len(self.holders[client]) for client in clients]
        fold = self._folded(state, clients, sizes, trained)
        self.attackers.forge(round, clients, fold)
        losses, drifts = torch.stack([fold.loss, fold.drift]).tolist()
        for client, loss, drift in zip(clients, losses, drifts, strict=True):
            if not (math.isfinite(loss) and math.isfinite(drift)):
                whose, orders = f"round {round + 1}, client {client}", vars(self.orders(state, [client]))
                step = diverging(self.attackers.cohort(round), algorithm, state.params, **orders)
                raise Diverged(local_fault(whose, loss, drift, algorithm, step), round + 1, client, step)
        params, slots, weights, pending = self._served(state, fold)
        if algorithm.swa is not None:
            swa, count = algorithm.swa.after(round, rounds, params, swa, count)
        where = torch.tensor(clients, device=fold.loss.device)

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(0, where, new)

        personal, memory = mapped(put, state.personal, fold.personal), mapped(put, state.memory, fold.memory)
        if algorithm.topology is not None:
            mixed = self._mixed(algorithm.topology, round, {name: personal[name] for name in sorted(self.sent)})
            personal, params = personal | mixed, params | means(mixed)
        self._check_server(round + 1, torch.stack([value.sum() for value in params.values()]))
        lr, samples = algorithm.rate(round, rounds), sum(passes(algorithm, size, round) for size in sizes)
        report = Round(
            *(round + 1, lr, tuple(clients), samples, tuple(losses), tuple(drifts), tuple(weights or ())),
            megabytes=self.megabytes(round),
            bad=self.attackers.marks(round, clients),
            ages=tuple(self._ages(round, clients)),
        )
        return State(round + 1, params, slots, swa, count, personal, memory, pending).plain(), report

    def _folded(self, state: State, clients: list[int], sizes: list[int], trained: Iterable[Trained] | None) -> Fold:
        """What the clients of a round came to, summed, also over the processes that share them."""
        order = names(self.model)  # the model's, whatever order a file has: processes add up by place
        sent, personal = ([name for name in order if name in group] for group in (self.sent, state.personal))
        if self.experiment.algorithm.topology is not None:  # neighbours average models, nobody sums updates
            sent = []
        rule, keep = self.experiment.algorithm.aggregation, self.attackers.forges(state.round)
        factors = self.channel.factors(self._ages(state.round, clients)) if self.channel and sent else None
        fold = Fold(rule, sizes, sent, personal, self.shapes.message, state.params, keep, factors)
        places = list(range(len(clients))) if self.ranks is None else self.ranks.share(sizes)
        chosen = [clients[place] for place in places]
        for chunk in self.local(state, chosen) if trained is None else trained:
            fold.add(chunk, [places[row] for row in chunk.clients])
        if trained is None:
            self._prefetch(state.round + 1)
        if self.ranks is not None:
            self.ranks.add_up(fold.tensors())
        return fold

    def _ages(self, round: int, clients: list[int]) -> list[int | None]:
        """How late each client's message to the server is, None if it is lost; nothing where all always arrive."""
        if self.channel is None or self.experiment.algorithm.topology is not None:
            return []
        return self.channel.ages(self.experiment.seed, round, clients)

    def _served(self, state: State, fold: Fold) -> tuple[Params, Slots, list[float] | None, Params]:
        """The server's part: the next global model, its slots, the weights that a rule gave to the clients, and what is
        still on its way.
        """
        algorithm, params, slots = self.experiment.algorithm, dict(state.params), state.slots
        combined, weights, pending = fold.combined(state.pending) if fold.total else (None, None, state.pending)
        if fold.heard:
            slots = algorithm.receive(slots, fold.extra, fold.heard, self.population)
            slots = checked_slots(f"{algorithm.kind}.receive", slots)
        if combined is not None:
            moved, slots = served(algorithm, {name: params[name] for name in fold.total}, combined, slots)
            params |= moved
        if algorithm.server_data is not None and algorithm.server_data.train != "none":
            tuned = self._server_epoch(algorithm.server_data, state.round, params)
            params |= tuned if self.ranks is None else self.ranks.agree(tuned)
        return params, slots, weights, pending

    def _mixed(self, topology: Topology, round: int, own: Params) -> Params:
        """The clients' models [clients, ...] after neighbours have averaged; what clients send is what they have."""
        seed, first = self.experiment.seed, round * topology.mixes
        for mix, matrix in enumerate(topology.mixing(self.population, seed, round), first):
            matrix = matrix if self.channel is None else self.channel.heard(matrix, seed, mix)
            own = {name: torch.tensordot(matrix.to(value), value, 1) for name, value in own.items()}
        return own

    def samples(self, round: int) -> int:
        """Sample passes in `round` (from 0) of the clients that train in it."""
        algorithm, holders = self.experiment.algorithm, self.holders
        return sum(passes(algorithm, len(holders[client]), round) for client in self.sample(round))

    def megabytes(self, round: int) -> float:
        """What is sent in `round` (from 0), 10^6 bytes."""
        experiment = self.experiment
        clients = experiment.cohort_size(self.population)
        return megabytes(experiment.algorithm, self._numbers, clients, experiment.seed, round)

    @functools.cached_property
    def _numbers(self) -> int:
        return traffic(self.model, self.experiment.algorithm)

    def round(
        self, state: State, trained: Iterable[Trained] | None = None, seconds: float = 0.0
    ) -> tuple[State, Round]:
        """`advance`, then `evaluate`, and how long they took, `seconds` of training by another included."""
        start = time.perf_counter()
        state, report = self.advance(state, trained)
        middle = time.perf_counter()
        report = self.evaluate(state, report)
        end = time.perf_counter()
        return state, dataclasses.replace(report, seconds=seconds + middle - start, evaluation_seconds=end - middle)

    @frame()
    def evaluate(self, state: State, report: Round) -> Round:
        """Add the scores that are due after this round."""
        evaluation, rounds = self.experiment.evaluation, self.experiment.rounds
        # A model of which clients keep parts is no global model: it has no holdout score.
        if evaluation.holdout_due(state.round, rounds) and not self.kept:
            holdout = score_holdout(self.cohort, state.served, evaluation.batch_size)
            self._check_server(state.round, holdout.loss)
            unseen = score_unseen(self.cohort, state.served, evaluation.batch_size) if self.data.unseen else None
            success = self.attackers.success(state.served)
            report = dataclasses.replace(report, holdout=holdout, unseen=unseen, success=success)
        if evaluation.clients_due(state.round, rounds):
            everyone = range(self.data.clients)
            own = self.own(state, list(everyone))
            initial = score_clients(self.cohort, state.served, everyone, evaluation.bn_eval, own)
            report = dataclasses.replace(report, initial=initial)
        return report

    def _prefetch(self, round: int) -> None:
        """While the device is busy: draw the batches of the round after."""
        if round < self.experiment.rounds and self.ranks is None:
            clients = self.sample(round)
            self.attackers.cohort(round).prefetch(
                self.experiment.algorithm, *self._batches(round, clients), self.experiment.seed
            )

    def _batches(self, round: int, clients: list[int]) -> tuple[list[Tensor], list[tuple[str | int, ...]]]:
        """What these clients hold, and the streams that order it in a round."""
        return [self.holders[client] for client in clients], [("train", round, client) for client in clients]

    def _server_epoch(self, held: ServerData, round: int, params: Params) -> Params:
        """The part that the server trains, after an epoch on its share of the training data."""
        algorithm, seed, index = self.experiment.algorithm, self.experiment.seed, self.at_server
        plain = servers_own(algorithm)
        lr, streams = algorithm.rate(round, self.experiment.rounds), [("train", round, "server")]
        orders: dict[str, Any] = {"indices": [index], "streams": streams, "seed": seed, "lr": lr, "part": held.train}
        trained = next(self.cohort.train(plain, params, **orders))
        if not math.isfinite(loss := float(trained.loss)):
            step = diverging(self.cohort, plain, params, **orders)
            whose = f"round {round + 1}, the server's own data"
            raise Diverged(local_fault(whose, loss, 0.0, algorithm, step), round + 1, None, step)
        return {name: value[0] for name, value in trained.params.items()}

    def _check_server(self, round: int, numbers: Tensor) -> None:
        if not numbers.isfinite().all():
            algorithm = self.experiment.algorithm  # a plain mean is as large as what the clients sent
            blamed = algorithm.suspect() if algorithm.server == Average() else f"server.lr = {algorithm.server.lr:g}"
            who = "the server: the global model" if algorithm.topology is None else "the mean of the clients' models"
            message = f"round {round}, {who} is no longer finite; lower algorithm.{blamed}"
            raise Diverged(message, round)
