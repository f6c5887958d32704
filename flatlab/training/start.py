"""Where a run begins: at first weights, at a state that was given, or at rounds that another run did the same."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..declare import SettingError
from ..files import digest, read_json
from .checkpoints import BadCheckpoint, RunBusy, Store
from .experiment import Experiment
from .recording import Record, began
from .round import State

if TYPE_CHECKING:
    from .run import Run

WHEN = {"every", "clients_every", "final"}  # of an evaluation: when scores are taken, which moves nothing
ANY = {"flatlab", "commit", "dirty", "python", "pandas", "torchvision", "workers", "begun", "origin"}  # change no sum


def beginning_with(start: State, experiment: Experiment) -> Experiment:
    """The experiment with the digest of the state that it begins with.

    Raises:
        SettingError: if it begins with another.
    """
    if experiment.parent is not None:
        raise SettingError(
            "start",
            allowed=f"this experiment is a fork, which begins with its parent's state; make it by"
            f" run.fork(round={experiment.parent.round}, ...), or set parent to None",
        )
    if experiment.initial not in (None, start.digest):
        raise SettingError(
            "start",
            allowed=f"its digest is {start.digest}, the experiment's is {experiment.initial}; give the state that the"
            " experiment was described with, or set its initial to None",
        )
    return experiment.replace(initial=start.digest)


def shared_rounds(done: Experiment, wanted: Experiment) -> int:
    """How many first rounds of `wanted` are provably those of `done`: the same weights, memory, and rows of history.

    That is so while all settings that a round looks at are equal, the clients' rates are the same numbers (whatever
    schedule and number of rounds they come from), and the server averages the same, or not yet. Scores move nothing:
    `done` may have taken more of them than `wanted` asks for, but none less. Forks share nothing here.

    Returns:
        The largest such number of rounds; 0 if there is none.
    """
    if done.parent or wanted.parent or _fixed(done) != _fixed(wanted):
        return 0
    shared = min(done.rounds, wanted.rounds)
    averages = [_averaging(done), _averaging(wanted)]
    if averages[0] != averages[1]:
        shared = min(shared, *(average[0] for average in averages if average))
    for round in range(shared):  # from 0; as a number `round + 1`
        same_rate = done.algorithm.rate(round, done.rounds) == wanted.algorithm.rate(round, wanted.rounds)
        if not same_rate or not _due(wanted, round + 1) <= _due(done, round + 1):
            return round
    return shared


def _fixed(experiment: Experiment) -> dict[str, Any]:
    """What must be equal: all but the number of rounds, what it turns into rates and averages, and when to score."""
    settings = experiment.to_dict()
    del settings["rounds"]
    settings["evaluation"] = {name: value for name, value in settings["evaluation"].items() if name not in WHEN}
    if experiment.code is None:  # a class of one's own may look at them elsewhere
        settings["algorithm"] = {k: v for k, v in settings["algorithm"].items() if k not in ("schedule", "swa")}
    return settings


def _averaging(experiment: Experiment) -> tuple[int, int, str] | None:
    swa = experiment.algorithm.swa
    return None if swa is None else (swa.first(experiment.rounds), swa.cycle, swa.variant)


def _due(experiment: Experiment, number: int) -> set[str]:
    """The splits of the history that are scored after a round."""
    evaluation, rounds = experiment.evaluation, experiment.rounds
    due = {"holdout": evaluation.holdout_due(number, rounds), "test": evaluation.clients_due(number, rounds)}
    return {split for split, wanted in due.items() if wanted}


def take_up(run: Run) -> str | None:
    """Let a run that has not begun go on from the most rounds that another one of its store did the same.

    It keeps its own id, and has the bits of a run that did all rounds itself: what is taken must have been computed in
    the same way (device, engine, precision, versions of what computes). `versions.json` names the origin.

    Returns:
        A sentence for the person, if there is something to say.
    """
    experiment, store = run.experiment, run.directory.parent
    if run.record.begun or experiment.parent or experiment.initial:
        return None
    others = [(_usable(other, shared, run), other) for other, shared in _alike(store, experiment)]
    for shared, other in sorted(others, key=lambda found: -found[0]):
        origin = Record(Store(store / other.id), other, run.federation, run.record.checkpoint_every)
        if shared:
            with contextlib.suppress(RunBusy, BadCheckpoint, OSError, ValueError), run.record.store.held():
                if not run.record.begun:
                    _copy(origin, shared, run)
                    run.catch_up()
                    said = f"{run.id}: goes on from round {run.round} of {other.id}, whose rounds so far are the same"
                    return said + _instead(run, other)
    longer = [other for _, other in others if _but_rounds(other) == _but_rounds(experiment)]
    return f"{run.id}: begins at round 1{_instead(run, longer[0])}" if longer else None


def _alike(store: Path, wanted: Experiment) -> Iterator[tuple[Experiment, int]]:
    """Runs of a store that share first rounds, with their number, or differ in the number of rounds alone.

    These bear the same names before the hash, and files that were looked at are not read again: a store may hold
    thousands of runs, each of which comes here.
    """
    prefix, shape = wanted.id.rpartition("-")[0] + "-", _shape(wanted.to_dict())
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(store) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.startswith(prefix)):
            file = store / name / "experiment.json"
            with contextlib.suppress(OSError, ValueError, TypeError):  # another version's, or being removed
                stat = file.stat()
                if _shape_of(file, (stat.st_ino, stat.st_size, stat.st_mtime_ns)) == shape:
                    other = Experiment.recorded(file.read_text(encoding="utf-8-sig"))
                    shared = shared_rounds(other, wanted)
                    if other.id == name != wanted.id and (shared or _but_rounds(other) == _but_rounds(wanted)):
                        yield other, shared


def _shape(values: dict[str, Any]) -> str:
    """What stands for the settings that are equal wherever rounds are shared, and are quickly read."""
    told = [values.get(name) for name in ("data", "model", "seed", "participation")]
    return digest(json.dumps(told, sort_keys=True).encode())


@functools.lru_cache(maxsize=2**16)
def _shape_of(file: Path, signature: tuple[int, ...]) -> str:
    values = read_json(file)
    return _shape(values) if isinstance(values, dict) else ""


def _but_rounds(experiment: Experiment) -> dict[str, Any]:
    return {**experiment.to_dict(), "rounds": None}


def _usable(other: Experiment, shared: int, run: Run) -> int:
    """The latest round of another run that can be taken: stored, among the shared ones, and computed as here."""
    store = Store(run.directory.parent / other.id)
    try:
        written = began(store) or {}
    except (OSError, ValueError):
        return 0
    here = run.record.computed()
    if {k: v for k, v in written.items() if k not in ANY} != {k: v for k, v in here.items() if k not in ANY}:
        return 0
    return max((round for round in store.checkpoints() if round <= shared), default=0)


def _copy(origin: Record, shared: int, run: Run) -> None:
    """Put the shared rounds on record as the run's own: the rows that it would have, and states that it would keep."""
    rounds = [round for round in origin.store.checkpoints() if round <= shared]
    state = origin.load(rounds[-1])
    table = origin.history(state.round)
    if set(table["round"]) != set(range(1, state.round + 1)):
        raise BadCheckpoint(f"{origin.store.directory}: rounds are missing in its history")
    due = {number: _due(run.experiment, number) | {"train"} for number in range(1, state.round + 1)}
    mine = pd.Series([split in due[number] for number, split in zip(table["round"], table["split"], strict=True)])
    earlier = [origin.load(round) for round in rounds[:-1] if round % run.record.checkpoint_every == 0]
    made = {"run": origin.experiment.id, "round": state.round, "versions": began(origin.store)}
    run.record.begin(state, table[mine.to_numpy(bool)].reset_index(drop=True), earlier, made)


def _instead(run: Run, other: Experiment) -> str:
    """How to go on from the end of a run that differs in the number of rounds alone, if that is further."""
    reached = max(Store(run.directory.parent / other.id).checkpoints(), default=0)
    if reached <= run.round or _but_rounds(other) != _but_rounds(run.experiment) or reached >= run.rounds:
        return ""
    where = str(run.directory.parent / other.id)
    return (
        f"; {other.id} has {reached} rounds, but later ones differ from those of {run.rounds} rounds (rates, averages,"
        f" scores, or how they were computed); to go on from its end: fl.Run.open({where!r}).fork(rounds={run.rounds})"
    )


def raised_rate(old: Experiment, new: Experiment, round: int) -> str | None:
    """What a fork's rate becomes, where the same schedule over another number of rounds raises it again."""
    if not round or old.algorithm.replace(swa=None) != new.algorithm.replace(swa=None):
        return None
    before, usual = (old.algorithm.rate(number, old.rounds) for number in (round - 1, round))
    rates = [new.algorithm.rate(number, new.rounds) for number in range(round, new.rounds)]
    if rates[0] <= before or rates[0] == usual:
        return None
    said, number = [], round + 1
    for rate, several in itertools.groupby(rates):
        count = len(list(several))
        said.append(f"{rate:g} in round{'s' * (count > 1)} {number}{f' to {number + count - 1}' if count > 1 else ''}")
        number += count
    more = ", ..." if len(said) > 4 else ""
    return (
        f"fork: the clients' rate was {before:g} in round {round} and rises again, as the schedule is that of"
        f" {new.rounds} rounds: {', '.join(said[:4])}{more}; to go on as it was, give"
        f" algorithm=run.experiment.algorithm.replace(lr={before:g}, schedule=fl.Constant())"
    )
