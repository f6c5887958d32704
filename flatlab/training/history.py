"""The rows of a run: a table, and a log of what came since. Whoever reads needs no lock.

Each line of the log has a checksum, as has the table, in which the run's id counts; lines and tables from before there
were any are taken as they are. A line that was torn or altered is passed over: its round is missing then, which the
rounds themselves tell, as each has rows.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import (
    FORMAT,
    Damaged,
    file_signature,
    parse_json,
    read_table,
    refuse_later,
    sealed,
    set_aside,
    table_bytes,
    unsealed,
    write_atomically,
)
from ..later import pa, pd

COLUMNS = {"round": "int64", "split": "str", "metric": "str", "value": "float64", "client": "int64"}
Rows = dict[str, npt.NDArray[Any]]  # by column
TIMES = ("round", "seconds", "evaluation_seconds", "samples")
NO_SCORE = (0, -math.inf)


class History:
    """The rows of one run.

    Args:
        directory: of the run.
        run: its id.
    """

    def __init__(self, directory: Path, run: str) -> None:
        self.table, self.log, self.run = directory / "history.parquet", directory / "history.log", run
        self._cached: tuple[Any, pd.DataFrame] | None = None  # the table, while its file stays the same

    def read(self, after: int = 0) -> pd.DataFrame:
        """All rows, as far as they are whole, by round.

        Args:
            after: leave out the rounds up to this one, and what the log holds before it.

        Raises:
            OSError: if a file cannot be read.
        """
        # The log first: a fold between the two reads then shows rows twice, where the other order would miss them.
        fresh = self._logged(after)
        try:
            table = self._table()
        except Damaged:  # for who holds the run to mend
            table = _frame([])
        if after:
            table = table[table["round"].to_numpy() > after]
        if fresh:
            fresh = {round: part for round, part in fresh.items() if round not in {*table["round"].tolist()}}
        if fresh:
            rows = _frame([row for part in fresh.values() for row in part])
            table = pd.concat([table, rows], ignore_index=True) if len(table) else rows
        if not table["round"].is_monotonic_increasing:  # rounds that were lost came later
            table = table.sort_values("round", kind="stable", ignore_index=True)
        return table

    def _logged(self, after: int) -> dict[int, list[dict[str, Any]]]:
        """The log's rows by round; of a round that was trained twice, the last."""
        if not after:
            return {rows[0]["round"]: rows for rows in self._lines()}
        newer: dict[int, list[dict[str, Any]]] = {}
        for rows in self._lines(newest_first=True):
            if rows[0]["round"] == after:
                break
            newer.setdefault(rows[0]["round"], rows)
        return {round: newer[round] for round in sorted(newer) if round > after}

    def since(self, after: int, until: int) -> pd.DataFrame:
        """The rows of the rounds behind one and up to another."""
        rows, asked = self._between(after, until)
        return rows[asked].reset_index(drop=True)

    def columns(self, after: int, until: int) -> Rows:
        """As `since`, column by column; of the last rounds of a run in training, which the log has, without a table."""
        wanted = range(after + 1, until + 1)
        newest = self._logged(after) if after else {}
        if wanted and newest.keys() >= {*wanted}:
            rows = [row for round in wanted for row in newest[round]]
            kinds = {name: "O" if kind == "str" else kind for name, kind in COLUMNS.items()}
            return {name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
        table, asked = self._between(after, until)
        return {name: table[name].to_numpy()[asked] for name in COLUMNS}

    def _between(self, after: int, until: int) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
        """A table that has these rounds, and which of its rows are theirs."""
        rows = self.read(after)
        if after and not {*range(after + 1, until + 1)} <= {*rows["round"].tolist()}:
            rows = self.read()  # a round that was lost came later than others, and hid them
        rounds = rows["round"].to_numpy()
        return rows, (rounds > after) & (rounds <= until)

    def missing(self, first: int, until: int) -> list[int]:
        """The rounds after `first` and up to `until` that have no rows."""
        return sorted(set(range(first + 1, until + 1)) - set(self.read()["round"].unique().tolist()))

    def latest(self, split: str, metric: str, until: int) -> float:
        """The newest value up to a round; nan if there is none that can be read."""
        for rows in self._lines(newest_first=True):
            for row in rows:
                if (row["split"], row["metric"]) == (split, metric) and row["round"] <= until:
                    return row["value"]
        with contextlib.suppress(OSError, Damaged):
            table = self._table()
            rounds, splits, metrics = (table[name].to_numpy() for name in ("round", "split", "metric"))
            values = table["value"].to_numpy()[(splits == split) & (metrics == metric) & (rounds <= until)]
            return float(values[-1]) if len(values) else math.nan
        return math.nan

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add a round's rows to the log."""
        append_line(self.log, {"rows": rows}, self.run)

    def fold(self, until: int) -> None:
        """Write the rows up to a round into the table, and start an empty log."""
        frame = self.read()
        kept = frame[frame["round"] <= until].reset_index(drop=True)
        if len(kept) < len(frame) or not self.table.exists() or (self.log.exists() and self.log.stat().st_size):
            self.write(kept)
            write_atomically(self.log, b"")

    def write(self, table: pd.DataFrame) -> None:
        """Write the table, whole or not at all: not even a power cut tears it, as the log is emptied after it."""
        about = {"format": FORMAT, "run": self.run}
        write_atomically(self.table, table_bytes(pa.Table.from_pandas(table, preserve_index=False), about), sync=True)
        self._cached = file_signature(self.table), table

    def mend(self) -> str:
        """Set a damaged table aside, while the run is held; what was wrong with it, or nothing."""
        try:
            self._table()
        except Damaged as error:
            return f"{error}; kept as {set_aside(self.table).name}"
        return ""

    def _table(self) -> pd.DataFrame:
        if not self.table.exists():
            return _frame([])
        signature = file_signature(self.table)
        if self._cached is None or self._cached[0] != signature:
            table, about = read_table(self.table.read_bytes(), self.table)
            refuse_later(about.get("format"), self.table)
            if about.get("run", self.run) != self.run:
                raise Damaged(f"{self.table}: belongs to the run {about['run']}")
            try:
                frame = table.select(list(COLUMNS)).to_pandas(use_threads=False)
                if other := {name: kind for name, kind in COLUMNS.items() if frame[name].dtype != kind}:
                    frame = frame.astype(other)
            except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
                raise Damaged(f"{self.table}: holds no history ({error})") from None
            self._cached = signature, frame
        return self._cached[1]

    def _lines(self, newest_first: bool = False) -> Iterator[list[dict[str, Any]]]:
        for line in lines(self.log, self.run, newest_first):
            rows = line.get("rows") if isinstance(line, dict) else line
            if isinstance(rows, list) and rows and all(_fits(row) for row in rows):
                yield rows


def _fits(row: Any) -> bool:
    """Whether this is a row of a history."""
    return (
        isinstance(row, dict)
        and row.keys() == COLUMNS.keys()
        and all(type(row[name]) is int and abs(row[name]) < 2**62 for name in ("round", "client"))
        and all(isinstance(row[name], str) for name in ("split", "metric"))
        and type(row["value"]) in (int, float)
    )


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table."""
    columns = {name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
    return pd.DataFrame(columns)


def spans(rounds: list[int]) -> str:
    """Ascending numbers in words: 3 to 5, 8."""
    parts: list[list[int]] = []
    for round in rounds:
        if parts and parts[-1][-1] == round - 1:
            parts[-1].append(round)
        else:
            parts.append([round])
    shown = [f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts[:5]]
    return ", ".join(shown) + (" and more" if len(parts) > 5 else "")


def best_round(history: pd.DataFrame) -> int | None:
    """The evaluated round with the best mean initial accuracy; None if none was evaluated.

    A client without a finite accuracy does not count, and rounds that lack more of them than others do not compete.
    """
    return best_scored(history)[0]


def best_scored(history: pd.DataFrame) -> tuple[int | None, tuple[int, float]]:
    """That round, with what it is judged by: how many clients count, and their mean.

    The sum is exact, so that the answer does not depend on how many rounds are looked at.
    """
    scores = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
    scores = scores[np.isfinite(scores["value"].astype(float))]
    best: int | None = None
    judged = NO_SCORE
    for round, values in scores.groupby("round")["value"]:
        score = len(values), math.fsum(values) / len(values)
        if score > judged:
            best, judged = int(round), score
    return best, judged


def timings(directory: Path, run: str, newest_first: bool = False) -> Iterator[dict[str, float]]:
    """What rounds took: round, seconds, evaluation_seconds and, but for old ones, samples."""
    for row in lines(directory / "timings.jsonl", run, newest_first):
        whole = isinstance(row, dict) and {*TIMES[:3]} <= row.keys() <= {*TIMES}
        if whole and all(type(value) in (int, float) and 0 <= value < math.inf for value in row.values()):
            yield row


def append_line(path: Path, value: dict[str, Any], run: str) -> None:
    """Add a line of JSON with a checksum to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(sealed(value, run)))  # the newline first: after half a line, a whole one follows


def lines(path: Path, run: str, newest_first: bool = False) -> Iterator[Any]:
    """The values of a file of JSON lines; torn and altered ones are passed over.

    Raises:
        OSError: if the file is there and cannot be read.
    """
    content = path.read_bytes().split(b"\n") if path.exists() else []
    for line in reversed(content) if newest_first else content:
        with contextlib.suppress(Damaged):
            value = parse_json(line, path)
            yield unsealed(value, run, path) if isinstance(value, dict) else value
