"""A table filled in from what is kept: means over seeds with t intervals, beside the papers' numbers.

The same histories give the same bytes, on any machine: nothing here draws, trains, or looks at a clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..later import pd
from ..statistics import CONFIDENCE, Interval, interval
from .archive import Archive
from .quantities import Reading
from .spent import Spent, spent
from .tables import Cell, Table, trained_on


@dataclass(frozen=True)
class FilledCell:
    """A cell with its numbers."""

    cell: Cell
    by_seed: dict[int, Reading | None]  # None where a run or measurement is missing
    diverged: int

    @property
    def numbers(self) -> dict[int, float]:
        """The numbers by seed; NaN where there is none."""
        return {seed: math.nan if reading is None else reading.value for seed, reading in self.by_seed.items()}

    @property
    def mean(self) -> Interval:
        """Over the seeds."""
        return interval(self.numbers.values())

    def over(self, what: str) -> float:
        """The mean over the seeds of what a reading has besides its value: "spread", "worst"."""
        return interval(getattr(reading, what) for reading in self.by_seed.values() if reading is not None).mean

    @property
    def missing(self) -> int:
        """Seeds whose run or measurement is not there."""
        return sum(reading is None for reading in self.by_seed.values()) - self.diverged

    @property
    def not_finite(self) -> int:
        """Values of seeds, clients or rounds that are no finite numbers: left out of means."""
        read = [reading for reading in self.by_seed.values() if reading is not None]
        return sum(reading.left_out or not math.isfinite(reading.value) for reading in read)

    def text(self) -> str:
        """As it stands in a table: mean ± half width of the interval, in percent where it is a share."""
        if not self.mean.n:
            if self.diverged:
                return f"diverged ({self.diverged} of {len(self.by_seed)})"
            return "not finite" if self.not_finite else "missing"
        factor = self.cell.quantity.factor
        half = "" if math.isnan(self.mean.half) else f" ± {short(factor * self.mean.half)}"
        seeds = "" if self.mean.n == len(self.by_seed) else f" ({self.mean.n} of {len(self.by_seed)} seeds)"
        return f"{short(factor * self.mean.mean)}{half}{seeds}"


@dataclass(frozen=True)
class FilledTable:
    """A table with its numbers, as tidy frame, Markdown, CSV and LaTeX."""

    table: Table
    cells: tuple[FilledCell, ...]
    machines: tuple[str, ...]
    versions: tuple[str, ...]
    missing_runs: int
    spent: Spent
    again: tuple[dict[str, Any], ...]

    def frame(self) -> pd.DataFrame:
        """A row a cell: ours (mean over seeds), its interval, seeds, spread over clients, and the paper's number."""
        rows = []
        for filled in self.cells:
            cell, factor = filled.cell, filled.cell.quantity.factor
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
                    "std over clients": factor * filled.over("spread"),
                    "worst tenth of clients": factor * filled.over("worst"),
                    "by seed": " ".join(f"{seed}:{factor * value:.6g}" for seed, value in filled.numbers.items()),
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
        """Rows and columns as in the paper; a cell has our number, then published ones in brackets.

        A row or column without any number, theirs or ours, is left out once some are ours.
        """
        texts: dict[str, dict[str, str]] = {}
        for filled in self.cells:
            theirs = [f"[{number}{_mark(number.source)}]" for number in filled.cell.published]
            texts.setdefault(filled.cell.row, {})[filled.cell.column] = " ".join([filled.text(), *theirs])
        rows, columns = self._told
        table = pd.DataFrame.from_dict(texts, orient="index", columns=self.table.columns).fillna("")
        return table.loc[rows, columns].rename_axis("").reset_index()

    @property
    def _told(self) -> tuple[list[str], list[str]]:
        """Rows and columns with a number; all, while none is ours."""
        none = all(filled.text() == "missing" for filled in self.cells)
        cells = [one.cell for one in self.cells if none or one.text() != "missing" or one.cell.published]
        rows, columns = {cell.row for cell in cells}, {cell.column for cell in cells}
        return [row for row in self.table.rows if row in rows], [name for name in self.table.columns if name in columns]

    def markdown(self) -> str:
        """Title, table and notes."""
        lines = [
            f"### {self.table.title}",
            "",
            f"`{self.table.id}`, scale `{self.table.scale}`, trained on {trained_on(self.table)}.",
            "",
        ]
        return "\n".join([*lines, *markdown(self.printed()), "", *(f"- {note}" for note in self.notes()), ""])

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
        said += [f"[…{_mark(source)}]: of runs at the paper's scale; {source}." for source in sources]
        if any("±" in number.printed for filled in self.cells for number in filled.cell.published):
            said.append("Their ± is the standard deviation over the clients of one seed, ours is of means over seeds.")
        if self.missing_runs:
            rows, columns = self._told
            left = len(self.table.rows) - len(rows), len(self.table.columns) - len(columns)
            without = f", but for rows ({left[0]}) and columns ({left[1]}) without a number" if any(left) else ""
            said.append(f"**Not complete: {self.missing_runs} of its runs are missing**; the rest is shown{without}.")
        measured = sum(filled.missing for filled in self.cells)
        if measured and not self.missing_runs:
            said.append(f"**Not complete: {measured} numbers were not measured.**")
        if count := sum(filled.not_finite for filled in self.cells):
            said.append(f"**{count} values of seeds, clients or rounds are no finite numbers**: left out of means.")
        if any(filled.diverged for filled in self.cells):
            said.append("Runs that diverged have no number and are left out of means; the number of seeds says so.")
        if self.machines:
            said.append(
                f"Made on {'; '.join(self.machines)}; {'; '.join(self.versions)}; training took"
                f" {self.spent.about}{self.spent.seconds:.0f} s."
            )
        if self.again:
            said.append(trained_again(self.again))
        said.append(f"Again: `flatlab reproduce {self.table.id} --scale {self.table.scale}`; one cell: add"
                    f" `--cell \"{self.cells[0].cell.row}\" \"{self.cells[0].cell.column}\" --again`.")  # fmt: skip
        return said


def trained_again(again: Sequence[dict[str, Any]]) -> str:
    """What a reader must know of runs whose weights are of another training than their histories."""
    where = "; ".join(sorted({trained["machine"] for trained in again}))
    most = max(abs(trained["holdout accuracy differs by"]) for trained in again)
    return (
        f"Weights of {len(again)} of its runs were trained again on {where} for what was measured later;"
        f" their holdout accuracy differs from the kept by at most {100 * most:.1f} points."
    )


def _made_with(versions: dict[str, Any]) -> str:
    """What computed a run; digits other than float32's are named."""
    digits = versions.get("precision", "float32")
    told = "" if digits == "float32" or (digits == "tf32" and versions.get("device_type") != "cuda") else f", {digits}"
    return f"flatlab {versions.get('flatlab')}, torch {versions.get('torch')}{told}"


def fill(table: Table, archive: Archive) -> FilledTable:
    """Fill a table in from what is kept."""
    runs = table.experiments()
    kept = [archive.about(run) for run in runs.values() if archive.has(run)]
    failed = sum(bool(archive.failure(run)) for run in runs.values())
    versions = {_made_with(said["versions"]) for said in kept}
    return FilledTable(
        table,
        tuple(fill_cell(cell, archive) for cell in table.cells),
        tuple(sorted({said["machine"]["name"] for said in kept})),
        tuple(sorted(versions)),
        len(runs) - len(kept) - failed,
        spent(kept),
        tuple(said["again"] for said in kept if "again" in said),
    )


def fill_cell(cell: Cell, archive: Archive) -> FilledCell:
    """The numbers of a cell by seed."""
    readings = {experiment.seed: cell.quantity.of(archive, experiment) for experiment in cell.experiments}
    return FilledCell(cell, readings, sum(bool(archive.failure(experiment)) for experiment in cell.experiments))


def _note(filled: FilledCell) -> str:
    counts = {"missing": filled.missing, "diverged": filled.diverged, "not finite": filled.not_finite}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def short(value: float) -> str:
    """As tables have it: two places, four significant figures of large numbers, two of small ones."""
    if 1e-6 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.4g}"


def _mark(source: str) -> str:
    return " recalled" if source.startswith("recalled") else " re-run"


def markdown(table: pd.DataFrame) -> list[str]:
    """The lines of a table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *map(list, table.itertuples(index=False))]
    return [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("**", "")


def _tex(text: object) -> str:
    escaped = str(text)
    for plain, tex in (("\\", r"\textbackslash{}"), ("%", r"\%"), ("&", r"\&"), ("_", r"\_"), ("#", r"\#")):
        escaped = escaped.replace(plain, tex)
    for plain, tex in (
        ("±", r"$\pm$"),
        ("λ", r"$\lambda$"),
        ("τ", r"$\tau$"),
        ("α", r"$\alpha$"),
        ("₁", "$_1$"),
        ("₅", "$_5$"),
    ):
        escaped = escaped.replace(plain, tex)
    return escaped
