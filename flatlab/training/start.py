"""Where a run begins: at first weights, at a state that was given, or at rounds that another run did the same."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declare import SettingError
from ..files import digest, file_signature, read_json
from ..later import pd
from .checkpoints import BadCheckpoint, RunBusy, Store
from .experiment import Experiment
from .layout import Layout
from .recording import Record
from .run_files import read_versions
from .state import State
from .store_scan import Held

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


def first_state(layout: Layout, store: Path, given: State | None) -> State:
    """The state that a run begins with of which there is no record.

    Raises:
        SettingError: if it begins with a state of its own, which was not given, or is another network's.
    """
    experiment, parent = layout.experiment, layout.experiment.parent
    if given is None and parent is not None:
        raise SettingError(
            "parent.run",
            parent.run,
            f"{store / experiment.id} holds no record of this fork; open the parent"
            f" and fork it again, run.fork(round={parent.round}, ...)"
            + ("" if (store / parent.run).is_dir() else ", once it is back: it is not in this store, deleted or moved"),
        )
    if given is None and experiment.initial is not None:
        raise SettingError(
            "initial",
            experiment.initial,
            f"{store / experiment.id} holds no record yet, and needs the"
            " state that this is the digest of: Run(experiment, start=state)",
        )
    return layout.start() if given is None else layout.adopt(given)


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
        same = _moving(done, round) == _moving(wanted, round)
        if not same or not _due(wanted, round + 1) <= _due(done, round + 1):
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


def _averaging(experiment: Experiment) -> tuple[int, dict[str, Any]] | None:
    """Where the average begins, and its other settings but those that show in the rates."""
    swa = experiment.algorithm.swa
    if swa is None:
        return None
    return swa.first(experiment.rounds), {k: v for k, v in swa.to_dict().items() if k not in ("start", "low")}


def _moving(experiment: Experiment, round: int) -> tuple[float, bool]:
    """What of a round (from 0) depends on how many there are: the clients' rate, whether an adversary attacks."""
    adversary = experiment.world.adversary if experiment.world is not None else None
    attacked = adversary is not None and adversary.active(round, experiment.rounds)
    return experiment.algorithm.rate(round, experiment.rounds), attacked


def _due(experiment: Experiment, number: int) -> set[str]:
    """The splits of the history that are scored after a round."""
    evaluation, rounds = experiment.evaluation, experiment.rounds
    due = {"holdout": evaluation.holdout_due(number, rounds), "test": evaluation.clients_due(number, rounds)}
    due |= dict.fromkeys(("unseen", "attack"), due["holdout"])
    return {split for split, wanted in due.items() if wanted}


def reuse_rounds(run: Run) -> str | None:
    """Let a run that has not begun go on from the most rounds that another one of its store did the same.

    It keeps its own id, and has the bits of a run that did all rounds itself: what is taken must have been computed in
    the same way (device, engine, precision, versions of what computes). `versions.json` names the origin.

    Returns:
        A sentence for the person, if there is something to say.
    """
    experiment = run.experiment
    if run.record.begun or not experiment.from_scratch:
        return None
    others = [(held, _reusable(held, run)) for held in _alike(run.directory.parent, experiment)]
    for held, rounds in sorted(others, key=lambda other: -max(other[1], default=0)):
        if rounds:
            with contextlib.suppress(RunBusy, BadCheckpoint, OSError, ValueError), run.record.held():
                if not run.record.begun:
                    _copy(run.record.beside(held.directory, held.experiment), rounds, run)
                    run.catch_up()
                    said = f"goes on from round {run.round} of {held.experiment.id}, whose rounds so far are the same"
                    return f"{run.id}: {said}{_instead(run, held)}"
    longer = [held for held, _ in others if _but_rounds(held.experiment) == _but_rounds(experiment)]
    return f"{run.id}: begins at round 1{_instead(run, longer[0])}" if longer else None


def _alike(store: Path, wanted: Experiment) -> Iterator[Held]:
    """Runs of a store that may share first rounds.

    These bear the same names before the hash, and files that were looked at are not read again: a store may hold
    thousands of runs, each of which comes here.
    """
    prefix, shape = wanted.id.rpartition("-")[0] + "-", _shape(wanted.to_dict())
    for file in sorted(store.glob(f"{prefix}*/experiment.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # another version's, or being removed
            if _shape_of(file, file_signature(file)) == shape:
                other = Experiment.recorded(file.read_text(encoding="utf-8-sig"))
                if other.id == file.parent.name != wanted.id:
                    yield Held(other.id, file.parent, other)


def _shape(values: dict[str, Any]) -> str:
    """What stands for the settings that are equal wherever rounds are shared, and are quickly read."""
    settings = [values.get(name) for name in ("data", "model", "seed", "participation")]
    return digest(json.dumps(settings, sort_keys=True).encode())


@functools.lru_cache(maxsize=2**16)
def _shape_of(file: Path, signature: tuple[int, ...]) -> str:
    values = read_json(file)
    return _shape(values) if isinstance(values, dict) else ""


def _but_rounds(experiment: Experiment) -> dict[str, Any]:
    return {**experiment.to_dict(), "rounds": None}


def _reusable(held: Held, run: Run) -> list[int]:
    """The rounds of another run whose states can be taken: stored, among the shared ones, and computed as here."""
    shared, store = shared_rounds(held.experiment, run.experiment), Store(held.directory)
    if not shared:
        return []
    try:
        there = read_versions(store) or {}
    except (OSError, ValueError):
        return []
    how = [{k: v for k, v in versions.items() if k not in ANY} for versions in (there, run.record.versions())]
    if how[0] != how[1]:
        return []
    return [round for round in store.checkpoints() if round <= shared]


def _copy(origin: Record, rounds: list[int], run: Run) -> None:
    """Put the shared rounds on record as the run's own: the rows that it would have, and states that it would keep."""
    state = origin.load(rounds[-1])
    table = origin.history(state.round)
    if set(table["round"]) != set(range(1, state.round + 1)):
        raise BadCheckpoint(f"{origin.store.directory}: rounds are missing in its history")
    due = {number: _due(run.experiment, number) | {"train"} for number in range(1, state.round + 1)}
    wanted = pd.Series([split in due[number] for number, split in zip(table["round"], table["split"], strict=True)])
    earlier = [origin.load(round) for round in rounds[:-1] if round % run.record.checkpoint_every == 0]
    made = {"run": origin.experiment.id, "round": state.round, "versions": read_versions(origin.store)}
    rows, times = table[wanted.to_numpy(bool)].reset_index(drop=True), origin.timings()
    run.record.begin(state, run.data, rows, earlier, made, times[times["round"] <= state.round])


def _instead(run: Run, held: Held) -> str:
    """How to go on from the end of a run that differs in the number of rounds alone, if that is further."""
    reached, other = max(Store(held.directory).checkpoints(), default=0), held.experiment
    if reached <= run.round or _but_rounds(other) != _but_rounds(run.experiment) or reached >= run.rounds:
        return ""
    return (
        f"; {other.id} has {reached} rounds, but later ones differ from those of {run.rounds} rounds (rates, averages,"
        " scores, or how they were computed); to go on from its end:"
        f" fl.Run.open({str(held.directory)!r}).fork(rounds={run.rounds})"
    )
