"""Results of several machines in one folder: what is new is taken in, what both have is compared, weights are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files import read_table, write_atomically
from ..later import pd

CLOSE = 1e-6  # two machines' histories that differ by less are the same
MADE_OF = "runs kept as"  # in what a measurement of several runs says of itself: the names of their folders


class Merged(NamedTuple):
    """What came of joining another folder of results."""

    added: list[str]  # runs and measurements that were new here
    same: list[str]  # here before, with the same numbers
    other: list[str]  # here before, with other numbers: kept as they were here


def merge(folder: Path, other: Path) -> Merged:
    """See `Archive.merge`."""
    merged = Merged([], [], [])
    for path in sorted(other.rglob("*")):
        name = path.relative_to(other)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        place = folder / name
        if not place.exists():
            write_atomically(place, path.read_bytes())
            merged.added.append(str(name))
            if path.suffix == ".parquet":
                for run in _made_of(path):
                    _note_others(folder / "runs" / run, other / "runs" / run)
        elif path.name == "run.json":
            here, there = (json.loads(file.read_text(encoding="utf-8")) for file in (place, path))
            if there.get("again", here.get("again")) != here.get("again"):  # what was measured there is taken in
                write_atomically(place, json.dumps(here | {"again": there["again"]}, indent=1).encode())
        elif path.suffix == ".parquet":
            alike = _alike(pd.read_parquet(place), pd.read_parquet(path))
            (merged.same if alike else merged.other).append(str(name))
    return merged


def note_again(place: Path, about: dict[str, Any], history: pd.DataFrame, made: str) -> None:
    """Say in `run.json` that measurements are of another training with this history, if its numbers differ.

    Args:
        place: the run's folder.
        about: what its `run.json` says.
        history: of the other training.
        made: the machine of that.
    """
    kept = pd.read_parquet(place / "history.parquet")
    here, there = (scores[_of_holdout(scores)] for scores in (kept, history))
    both = here.merge(there, on=["round", "split", "metric", "client"], suffixes=("_here", "_there"))
    if both.empty or both["value_here"].equals(both["value_there"]):
        return
    last = both[both["round"] == both["round"].max()].iloc[0]
    again = {"machine": made, "holdout accuracy differs by": float(last["value_there"] - last["value_here"])}
    write_atomically(place / "run.json", json.dumps(about | {"again": again}, indent=1).encode())


def _made_of(path: Path) -> list[str]:
    """The runs that a measurement is of, by their folders' names."""
    if path.parent.name != "together":
        return [path.parent.name]
    return list(read_table(path.read_bytes(), path)[1].get("about", {}).get(MADE_OF, ()))


def _note_others(here: Path, there: Path) -> None:
    """A measurement was taken in beside a history that was here before: of the same training, or of another?"""
    files = [place / name for place in (here, there) for name in ("run.json", "history.parquet")]
    if not all(file.exists() for file in files):  # a run that is new here is told with its run.json, which comes last
        return
    about, other = (json.loads((place / "run.json").read_text(encoding="utf-8")) for place in (here, there))
    if "again" not in other:  # else it is told with that run.json
        note_again(here, about, pd.read_parquet(there / "history.parquet"), other["machine"]["name"])


def _of_holdout(history: pd.DataFrame) -> pd.Series[bool]:
    return (history["split"] == "holdout") & (history["metric"] == "accuracy")


def _alike(here: pd.DataFrame, there: pd.DataFrame) -> bool:
    if list(here.columns) != list(there.columns) or len(here) != len(there):
        return False
    numbers = list(here.select_dtypes("number").columns)
    rest = [name for name in here.columns if name not in numbers]
    close = np.isclose(here[numbers], there[numbers], rtol=CLOSE, atol=CLOSE, equal_nan=True)
    return bool(close.all()) and here[rest].equals(there[rest])
