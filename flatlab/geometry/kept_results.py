"""What was last measured of a run, kept in its directory: every view, and the next process, can show it.

    remember(run, fl.personalize(run))
    headline(run.directory, run.round)  # {"personalized": 0.94, "gain": 0.08}

`StoreTable` puts it beside the settings in which the runs of a store differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..declare import SettingError
from ..later import pd
from ..personalization import Corrected, Personalization
from ..results import Result
from ..training import Run, differing
from ..training.run_names import read_notes
from ..training.status import Standing, Watched
from .hessian_results import Eigenvalues

KINDS: tuple[type[Result], ...] = (Personalization, Corrected, Eigenvalues)
FACTS = ("name", "label", "note", "date", "round", "rounds", "seed", "personalized", "gain", "λ₁")


def remember(run: Run, result: Result, round: int | None = None) -> None:
    """Keep what a result says of a run, in place of what was kept; of other kinds than `KINDS` nothing is.

    Clients that were tuned one by one, alike and in one round, come together; fewer, tuned otherwise, do not count.
    Eigenvalues are those of the whole network on the holdout: tables set runs' beside each other.

    Args:
        run: whose directory it goes into.
        result: whole or stopped; a stopped one is not kept.
        round: of the model that was measured, where the result does not say; None: the run's latest.
    """
    if not isinstance(result, KINDS) or not result.about.get("complete", True):
        return
    if isinstance(result, Eigenvalues) and not _of_all(result.about):
        return
    frame, about = result.frame, {**result.about, "run": run.id, "round": run.round if round is None else round}
    if isinstance(result, Personalization):
        frame = frame[frame["run"] == run.id]
        if frame.empty:
            return
        about |= {"round": int(frame["round"].iloc[0]), "clients": run.data.clients, "lone": {}}
    if isinstance(result, Corrected):
        about["round"] = result.about["round"]
    if "client" in frame:
        before = _kept(run.directory, type(result))
        if before is not None and before.about == about:
            others = before.frame[~before.frame["client"].isin(frame["client"])]
            frame = pd.concat([others, frame]).sort_values("client", kind="stable")
        elif before is not None and before.frame["client"].nunique() > frame["client"].nunique():
            return
    kept = dataclasses.replace(result, frame=frame.reset_index(drop=True), about=about)
    kept.keep(_place(run.directory, type(result)))


def _of_all(about: Mapping[str, Any]) -> bool:
    return about.get("part") == "all" and str(about.get("data")).startswith("holdout")


def recalled(directory: Path) -> dict[type[Result], Any]:
    """What is kept of the run in a directory, by kind; a file that cannot be read counts as none."""
    results = {kind: _kept(directory, kind) for kind in KINDS}
    return {kind: result for kind, result in results.items() if result is not None}


def headline(directory: Path, round: int) -> dict[str, float]:
    """The one number of each that was measured at a round: personalized accuracy and gain, where all clients were
    tuned, and the top eigenvalue.
    """
    numbers: dict[str, float] = {}
    at = {kind: result for kind, result in recalled(directory).items() if result.about.get("round") == round}
    if (tuned := at.get(Personalization)) and tuned.frame["client"].nunique() == tuned.about["clients"]:
        numbers |= tuned.summary().iloc[0][["personalized", "gain"]].to_dict()
    if top := at.get(Eigenvalues):
        numbers["λ₁"] = float(top.frame["eigenvalue"].iloc[0])
    return numbers


def _kept(directory: Path, kind: type[Result]) -> Any:
    """What is kept of one kind; None if there is nothing that can be read."""
    with contextlib.suppress(OSError, SettingError):
        return kind.load(_place(directory, kind))
    return None


def _place(directory: Path, kind: type[Result]) -> Path:
    return directory / "geometry" / f"last-{kind.__name__.lower()}.parquet"


class StoreTable:
    """The runs of a store as a table, read from their files alone.

    Attributes:
        standing: how far they have come.
        runs: those of the last look.
    """

    def __init__(self, store: str | Path) -> None:
        self.standing = Standing(store)
        self.runs: list[Watched] = []
        self._numbers: dict[str, tuple[Any, dict[str, float]]] = {}
        self._settings: tuple[list[str], pd.DataFrame] = [], pd.DataFrame()

    def look(self) -> pd.DataFrame:
        """A row a run, the newest first, by its id.

        Returns:
            name (its label, or else its algorithm's), label, note, date (seconds, when it was begun), round, rounds,
            seed, personalized, gain, λ₁ (nan: not measured at its round), and a column for each setting that is not
            the same in all.
        """
        self.standing.table()
        self.runs = sorted(self.standing.watched(), key=lambda run: _begun(run.directory), reverse=True)
        rows = []
        for run in self.runs:
            notes = read_notes(run.directory)
            label = notes.get("label", "")
            fact: dict[str, Any] = {"name": label or run.name, "label": label, "note": notes.get("note", "")}
            fact |= {"date": _begun(run.directory), "round": run.round, "rounds": run.rounds}
            rows.append(fact | {"seed": run.experiment.seed} | self._measured(run.directory, run.round))
        ids = [run.id for run in self.runs]
        table = pd.DataFrame(rows, index=pd.Index(ids, name="run"), columns=list(FACTS))
        if ids != self._settings[0]:  # an id stands for the settings
            settings = differing(self.runs)
            self._settings = ids, settings[[name for name in settings if name not in FACTS]]
        return table.join(self._settings[1])

    def _measured(self, directory: Path, round: int) -> dict[str, float]:
        places = [_place(directory, kind) for kind in KINDS]
        signature = [round, *(place.stat().st_mtime_ns if place.exists() else 0 for place in places)]
        known = self._numbers.get(str(directory))
        if known is None or known[0] != signature:
            known = self._numbers[str(directory)] = signature, headline(directory, round) if any(signature[1:]) else {}
        return known[1]


def _begun(directory: Path) -> float:
    with contextlib.suppress(OSError):
        return (directory / "experiment.json").stat().st_mtime
    return 0.0
