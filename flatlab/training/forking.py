"""A fork: a run that begins with another's state after some round, and goes on under changed settings."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from ..declare import SettingError, tell
from .experiment import Experiment, Parent
from .state import State

if TYPE_CHECKING:
    from .run import Run


KEPT = {"data", "model", "parent", "initial", "code"}  # settings that a fork has from its parent


def fork(run: Run, round: int, changes: dict[str, Any]) -> Run:
    """See `Run.fork`."""
    if fixed := KEPT & {name.partition(".")[0] for name in changes}:
        raise SettingError(
            ", ".join(sorted(fixed)), allowed="a fork keeps its parent's; start a run of its own instead"
        )
    state = run.state(round)
    experiment = run.experiment.replace(parent=Parent(run=run.id, round=round), **changes)
    if raised := raised_rate(run.experiment, experiment, round):
        tell(raised)
    cohort = run.cohort
    child = type(run)(
        experiment,
        run.data,
        copy.deepcopy(run.federation.model),
        store=run.directory.parent,
        device=run.device,
        engine=cohort.engine,
        chunk=cohort.chunk,
        channels_last=None if cohort.batched else cohort.channels_last,
        precision=cohort.precision,
        checkpoint_every=run.record.checkpoint_every,
        root=run.root,
        _parents=_inherited(run, experiment, state),
    )
    if set(run.kept) & child.federation.sent and child.experiment.algorithm.topology is None:
        tell(
            f"fork: {child.name} shares {run.kept_part}, which the clients of {run.name} kept for themselves;"
            " what it shares begins at its first weights, which nobody trained"
        )
    if not child.record.begun:  # else forked in the same way before
        if _late(state) and not _late(child.state()):
            tell(
                f"fork: messages that were on their way in {run.name} never arrive in {child.name}, where the delay is"
                " another"
            )
        with child.record.held():
            child.record.begin(child.state(), child.data, run.record.history(round))
    return child


def _late(state: State) -> bool:
    """Whether messages are on their way."""
    return "mass" in state.pending and bool(state.pending["mass"].any())


def _inherited(run: Run, experiment: Experiment, state: State) -> State:
    """What of a parent's state still means the same under the fork's settings."""
    old, new = run.experiment, experiment
    own = run.federation.shapes.own_slots
    keeps_server = new.algorithm.server.kind == old.algorithm.server.kind
    keeps_own = all(getattr(new.algorithm, name) == getattr(old.algorithm, name) for name in ("kind", "train", "share"))
    slots = {slot: values for slot, values in state.slots.items() if (keeps_own if slot in own else keeps_server)}
    # A correction has a half with the clients and one with the server: without the other neither means anything.
    memory = {slot: values for slot, values in state.memory.items() if keeps_own or slot == "momentum"}
    state = dataclasses.replace(state, slots=slots, memory=memory)
    if (new.algorithm.swa, new.rounds) != (old.algorithm.swa, old.rounds):  # another average
        state = dataclasses.replace(state, swa={}, swa_count=0)
    return state


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
