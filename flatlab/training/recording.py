"""What a run leaves on disk, and how it is found again: which states are written when, the history, what is mended."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import FederatedDataset, Fixed
from ..data.distilled import KEPT, write_synthetic
from ..data.spec import keep_partition
from ..files import sealed, set_aside
from ..later import pd
from .checkpoints import BadCheckpoint, DamagedCheckpoint, Store
from .experiment import Experiment
from .history import NO_SCORE, TIMES, append_line, best_scored, spans, timings
from .layout import Layout
from .run_files import damaged_files, read_versions, write_run_files
from .state import Round, State

LAZY_SECONDS, LAZY_WRITES = 0.5, 5  # until the next state, the second in times that the last one took to write
SYNC_SECONDS = 1.0  # between two times that the disk is made to take what was written


class Record:
    """The record of one run: it knows what is written when, and leaves the writing to `Store`.

    Args:
        directory: of the run.
        experiment: what is trained.
        checkpoint_every: rounds between states that are kept for good.
        layout: of its states.
        versions: by what, and how, rounds are computed here.

    Attributes:
        store: the directory.
        missing: rounds up to the state restored whose rows are lost; `mend` has them made again.
    """

    def __init__(
        self,
        directory: Path,
        experiment: Experiment,
        checkpoint_every: int,
        layout: Layout,
        versions: Callable[[], dict[str, Any]],
    ) -> None:
        self.store, self.experiment, self.checkpoint_every = Store(directory), experiment, checkpoint_every
        self.layout, self.versions = layout, versions
        self.missing: list[int] = []
        self._damaged = False  # one of the small files is lost or damaged
        self._begun_with: dict[str, Any] = {}
        self._first = 0  # rounds before the first one that has rows
        self._best: int | None = None
        self._best_score = NO_SCORE
        self._mended = False
        self._due = self._synced = -math.inf  # when a state is due, and when the disk last had to take one
        self._waiting: State | None = None

    def beside(self, directory: Path, experiment: Experiment) -> Record:
        """The record of another run whose states look the same."""
        return Record(directory, experiment, self.checkpoint_every, self.layout, self.versions)

    @property
    def begun(self) -> bool:
        """Whether there is anything on disk."""
        return (self.store.directory / "experiment.json").exists() or bool(self.checkpoints)

    @property
    def checkpoints(self) -> list[int]:
        """Rounds whose state is stored, ascending."""
        return self.store.checkpoints()

    @property
    def whole(self) -> bool:
        """Whether nothing was found that `mend` would mend."""
        return not (self.missing or self._damaged)

    def held(self, wait: float = 0.0) -> contextlib.AbstractContextManager[None]:
        """Hold the run for writing; see `Store.held`."""
        return self.store.held(wait)

    def begin(
        self,
        state: State,
        data: FederatedDataset,
        history: pd.DataFrame | None = None,
        earlier: Sequence[State] = (),
        origin: dict[str, Any] | None = None,
        times: pd.DataFrame | None = None,
    ) -> None:
        """Write the first files.

        Args:
            state: to begin with.
            data: whose partition is copied, if it came from a file, and images, if they are synthetic.
            history: the rows of the rounds up to it, if another run did them.
            earlier: states before it, if another run did the rounds up to it.
            origin: which one, and how.
            times: what those rounds took, if they count as this run's own.
        """
        if history is not None:
            self.store.history.write(history)
        for row in [] if times is None else times.itertuples(index=False):
            self._time(*row)
        rows = self.store.history.read()
        self._first = int(rows["round"].min()) - 1 if len(rows) else state.round
        self._begun_with = self.versions() | ({"origin": origin} if origin else {})
        if data.real:
            write_synthetic(data, self.store.directory / KEPT)
        elif isinstance(self.experiment.data.partition, Fixed):
            keep_partition(data, self.store.directory)
        for written in (*earlier, state):
            self._save(written, {before.round for before in earlier})
        write_run_files(self.store, self.experiment, self._begun_with)

    def restore(self) -> State | None:
        """The latest whole state; None if there is nothing on disk, or nothing whole of a run that can start anew.

        Raises:
            BadCheckpoint: if no stored state can be used.
        """
        if not self.begun:
            return None
        state = self.store.latest_state(self._checked)
        if state is None:
            if self.checkpoints or not self.experiment.from_scratch:
                raise BadCheckpoint(
                    f"{self.store.directory}: no state in it can be used; if they are damaged for good, remove the"
                    " directory to start anew"
                )
            self.store.say(f"{self.store.directory}: no state in it is whole; it starts anew, its network untrained")
        self._damaged = bool(damaged_files(self.store))
        try:
            self.missing = self.store.history.missing(self._first, state.round if state is not None else 0)
        except OSError as error:
            self.store.say(f"{self.store.directory}: its history cannot be read ({error}), and was left as it is")
        if self.missing:
            self.store.say(
                f"{self.store.directory}: the rows of rounds {spans(self.missing)} are lost; training the run makes"
                " them again"
            )
        return state

    def newer(self, round: int) -> State | None:
        """A state after `round`, that another process has written."""
        state = self.store.latest_state(self._checked, beyond=round)
        if state is not None:
            self._mended = False
        return state

    def load(self, round: int) -> State:
        """A stored state.

        Raises:
            BadCheckpoint: if it is missing, damaged, or another model's.
        """
        return self._checked(*self.store.load_state(round))

    def nearest(self, round: int, state: State | None = None) -> State | None:
        """The newest whole state after at most `round` rounds: a stored one, or `state`, if that is as near."""
        for stored in reversed([stored for stored in self.checkpoints if stored <= round]):
            if state is not None and stored <= state.round:
                break
            with contextlib.suppress(BadCheckpoint):
                return self.load(stored)
        return state

    def mend(self, until: int, remade: Callable[[list[int]], Iterable[list[dict[str, Any]]]]) -> None:
        """Before writing again, while the run is held: mend what is damaged or was lost, and fold the log.

        Args:
            until: rounds that are on record.
            remade: makes the rows of each of some rounds again; none where it cannot.

        Raises:
            OSError: if the history cannot be read: nothing may take its place.
        """
        if self.begun and not self._mended:
            self.store.remove_parts()
            self._mend_files()
            history = self.store.history
            if problem := history.mend():
                self.store.say(problem)
            missing, self.missing, gone = history.missing(self._first, until), [], []
            for round, rows in zip(missing, remade(missing), strict=True):
                if rows:
                    history.append(rows)
                else:
                    gone.append(round)
            if gone:
                self.store.say(f"{self.store.directory}: the rows of rounds {spans(gone)} cannot be made again")
            history.fold(until)
            self._best, self._best_score = best_scored(history.read())
        self._mended = True

    def _mend_files(self) -> None:
        """Write the small files anew if one is lost or damaged; what is damaged is set aside."""
        self._begun_with = read_versions(self.store) or self._begun_with or self.versions()
        for path, problem in damaged_files(self.store).items():
            aside = f"; kept as {set_aside(path).name}" if path.exists() else ""
            self.store.say(f"{problem}{aside}; written anew")
            write_run_files(self.store, self.experiment, self._begun_with)
        self._damaged = False

    def add(self, state: State, report: Round, *, lazily: bool = False) -> None:
        """Put a round on record: history first, so that a state never lacks its rows.

        Args:
            state: after the round.
            report: of the round.
            lazily: leave the state to a later call, or to `pause`, if one was written a moment ago and this one need
                not be kept. A state takes longer to write than a fast round.
        """
        self._mended = False  # until all is written: a failure in between leaves something to mend
        rows = report.rows()
        self.store.history.append(rows)
        if any(row["split"] == "test" for row in rows):
            best, score = best_scored(pd.DataFrame(rows))
            if score > self._best_score:
                self._best, self._best_score = best, score
        self._time(report.number, report.seconds, report.evaluation_seconds, report.samples)
        self._waiting = state
        if not lazily or self._kept(state.round) or time.monotonic() > self._due:
            self._flush()
        done = state.round == self.experiment.rounds
        if done or (state.round % self.checkpoint_every == 0 and self._sync_due()):
            self.store.history.fold(state.round)
            self._sync()
        elif not lazily:
            self.pause()
        self._mended = True

    def pause(self) -> None:
        """Training pauses: write the state that waits, and have the disk take all, at most once a second."""
        self._flush()
        if self.begun and self._sync_due():
            self._sync()

    def _flush(self) -> None:
        """Write the state that waits to be written, if there is one; older ones go, but for those that are kept."""
        if self._waiting is not None:
            state, self._waiting = self._waiting, None  # what cannot be written is not tried again, but trained again
            stored = self.checkpoints
            kept = {round for round in stored if self._kept(round)}
            began = time.monotonic()
            self._save(state, kept | {min(stored, default=0)})  # where it began, perhaps not at round 0
            self._due = time.monotonic() + max(LAZY_SECONDS, LAZY_WRITES * (time.monotonic() - began))

    def _kept(self, round: int) -> bool:
        """Whether the state after a round is kept for good."""
        swa, rounds = self.experiment.algorithm.swa, self.experiment.rounds
        begins_average = swa is not None and round == swa.first(rounds)
        return round % self.checkpoint_every == 0 or round in (self._best, rounds) or begins_average

    def _sync(self) -> None:
        """Have the disk take what was written."""
        self.store.sync()
        self._synced = time.monotonic()

    def _sync_due(self) -> bool:
        return time.monotonic() - self._synced > SYNC_SECONDS

    def history(self, until: int, after: int = 0) -> pd.DataFrame:
        """All rows up to a round, of the rounds after another."""
        return self.store.history.since(after, until)

    def timings(self) -> pd.DataFrame:
        """Per round: seconds of training and of evaluation, sample passes."""
        table = pd.DataFrame(timings(self.store.directory, self.store.run), columns=list(TIMES))
        return table.drop_duplicates("round", keep="last").sort_values("round", ignore_index=True)

    def _time(self, *values: float) -> None:
        # lines of earlier versions lack the samples
        told = {name: value for name, value in zip(TIMES, values, strict=True) if not math.isnan(value)}
        append_line(self.store.directory / "timings.jsonl", told, self.store.run)

    def _save(self, state: State, kept: set[int]) -> None:
        notes = {"experiment": self.experiment.to_json(), "versions": sealed(self._begun_with, self.store.run)}
        about = {"swa_count": state.swa_count, "first": self._first, **notes}
        self.store.save_state(state.round, state.flat(), about, kept)

    def _checked(self, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> State:
        """A state whose file is whole, if it is one of this experiment's."""
        path = self.store.checkpoint(about["round"])
        try:
            state = State.from_flat(tensors, about["round"], about["swa_count"], self.layout.device)
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedCheckpoint(f"{path}: holds no state ({error})") from None
        if problem := self.layout.differs(state):
            raise DamagedCheckpoint(f"{path}: {problem}")
        parent = self.experiment.parent
        oldest = parent.round if parent is not None else min(self.checkpoints, default=0)
        self._first = about.get("first", oldest)
        return state
