"""What git stores of a notebook that was run by hand: what it had, as long as the cells are the same.

A clean filter (.gitattributes), which `make setup` makes known to git: it reads a notebook from standard input and writes
what git is to compare. Running a notebook changes its outputs and numbers, which is no change of the notebook. One that
`make notebooks` has built anew says so by the digest of its outputs, and is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

Notebook = dict[str, Any]


def digest(notebook: Notebook) -> str:
    """Of the outputs."""
    outputs = [cell.get("outputs", []) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def sources(notebook: Notebook) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def cleaned(text: str, stored: str) -> str:
    """What is to be stored of a notebook `text`, where `stored` is there."""
    try:
        now, before = json.loads(text), json.loads(stored)
        built = now["metadata"].get("flatlab", {}).get("outputs") == digest(now) != digest(before)
        return text if built or sources(now) != sources(before) else stored
    except (ValueError, KeyError, TypeError):  # no notebook: nothing is known of it
        return text


def main() -> None:
    """The filter."""
    text = sys.stdin.buffer.read().decode()
    stored = subprocess.run(["git", "show", f":{sys.argv[1]}"], capture_output=True)
    sys.stdout.buffer.write((cleaned(text, stored.stdout.decode()) if stored.returncode == 0 else text).encode())


if __name__ == "__main__":
    main()
