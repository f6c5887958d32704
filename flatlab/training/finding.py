"""Runs of a store, found by their settings; the settings in which runs differ; which round and clients are meant.

fl.differing(fl.runs("runs", algorithm="FedBABU", alpha=0.3))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..arguments import Whole, checked
from ..data import FederatedDataset
from ..declare import Declared, SettingError, kind_of, near, tell, walked
from ..files import user_folder
from ..later import pd
from .run import Run
from .run_names import experiment_labels, read_notes
from .status import Watched
from .store_scan import scan

SILENT = {"fingerprint", "code", "initial", "parent"}  # digests, and where a run comes from


@checked
def runs(
    store: str | Path = "runs",
    *,
    label: str | None = None,
    data: FederatedDataset | None = None,
    root: str | Path = "data",
    device: str = "auto",
    **settings: Any,
) -> list[Run]:
    """The runs of a store that have these settings, as far as they have come, in the order of their ids.

    Args:
        store: folder that holds the directories of runs.
        label: only those with this label, see `annotate`.
        data: the federated data, if it is at hand; else each data set is made again, once.
        root: folder of the data sets.
        device: as for `Run`.
        **settings: by name, as `algorithm="FedBABU"`, `alpha=0.3`, `seed=range(3)` (any of them) or
            `partition=fl.Shards(per_client=2)`. `seed` is that of the experiment itself, not `**{"data.seed": 1}`; any
            other name counts wherever it stands, and `**{"partition.alpha": 0.3}` says where.

    Raises:
        SettingError: if no run of the store has a setting of that name.

    >>> run.id in [found.id for found in fl.runs(algorithm="FedAvg", data=data, rounds=2)]
    True
    """
    stored = scan(store).look().values()
    if not stored and not user_folder(store, "store").is_dir():
        tell(f"store: {store} is no folder that is there, so no run is found")
    places = {held.experiment.id: _places(held.experiment) for held in stored}
    allowed = {name for each in places.values() for path in each for name in _names(path)}
    for name in settings:
        if allowed and name not in allowed:
            raise SettingError(name, settings[name], f"no run has such a setting{near(name, sorted(allowed))}")
    wanted = {name: _choices(value) for name, value in settings.items()}
    chosen, loaded = [], dict[str, FederatedDataset]()
    for held in stored:
        values = places[held.experiment.id]
        fits = all(_has(values, name, choices) for name, choices in wanted.items())
        if not fits or label not in (None, read_notes(held.directory).get("label")):
            continue
        key = held.experiment.data.to_json()
        if data is not None and data.spec == held.experiment.data:
            loaded[key] = data
        try:
            if key not in loaded:
                loaded[key] = held.experiment.data.load(root, held.directory)
            chosen.append(Run.open(held.directory, loaded[key], root=root, device=device))
        except SettingError as error:  # a network of one's own, which only its maker has
            tell(f"{held.experiment.id}: left out: {error}")
    return chosen


@checked
def differing(runs: Iterable[Run | Watched]) -> pd.DataFrame:
    """Tidy: a row a run (its id is the index), a column for each setting that is not the same in all of them.

    What goes with a kind (the part that FedBABU trains) is no column of its own.

    >>> fl.differing([run, fl.train(fl.FedBABU(lr=0.05), data, "lenet", rounds=1)])["algorithm"].tolist()
    ['FedAvg', 'FedBABU']
    """
    listed = list(runs)
    rows = [{".".join(path): value for path, value in _places(run.experiment).items()} for run in listed]
    usual = [{".".join(path) for path in _usual(run.experiment)} for run in listed]
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [_plain(row.get(name)) for row in rows]
        implied = all(name in defaults or name not in row for row, defaults in zip(rows, usual, strict=True))
        if len({repr(value) for value in values}) > 1 and not implied:
            columns[name] = values
    return pd.DataFrame(columns, index=pd.Index([run.id for run in listed], name="run"))


def _places(settings: Declared) -> dict[tuple[str, ...], Any]:
    """What runs are told apart by: settings, and groups of them, which stand for their kind."""
    return {
        path: value
        for path, value in walked(settings)
        if SILENT.isdisjoint(path) and (len(path) == 1 or path[-1] not in ("kind", "name"))
    }


def _usual(settings: Declared, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of settings at their defaults."""
    given = settings.changed()
    for name, value in settings:
        if name not in given:
            yield (*path, name)
        if isinstance(value, Declared):
            yield from _usual(value, (*path, name))


def _names(path: tuple[str, ...]) -> list[str]:
    """What a setting may be called: its own name, or with names before it."""
    return [".".join(path[start:]) for start in range(len(path))]


def _choices(wanted: Any) -> list[Any]:
    """A value, or any of several: a list, a range, an array, ..."""
    single = isinstance(wanted, (str, bytes, Mapping, Declared)) or not isinstance(wanted, Iterable)
    return [wanted] if single else list(wanted)


def _has(values: dict[tuple[str, ...], Any], name: str, choices: list[Any]) -> bool:
    # The experiment's own setting comes first: `seed` is not that of the data, which is `data.seed`.
    held = [values[name,]] if (name,) in values else [v for path, v in values.items() if name in _names(path)]
    return any(_same(value, choice) for value in held for choice in choices)


def _same(value: Any, choice: Any) -> bool:
    if isinstance(choice, str):  # of a group of settings its kind or name; capitals do not matter
        return str(_plain(value)).casefold() == choice.casefold()
    return bool(value == choice)


def _plain(value: Any) -> Any:
    """A setting as a table shows it: of a group its kind or name alone."""
    if not isinstance(value, Declared):
        return value
    return kind_of(value) or repr(value)


@checked
def as_runs(runs: Run | Iterable[Run]) -> list[Run]:
    """One run or several, as a list, in which each stands once: twice it would count as another seed.

    Raises:
        SettingError: if there is none.
    """
    given = [runs] if isinstance(runs, Run) else list(runs)
    if not given:
        raise SettingError("runs", [], "needs at least one run")
    several = list({(run.id, run.round): run for run in given}.values())
    if len(several) < len(given):
        tell(f"runs: {len(given) - len(several)} of {len(given)} are given again; each counts once")
    return several


def at_rounds(runs: Sequence[Run], round: int | Literal["best"] | None) -> list[tuple[Run, int, str]]:
    """Runs, the rounds of them that "best", None or a number stands for, each once, and a label for each."""
    chosen = {(run.id, at): (run, at) for run in runs for at in [run_round(run, round)]}
    experiments, names = [run.experiment for run, _ in chosen.values()], [run.name for run, _ in chosen.values()]
    labelled = experiment_labels(experiments, [at for _, at in chosen.values()], names)
    return [(run, at, label) for (run, at), label in zip(chosen.values(), labelled, strict=True)]


@checked
def run_round(run: Run, round: Whole | Literal["best"] | None) -> int:
    """The round that "best" or None stands for; a number as it is.

    Raises:
        SettingError: if it is something else, or no round was evaluated on the clients.
    """
    if round is None:
        return run.round
    if isinstance(round, int):
        return round
    best = run.best_round
    if best is None:
        scored = (run.history["split"] == "test").any()
        lacking = "no accuracy of clients on record, which it is chosen by; give the number of a round"
        reason = lacking if scored else "no evaluated round; set evaluation.clients_every, or train on"
        raise SettingError("round", "best", f"{run.id} has {reason}")
    return best


@checked
def client_ids(run: Run, clients: Sequence[Whole] | None) -> list[int]:
    """All clients of a run, or those asked for.

    Raises:
        SettingError: if one of them does not exist, or would count twice.
    """
    everyone = range(run.data.clients)
    wanted = list(everyone if clients is None else clients)
    if not wanted or not set(wanted) <= set(everyone) or len(set(wanted)) < len(wanted):
        raise SettingError("clients", wanted, f"must be some of 0 to {len(everyone) - 1}, each once")
    return wanted
