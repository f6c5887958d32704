"""Which first rounds two experiments share: provably the same states, bit for bit, from the settings alone."""

from __future__ import annotations

from ..training import Experiment


def shared_rounds(source: Experiment, other: Experiment) -> int:
    """Rounds that `other` begins with exactly as `source` does; 0 if none are known to be.

    Server SWA neither changes the rate nor the model before it starts, so a run with it shares the plain run's rounds
    up to there.
    """
    swa = other.algorithm.swa
    if swa is None or source.algorithm.swa is not None or source.id == other.id:
        return 0
    plain = other.replace(algorithm=other.algorithm.replace(swa=None))
    return swa.first(other.rounds) if plain == source else 0
