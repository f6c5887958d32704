"""What a run shows: its names, how far it has come, its history, states and models. Nothing here changes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from .. import results
from ..algorithms import Params
from ..arguments import Count, Whole, checked
from ..data import FederatedDataset
from ..declare import SettingError
from ..later import pd
from ..models import Model, frame, names
from ..models.net import PARTS, within
from .clients import Cohort
from .experiment import Experiment
from .history import History, best_round
from .recording import Record
from .replay import replayed
from .round import Federation
from .run_names import read_notes
from .state import State
from .work import Trained

Which = Literal["auto", "global", "swa"]  # model of a run


class RunView:
    """The side of a `Run` that is looked at.

    Attributes:
        experiment: what is trained.
        data: on the device to compute on.
        federation: how a round is done.
        record: what is kept of the rounds.
    """

    experiment: Experiment
    data: FederatedDataset
    federation: Federation
    record: Record
    directory: Path
    _state: State
    _recorded: int  # rounds on record

    @property
    def id(self) -> str:
        """Hash-bearing name; also the directory's."""
        return self.directory.name  # the experiment would write and hash itself each time

    @property
    def name(self) -> str:
        """How figures and tables call it: its label, see `annotate`, or else `Algorithm.name`."""
        return read_notes(self.directory).get("label") or self.experiment.algorithm.name

    @property
    def kept(self) -> tuple[str, ...]:
        """The parameters that each client trains and keeps for itself. Where there are any, no model is global."""
        return tuple(name for name in names(self.federation.model) if name in self.federation.kept)

    @property
    def own_models(self) -> bool:
        """Whether each client has a model of its own, beside a global one or in its place."""
        algorithm = self.experiment.algorithm
        return bool(self.kept) or algorithm.personalizes or algorithm.topology is not None

    @property
    def kept_part(self) -> str:
        """What clients keep, in words."""
        model = self.federation.model
        parts = {part: set(within(model, part)) for part in PARTS}
        return next((part for part, held in parts.items() if held == set(self.kept)), f"{len(self.kept)} parameters")

    @property
    def round(self) -> int:
        """Rounds done, as this object sees it (less than on record after `rewind`)."""
        return self._state.round

    @property
    def rounds(self) -> int:
        """Rounds of the experiment."""
        return self.experiment.rounds

    @property
    def done(self) -> bool:
        """Whether all rounds are done."""
        return self.round >= self.rounds

    @property
    def checkpoints(self) -> list[int]:
        """Rounds whose state is stored."""
        return self.record.checkpoints

    @property
    def history(self) -> pd.DataFrame:
        """Tidy: round, split (train, holdout, test = the clients' own), metric, value, client (-1: all)."""
        return self.record.history(self.round)

    @checked
    def history_since(self, round: Whole) -> pd.DataFrame:
        """The rows of `history` after a round: what whoever has the others need read."""
        return self.record.history(self.round, round)

    @property
    def rows(self) -> History:
        """What `history` is read from."""
        return self.record.store.history

    @property
    def timings(self) -> pd.DataFrame:
        """Per round: seconds of training and of evaluation, sample passes."""
        return self.record.timings()

    @checked
    def state(self, round: Whole | None = None) -> State:
        """The full state after `round` (default: now). Rounds without a checkpoint are replayed from the one before.

        Raises:
            SettingError: if the run has not come that far.
        """
        round = self.round if round is None else round
        if round == self.round:
            return self._state
        if round > self._recorded:
            raise SettingError("round", round, f"must be between 0 and {self._recorded}, the rounds on record")
        state = replayed(self.record, self.federation, round)
        if state is None:
            begin = min(self.checkpoints, default=self.round)
            raise SettingError("round", round, f"this run begins at round {begin}")
        return state

    @checked
    def model(self, round: Whole | None = None, which: Which = "auto", client: Whole | None = None) -> Model:
        """A copy of the network with the weights after `round` (default: now).

        Args:
            round: rounds done.
            which: "global", "swa" (the server's average), or "auto": the average where it exists.
            client: its own model: with the parts that it keeps for itself, or over a topology all that it trains.
                Needed where clients keep any (`kept`): there is no global model then, only a client's own. Over a
                topology the global model is the mean of the clients'.

        Raises:
            SettingError: if there is no such round, average or client, or no global model.
        """
        if client is None and self.kept:
            raise SettingError(
                "client",
                None,
                f"{self.name} has no global model, its clients keep {self.kept_part} for themselves;"
                f" give client = 0 to {self.data.clients - 1} for that client's own model",
            )
        state = self.state(round)
        if which == "swa" and not state.swa:
            raise SettingError("which", "swa", f"there is no average after round {state.round}")
        params = {"auto": state.served, "global": state.params, "swa": state.average}[which]
        if client is not None:
            if client >= self.data.clients:
                raise SettingError("client", client, f"must be one of 0 to {self.data.clients - 1}")
            params = params | {name: value[0] for name, value in self.federation.own(state, [client], params).items()}
        return self._with(params)

    @checked
    def own(self, state: State, clients: Sequence[Whole]) -> Params:
        """The parameters [clients, ...] in which these clients' own models differ from the global one after a state."""
        return self.federation.own(state, list(clients))

    @checked
    @frame()
    def clients(self, round: Count) -> dict[int, Model]:
        """The models of the clients sampled in `round` (from 1) after their local training, trained again."""
        if round > self._recorded:
            raise SettingError("round", round, f"must be between 1 and {self._recorded}, the rounds on record")
        state = self.state(round - 1)
        return {client: self._with(params) for client, params in self._trained(state, self._chunks(state)).items()}

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest round whose state can be had, stored or trained again."""
        begin = 0 if self.experiment.from_scratch else min(self.checkpoints, default=self.round)
        return begin, self._recorded

    @checked
    def retraining(self, first: Count, last: Count) -> tuple[int, float]:
        """How many rounds `retrained` trains, and about how many seconds that takes, by those on record (NaN: none)."""
        stored = max((round for round in {*self.checkpoints, self.round} if round < first), default=0)
        return last - stored, (last - stored) * float(self.timings["seconds"].mean())

    @checked
    def retrained(self, first: Count, last: Count) -> Iterator[tuple[State, dict[int, Params], State]]:
        """The rounds from `first` (from 1) to `last` once more.

        Of each the state before it, all parameters of its clients after their local training, and the state after it.

        Raises:
            SettingError: if the run does not go so far, or begins later.
        """
        state, stored = self.state(first - 1), {*self.checkpoints, self.round}
        for round in range(first, last + 1):
            chunks = self._chunks(state)
            trained = self._trained(state, chunks)
            after = self.state(round) if round in stored else self.federation.advance(state, chunks)[0]
            yield state, trained, after
            state = after

    def _chunks(self, state: State) -> list[Trained]:
        """Local training of the clients sampled in the round after a state."""
        return list(self.federation.local(state, self.federation.sample(state.round)))

    def _trained(self, state: State, chunks: list[Trained]) -> dict[int, Params]:
        """All parameters of these clients."""
        sampled, models = self.federation.sample(state.round), dict[int, Params]()
        for chunk in chunks:
            for row, place in enumerate(chunk.clients):
                client = sampled[place]
                own = {name: value[client] for name, value in state.personal.items()}
                trained = {name: value[row] for name, value in chunk.params.items()}
                models[client] = {**state.params, **own, **trained}
        return models

    @property
    def cohort(self) -> Cohort:
        """How clients are computed."""
        return self.federation.cohort

    @property
    def bad(self) -> tuple[int, ...]:
        """The clients that lie, see `Adversary`; nobody by default."""
        return self.federation.attackers.bad

    @property
    def best_round(self) -> int | None:
        """The evaluated round with the best mean initial accuracy (FedBABU's official choice of checkpoint).

        Of a fork one of its own: of its parent's rounds on record it has no state.
        """
        history = self.history
        return best_round(history[history["round"] >= self.span[0]])

    def plot(self, **options: Any) -> Any:
        """Accuracy and loss against rounds."""
        return results.plot(self, **options)

    def __repr__(self) -> str:
        return f"Run({self.id}: {self.name}, {self.round} of {self.rounds} rounds)"

    def _with(self, params: Params) -> Model:
        model = copy.deepcopy(self.federation.model)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(params[name])
        return model
