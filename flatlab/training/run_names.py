"""Short names for runs that are shown together: the method, and where several bear its name, what tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .experiment import Experiment
from .run import Run

if TYPE_CHECKING:
    from .status import Watched

MOST = 3  # settings in a label; a hash says the rest
FORKED = ("parent", "round")
_BARE = {"kind", "name"}  # their value says what they are
_SILENT = {"fingerprint", "run", "initial", "code"}  # hashes


def labels(runs: Sequence[Run | Watched]) -> list[str]:
    """One label a run, in order, each unlike the others unless it is the same run twice."""
    return experiment_labels([run.experiment for run in runs], [run.round for run in runs], [run.name for run in runs])


def experiment_labels(
    experiments: Sequence[Experiment], moments: Sequence[int] | None = None, names: Sequence[str] | None = None
) -> list[str]:
    """The same for runs known by their experiments alone; at different `moments`, rounds done, one may stand twice."""
    shown = list(names or [experiment.algorithm.name for experiment in experiments])
    moments = moments or [0] * len(shown)
    for name, count in Counter(shown).items():
        if count > 1:
            places = [place for place, label in enumerate(shown) if label == name]
            alike = [(experiments[place], moments[place]) for place in places]
            for place, said in zip(places, _differences(alike), strict=True):
                shown[place] = ", ".join([name, *said])
    counts = Counter(shown)
    return [
        label if counts[label] == 1 else f"{label}, {_hash(experiment)}"
        for label, experiment in zip(shown, experiments, strict=True)
    ]


def _differences(alike: list[tuple[Experiment, int]]) -> list[list[str]]:
    flat = [flattened(experiment.to_dict()) for experiment, _ in alike]
    keys = dict.fromkeys(key for settings in flat for key in settings if key[-1] not in _SILENT)
    # A setting that only some of them have goes with a kind, which is said itself.
    differing = [
        key for key in keys if len({repr(settings[key]) for settings in flat if key in settings}) > 1 or key == FORKED
    ]
    rounds = len({moment for _, moment in alike}) > 1 and not differing
    return [
        [_said(key, settings[key]) for key in differing if settings.get(key) is not None][:MOST]
        + ([f"round {moment}"] if rounds else [])
        for settings, (_, moment) in zip(flat, alike, strict=True)
    ]


def flattened(values: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Nested settings, as `to_dict` gives them, by the path of their names."""
    if not isinstance(values, dict):
        return {path: values}
    return {key: value for name, inner in values.items() for key, value in flattened(inner, (*path, name)).items()}


def _said(key: tuple[str, ...], value: Any) -> str:
    if key == FORKED:
        return f"from round {value}"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if key[-1] in _BARE else f"{key[-1].replace('_', ' ')} {shown}"


def _hash(experiment: Experiment) -> str:
    return experiment.id.rsplit("-", 1)[-1][:4]
