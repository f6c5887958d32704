"""flatlab's notebooks for those who installed a wheel: copied to a folder of theirs, and JupyterLab on it.

In a wheel they are the scripts that they are written as; in a checkout they stand in `notebooks/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .declare import SettingError
from .files import user_path
from .later import nbformat

_PACKED, _CHECKOUT = Path(__file__).parent / "lab" / "scripts", Path(__file__).parents[1] / "notebooks"
_CELL = re.compile(r"^# %%(?P<markdown> \[markdown\])?.*$\n?", re.M)
QUIET = ("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None")


def copy_notebooks(folder: Path) -> list[Path]:
    """Write all notebooks into a folder; those that are there already stay as they are. Returns those written.

    Raises:
        FileNotFoundError: if this installation has none.
    """
    scripts = sorted((_PACKED if _PACKED.is_dir() else _CHECKOUT).glob("[0-9]*_*.py"))
    if not scripts:
        raise FileNotFoundError(f"{_PACKED}: this installation has no notebooks")
    folder.mkdir(parents=True, exist_ok=True)
    targets = [(script, folder / f"{script.stem}.ipynb") for script in scripts]
    new = [(script, target) for script, target in targets if not target.exists()]
    for script, target in new:
        notebook = nbformat.v4.new_notebook(cells=list(_cells(script.read_text(encoding="utf-8"))))
        nbformat.write(notebook, target)
    return [target for _, target in new]


def _cells(script: str) -> Iterator[nbformat.NotebookNode]:
    """The cells of a script in the percent format; what stands before the first is about jupytext."""
    marks = list(_CELL.finditer(script))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        text = script[mark.end() : after.start() if after else None].strip("\n")
        if mark["markdown"]:
            yield nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", text, flags=re.M))
        else:
            yield nbformat.v4.new_code_cell(text)


def place_of(given: str | None, to: str | None) -> tuple[Path, list[Path]]:
    """What to open, and which notebooks were copied for it.

    Args:
        given: a notebook or a folder that is there; None: `notebooks`, made if it is not.
        to: a folder to copy the notebooks to; it is opened unless another is given.

    Raises:
        FileNotFoundError: if what was given is not there.
        SettingError: if `to` is a file.
    """
    usual = user_path("notebooks", "place")
    target = user_path(to, "to") if to is not None else usual if given is None and not usual.exists() else None
    if target is not None and target.exists() and not target.is_dir():
        raise SettingError("to", str(target), "must be a folder")
    copied = copy_notebooks(target) if target is not None else []
    place = user_path(given, "place") if given is not None else target or usual
    if not place.exists():
        raise FileNotFoundError(f"{place}: no such notebook or folder; --to FOLDER copies flatlab's notebooks there")
    return place, copied


def open_lab(place: Path, jupyter: Sequence[str]) -> None:
    """Start JupyterLab; it asks nobody for news or updates.

    Args:
        place: a notebook or folder.
        jupyter: options for it.
    """
    from jupyterlab.labapp import LabApp

    root = getattr(os, "geteuid", lambda: 1)() == 0  # whoever works as root, as in a container, has chosen to
    LabApp.launch_instance(argv=[str(place), *QUIET, *(["--allow-root"] if root else []), *jupyter])
