"""What a run leaves on disk, and how it is found again: states, history, timings, versions."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from ..data import Fixed
from ..data.federated import PARTITION
from ..declare import SettingError
from ..files import Damaged, read_json, sealed, set_aside, unsealed
from .checkpoints import BadCheckpoint, DamagedCheckpoint, Store
from .clients import Precision
from .convolution import Convolution
from .experiment import Experiment
from .history import TIMES, append_line, empty_history, timings
from .provenance import made_by
from .round import Federation, Round, State

LAZY_SECONDS = 0.5  # work that a killed process may lose beside the round in flight, where rounds are faster
NO_SCORE = (0, -math.inf)
SYNC_SECONDS = 1.0  # between two times that the disk is made to take what was written


class Record:
    """The record of one run; `Store` does the writing, this knows what is written when.

    Args:
        store: the run's directory.
        experiment: what is trained.
        federation: what computes it, and says which parameters a state must have.
        checkpoint_every: rounds between states that are kept for good.

    Attributes:
        missing: rounds up to the state restored whose rows are lost; `tidy` makes them again.
        spoiled: whether a small file is lost or damaged; `tidy` writes it anew.
    """

    def __init__(self, store: Store, experiment: Experiment, federation: Federation, checkpoint_every: int) -> None:
        self.store, self.experiment, self.federation = store, experiment, federation
        self.checkpoint_every = checkpoint_every
        self.missing: list[int] = []
        self.spoiled = False
        self._versions: dict[str, Any] = {}
        self._first = 0  # rounds before the first one that has rows
        self._best: int | None = None
        self._best_score = NO_SCORE
        self._tidied = False
        self._saved = self._synced = -math.inf  # when a state was written, and when the disk had to take it, last
        self._waiting: State | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything on disk."""
        return (self.store.directory / "experiment.json").exists() or bool(self.store.checkpoints())

    @property
    def _plain(self) -> bool:
        """Whether the run begins with the network's first weights, which can be made again."""
        return self.experiment.parent is None and self.experiment.initial is None

    def begin(
        self,
        state: State,
        history: pd.DataFrame | None = None,
        earlier: Sequence[State] = (),
        origin: dict[str, Any] | None = None,
    ) -> None:
        """Write the first files; `experiment.json` comes last and says that the others are there.

        Args:
            state: to begin with.
            history: the rows of the rounds up to it, if another run did them.
            earlier: states before it, if another run did the rounds up to it.
            origin: which one, and how.
        """
        if history is not None:
            self.store.history.write(history)
        rows = self.store.history.read()
        self._first = int(rows["round"].min()) - 1 if len(rows) else state.round
        self._versions = self.computed() | ({"origin": origin} if origin else {})
        if isinstance(self.experiment.data.partition, Fixed):
            self.federation.data.save_partition(self.store.directory / PARTITION)
        for one in (*earlier, state):
            self._save(one, {before.round for before in earlier})
        self._write_notes()

    def computed(self) -> dict[str, Any]:
        """By what, and how, rounds are computed here."""
        cohort, device = self.federation.cohort, self.federation.data.images.device
        return {
            **made_by(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "device_type": device.type,
            "engine": cohort.way,
            "precision": cohort.precision,
            "channels_last": cohort.channels_last,
            "convolution": cohort.convolution,
            "threads": cohort.threads,
            "workers": cohort.workers,
            "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def _write_notes(self) -> None:
        self.store.write_json("versions.json", sealed(self._versions, self.store.run))
        self.store.write_json("experiment.json", self.experiment.to_dict())

    def restore(self, start: State | None = None) -> State:
        """The latest whole state; if nothing is on disk, `start`, or the model's first weights.

        Raises:
            BadCheckpoint: if no stored state is whole, or they are another model's.
            SettingError: if a fork has neither a record nor a state to start from.
        """
        if not self.begun:
            parent = self.experiment.parent
            if start is None and parent is not None:
                there = (self.store.directory.parent / parent.run).is_dir()
                raise SettingError(
                    "parent.run",
                    parent.run,
                    f"{self.store.directory} holds no record of this fork; open the parent"
                    f" and fork it again, run.fork(round={parent.round}, ...)"
                    + ("" if there else ", once it is back: it is not in this store, deleted or moved"),
                )
            if start is None and self.experiment.initial is not None:
                raise SettingError(
                    "initial",
                    self.experiment.initial,
                    f"{self.store.directory} holds no record yet, and needs the"
                    " state that this is the digest of: Run(experiment, start=state)",
                )
            return self.federation.start() if start is None else self.federation.adopt(start)
        state = self.store.latest_state(self._checked)
        if state is None:
            if self.store.checkpoints() or not self._plain:
                raise BadCheckpoint(
                    f"{self.store.directory}: no state in it can be used; if they are damaged for good, remove the"
                    " directory to start anew"
                )
            self.store.say(f"{self.store.directory}: no state in it is whole; it starts anew")
            state = self.federation.start()
        self.spoiled = bool(self._spoiled())
        try:
            self.missing = self.store.history.missing(self._first, state.round)
        except OSError as error:
            self.store.say(f"{self.store.directory}: its history cannot be read ({error}), and was left as it is")
        if self.missing:
            self.store.say(
                f"{self.store.directory}: the rows of rounds {spans(self.missing)} are lost; training the run makes"
                " them again"
            )
        return state

    def newer(self, known: int) -> State | None:
        """A state of more rounds than `known`, that another process has written."""
        state = self.store.latest_state(self._checked, beyond=known)
        if state is not None:
            self._tidied = False
        return state

    def load(self, round: int) -> State:
        """A stored state.

        Raises:
            BadCheckpoint: if it is missing, damaged, or another model's.
        """
        return self._checked(*self.store.load_state(round))

    def tidy(self, known: int) -> None:
        """Before writing again, while the run is held: mend what is damaged or was lost, and fold the log.

        Raises:
            OSError: if the history cannot be read: nothing may take its place.
        """
        if self.begun and not self._tidied:
            self.store.remove_parts()
            self._mend_notes()
            problem = self.store.history.mend()
            if problem:
                self.store.say(problem)
            self._recover(known)
            self.store.history.fold(known)
            self._best, self._best_score = _best(self.store.history.read())
        self._tidied = True

    def _mend_notes(self) -> None:
        """Write the small files anew if one is lost or damaged; what is damaged is set aside."""
        self._versions = began(self.store) or self._versions or self.computed()
        for path, problem in self._spoiled().items():
            aside = f"; kept as {set_aside(path).name}" if path.exists() else ""
            self.store.say(f"{problem}{aside}; written anew")
            self._write_notes()
        self.spoiled = False

    def _spoiled(self) -> dict[Path, str]:
        """The small files that are lost or damaged, and how."""
        versions, experiment = (self.store.directory / name for name in ("versions.json", "experiment.json"))
        checks: dict[Path, Callable[[], object]] = {
            versions: lambda: unsealed(read_json(versions), self.store.run, versions),
            experiment: lambda: self._own(_recorded(experiment)),
        }
        problems = {}
        for path, check in checks.items():
            try:
                check()
            except FileNotFoundError:
                problems[path] = f"{path}: is missing"
            except (Damaged, SettingError) as error:
                first = str(error).splitlines()[0]
                problems[path] = first if str(path) in first else f"{path}: {first}"
            except OSError:
                pass  # for `began`, or a reader, to complain about
        return problems

    def _own(self, experiment: Experiment) -> None:
        if experiment.id != self.store.run:
            raise Damaged(f"{self.store.directory / 'experiment.json'}: is that of {experiment.id}")

    def _recover(self, until: int) -> None:
        """Make lost rows again, each as soon as it can be: a parent's from its record, the others by training."""
        missing = self.store.history.missing(self._first, until)
        self.missing = []
        if not missing:
            return
        parent, state, gone = self.experiment.parent, None, []
        ranks, self.federation.ranks = self.federation.ranks, None  # the other processes know nothing of this
        try:
            for round in missing:
                if parent is not None and round <= parent.round:
                    rows = self._parents_rows(parent.run, round)
                else:
                    state = self._before(round - 1, state)
                    rows = []
                    while state is not None and state.round < round:
                        state, report = self.federation.advance(state)
                        if state.round == round:
                            with self.federation.cohort.paced():
                                rows = self.federation.evaluate(state, report).rows()
                if rows:
                    self.store.history.append(rows)
                else:
                    gone.append(round)
        finally:
            self.federation.ranks = ranks
        if gone:
            self.store.say(f"{self.store.directory}: the rows of rounds {spans(gone)} cannot be made again")

    def _before(self, round: int, state: State | None) -> State | None:
        """The state after so many rounds, or the newest whole one before it; `state`, if that is as near."""
        for stored in reversed([stored for stored in self.store.checkpoints() if stored <= round]):
            if state is not None and stored <= state.round <= round:
                return state
            try:
                return self.load(stored)
            except BadCheckpoint:
                continue
        return state if state is not None else self.federation.start() if self._plain and self._first == 0 else None

    def _parents_rows(self, parent: str, round: int) -> list[dict[str, Any]]:
        try:
            rows = Store(self.store.directory.parent / parent).history.read()
        except OSError:
            return []
        return rows[rows["round"] == round].to_dict("records")

    def add(self, state: State, report: Round, *, lazily: bool = False) -> None:
        """Put a round on record: history first, so that a state never lacks its rows.

        Args:
            state: after the round.
            report: of the round.
            lazily: leave the state to a later call, or to `flush`, if one was written a moment ago and this one need
                not be kept. A state takes longer to write than a fast round.
        """
        self._tidied = False  # until all is written: a failure in between leaves something to tidy
        rows = report.rows()
        self.store.history.append(rows)
        best, score = _best(pd.DataFrame(rows))
        if score > self._best_score:
            self._best, self._best_score = best, score
        values = (report.number, report.seconds, report.evaluation_seconds, report.samples)
        append_line(self.store.directory / "timings.jsonl", dict(zip(TIMES, values, strict=True)), self.store.run)
        due = state.round == self.experiment.rounds or state.round % self.checkpoint_every == 0
        swa = self.experiment.algorithm.swa
        kept = state.round == self._best or (swa is not None and state.round == swa.first(self.experiment.rounds))
        self._waiting = state
        if due or kept or not lazily or time.monotonic() - self._saved > LAZY_SECONDS:
            self.flush()
        final = state.round == self.experiment.rounds
        if final or (due and self._long_ago()):
            self.store.history.fold(state.round)
            self.sync()
        elif not lazily:
            self.rest()
        self._tidied = True

    def rest(self) -> None:
        """Training pauses: write the state that waits, and have the disk take all, at most once a second."""
        self.flush()
        if self.begun and self._long_ago():
            self.sync()

    def sync(self) -> None:
        """Have the disk take what was written."""
        self.store.sync()
        self._synced = time.monotonic()

    def _long_ago(self) -> bool:
        return time.monotonic() - self._synced > SYNC_SECONDS

    def flush(self) -> None:
        """Write the state that waits to be written, if there is one; older ones go, but for those that are kept."""
        if self._waiting is None:
            return
        state, self._waiting = self._waiting, None  # what cannot be written is not tried again, but trained again
        kept = {round for round in self.store.checkpoints() if round % self.checkpoint_every == 0}
        if self._best is not None:
            kept.add(self._best)
        if self.experiment.algorithm.swa is not None:
            kept.add(self.experiment.algorithm.swa.first(self.experiment.rounds))
        kept.add(min(self.store.checkpoints(), default=0))  # where it began, perhaps not at round 0
        self._save(state, kept)
        self._saved = time.monotonic()

    def history(self, until: int, after: int = 0) -> pd.DataFrame:
        """All rows up to a round, of the rounds after another."""
        return self.store.history.since(after, until) if self.store.directory.exists() else empty_history()

    def timings(self) -> pd.DataFrame:
        """Per round: seconds of training and of evaluation, sample passes."""
        table = pd.DataFrame(timings(self.store.directory, self.store.run), columns=list(TIMES))
        return table.drop_duplicates("round", keep="last").sort_values("round", ignore_index=True)

    def _save(self, state: State, kept: set[int]) -> None:
        # What the small files say stands in each state, too: a run must not end with a file of a hundred bytes.
        notes = {"experiment": self.experiment.to_json(), "versions": sealed(self._versions, self.store.run)}
        about = {"swa_count": state.swa_count, "first": self._first, **notes}
        self.store.save_state(state.round, state.flat(), about, kept)

    def _checked(self, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> State:
        """A state whose file is whole, if it is one of this experiment's."""
        where = self.store.checkpoint(about["round"])
        device = self.federation.data.images.device
        try:
            state = State.from_flat(tensors, about["round"], about["swa_count"], device)
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedCheckpoint(f"{where}: holds no state ({error})") from None
        problem = self.federation.differs(state)
        if problem:
            raise DamagedCheckpoint(f"{where}: {problem}")
        parent = self.experiment.parent
        oldest = parent.round if parent is not None else min(self.store.checkpoints(), default=0)
        self._first = about.get("first", oldest)
        return state


def began(store: Store) -> dict[str, Any] | None:
    """How a run was begun, by its `versions.json`, else by its newest state; None if there is no run yet.

    Raises:
        SettingError: if a value in it is none that flatlab writes, or a later version wrote it.
        OSError: if it cannot be read.
    """
    path = store.directory / "versions.json"
    try:
        written = unsealed(read_json(path), store.run, path)
    except FileNotFoundError:
        problem = f"{path}: is missing"
    except Damaged as error:
        problem = str(error)
    else:
        return _possible(written, path)
    for about in store.abouts():
        try:
            written = unsealed(about.get("versions"), store.run, path)
        except Damaged:
            continue
        store.say(f"{problem}; what it said is taken from a state")
        return _possible(written, path)
    if not store.checkpoints():
        return None
    store.say(f"{problem}; the run goes on in float32 as it would begin here, and may round differently from now on")
    return {}


def _possible(written: dict[str, Any], path: Path) -> dict[str, Any]:
    """Values that were not sealed, or are edited, may be anything."""
    choices: dict[str, tuple[Any, ...]] = {"precision": get_args(Precision), "convolution": get_args(Convolution)}
    choices |= {"channels_last": (True, False)}
    for name, values in choices.items():
        if name in written and not any(written[name] is value or written[name] == value for value in values):
            allowed = f"must be {', '.join(map(str, values))}; put it right there"
            raise SettingError(f"{path}: {name}", written[name], allowed)
    for name in ("threads", "workers"):
        value = written.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise SettingError(f"{path}: {name}", value, "must be a whole number ≥ 1; put it right there")
    return written


def _recorded(path: Path) -> Experiment:
    return Experiment.recorded(json.dumps(read_json(path)))


def read_experiment(directory: Path) -> Experiment:
    """The experiment whose run lies in a directory, which bears its id: by its file, else by its newest state.

    Raises:
        FileNotFoundError: if the directory holds no run.
        OSError: if its file cannot be read.
        SettingError: if it cannot be understood here, or the directory was renamed.
    """
    path, names = directory / "experiment.json", {directory.absolute().name, directory.resolve().name}
    store = Store(directory)
    problem: SettingError | None = None
    try:
        experiment = _recorded(path)
        if experiment.id in names:
            return experiment
        problem = SettingError(f"{directory}", allowed=f"a run's folder bears its id; rename it to {experiment.id}")
    except FileNotFoundError:
        if not store.checkpoints():
            raise FileNotFoundError(f"{directory}: holds no run (no experiment.json)") from None
    except (Damaged, SettingError) as error:
        where = "" if str(path) in str(error) else f"{path}"
        problem = SettingError(where, allowed=str(error))
    for about in store.abouts():
        try:
            experiment = Experiment.recorded(about["experiment"])
        except (KeyError, TypeError, SettingError):
            continue
        if experiment.id in names:
            return experiment
    raise problem or FileNotFoundError(f"{directory}: holds no run (no experiment.json)")


def spans(rounds: list[int]) -> str:
    """Ascending numbers in words: 3 to 5, 8."""
    parts: list[list[int]] = []
    for round in rounds:
        if parts and parts[-1][-1] == round - 1:
            parts[-1].append(round)
        else:
            parts.append([round])
    shown = [f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts[:5]]
    return ", ".join(shown) + (" and more" if len(parts) > 5 else "")


def best_round(history: pd.DataFrame) -> int | None:
    """The evaluated round with the best mean initial accuracy; None if none was evaluated.

    A client without a finite accuracy does not count, and rounds that lack more of them than others do not compete.
    """
    return _best(history)[0]


def _best(history: pd.DataFrame) -> tuple[int | None, tuple[int, float]]:
    """That round, with what it is judged by: how many clients count, and their mean.

    The sum is exact, so that the answer does not depend on how many rounds are looked at.
    """
    scores = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
    scores = scores[np.isfinite(scores["value"].astype(float))]
    best: int | None = None
    judged = NO_SCORE
    for round, values in scores.groupby("round")["value"]:
        score = len(values), math.fsum(values) / len(values)
        if score > judged:
            best, judged = int(round), score
    return best, judged
