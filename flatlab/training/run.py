"""A `Run` trains an experiment round by round and remembers everything in a directory named after its id.

It can be stopped anywhere and made again: it goes on where it was, with the same numbers. Going back never overwrites:
rounds that are on record are replayed, and a change of settings makes a fork, a run of its own.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..arguments import Count, Seconds, Whole, checked
from ..data import FederatedDataset
from ..declare import SettingError, tell
from ..files import user_folder, user_path
from ..models import Model, frame
from .checkpoints import Store
from .clients import Cohort, Engine
from .device import Precision, keep_freed_memory, pick_device
from .experiment import Experiment, own_code
from .forking import fork
from .interrupt import soft_interrupt
from .network import identified, network
from .pace import tell_earlier, with_pace
from .provenance import computed_by
from .recording import Record
from .replay import remade_rows
from .round import Federation
from .run_files import read_experiment, read_versions
from .run_view import RunView
from .single_samples import tell_lone
from .start import beginning_with, first_state
from .state import Round, State
from .work import Trained

Listener = Callable[["Run", Round], None]


class RunDone(RuntimeError):
    """All rounds are done."""


class Run(RunView):
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
    @frame()
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
        self.device = pick_device(device)
        if data is None:
            data = experiment.data.load(root, user_folder(store, "store") / experiment.id)
        self.experiment = identified(experiment, data, _recorded)
        if start is not None:
            self.experiment = beginning_with(start, self.experiment)
        self.data = data.to(self.device)
        self.root = user_folder(root, "root")
        self.stopping = threading.Event()
        self.directory = user_folder(store, "store").absolute() / self.experiment.id
        versions, start = read_versions(Store(self.directory)), _parents or start
        self._tell_earlier = versions or {}  # once, when it goes on
        resumed = versions is not None or start is not None
        net = copy.deepcopy(network(self.experiment, model, self.data, resumed)).to(self.device)
        cohort = Cohort(net, self.data, engine, chunk, task=self.experiment.task)
        cohort = with_pace(cohort, self.experiment, versions or {}, channels_last, precision)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.federation = Federation(self.experiment, self.data, net, cohort)
        every = checkpoint_every or max(1, experiment.rounds // 50)
        versions_here = functools.partial(computed_by, cohort)
        self.record = Record(self.directory, self.experiment, every, self.federation, versions_here)
        self._state = self.record.restore() or first_state(self.federation, self.directory.parent, start)
        self._recorded = self._state.round
        self._held = False
        self._written = self.record.begun  # it has files, which must not vanish under it
        self._tell()

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

    def step(self, trained: Iterable[Trained] | None = None, seconds: float = 0.0) -> Round:
        """Do one round: train, evaluate what is due, put it on record. A round already on record is replayed.

        Args:
            trained: the local training, where it is done already, as `cohort` gives it.
            seconds: that it took.

        Raises:
            RunDone: if there is no round left.
            RunBusy: if another process trains this run.
            Diverged: if a client's loss is no longer a number.
            FileNotFoundError: if the run's files are gone.
            OSError: if the round cannot be stored.
        """
        if self.round < self._recorded:
            self._state, report = self.federation.round(self._state, trained, seconds)
            return report
        with self.record.held():
            self.catch_up()
            if self.done:
                raise RunDone(f"{self.id}: all {self.rounds} rounds are done")
            if not self.record.begun:
                if self._written:
                    raise FileNotFoundError(f"{self.directory}: the run's files are gone; make the run again")
                self.record.begin(self._state, self.data)
            self._written = True
            state, report = self.federation.round(self._state, trained, seconds)
            try:
                self.record.add(state, report, lazily=self._held)
                self._state, self._recorded = state, state.round
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
        with self.record.held(wait):
            self.catch_up()
            self._held = True
            try:
                yield
            finally:
                self._held = False
                self.record.pause()

    def catch_up(self) -> None:
        """Go on from what others have put on record since this object looked; while the run is held."""
        newest = self.record.newer(self._recorded)
        if newest is not None:
            if self.round == self._recorded:  # not rewound
                self._state = newest
            self._recorded = newest.round
        self.record.mend(self._recorded, functools.partial(remade_rows, self.record, self.federation))
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
        if self.round >= target and self.record.whole:
            return self

        def stopped() -> str:
            return f"stopped after round {self.round} of {self.rounds}; make the run again to go on"

        with self.record.held(wait), soft_interrupt(self.stopping, stopped), self.held():
            while self.round < target and not self.stopping.is_set():
                report = self.step()
                if listener is not None:
                    listener(self, report)
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
        server and parts kept by clients go along where the new algorithm has them; an average goes along unless `swa`
        or `rounds` are others, and then begins anew.
        """
        return fork(self, self.round if round is None else round, changes)

    def _tell(self) -> None:
        """Warn of what is not as it was when the run began, or of data that say little."""
        experiment = self.experiment
        if experiment.code not in (None, own_code(experiment)):
            tell(
                f"{self.id}: the classes of its own are not what they were when it began (edited since, or another"
                " Python); rounds that are trained from now on, or again, follow the present ones"
            )
        if not self._written:
            held = [len(part) for part in self.federation.holders]
            batch_size = experiment.algorithm.batch_size
            tell_lone(self.federation.model, self.data, experiment.evaluation, batch_size, held, holdout=True)
