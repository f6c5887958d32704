"""The page of what was reproduced, built from the folder of results alone: `docs/reproduction.md`."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import write_atomically
from . import pictures
from .archive import Archive
from .filled import fill
from .judging import page as claims_page
from .questions import claims
from .registry import items
from .tables import SCALES, Figure, ScaleName, Table

HEAD = """# What was reproduced

Made by `flatlab reproduce page` from the histories in this repository; nothing here was typed in. Ours are means over
seeds with the half width of a 95 % t interval. The papers' numbers are **recalled, unverified**: targets to compare
with, nothing rests on them. Which accuracy is meant (holdout, initial, personalized) each table says; mean ± std *over
clients* stands in the CSV files.
"""


def reproduction(archive: Archive, path: Path) -> Path:
    """Write the page: per scale the claims, then every table and figure of which something is kept.

    Args:
        archive: what is kept.
        path: of the page; figures are drawn into `<folder of the archive>/<scale>/`.
    """
    parts = [HEAD]
    for scale in reversed(SCALES):
        body = _scale(archive, scale, path.parent)
        if body:
            parts.append(f"# Scale `{scale}`\n\n" + "\n".join(body))
    if len(parts) == 1:
        parts.append("Nothing is kept yet.\n")
    write_atomically(path, "\n".join(parts).encode())
    return path


def kept_scale(archive: Archive, group: str = "") -> ScaleName:
    """The largest scale of which something is kept; "quick" if nothing is.

    Args:
        archive: what is kept.
        group: only tables and figures whose id begins so.
    """
    for scale in reversed(SCALES):
        chosen = [item for name, item in items(scale).items() if name.startswith(group)]
        if any(archive.has(run) for item in chosen for run in item.experiments().values()):
            return scale
    return "quick"


def _scale(archive: Archive, scale: ScaleName, start: Path) -> list[str]:
    found: list[str] = []
    for item in items(scale).values():
        if not any(archive.has(run) for run in item.experiments().values()):
            continue
        if isinstance(item, Table):
            found.append(fill(item, archive).markdown())
        elif isinstance(item, Figure):
            for drawn in pictures.save(item, archive, archive.folder / scale):
                if drawn.suffix == ".png":
                    found.append(f"### {item.title}\n\n![{item.title}]({os.path.relpath(drawn, start)})\n")
    if found:
        asked = [
            claim for claim in claims(scale).values() if any(map(archive.has, claim.table().experiments().values()))
        ]
        found.insert(0, claims_page(asked, archive))
    return found
