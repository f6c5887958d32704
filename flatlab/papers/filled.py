"""A table filled in from what is kept: means over seeds with t intervals, beside the papers' numbers.

The same histories give the same bytes, on any machine: nothing here draws, trains, or looks at a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from .archive import Archive
from .statistics import CONFIDENCE, Interval, interval
from .tables import Cell, Table


@dataclass(frozen=True)
class FilledCell:
    """A cell with its numbers."""

    cell: Cell
    by_seed: dict[int, float]  # by seed; NaN where a run or measurement is missing
    mean: Interval
    spread: float  # mean over seeds of the population standard deviation over clients
    diverged: int

    @property
    def missing(self) -> int:
        """Seeds without a number."""
        return sum(math.isnan(value) for value in self.by_seed.values()) - self.diverged

    def text(self) -> str:
        """As it stands in a table: mean ± half width of the interval, in percent where it is a share."""
        if not self.mean.n:
            return f"diverged ({self.diverged} of {len(self.by_seed)})" if self.diverged else "missing"
        factor = 100 if self.cell.quantity.unit == "%" else 1
        half = "" if math.isnan(self.mean.half) else f" ± {_short(factor * self.mean.half)}"
        short = "" if self.mean.n == len(self.by_seed) else f" ({self.mean.n} of {len(self.by_seed)} seeds)"
        return f"{_short(factor * self.mean.mean)}{half}{short}"


@dataclass(frozen=True)
class FilledTable:
    """A table with its numbers, as tidy frame, Markdown, CSV and LaTeX."""

    table: Table
    cells: tuple[FilledCell, ...]
    machines: tuple[str, ...]
    versions: tuple[str, ...]
    missing_runs: int
    seconds: float

    def frame(self) -> pd.DataFrame:
        """A row a cell: ours (mean over seeds), its interval, seeds, spread over clients, and the paper's number."""
        rows = []
        for filled in self.cells:
            cell, factor = filled.cell, 100 if filled.cell.quantity.unit == "%" else 1
            rows.append(
                {
                    "table": self.table.id,
                    "scale": self.table.scale,
                    "row": cell.row,
                    "column": cell.column,
                    "quantity": cell.quantity.label,
                    "unit": cell.quantity.unit,
                    "ours": factor * filled.mean.mean,
                    "half width": factor * filled.mean.half,
                    "seeds": filled.mean.n,
                    "std over clients": factor * filled.spread,
                    "by seed": " ".join(f"{seed}:{factor * value:.6g}" for seed, value in filled.by_seed.items()),
                    "published": "; ".join(map(str, cell.published)),
                    "source": "; ".join(number.source for number in cell.published),
                    "note": _note(filled),
                    "runs": " ".join(experiment.id for experiment in cell.experiments),
                }
            )
        return pd.DataFrame(rows)

    def csv(self) -> str:
        """The tidy frame."""
        return self.frame().to_csv(index=False, float_format="%.6g", lineterminator="\n")

    def printed(self) -> pd.DataFrame:
        """Rows and columns as in the paper; a cell has our number, then published ones in brackets."""
        texts: dict[str, dict[str, str]] = {}
        for filled in self.cells:
            theirs = [f"[{number}{_mark(number.source)}]" for number in filled.cell.published]
            texts.setdefault(filled.cell.row, {})[filled.cell.column] = " ".join([filled.text(), *theirs])
        table = pd.DataFrame.from_dict(texts, orient="index", columns=self.table.columns).fillna("")
        return table.rename_axis("").reset_index()

    def markdown(self) -> str:
        """Title, table and notes."""
        table = self.printed()
        head = [str(name) for name in table.columns]
        lines = [f"### {self.table.title}", "", f"`{self.table.id}`, scale `{self.table.scale}`.", ""]
        lines += [_row(head), _row(["---"] * len(head))]
        lines += [_row(list(row)) for row in table.itertuples(index=False)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes()), ""])

    def latex(self) -> str:
        """A tabular of its own, with its notes as comments."""
        table = self.printed()
        lines = [f"% {_plain(note)}" for note in (self.table.title, *self.notes())]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\hline"]
        lines += [" & ".join(map(_tex, table.columns)) + r" \\ \hline"]
        lines += [" & ".join(map(_tex, row)) + r" \\" for row in table.itertuples(index=False)]
        return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])

    def notes(self) -> list[str]:
        """What a reader must know: interval, protocol, what is left out, what is missing, hardware, command."""
        said = [
            f"Ours: mean over seeds ± half width of the {CONFIDENCE:.0%} t interval; std over clients is in the CSV.",
            f"Protocol: {self.table.protocol}.",
            f"Left out at this scale: {self.table.leaves_out}.",
        ]
        sources = dict.fromkeys(number.source for filled in self.cells for number in filled.cell.published)
        said += [f"[…{_mark(source)}]: {source}." for source in sources]
        if self.missing_runs:
            said.append(f"**Not complete: {self.missing_runs} of its runs are missing**; the rest is shown.")
        measured = sum(filled.missing for filled in self.cells)
        if measured and not self.missing_runs:
            said.append(f"**Not complete: {measured} numbers were not measured.**")
        if any(filled.diverged for filled in self.cells):
            said.append("Runs that diverged have no number and are left out of means; the number of seeds says so.")
        if self.machines:
            said.append(
                f"Made on {'; '.join(self.machines)}; {'; '.join(self.versions)}; training took {self.seconds:.0f} s."
            )
        said.append(f"Again: `flatlab reproduce {self.table.id} --scale {self.table.scale}`; one cell: add"
                    f" `--cell \"{self.cells[0].cell.row}\" \"{self.cells[0].cell.column}\" --again`.")  # fmt: skip
        return said


def fill(table: Table, archive: Archive) -> FilledTable:
    """Fill a table in from what is kept."""
    runs = table.experiments()
    kept = [archive.about(run) for run in runs.values() if archive.has(run)]
    failed = sum(bool(archive.failure(run)) for run in runs.values())
    versions = Counter(
        f"flatlab {said['versions'].get('flatlab')}, torch {said['versions'].get('torch')}" for said in kept
    )
    return FilledTable(
        table,
        tuple(fill_cell(cell, archive) for cell in table.cells),
        tuple(sorted({said["machine"]["name"] for said in kept})),
        tuple(sorted(versions)),
        len(runs) - len(kept) - failed,
        sum(said["seconds"] for said in kept),
    )


def fill_cell(cell: Cell, archive: Archive) -> FilledCell:
    """The numbers of a cell by seed, their mean, and the mean spread over clients."""
    readings = {experiment.seed: cell.quantity.of(archive, experiment) for experiment in cell.experiments}
    values = {seed: reading.value for seed, reading in readings.items()}
    diverged = sum(bool(archive.failure(experiment)) for experiment in cell.experiments)
    spread = interval(reading.spread for reading in readings.values()).mean
    return FilledCell(cell, values, interval(values.values()), spread, diverged)


def _note(filled: FilledCell) -> str:
    said = [f"{filled.missing} missing"] if filled.missing else []
    return ", ".join(said + ([f"{filled.diverged} diverged"] if filled.diverged else []))


def _short(value: float) -> str:
    """Two places, or three significant figures of large numbers."""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.4g}"


def _mark(source: str) -> str:
    return " recalled" if source.startswith("recalled") else " re-run"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("**", "")


def _tex(text: object) -> str:
    found = str(text)
    for plain, tex in (("\\", r"\textbackslash{}"), ("%", r"\%"), ("&", r"\&"), ("_", r"\_"), ("#", r"\#")):
        found = found.replace(plain, tex)
    for plain, tex in (
        ("±", r"$\pm$"),
        ("λ", r"$\lambda$"),
        ("τ", r"$\tau$"),
        ("α", r"$\alpha$"),
        ("₁", "$_1$"),
        ("₅", "$_5$"),
    ):
        found = found.replace(plain, tex)
    return found
