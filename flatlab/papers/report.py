"""What was reproduced, from the folder of results alone: files of each table and figure, and `docs/reproduction.md`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import write_atomically
from . import pictures
from .archive import Archive
from .beyond import section
from .filled import FilledTable, fill, trained_again
from .judging import judge, overall
from .judging import page as claims_page
from .questions import claims
from .registry import BUILDERS, built
from .spent import spent
from .tables import SCALES, Figure, Item, ScaleName

HEAD = """# What was reproduced

Made by `flatlab reproduce page` from the histories in this repository; nothing here was typed in. Ours are means over
seeds with the half width of a 95 % t interval; one seed has none, and nothing follows from it. The papers' numbers are
**recalled, unverified**: targets to compare with, nothing rests on them. Which accuracy is meant (holdout, initial,
personalized) each table says; each seed's number stands in the CSV files.
"""


def write(item: Item, archive: Archive) -> tuple[str, list[Path]]:
    """Write the files of a table (Markdown, CSV, LaTeX) or a figure (PNG, PDF) into `<folder of results>/<scale>/`.

    Returns:
        The table as Markdown ("" for a figure), and the files; none for a figure of which nothing is kept.
    """
    folder = archive.folder / item.scale
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(item, Figure):
        return "", pictures.save(item, archive, folder)
    filled = fill(item, archive)
    text = _text(filled, archive)
    written = [folder / f"{item.id}{suffix}" for suffix in (".md", ".csv", ".tex")]
    for path, content in zip(written, (text, filled.csv(), filled.latex()), strict=True):
        write_atomically(path, content.encode())
    return text, written


def write_claims(archive: Archive, scale: ScaleName) -> tuple[str, Path]:
    """Write `<folder of results>/<scale>/claims.md`: all claims of which something is kept, with their verdicts."""
    text, path = claims_page(_asked(archive, scale), archive), archive.folder / scale / "claims.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    return text, path


def reproduction(archive: Archive, path: Path) -> list[Path]:
    """Write the page, and the files of claims and of every table and figure of which something is kept.

    Args:
        archive: what is kept.
        path: of the page.

    Returns:
        All that was written.
    """
    parts, written = [HEAD], [path]
    for scale in reversed(SCALES):
        kept = kept_items(archive, scale)
        if not kept:
            continue
        judged, claims_file = write_claims(archive, scale)
        written.append(claims_file)
        parts += [f"## Scale `{scale}`\n", missing(archive, scale), judged]
        for item in kept.values():
            text, files = write(item, archive)
            written += files
            if isinstance(item, Figure):
                pngs = [os.path.relpath(drawn, path.parent) for drawn in files if drawn.suffix == ".png"]
                text = "\n\n".join([f"### {item.title}", *(f"![{item.title}]({png})" for png in pngs)])
                text += f"\n\n{_completeness(item, archive, bool(pngs))}\n"
            parts.append(text)
    if len(parts) == 1:
        parts.append("Nothing is kept yet.\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(parts).encode())
    return written


def show(archive: Archive, group: str = "", scale: ScaleName | None = None) -> None:
    """Claims, tables and figures of what is kept, in a notebook; nothing is trained.

    Args:
        archive: what is kept.
        group: only tables, figures and claims whose id begins so ("fedbabu", "fedasam.figure1").
        scale: None: for each of them the one of which the largest share of runs and measurements is kept.
    """
    from IPython.display import Markdown, display

    for each in (scale,) if scale else reversed(SCALES):
        if kept_items(archive, each, group):
            display(Markdown(f"Scale `{each}`:\n\n{missing(archive, each, group)}"))
    asked = [claim for each in ((scale,) if scale else reversed(SCALES)) for claim in _asked(archive, each, group)]
    told = [claim for claim in asked if scale or overall(judge(claim, archive)) != "not measured"]
    display(Markdown(claims_page(told, archive)))
    for item in _most_kept(archive, group, (scale,) if scale else SCALES):
        if isinstance(item, Figure):
            drawn = pictures.picture(item, archive)
            if drawn is not None:
                display(drawn)
            display(Markdown(f"{item.title}: {_completeness(item, archive, drawn is not None)}"))
        else:
            display(Markdown(_text(fill(item, archive), archive)))


def _completeness(figure: Figure, archive: Archive, drawn: bool) -> str:
    """Whether a figure is all there, whether it shows weights of other trainings, and the command that makes it."""
    lacking = pictures.lacking(figure, archive)
    told = f"**Not {'complete' if drawn else 'drawn'}: {lacking}.** " if lacking else ""
    kept = [archive.about(run) for run in figure.experiments().values() if archive.has(run)]
    again = [about["again"] for about in kept if "again" in about]
    if again and figure.measurement is not None:  # curves are those of the histories
        told += f"{trained_again(again)} "
    return f"{told}Again: `flatlab reproduce {figure.id} --scale {figure.scale}`."


def _text(filled: FilledTable, archive: Archive) -> str:
    return "\n".join([filled.markdown(), section(filled, archive)])


def _most_kept(archive: Archive, group: str, scales: Sequence[ScaleName]) -> list[Item]:
    """Each table and figure at the scale of which the largest share of runs and measurements is kept; the larger scale
    of equals.
    """
    most: dict[str, tuple[float, Item]] = {}
    for scale in reversed(scales):
        for name, item in kept_items(archive, scale, group).items():
            there = [archive.has(run) for run in item.experiments().values()]
            there += [archive.has_measured(*needed) for needed in item.measurements()]
            share = sum(there) / len(there)
            if share > most.get(name, (0.0, item))[0]:
                most[name] = share, item
    return [item for _, item in most.values()]


def kept_items(archive: Archive, scale: ScaleName, group: str = "") -> dict[str, Item]:
    """Tables and figures of which a run is kept, by id."""
    return {
        name: item for name, item in _of(group, scale).items() if any(map(archive.has, item.experiments().values()))
    }


def _of(group: str, scale: ScaleName) -> dict[str, Item]:
    return {name: built(name, scale) for name in BUILDERS if name.startswith(group)}


def missing(archive: Archive, scale: ScaleName, group: str = "") -> str:
    """How much of each table and figure is there, and what all of it took, as Markdown."""
    lines = ["| table or figure | runs kept | measurements | seeds | training |", "|---|---|---|---|---|"]
    absent: list[str] = []
    every: dict[str, dict[str, Any]] = {}
    for name, item in _of(group, scale).items():
        runs = item.experiments()
        kept = [run for run in runs.values() if archive.has(run)]
        if not kept:
            absent.append(f"`{name}`")
            continue
        abouts = {run.id: archive.about(run) for run in kept}
        every |= abouts
        seeds = ", ".join(map(str, sorted({run.seed for run in kept})))
        needed = [archive.has_measured(*asked) for asked in item.measurements()]
        measured = f"{sum(needed)} of {len(needed)}" if needed else ""
        lines.append(
            f"| `{name}` | {len(kept)} of {len(runs)} | {measured} | {seeds} | {spent(abouts.values()).told} |"
        )
    lines += ["", f"{len(every)} runs in all, {spent(every.values()).told} of training: tables share runs."]
    lines += [f"Nothing yet of {', '.join(absent)}."] if absent else []
    return "\n".join([*lines, ""])


def _asked(archive: Archive, scale: ScaleName, group: str = "") -> Iterator[Any]:
    """Claims of which something is kept."""
    for claim in claims(scale).values():
        if claim.id.startswith(group) and any(map(archive.has, claim.table().experiments().values())):
            yield claim
