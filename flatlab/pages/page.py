"""A page: what it says and shows, and the one HTML file that is made of it.

The file allows itself no network (Content-Security-Policy), and no script but its own, by their digests. Names come
from users: they only ever become text.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .. import figures
from ..declare import SettingError
from ..files import user_path, write_atomically
from ..training.provenance import made_by
from .parts import Part, PicturePart
from .scripts import MISSING, page_scripts, page_styles

MOST_BYTES = 1_000_000  # of a page
SPEEDS, SECONDS = (1, 2, 5, 10, 20, 50), 8.0  # rounds a second that a time line offers; how long it should play
SPARSEST = 1024  # of so many points of a curve at least one is kept


class Rows(NamedTuple):
    """A table: its title, the names of its columns, its lines; `folded` is shut at first."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """What a page says and shows.

    Args:
        title: above it.
        parts: what is drawn.
        said: sentences below the title; the first stands alone, the others are a list.
        tables: settings, and where it all comes from.
        code: Python that makes it.
        time: of a time line that plays the rounds: `run`, `min`, `max`, `speed`; none if empty.
    """

    title: str
    parts: tuple[Part, ...]
    said: tuple[str, ...] = ()
    tables: tuple[Rows, ...] = ()
    code: str = ""
    time: Mapping[str, Any] = field(default_factory=dict)

    def told(self, every: int = 1) -> dict[str, Any]:
        """What stands in the page as JSON, below the id "flatlab"; of curves each `every`-th point and the last."""
        made = {"flatlab": made_by()["flatlab"], "date": datetime.date.today().isoformat()}
        parts = [part.told(every) for part in self.parts]
        return {"title": self.title, "made": made, "every": every, "said": list(self.said), "parts": parts} | (
            {"time": dict(self.time)} if self.time else {}
        )

    def html(self) -> str:
        """The whole page. Curves lose points where it would be larger than 1 MB, and the page says so.

        Raises:
            SettingError: if what is left is still too large.
        """
        every = 1
        while len(text := self._written(every)) > MOST_BYTES or len(text.encode()) > MOST_BYTES:
            every *= 2
            if every > SPARSEST:
                raise SettingError(
                    "page",
                    f"{len(text) / 1e6:.1f} MB",
                    f"at most {MOST_BYTES / 1e6:g} MB: show fewer runs, points of landscapes, or rounds of pulls",
                )
        return text

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all.

        Raises:
            SettingError: if the path is none, or the page would be too large.
            OSError: if it cannot be written.
        """
        target = user_path(path)
        write_atomically(target, self.html().encode())
        return target

    def figure(self) -> figures.Drawing:
        """All that is drawn, one below the other, as a picture."""
        return figures.stacked([part.figure() for part in self.parts])

    def _written(self, every: int) -> str:
        told = self.told(every)
        still = bool(MISSING)
        scripts = () if still else page_scripts()
        data = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        said = [*self.said, *([_thin(every)] if every > 1 else []), *([MISSING] if still else [])]
        parts = [_part(place, part, still) for place, part in enumerate(self.parts)]
        lines = [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>{html.escape(self.title)}</title>\n<style>\n{page_styles()}\n</style></head>",
            '<body><main><button id="theme" type="button" title="Light or dark">◐</button>',
            f"<h1>{html.escape(self.title)}</h1>",
            *_said(said),
            '<noscript><p class="note">The curves need JavaScript; this page holds all of it.</p></noscript>',
            '<div id="time"></div>' if self.time and not still else "",
            *parts,
            *map(_table, self.tables),
            _code(self.code),
            f"<footer>Made by flatlab {html.escape(str(told['made']['flatlab']))} on {told['made']['date']}.</footer>",
            f'</main>\n<script id="flatlab" type="application/json">{data}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        ]
        return "\n".join(line for line in lines if line)


def _policy(scripts: Sequence[str]) -> str:
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _said(sentences: Sequence[str]) -> list[str]:
    first, *rest = [html.escape(sentence) for sentence in sentences] or [""]
    items = "".join(f"<li>{sentence}</li>" for sentence in rest)
    return [f"<p>{first}</p>" if first else "", f"<ul>{items}</ul>" if rest else ""]


def _thin(every: int) -> str:
    return (
        f"Of the curves each {every}th point is shown, and the last: all of them would take more than"
        f" {MOST_BYTES / 1e6:g} MB."
    )


def _part(place: int, part: Part, still: bool) -> str:
    inner = ""
    if still or isinstance(part, PicturePart):
        picture = base64.b64encode(part.figure().png()).decode()
        inner = f'<img alt="{html.escape(part.title)}" src="data:image/png;base64,{picture}">'
    return f'<section><h2>{html.escape(part.title)}</h2><div class="part" id="part-{place}">{inner}</div></section>'


def _table(rows: Rows) -> str:
    if not rows.lines:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows.head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n" for line in rows.lines
    )
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    title, opened = html.escape(rows.title), "" if rows.folded else " open"
    return f"<details{opened}><summary>{title}</summary>{table}</details>"


def _code(code: str) -> str:
    if not code:
        return ""
    button = '<button id="copy" type="button">Copy</button>'
    shown = f'<pre id="code">{html.escape(code)}</pre>'
    return f"<details open><summary>Python that makes it</summary>{button}{shown}</details>"


def time_line(run: str, first: int, last: int) -> dict[str, Any]:
    """Of a run's rounds, played in ten seconds or so."""
    fast = [speed for speed in SPEEDS if (last - first) / speed >= SECONDS]
    return {"run": run, "min": first, "max": last, "speed": (fast or SPEEDS)[-1 if fast else 0]}
