"""What runs are called: labels and notes that a person gives, else the method, and what tells several of it apart.

fl.annotate(run, label="baseline", note="for the talk")    # in the run's directory, but no part of its id
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import checked
from ..declare import LONGEST_TEXT, Declared, SettingError, kind_of, walked
from ..files import Damaged, printable, read_json, user_path
from .checkpoints import Store
from .experiment import Experiment

if TYPE_CHECKING:
    from .run import Run
    from .status import Watched

Names = tuple[str, ...]  # that lead to a setting

MOST = 3  # settings in a label; of more those that tell a run apart
FORKED = ("parent", "round")
_BARE = {"kind", "name"}  # of the group that they stand in
_PLAIN = {"data", "partition", "model", "algorithm", "local", "topology", "adversary", "swa"}  # their kind says it
_SILENT = {"fingerprint", "run", "initial", "code"}  # hashes
NOTES = "notes.json"


@checked
def annotate(run: Any, *, label: str | None = None, note: str | None = None) -> dict[str, str]:
    """Give a run a label, by which figures and tables call it, or a note; "" takes one away.

    Args:
        run: a run, or its directory.
        label: a short name in place of the method's, on one line.
        note: any text of letters, signs and spaces.

    Returns:
        What stands there now.

    Raises:
        FileNotFoundError: if no round of the run is on disk.
        SettingError: if a text is too long, or has what no terminal should be sent, such as escape sequences.

    >>> again = fl.train(fl.FedAvg(), data, "lenet", rounds=1, seed=5)
    >>> fl.annotate(again, label="another seed")
    {'label': 'another seed'}
    >>> again.name
    'another seed'
    """
    directory = user_path(getattr(run, "directory", run), "run")
    if not (directory / "experiment.json").exists():
        raise FileNotFoundError(f"{directory}: holds no run; train a round first")
    given = {"label": label, "note": note}
    for name, text in given.items():
        if text and (len(text) > LONGEST_TEXT or printable(text) != text or (name == "label" and "\n" in text)):
            said = f"needs at most {LONGEST_TEXT} letters, signs and spaces{' on one line' * (name == 'label')}"
            raise SettingError(name, text, said)
    before = read_notes(directory)
    after = before | {name: text for name, text in given.items() if text is not None}
    after = {name: text for name, text in after.items() if text}
    if after != before:
        Store(directory).write_json(NOTES, after)
    return after


def read_notes(directory: Path) -> dict[str, str]:
    """Label and note of the run in a directory, where there are any; a file that cannot be read counts as none."""
    try:
        notes = read_json(directory / NOTES)
    except (OSError, Damaged):
        return {}
    return {str(name): printable(text) for name, text in notes.items()} if isinstance(notes, dict) else {}


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
        label if counts[label] == 1 else f"{label}, {experiment.id.rpartition('-')[2][:4]}"  # of its hash
        for label, experiment in zip(shown, experiments, strict=True)
    ]


def method_labels(experiments: Sequence[Experiment], names: Sequence[str] | None = None) -> list[str]:
    """Labels of methods: those that differ in their seeds alone (of training and of the partition) have one."""
    names = names or [each.algorithm.name for each in experiments]
    plain = [seedless(each) for each in experiments]
    for place, digest in enumerate(other_data([each.to_json() for each in plain], experiments)):
        plain[place] = plain[place].replace(data=plain[place].data.replace(fingerprint=digest))
    keys = [(each.to_json(), name) for each, name in zip(plain, names, strict=True)]
    unlike = dict(zip(keys, plain, strict=True))
    shown = experiment_labels(list(unlike.values()), names=[name for _, name in unlike])
    label_of = dict(zip(unlike, shown, strict=True))
    return [label_of[key] for key in keys]


def seedless(experiment: Experiment) -> Experiment:
    """The same for every seed, of training and of the partition."""
    data = experiment.data.replace(seed=0, fingerprint=None)
    return experiment.replace(seed=0, data=data, initial=None)


def other_data(plain: Sequence[str], experiments: Sequence[Experiment]) -> list[str | None]:
    """The digest of each one's data where another one, alike in its `plain` settings, has other data of the same name.

    A digest covers images and partition, so it differs between seeds; for one seed of the partition, images differ.
    """
    digests: dict[tuple[str, int], set[str | None]] = {}
    for text, each in zip(plain, experiments, strict=True):
        digests.setdefault((text, each.data.seed), set()).add(each.data.fingerprint)
    unlike = {text for (text, _), several in digests.items() if len(several - {None}) > 1}
    return [each.data.fingerprint if text in unlike else None for text, each in zip(plain, experiments, strict=True)]


def _differences(alike: list[tuple[Experiment, int]]) -> list[list[str]]:
    flat = [dict(_settings(experiment)) for experiment, _ in alike]
    differing: dict[Names, bool] = {}
    for key in dict.fromkeys(key for settings in flat for key in settings if key[-1] not in _SILENT):
        values = {repr(settings[key]) for settings in flat if key in settings}
        # A setting that only some of them have goes with a kind, which is said itself.
        lone = len(values) < 2 and not any(key[:length] in differing for length in range(1, len(key)))
        some = lone and 0 < sum(key in settings for settings in flat) < len(flat)
        if len(values) > 1 or key == FORKED or some:
            differing[key] = True
    rounds = len({moment for _, moment in alike}) > 1 and not differing
    return [
        (
            [_said(key, settings[key]) for key in differing if settings.get(key) is not None]
            if len(differing) <= MOST
            else _telling(place, flat, list(differing))
        )
        + ([f"round {moment}"] if rounds else [])
        for place, (settings, (_, moment)) in enumerate(zip(flat, alike, strict=True))
    ]


def _telling(place: int, flat: list[dict[Names, Any]], keys: list[Names]) -> list[str]:
    """Of many settings those that tell a run from the others, each time the one that leaves the fewest."""
    own, rest, chosen = flat[place], [settings for at, settings in enumerate(flat) if at != place], list[Names]()

    def like(key: Names) -> list[dict[Names, Any]]:
        return [settings for settings in rest if settings.get(key) == own.get(key)]

    while rest and len(chosen) < MOST + 1:
        best = min(keys, key=lambda key: (len(like(key)), own.get(key) is None))
        if len(like(best)) == len(rest):
            break
        rest = like(best)
        chosen.append(best)
    return [_said(key, own.get(key)) for key in keys if key in chosen]


def _settings(experiment: Experiment) -> Iterator[tuple[Names, Any]]:
    """Settings by the path of their names; a group of them is first its kind, then what it holds."""
    for path, value in walked(experiment):
        if isinstance(value, Declared):
            if (kind := kind_of(value)) is not None:
                yield path, kind
        elif path[-1] not in _BARE:
            yield path, value


def flattened(values: Any, path: Names = ()) -> dict[Names, Any]:
    """Nested settings, as `to_dict` gives them, by the path of their names."""
    if not isinstance(values, dict):
        return {path: values}
    return {key: value for name, inner in values.items() for key, value in flattened(inner, (*path, name)).items()}


def _said(key: Names, value: Any) -> str:
    name = key[-1].replace("_", " ")
    if key == FORKED:
        return f"from round {value}" if value is not None else "no fork"
    if value is None:
        return f"no {name}"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if key[-1] in _PLAIN else f"{name} {shown}"
