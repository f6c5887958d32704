"""What runs are called: labels and notes that a person gives, else the method, and what tells several of it apart.

fl.annotate(run, label="baseline", note="for the talk")    # in the run's directory, but no part of its id
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import checked
from ..declare import LONGEST_TEXT, Declared, SettingError, kind_of, tell, walked
from ..files import Damaged, printable, read_json, set_aside, user_path
from .checkpoints import Store
from .experiment import Experiment

if TYPE_CHECKING:
    from .run import Run
    from .status import Watched

Names = tuple[str, ...]  # that lead to a setting

MOST = 3  # settings in a label; of more those that tell a run apart
FORKED, GIVEN = ("parent", "round"), ("initial",)
SEEDS = {("seed",), ("data", "seed")}
_BARE = {"kind", "name"}  # of the group that they stand in
_PLAIN = {"data", "partition", "model", "algorithm", "local", "topology", "adversary", "swa"}  # their kind says it
_SILENT = {"fingerprint", "run", "code"}  # hashes
_SEED = re.compile(r", seed \d+(?=,|$)")
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
    before, damaged = dict[str, str](), False
    try:
        before = _notes(directory)
    except Damaged as error:
        damaged = True
        tell(f"the run's label and note are lost: {error}")
    after = before | {name: text for name, text in given.items() if text is not None}
    after = {name: text for name, text in after.items() if text}
    if after != before:
        if damaged:
            set_aside(directory / NOTES)
        Store(directory).write_json(NOTES, after)
    return after


def read_notes(directory: Path) -> dict[str, str]:
    """Label and note of the run in a directory, where there are any; one that cannot be read is told, and is none."""
    try:
        return _notes(directory)
    except (OSError, Damaged) as error:
        tell(f"the run's label and note are left out: {error}")
        return {}


def _notes(directory: Path) -> dict[str, str]:
    try:
        notes = read_json(directory / NOTES)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not isinstance(notes, dict):
        raise Damaged(f"{directory / NOTES}: holds no object")
    return {str(name): printable(text) for name, text in notes.items()}


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
    # Without their seeds, by which figures average, labels of two methods must differ, too.
    keys, unlike = method_keys(experiments), dict[str, set[Hashable]]()
    for place, label in enumerate(shown):
        unlike.setdefault(seedless_label(label), set()).add(keys[place])
    for place, label in enumerate(shown):
        if len(unlike[seedless_label(label)]) > 1:
            shown[place] = f"{label}, {_hash(_marked(experiments[place], *keys[place]))}"
    counts = Counter(shown)
    return [
        label if counts[label] == 1 else f"{label}, {_hash(experiment)}"
        for label, experiment in zip(shown, experiments, strict=True)
    ]


def seedless_label(label: str) -> str:
    """A run's label without its seeds: the same for runs that differ in nothing else."""
    return _SEED.sub("", label)


def method_labels(experiments: Sequence[Experiment], names: Sequence[str] | None = None) -> list[str]:
    """Labels of methods: those that differ in their seeds alone (of training and of the partition) have one."""
    names = names or [each.algorithm.name for each in experiments]
    keys = list(zip(method_keys(experiments), names, strict=True))
    marked = [_marked(each, *key) for each, (key, _) in zip(experiments, keys, strict=True)]
    unlike = dict(zip(keys, marked, strict=True))
    shown = experiment_labels(list(unlike.values()), names=[name for _, name in unlike])
    label_of = dict(zip(unlike, shown, strict=True))
    return [label_of[key] for key in keys]


Key = tuple[str, str | None, str | None]


def method_keys(experiments: Sequence[Experiment], plain: Sequence[str] | None = None) -> list[Key]:
    """What stands for each one's method: equal for those that differ in nothing but their seeds.

    The digests of data, and of a state that a run was given or forked from, differ between seeds. They count where two
    of one seed differ in them: that of data covers images and partition, so images differ there.

    Args:
        experiments: of which methods are made; what one is called depends on the others.
        plain: of each `seedless(experiment).to_json()`, if that is known.

    Returns:
        Of each these settings, and the digests of its data and its start, or None where these do not count.
    """
    plain = plain or [seedless(each).to_json() for each in experiments]
    seeds = [(each.seed, each.data.seed) for each in experiments]
    starts = [each.initial or (each.parent.run if each.parent is not None else None) for each in experiments]
    data = _unlike(plain, [seed for _, seed in seeds], [each.data.fingerprint for each in experiments])
    return list(zip(plain, data, _unlike(plain, seeds, starts), strict=True))


def seedless(experiment: Experiment) -> Experiment:
    """The same for every seed, of training and of the partition; of a state that was given it says only that."""
    data, parent = experiment.data.replace(seed=0, fingerprint=None), experiment.parent
    if parent is not None:
        parent = parent.replace(run=parent.run.rpartition("-")[0])  # without its hash
    return experiment.replace(seed=0, data=data, parent=parent, initial=experiment.initial and "given")


def _unlike(plain: Sequence[str], seeds: Sequence[Hashable], digests: Sequence[str | None]) -> list[str | None]:
    """The digests of those that are alike in their `plain` settings, where two of one seed differ in it."""
    several: dict[tuple[str, Hashable], set[str | None]] = {}
    for text, seed, digest in zip(plain, seeds, digests, strict=True):
        several.setdefault((text, seed), set()).add(digest)
    unlike = {text for (text, _), found in several.items() if len(found - {None}) > 1}
    return [digest if text in unlike else None for text, digest in zip(plain, digests, strict=True)]


def _marked(experiment: Experiment, plain: str, data: str | None, start: str | None) -> Experiment:
    """The seedless experiment with the digests of its key, by which its hash differs from others'."""
    bare = seedless(experiment)
    changes: dict[str, Any] = {"data": bare.data.replace(fingerprint=data)}
    if start is not None:
        changes |= {"initial": start} if bare.parent is None else {"parent": bare.parent.replace(run=start)}
    return bare.replace(**changes)


def _hash(experiment: Experiment) -> str:
    return experiment.id.rpartition("-")[2][:4]


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
    twice = [any(one == other and at != then for other, then in alike) for one, at in alike]  # a run at two rounds
    return [
        (
            [_said(key, settings[key]) for key in differing if settings.get(key) is not None]
            if len(differing) <= MOST
            else _telling(place, flat, list(differing))
        )
        + ([f"round {moment}"] if rounds or twice[place] else [])
        for place, (settings, (_, moment)) in enumerate(zip(flat, alike, strict=True))
    ]


def _telling(place: int, flat: list[dict[Names, Any]], keys: list[Names]) -> list[str]:
    """Of many settings those that tell a run from the others, each time the one that leaves the fewest."""
    own, rest, chosen = flat[place], [settings for at, settings in enumerate(flat) if at != place], list[Names]()

    def like(key: Names) -> list[dict[Names, Any]]:
        return [settings for settings in rest if settings.get(key) == own.get(key)]

    # Seeds last: figures average over them, and what else differs must be told.
    while len(chosen) < MOST + 1 and (telling := [key for key in keys if len(like(key)) < len(rest)]):
        best = min(telling, key=lambda key: (key in SEEDS, len(like(key)), own.get(key) is None))
        rest = like(best)
        chosen.append(best)
    return [_said(key, own.get(key)) for key in keys if key in chosen]


def _settings(experiment: Experiment) -> Iterator[tuple[Names, Any]]:
    """Settings by the path of their names; a group of them is first its kind, then what it holds."""
    for path, value in walked(experiment):
        if isinstance(value, Declared):
            if (kind := kind_of(value)) is not None:
                yield path, kind
        elif path == GIVEN:
            yield path, value and "warm start"
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
    if key == GIVEN:
        return value or "cold start"
    if value is None:
        return f"no {name}"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if key[-1] in _PLAIN else f"{name} {shown}"
