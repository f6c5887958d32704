"""A `Run` trains an experiment round by round and remembers everything in a directory named after its id.

It can be stopped anywhere and made again: it goes on where it was, with the same numbers. Going back never overwrites:
rounds that are on record are replayed, and a change of settings makes a fork, a run of its own.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from .. import results
from ..algorithms import Params
from ..arguments import Count, Seconds, Whole, checked
from ..data import FederatedDataset
from ..declare import SettingError, tell
from ..files import user_path
from ..models import Model, names, refuse_inference
from .checkpoints import BadCheckpoint, Store
from .clients import Cohort, Engine, Precision, Trained
from .device import keep_freed_memory, pick_device
from .experiment import Experiment, Parent, own_code
from .interrupt import soft_interrupt
from .network import met, network
from .notes import read_notes
from .pace import pace, recorded_engine, recorded_pace, tell_earlier
from .recording import Record, began, best_round, read_experiment
from .round import Federation, Round, State
from .single_samples import tell_lone
from .start import beginning_with, raised_rate

Which = Literal["auto", "global", "swa"]  # model of a run
Listener = Callable[["Run", Round], None]


class RunDone(RuntimeError):
    """All rounds are done."""


class Run:
    """An experiment in training, or trained.

    Args:
        experiment: what to train.
        data: the federated data set, if it is at hand; else it is made again from `experiment.data`.
        model: the network, needed if it is a user's own (`experiment.model.name == "custom"`).
        store: folder that holds the directories of runs.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        engine: "auto", "graph", "batch" or "loop"; see `Cohort`.
        chunk: clients computed at a time by "batch" and "graph"; None: as many as fit.
        channels_last: memory format of "loop"; None: by the rule in `flatlab.training.pace`.
        precision: "float32", "tf32" or "bfloat16", see `Cohort`; None: what the run began with, else "float32".
        checkpoint_every: rounds between states that are kept for good; None: about fifty over the run.
        root: folder of the data sets.
        start: state to begin from, instead of the network's first weights; its digest is part of the id. A fork has its
            parent's, see `fork`.

    Attributes:
        federation: how a round is done.
        record: what is kept of the rounds.
        stopping: set by `stop`.

    Raises:
        SettingError: if data or model are not those of the experiment, or a setting is out of range.
        BadCheckpoint: if the directory holds states of another model.

    >>> run = fl.Run(fl.Experiment(data=data.spec, model="lenet", algorithm="FedBABU", rounds=2, seed=7), data)
    >>> [round.number for round in run]  # each is done when it is asked for
    [1, 2]
    >>> run.history.columns.tolist()
    ['round', 'split', 'metric', 'value', 'client']
    >>> child = run.fork(round=1, algorithm=fl.FedAvg())
    >>> child.to(2).round
    2
    """

    made_by = "train(...)"  # for messages to who gives another thing

    @checked
    def __init__(
        self,
        experiment: Experiment,
        data: FederatedDataset | None = None,
        model: Model | None = None,
        *,
        store: str | Path = "runs",
        device: str | torch.device = "auto",
        engine: Engine = "auto",
        chunk: Count | None = None,
        channels_last: bool | None = None,
        precision: Precision | None = None,
        checkpoint_every: Count | None = None,
        root: str | Path = "data",
        start: State | None = None,
        _parents: State | None = None,
        _recorded: bool = False,
    ) -> None:
        refuse_inference()
        self.device = pick_device(device)
        if data is None:
            data = experiment.data.load(root, user_path(store, "store") / experiment.id)
        elif experiment.data not in (data.spec, data.spec.replace(fingerprint=None)):
            raise SettingError(
                "data", allowed=f"made by {data.spec.to_json()}, the experiment asks for {experiment.data.to_json()}"
            )
        self.experiment = met(experiment, data, _recorded)
        if start is not None:
            self.experiment = beginning_with(start, self.experiment)
        start = _parents or start
        self.data = data.to(self.device)
        self.root = user_path(root, "root")
        self.stopping = threading.Event()
        self.directory = user_path(store, "store").absolute() / self.experiment.id
        self._store = Store(self.directory)
        written = began(self._store)
        shape, classes = self.data.shape, self.data.classes
        net = network(self.experiment, model, shape, classes, written is not None or start is not None)
        net = copy.deepcopy(net).to(self.device)
        then = (written or {}).get("precision", precision or "float32")
        if precision not in (None, then):
            raise SettingError("precision", precision, f"this run began in {then}; use another store for another one")
        recorded = written or {}
        if engine == "auto":
            engine = recorded_engine(recorded, self.device)
        cohort = Cohort(net, self.data, engine, chunk, precision=then, task=self.experiment.task)
        algorithm = self.experiment.algorithm
        clients = self.experiment.cohort_size(1 if algorithm.pooled else len(self.data.train))
        usual = pace(cohort, algorithm.batch_size, clients)
        asked = None if cohort.batched else channels_last
        cohort = dataclasses.replace(cohort, **recorded_pace(recorded, usual, asked)._asdict())
        if self.experiment.code not in (None, own_code(self.experiment)):
            tell(
                f"{self.id}: the classes of its own are not what they were when it began (edited since, or another"
                " Python); rounds that are trained from now on, or again, follow the present ones"
            )
        if self.device.type == "cpu":
            keep_freed_memory()
        self.federation = Federation(self.experiment, self.data, net, cohort)
        every = checkpoint_every or max(1, experiment.rounds // 50)
        self.record = Record(self._store, self.experiment, self.federation, every)
        self._state = self.record.restore(start)
        self._known = self._state.round
        self._held = False
        self._tell_earlier = recorded  # once, when it goes on
        self._written = self.record.begun  # it has files, which must not vanish under it
        if not self._written:
            held = [len(part) for part in self.federation.holders]
            tell_lone(net, self.data, experiment.evaluation, experiment.algorithm.batch_size, held, holdout=True)

    @classmethod
    @checked
    def open(cls, directory: str | Path, data: FederatedDataset | None = None, **options: Any) -> Run:
        """The run in a directory, as far as it has come; `options` as for `Run`.

        Raises:
            FileNotFoundError: if the directory holds no run.
            SettingError: if the directory was renamed.
        """
        directory = user_path(directory, "directory").absolute()
        experiment = read_experiment(directory)
        if experiment.id != directory.name:  # a link to it that is called otherwise
            directory = directory.resolve()
        return cls(experiment, data, store=directory.parent, _recorded=True, **options)

    # What it is, and how far it has come

    @property
    def id(self) -> str:
        """Hash-bearing name; also the directory's."""
        return self.experiment.id

    @property
    def name(self) -> str:
        """How figures and tables call it: its label, see `annotate`, or else `Algorithm.name`."""
        return read_notes(self.directory).get("label") or self.experiment.algorithm.name

    @property
    def kept(self) -> tuple[str, ...]:
        """The parameters that each client trains and keeps for itself. Where there are any, no model is global."""
        return tuple(name for name in names(self.federation.model) if name in self.federation.kept)

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
        return self._store.checkpoints()

    @property
    def history(self) -> pd.DataFrame:
        """Tidy: round, split (train, holdout, test = the clients' own), metric, value, client (-1: all)."""
        return self.record.history(self.round)

    @checked
    def history_since(self, round: Whole) -> pd.DataFrame:
        """The rows of `history` after a round: what whoever has the others need read."""
        return self.record.history(self.round, round)

    @property
    def timings(self) -> pd.DataFrame:
        """Per round: seconds of training and of evaluation, sample passes."""
        return self.record.timings()

    # Training

    def step(self, trained: Iterable[Trained] | None = None, seconds: float = 0.0) -> Round:
        """Do one round: train, evaluate what is due, put it on record. A round already on record is replayed.

        Args:
            trained: the local training, where it is done already, as `cohort` gives it.
            seconds: that it took.

        Raises:
            RunDone: if there is no round left.
            RunBusy: if another process trains this run.
            Diverged: if a client's loss is no longer a number.
            OSError: if the round cannot be stored, or the run's files are gone.
        """
        if self.round < self._known:
            self._state, report = self._advance(trained, seconds)
            return report
        with self._store.held():
            self.catch_up()
            if self.done:
                raise RunDone(f"{self.id}: all {self.rounds} rounds are done")
            if not self.record.begun:
                if self._written:
                    raise FileNotFoundError(f"{self.directory}: the run's files are gone; make the run again")
                self.record.begin(self._state)
            self._written = True
            state, report = self._advance(trained, seconds)
            try:
                self.record.add(state, report, lazily=self._held)
                self._state, self._known = state, state.round
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{self.directory}: round {report.number} could not be stored ({error});"
                    f" the state after round {max(self.checkpoints, default=0)} is whole",
                ) from error
            return report

    @contextlib.contextmanager
    def held(self, wait: float = 0.0) -> Iterator[None]:
        """Inside the block this object alone trains the run, from its last round; files may be a moment behind.

        Raises:
            RunBusy: if another process still trains it after `wait` seconds.
        """
        with self._store.held(wait):
            self.catch_up()
            self._held = True
            try:
                yield
            finally:
                self._held = False
                self.record.rest()

    def catch_up(self) -> None:
        """Go on from what others have put on record since this object looked; while the run is held."""
        newest = self.record.newer(self._known)
        if newest is not None:
            if self.round == self._known:  # not rewound
                self._state = newest
            self._known = newest.round
        self.record.tidy(self._known)
        if self._tell_earlier:
            tell_earlier(self.id, self._tell_earlier, self.cohort)
            self._tell_earlier = {}

    def __iter__(self) -> Iterator[Round]:
        """The rounds that are left, each done when it is asked for."""
        self.stopping.clear()
        while not self.done and not self.stopping.is_set():
            try:
                report = self.step()
            except RunDone:  # by another process, meanwhile
                return
            yield report

    @checked
    def to(self, round: Whole | None = None, listener: Listener | None = None, wait: Seconds = 0.0) -> Run:
        """Train until `round` rounds are done (all if None); `listener(run, round)` hears of each.

        An interrupt (Ctrl-C, a notebook's stop button) lets the round in flight end; a second one does not.

        Args:
            round: from the present round to `rounds`.
            listener: called after each round, on the thread that trains.
            wait: seconds to wait if another process trains this run.

        Raises:
            SettingError: if `round` is out of range.
            RunBusy, Diverged: as `step`.
            KeyboardInterrupt: after the round in flight; the message says how to go on.
        """
        target = self.rounds if round is None else round
        if target > self.rounds:
            raise SettingError("round", target, f"must be between 0 and the experiment's {self.rounds} rounds")
        self.stopping.clear()
        if self.round >= target and not (self.record.missing or self.record.spoiled):
            return self
        with self._store.held(wait), soft_interrupt(self.stopping) as interrupted, self.held():
            while self.round < target and not self.stopping.is_set():
                report = self.step()
                if listener is not None:
                    listener(self, report)
        if interrupted.is_set():
            raise KeyboardInterrupt(f"stopped after round {self.round} of {self.rounds}; make the run again to go on")
        return self

    def stop(self) -> None:
        """Ask the loop in `to` or `for round in run` to end after the round in flight; safe from any thread."""
        self.stopping.set()

    @checked
    def rewind(self, round: Whole) -> Run:
        """Go back to the state after `round`. Nothing on disk changes; rounds on record are replayed from there."""
        self._state = self.state(round)
        return self

    @checked
    def fork(self, round: Whole | None = None, **changes: Any) -> Run:
        """A new run that begins with this one's state after `round` and goes on under changed settings.

        `changes` are fields of `Experiment`, e.g. `run.fork(round=50, algorithm=FedASAM(rho=0.5))`. Momentum of the
        server and parts kept by clients go along where the new algorithm has them.
        """
        fixed = {"data", "model", "parent", "initial", "code"} & changes.keys()
        if fixed:
            raise SettingError(
                ", ".join(sorted(fixed)), allowed="a fork keeps its parent's; start a run of its own instead"
            )
        round = self.round if round is None else round
        state = self.state(round)
        experiment = self.experiment.replace(parent=Parent(run=self.id, round=round), **changes)
        old, new = self.experiment, experiment
        if raised := raised_rate(old, new, round):
            tell(raised)
        own = self.federation.shapes.own_slots
        keeps_server = new.algorithm.server.kind == old.algorithm.server.kind
        keeps_own = new.algorithm.kind == old.algorithm.kind
        slots = {slot: kept for slot, kept in state.slots.items() if (keeps_own if slot in own else keeps_server)}
        state = dataclasses.replace(state, slots=slots)
        # An average goes along only where it is the same average.
        if (new.algorithm.swa, new.rounds) != (old.algorithm.swa, old.rounds):
            state = dataclasses.replace(state, swa={}, swa_count=0)
        child = Run(
            experiment,
            self.data,
            copy.deepcopy(self.federation.model),
            store=self.directory.parent,
            device=self.device,
            engine=self.federation.cohort.engine,
            chunk=self.federation.cohort.chunk,
            channels_last=self.federation.cohort.channels_last,
            precision=self.federation.cohort.precision,
            checkpoint_every=self.record.checkpoint_every,
            root=self.root,
            _parents=state,
        )
        if set(self.kept) & child.federation.sent:
            tell(
                f"fork: {child.name} shares {self._kept_part()}, which the clients of {self.name} kept for themselves;"
                " what it shares begins at its first weights, which nobody trained"
            )
        if child.record.begun:  # forked in the same way before
            return child
        with child._store.held():
            child.record.begin(child._state, self.record.history(round))
        return child

    # Looking at it

    @checked
    def state(self, round: Whole | None = None) -> State:
        """The full state after `round` (default: now). Rounds without a checkpoint are replayed from the one before.

        Raises:
            SettingError: if the run has not come that far.
        """
        round = self.round if round is None else round
        if round == self.round:
            return self._state
        if round > self._known:
            raise SettingError("round", round, f"must be between 0 and {self._known}, the rounds on record")
        begins_here = self.experiment.parent is None and self.experiment.initial is None
        state = self.federation.start() if begins_here else None
        for stored in reversed([stored for stored in self.checkpoints if stored <= round]):
            try:
                state = self.record.load(stored)
                break
            except BadCheckpoint:
                continue
        if state is None or state.round > round:
            begin = min(self.checkpoints, default=self.round)
            raise SettingError("round", round, f"this run begins at round {begin}")
        while state.round < round:
            state, _ = self.federation.advance(state)
        return state

    @checked
    def model(self, round: Whole | None = None, which: Which = "auto", client: Whole | None = None) -> Model:
        """A copy of the network with the weights after `round` (default: now).

        Args:
            round: rounds done.
            which: "global", "swa" (the server's average), or "auto": the average where it exists.
            client: with the parts that this client keeps for itself. Needed where clients keep any (`kept`): there is
                no global model then, only a client's own.

        Raises:
            SettingError: if there is no such round, average or client, or no global model.
        """
        if client is None and self.kept:
            raise SettingError(
                "client",
                None,
                f"{self.name} has no global model, its clients keep {self._kept_part()} for themselves;"
                f" give client = 0 to {self.data.clients - 1} for that client's own model",
            )
        state = self.state(round)
        if which == "swa" and not state.swa:
            raise SettingError("which", "swa", f"there is no average after round {state.round}")
        params = {"auto": state.served, "global": state.params, "swa": state.swa}[which]
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
    def clients(self, round: Count) -> dict[int, Model]:
        """The models of the clients sampled in `round` (from 1) after their local training, trained again."""
        if round > self._known:
            raise SettingError("round", round, f"must be between 1 and {self._known}, the rounds on record")
        state = self.state(round - 1)
        found = {}
        sampled = self.federation.sample(round - 1)
        for chunk in self.federation.local(state, sampled):
            for row, place in enumerate(chunk.clients):
                client = sampled[place]
                own = {name: value[client] for name, value in state.personal.items()}
                mine = {name: value[row] for name, value in chunk.params.items()}
                found[client] = self._with({**state.params, **own, **mine})
        return found

    @property
    def cohort(self) -> Cohort:
        """How clients are computed."""
        return self.federation.cohort

    @property
    def best_round(self) -> int | None:
        """The evaluated round with the best mean initial accuracy (FedBABU's official choice of checkpoint)."""
        return best_round(self.history)

    def plot(self, **options: Any) -> Any:
        """Accuracy and loss against rounds."""
        return results.plot(self, **options)

    def __repr__(self) -> str:
        return f"Run({self.id}: {self.name}, {self.round} of {self.rounds} rounds)"

    # Inside

    def _kept_part(self) -> str:
        """What clients keep, in words."""
        model = self.federation.model
        parts = {part: set(names(model, part)) for part in ("all", "body", "head")}
        return next((part for part, held in parts.items() if held == set(self.kept)), f"{len(self.kept)} parameters")

    def _advance(self, trained: Iterable[Trained] | None, seconds: float) -> tuple[State, Round]:
        start = time.perf_counter()
        state, report = self.federation.advance(self._state, trained)
        middle = time.perf_counter()
        report = self.federation.evaluate(state, report)
        times = {"seconds": seconds + middle - start, "evaluation_seconds": time.perf_counter() - middle}
        return state, Round(**{**vars(report), **times})

    def _with(self, params: Params) -> Model:
        model = copy.deepcopy(self.federation.model)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(params[name])
        return model
