"""Labels and notes of runs: in the run's directory, but no part of its id.

fl.annotate(run, label="baseline", note="for the talk")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..arguments import checked
from ..declare import LONGEST_TEXT, SettingError
from ..files import Damaged, printable, read_json, user_path
from .checkpoints import Store

FILE = "notes.json"


@checked
def annotate(run: Any, *, label: str | None = None, note: str | None = None) -> dict[str, str]:
    """Give a run a label, by which figures and tables call it, or a note; "" takes one away.

    Args:
        run: a run, or its directory.
        label: a short name in place of the method's, on one line.
        note: any text of letters, signs and spaces.

    Returns:
        What stands there now.

    Raises:
        FileNotFoundError: if no round of the run is on disk.
        SettingError: if a text is too long, or has what no terminal should be sent, such as escape sequences.

    >>> again = fl.train(fl.FedAvg(), data, "lenet", rounds=1, seed=5)
    >>> fl.annotate(again, label="another seed")
    {'label': 'another seed'}
    >>> again.name
    'another seed'
    """
    directory = user_path(getattr(run, "directory", run), "run")
    if not (directory / "experiment.json").exists():
        raise FileNotFoundError(f"{directory}: holds no run; train a round first")
    given = {"label": label, "note": note}
    for name, text in given.items():
        if text and (len(text) > LONGEST_TEXT or printable(text) != text or (name == "label" and "\n" in text)):
            said = f"needs at most {LONGEST_TEXT} letters, signs and spaces{' on one line' * (name == 'label')}"
            raise SettingError(name, text, said)
    before = read_notes(directory)
    after = before | {name: text for name, text in given.items() if text is not None}
    after = {name: text for name, text in after.items() if text}
    if after != before:
        Store(directory).write_json(FILE, after)
    return after


def read_notes(directory: Path) -> dict[str, str]:
    """Label and note of the run in a directory, where there are any; a file that cannot be read counts as none."""
    try:
        notes = read_json(directory / FILE)
    except (OSError, Damaged):
        return {}
    return {str(name): printable(text) for name, text in notes.items()} if isinstance(notes, dict) else {}
