"""Training one run with several processes; see `ranks`."""

from __future__ import annotations

import torch

from .interrupt import soft_interrupt
from .process_group import RankLost, Ranks
from .run import Listener, Run
from .state import State


def train_shared(run: Run, ranks: Ranks, listener: Listener | None = None, wait: float = 0.0) -> Run:
    """Train to the end with all processes; each calls this with a run of the same experiment.

    The first process goes on from its run's last state, which the others are sent, and puts each round on record.

    Args:
        run: of any process; only the first one's is written.
        ranks: the processes.
        listener: as for `Run.to`, in the first process.
        wait: seconds to wait if somebody else trains this run.

    Returns:
        In the first process the finished run, in the others what they were given.

    Raises:
        RankLost: if another process is gone; the last round on record is whole, and the same call goes on.
        RunBusy, Diverged: as `Run.to`.
        KeyboardInterrupt: in a process that was interrupted, after the round in flight, with which all of them end.
    """
    federation, reached = run.federation, run.round
    federation.ranks, ranks.leaving = ranks, run.stopping
    run.stopping.clear()

    def stopped() -> str:
        return f"stopped after round {reached} of {run.rounds}; start the same command again to go on"

    try:
        with soft_interrupt(run.stopping, stopped):
            if ranks.rank == 0:
                reached = _lead(run, ranks, listener, wait)
            else:
                state = _agreed(run.state(), ranks)
                while (reached := state.round) < run.rounds and not ranks.left:
                    state, _ = federation.advance(state)
    except RankLost as error:
        reached = run.round if ranks.rank == 0 else reached
        raise RankLost(f"{run.id}: {error}; after {reached} rounds. Start the same command again to go on") from None
    finally:
        federation.ranks = None
    return run


def _lead(run: Run, ranks: Ranks, listener: Listener | None, wait: float) -> int:
    """The first process's part; the rounds reached."""
    with run.held(wait):
        _agreed(run.state(), ranks)
        while not run.done and not ranks.left:
            report = run.step()
            if listener is not None:
                listener(run, report)
    return run.round


def _agreed(state: State, ranks: Ranks) -> State:
    """The first process's state."""
    counts = torch.tensor([state.round, state.swa_count])
    sent = ranks.agree({**state.flat(), "counts": counts})
    round, swa_count = sent.pop("counts").tolist()
    return State.from_flat(sent, round, swa_count, ranks.device).plain()
