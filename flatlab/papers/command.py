"""`flatlab reproduce`: what the command does, without parsing its arguments."""

from __future__ import annotations

import argparse
import math
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..arguments import Count, fitted
from ..declare import SettingError
from ..training.device import Precision, pick_device
from . import processes, report
from .archive import Archive
from .costs import Speed, hours
from .filled import fill_cell
from .judging import page as claims_page
from .planning import Plan, plan
from .questions import claims
from .registry import BUILDERS, select
from .reproduce import Workshop
from .speeds import arithmetic, here
from .tables import SCALES, Item, ScaleName, Table

Say = Callable[[str], object]


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    names: tuple[str, ...] = ()
    scale: ScaleName = "quick"
    plan: str | None = None  # "show", "slurm", or None: do it
    part: tuple[int, int] | None = None  # one of so many
    cell: tuple[str, str] | None = None  # row and column
    again: bool = False
    merge: Path | None = None
    results: Path = Path("reproduction")
    page: Path = Path("docs/reproduction.md")
    store: Path = Path("runs")
    root: Path = Path("data")
    device: str = "auto"
    samples_per_second: float | None = None
    workers: int = 1
    precision: Precision | None = None


def reproduce(options: Options, say: Say = print) -> None:
    """Plan, do, and write tables, figures and claims.

    Raises:
        SettingError: if a name or an option is wrong.
        KeyboardInterrupt: after the round in flight, with several workers at once; the same command goes on.
    """
    fitted("workers", options.workers, Count)
    archive = Archive(options.results)
    if options.merge is not None:
        _merge(archive, options.merge, say)
        if not options.names:
            return
    if not options.names:
        say(_listing(options.scale))
        return
    if options.names == ("page",):
        written = report.reproduction(archive, options.page)
        say(f"page: {options.page}, and {len(written) - 1} files of tables and figures in {options.results}")
        return
    whole = select(options.names, options.scale)
    items = whole
    if options.cell is not None:
        items = {name: _only(item, options.cell) for name, item in whole.items()}
    if options.again:
        _again(items, archive, options, say)
        return
    device = pick_device(options.device)
    speed = here(archive, device, options.samples_per_second)
    work = Workshop(archive, options.store, options.root, device, say, precision=options.precision)
    todo = plan(list(items.values()), archive, speed, work.has_weights)
    if options.part is not None or options.plan == "slurm":
        every = plan(list(items.values()), archive, arithmetic, again=True)  # the same for all jobs of an array
        if options.part is not None:
            todo = todo.within(every.part(*options.part))
        if options.plan == "slurm":
            say(slurm(todo, every, options))
            return
    say(summary(todo, speed))
    if options.plan is None:
        processes.do(work, todo, options.workers)
        if chosen := [claim for name, claim in claims(options.scale).items() if name in items]:
            say(claims_page(chosen, archive))
        written = write(whole, archive, options)  # of a cell the whole table, too: it is kept under its name
        say("\n".join(f"written: {path}" for path in written))


def write(items: dict[str, Item], archive: Archive, options: Options) -> list[Path]:
    """Tables (Markdown, CSV, LaTeX), figures (PNG, PDF) and the page of all claims, from what is kept."""
    asked = claims(options.scale)
    written = [path for name, item in items.items() if name not in asked for path in report.write(item, archive)[1]]
    if asked.keys() & items.keys():
        written.append(report.write_claims(archive, options.scale)[1])
    return written


def summary(todo: Plan, speed: Speed) -> str:
    """What a plan comes to, in words."""
    total, measuring = todo.total(), sum(step.cost.seconds for step in todo.measurings)
    rates = sorted({speed(step.experiment)[1] for step in todo.trainings})
    lines = [f"{item.id}: {item.title}" for item in todo.items]
    for left_out in dict.fromkeys(item.leaves_out for item in todo.items if item.leaves_out):
        lines.append(f"left out at this scale: {left_out}")
    lines.append(
        f"to train: {len(todo.trainings)} runs ({todo.kept} are kept), {total.samples:.3g} samples,"
        f" {total.gradients:.3g} gradients; to measure: {len(todo.measurings)}"
    )
    speeds = f" ({'; '.join(rates)})" if rates else ""
    lines.append(
        f"time: {hours(total.seconds)}, of which {hours(measuring)} measuring{speeds};"
        f" shared beginnings spare {hours(todo.saved(speed).seconds)}"
    )
    lines.append(f"disk: {total.bytes / 1e9:.2f} GB of weights")
    return "\n".join(lines)


def slurm(todo: Plan, whole: Plan, options: Options) -> str:
    """A script that trains what is to be done of the parts of all the work as an array, and writes the tables after."""
    jobs = max(1, len(todo.jobs()))
    longest = max(todo.within(part).total().seconds for part in whole.parts(jobs))
    asked = [*options.names, "--scale", options.scale, "--results", str(options.results)]
    asked += ["--store", str(options.store), "--root", str(options.root)]
    asked += ["--device", options.device] if options.device != "auto" else []
    asked += ["--precision", options.precision] if options.precision is not None else []
    asked += ["--cell", *options.cell] if options.cell is not None else []
    wanted = shlex.join(asked)
    return "\n".join(
        [
            "#!/bin/bash",
            "#SBATCH --job-name=flatlab",
            f"#SBATCH --array=0-{jobs - 1}",
            f"#SBATCH --time={max(1, round(2 * longest / 60))}  # minutes: twice what the longest part should take",
            *(["#SBATCH --gres=gpu:1"] if options.device != "cpu" else []),
            "#SBATCH --cpus-per-task=4",
            f"# Afterwards, once: flatlab reproduce {wanted}",
            f"flatlab reproduce {wanted} --part $SLURM_ARRAY_TASK_ID/{jobs}",
        ]
    )


def _again(items: dict[str, Item], archive: Archive, options: Options, say: Say) -> None:
    """Train some cells from nothing, elsewhere, and set the numbers beside those that are kept."""
    tables = [item.kept_by(archive.has) for item in items.values() if isinstance(item, Table)]
    if not tables or options.cell is None:
        raise SettingError("--again", allowed="needs a table and --cell ROW COLUMN")
    if not any(table.experiments() for table in tables):
        raise SettingError("--again", allowed=f"nothing of {' / '.join(options.cell)} is kept in {archive.folder}")
    with tempfile.TemporaryDirectory(prefix="flatlab-again-") as folder:
        fresh = Archive(Path(folder) / "results")
        store = Path(folder) / "runs"
        work = Workshop(fresh, store, options.root, options.device, say, precision=options.precision)
        work.do(plan(tables, fresh))
        for table in tables:
            for cell in table.cells:
                new, old = (fill_cell(cell, where).numbers for where in (fresh, archive))
                for seed, value in new.items():
                    alike = value == old[seed] or (math.isnan(value) and math.isnan(old[seed]))
                    same = "same" if alike else f"differs by {value - old[seed]:.3g}"
                    say(
                        f"{table.id}, {cell.row}, {cell.column}, seed {seed}: {value:.6g}, kept {old[seed]:.6g}: {same}"
                    )


def _merge(archive: Archive, folder: Path, say: Say) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no folder of results")
    merged = archive.merge(Archive(folder))
    say(f"{folder}: {len(merged.added)} files added, {len(merged.same)} the same, {len(merged.other)} with others")
    for name in merged.other:
        say(f"kept as it was here: {name}")


def _only(item: Item, cell: tuple[str, str]) -> Item:
    return item.only(*cell) if isinstance(item, Table) else item


def _listing(scale: ScaleName) -> str:
    groups = "fedbabu, fedasam, crossing, background, all, claims"
    lines = [f"scales: {', '.join(SCALES)}; groups: {groups}; page builds the report"]
    lines += [f"  {name:24} {build(scale).title}" for name, build in BUILDERS.items()]
    lines += [f"  {claim.id:24} {claim.question}" for claim in claims(scale).values()]
    return "\n".join(lines)


def parse_part(text: str) -> tuple[int, int]:
    """3/8 as numbers.

    Raises:
        ArgumentTypeError: if it is not of this form.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: must be I/N, as 0/4 for the first of four parts")
    return int(number), int(of)
