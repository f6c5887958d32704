"""Where a run begins: at first weights, at a state that was given, or at the end of what another run did the same."""

from __future__ import annotations

from ..declare import SettingError
from .experiment import Experiment
from .federation import State


def beginning_with(start: State, experiment: Experiment) -> Experiment:
    """The experiment with the digest of the state that it begins with.

    Raises:
        SettingError: if it begins with another.
    """
    if experiment.parent is not None:
        raise SettingError(
            f"start: this experiment is a fork, which begins with its parent's state; make it by"
            f" run.fork(round={experiment.parent.round}, ...), or set parent to None"
        )
    if experiment.initial not in (None, start.digest):
        raise SettingError(
            f"start: its digest is {start.digest}, the experiment's is {experiment.initial}; give the state that the"
            " experiment was described with, or set its initial to None"
        )
    return experiment.replace(initial=start.digest)
