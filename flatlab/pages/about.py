"""The tables of a page: settings of runs, those in which they differ first, and which code made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..training import Experiment, Run
from ..training.checkpoints import Store
from ..training.finding import SILENT
from ..training.run_files import read_versions
from ..training.run_names import flattened
from .page import Rows

NONE = "–"


def settings_tables(experiments: Mapping[str, Experiment]) -> tuple[Rows, ...]:
    """Settings by dotted name: where they differ, a column for each name; and those that are the same in all."""
    flat = {name: flattened(experiment.to_dict()) for name, experiment in experiments.items()}
    paths = [
        path for path in dict.fromkeys(path for values in flat.values() for path in values) if path[-1] not in SILENT
    ]
    rows = {".".join(path): [_said(values.get(path)) for values in flat.values()] for path in paths}
    differ = [[name, *cells] for name, cells in rows.items() if len(set(cells)) > 1]
    same = [[name, cells[0]] for name, cells in rows.items() if len(set(cells)) == 1]
    return (
        Rows("Settings that differ", ["setting", *experiments], differ),
        Rows("Settings that are the same" if len(experiments) > 1 else "Settings", ["setting", "value"], same, True),
    )


def origin_table(runs: Mapping[str, Run]) -> Rows:
    """Where runs come from: id, seeds, rounds, versions, machine, date."""
    return origins({name: (run.experiment, run.round, _versions(run)) for name, run in runs.items()})


def origins(runs: Mapping[str, tuple[Experiment, int, Mapping[str, Any]]]) -> Rows:
    """The same of runs known by their experiment, rounds done and versions."""
    lines = []
    for name, (experiment, done, versions) in runs.items():
        commit = (
            f" ({versions['commit'][:10]}{', changed since' if versions.get('dirty') else ''})"
            if versions.get("commit")
            else ""
        )
        lines.append(
            [
                name,
                experiment.id,
                f"{experiment.seed}; data {experiment.data.seed}",
                f"{done} of {experiment.rounds}",
                f"{versions.get('flatlab', NONE)}{commit}",
                str(versions.get("torch", NONE)),
                str(versions.get("python", NONE)),
                ", ".join(dict.fromkeys(str(versions[key]) for key in ("processor", "device") if versions.get(key)))
                or NONE,
                str(versions.get("begun", NONE)),
            ]
        )
    head = ["run", "id", "seed", "rounds", "flatlab", "torch", "Python", "machine", "begun"]
    return Rows("Where it comes from", head, lines)


def _versions(run: Run) -> dict[str, Any]:
    return read_versions(Store(run.directory)) or {}


def _said(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:g}" if isinstance(value, float) else str(value)
