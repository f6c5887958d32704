"""What a state of an experiment looks like: the tensors that are sent, those that clients keep, and the first ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Params
from ..declare import SettingError
from ..models import Model, names
from ..models.net import within
from .experiment import Experiment
from .hooks import check_personal, shapes
from .state import State
from .work import mapped


class Layout:
    """The tensors of an experiment's states.

    Args:
        experiment: says what clients train, share and remember.
        model: the network; gives the first weights.
        population: how many clients there are.
        device: of the states.

    Attributes:
        sent: parameters that are trained, and aggregated or (over a topology) averaged among neighbours.
        kept: parameters that each client trains and keeps for itself.
        personal: parameters that a state holds for each client: those kept, and over a topology those sent.
        shapes: of one client's message, and of what the server sends.
    """

    def __init__(self, experiment: Experiment, model: Model, population: int, device: torch.device) -> None:
        self.experiment, self.model, self.population, self.device = experiment, model, population, device
        algorithm = experiment.algorithm
        parts = {"train": algorithm.train, "share": algorithm.share}
        if algorithm.server_data is not None:
            parts["server_data.train"] = algorithm.server_data.train
        for setting, part in parts.items():
            if part != "none" and not within(model, part):
                raise SettingError(f"algorithm.{setting}", part, "this model has no parameters there")
        trained, shared = set(within(model, algorithm.train)), set(within(model, algorithm.share))
        self.sent, self.kept = trained & shared, trained - shared
        at_server = parts.get("server_data.train", "none")
        if at_server != "none" and set(within(model, at_server)) <= self.kept:
            told = "clients keep it for themselves, and take nothing of it from the server"
            raise SettingError("algorithm.server_data.train", at_server, told)
        self.personal = self.kept if algorithm.topology is None else trained
        if algorithm.pooled and self.kept:
            raise SettingError(
                "algorithm.share",
                algorithm.share,
                "with pooled = True there is one client, and its model is the global one; set share = 'all'",
            )
        trained_part = self.trained(self._params)
        self.shapes = shapes(algorithm, trained_part)
        if algorithm.personalizes:
            params = {name: value.detach() for name, value in self._params.items()}
            check_personal(algorithm, params, algorithm.memory(trained_part))

    def trained(self, params: Params) -> Params:
        """The part that clients train, in the model's order."""
        return {name: params[name].detach() for name in names(self.model, self.experiment.algorithm.train)}

    def start(self) -> State:
        """The state before the first round: the model's own weights."""
        params = {name: value.detach().to(self.device) for name, value in self.model.named_parameters()}
        return self._completed(State(0, params).plain())

    def adopt(self, start: State) -> State:
        """A state that was given, as one to train from.

        Raises:
            SettingError: if it is another network's, not finite, or leaves no round to do.
        """
        wanted, given = (mapped(_shape, params) for params in (self._params, start.params))
        if other := next((name for name in wanted | given if wanted.get(name) != given.get(name)), None):
            raise SettingError(
                "start",
                allowed=f"its {other} is {given.get(other, 'missing')}, that of {self.experiment.model.name} is"
                f" {wanted.get(other, 'missing')}; give a state of the same network",
            )
        if wild := next((name for name, value in start.params.items() if not value.isfinite().all()), None):
            raise SettingError("start", allowed=f"its {wild} is not finite (NaN or infinite); give a state that is")
        if not 0 <= start.round < self.experiment.rounds:
            raise SettingError(
                "start", allowed=f"after round {start.round}; rounds = {self.experiment.rounds} must exceed that"
            )
        return self._completed(State.from_flat(start.flat(), start.round, start.swa_count, self.device).plain())

    @property
    def _params(self) -> Params:
        return dict(self.model.named_parameters())

    def _completed(self, state: State) -> State:
        """Give each client what it keeps, where the state has none of it yet (also when forking changes that)."""

        def each(kept: Mapping[str, Tensor], first: Params) -> Params:
            there = {name for name in first if name in kept and len(kept[name]) == self.population}
            return {
                name: kept[name]
                if name in there
                else value.unsqueeze(0).repeat(self.population, *(1 for _ in value.shape))
                for name, value in first.items()
            }

        personal = each(state.personal, {name: state.params[name] for name in sorted(self.personal)})
        memory = self.experiment.algorithm.memory(self.trained(state.params))
        inherited = {name: personal[name] for name in self.personal - self.kept if name in state.personal}
        return dataclasses.replace(
            state,
            params=state.params | means(inherited),
            personal=personal,
            memory={slot: each(state.memory.get(slot, {}), first) for slot, first in memory.items()},
            pending=self._pending(state),
        )

    def _pending(self, state: State) -> Params:
        """The late messages of a state, or none of them yet, as a channel with delay has them."""
        world = self.experiment.world
        delay = world.channel.delay if world is not None and world.channel is not None else 0
        if not delay:
            return {}
        none = {name: state.params[name].new_zeros(delay, *state.params[name].shape) for name in sorted(self.sent)}
        none["mass"] = torch.zeros(delay, device=self.device)
        return state.pending if mapped(_shape, state.pending) == mapped(_shape, none) else none

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
        changed = [name for name in rows[0] if any(params[name] is not shared.get(name) for params in rows)]
        return {name: torch.stack([params[name] for params in rows]) for name in changed}

    def differs(self, state: State) -> str:
        """How a state differs from what this experiment's look like, in names and shapes; nothing if it does not."""

        def kinds(params: Params) -> Any:
            return mapped(lambda value: (_shape(value), value.dtype), params)

        if kinds(state.params) != kinds(self._params):
            return f"holds the parameters of another model than {self.experiment.model.name}"
        if kinds(state.pending) != kinds(self._pending(state)):
            return "holds other late messages than this channel has"
        memory = self.experiment.algorithm.memory(self.trained(state.params))
        one_client = {name: state.params[name] for name in self.personal}, memory
        wanted = mapped(lambda value: (self.population, *value.shape), one_client)
        if mapped(_shape, (state.personal, state.memory)) != wanted:
            return "holds something else of clients than this algorithm has them keep"
        if state.swa.keys() not in (set(), self._params.keys()) or (state.swa_count and not state.swa):
            return "holds another average than this algorithm makes"
        return ""


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)


def means(personal: Params) -> Params:
    """The global model over a topology: the plain mean of the clients' own, [population, ...]."""
    return {name: value.mean(0) for name, value in personal.items()}
