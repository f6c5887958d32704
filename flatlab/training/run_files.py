"""The two small files that describe a run: `experiment.json`, what is trained, and `versions.json`, by what and how.

Both stand in every state, too: a run must not end with a file of a hundred bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..arguments import Count, fitted
from ..declare import SettingError
from ..files import Damaged, read_json, sealed, unsealed
from .checkpoints import Store
from .device import Precision
from .experiment import Experiment

VERSIONS: dict[str, Any] = {  # values that decide how rounds are computed, and what they may be
    "precision": Precision,
    "convolution": Literal["grouped", "matrix"],
    "channels_last": bool,
    "threads": Count | None,
    "workers": Count | None,
}


def write_run_files(store: Store, experiment: Experiment, versions: dict[str, Any]) -> None:
    """Write both; `experiment.json` comes last and says that all others are there."""
    store.write_json("versions.json", sealed(versions, store.run))
    store.write_json("experiment.json", experiment.to_dict())


def read_versions(store: Store) -> dict[str, Any] | None:
    """How a run was begun, by its `versions.json`, else by its newest state; None if there is no run yet.

    Raises:
        SettingError: if a value in it is none that flatlab writes, or a later version wrote it.
        OSError: if it cannot be read.
    """
    path = store.directory / "versions.json"
    try:
        return _checked_versions(unsealed(read_json(path), store.run, path), path)
    except FileNotFoundError:
        problem = f"{path}: is missing"
    except Damaged as error:
        problem = str(error)
    for about in store.abouts():
        try:
            versions = unsealed(about.get("versions"), store.run, path)
        except Damaged:
            continue
        store.say(f"{problem}; what it said is taken from a state")
        return _checked_versions(versions, path)
    if not store.checkpoints():
        return None
    store.say(f"{problem}; the run goes on in float32 as it would begin here, and may round differently from now on")
    return {}


def _checked_versions(versions: dict[str, Any], path: Path) -> dict[str, Any]:
    """Values that were not sealed, or are edited, may be anything."""
    for name in VERSIONS.keys() & versions.keys():
        try:
            fitted(name, versions[name], VERSIONS[name])
        except SettingError as error:
            problem = error.problems[0]
            allowed = f"{problem.allowed}; put it right there"
            raise SettingError(f"{path}: {name}", problem.value, allowed) from None
    return versions


def read_experiment(directory: Path) -> Experiment:
    """The experiment whose run lies in a directory, which bears its id: by its file, else by its newest state.

    Raises:
        FileNotFoundError: if the directory holds no run.
        OSError: if its file cannot be read.
        SettingError: if it cannot be understood here, or the directory was renamed.
    """
    path, names = directory / "experiment.json", {directory.absolute().name, directory.resolve().name}
    store = Store(directory)
    problem: Exception = FileNotFoundError(f"{directory}: holds no run (no experiment.json)")
    try:
        experiment = _recorded(path)
        if experiment.id in names:
            return experiment
        problem = SettingError(f"{directory}", allowed=f"a run's folder bears its id; rename it to {experiment.id}")
    except FileNotFoundError:
        pass
    except (Damaged, SettingError) as error:
        problem = SettingError("" if str(path) in str(error) else f"{path}", allowed=str(error))
    for about in store.abouts():
        try:
            experiment = Experiment.recorded(about["experiment"])
        except (KeyError, TypeError, SettingError):
            continue
        if experiment.id in names:
            return experiment
    raise problem from None


def damaged_files(store: Store) -> dict[Path, str]:
    """Which of the two are lost or damaged, and how; what cannot be read is for a reader to complain about."""
    versions, experiment = (store.directory / name for name in ("versions.json", "experiment.json"))

    def check_experiment() -> None:
        if (id := _recorded(experiment).id) != store.run:
            raise Damaged(f"{experiment}: is that of {id}")

    checks: dict[Path, Callable[[], object]] = {
        versions: lambda: unsealed(read_json(versions), store.run, versions),
        experiment: check_experiment,
    }
    problems = {}
    for path, check in checks.items():
        try:
            check()
        except FileNotFoundError:
            problems[path] = f"{path}: is missing"
        except (Damaged, SettingError) as error:
            first = str(error).splitlines()[0]
            problems[path] = first if str(path) in first else f"{path}: {first}"
        except OSError:
            pass
    return problems


def _recorded(path: Path) -> Experiment:
    return Experiment.recorded(json.dumps(read_json(path)))
