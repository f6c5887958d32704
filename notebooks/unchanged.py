"""What git stores of a notebook that was run by hand: what it had, as long as the cells are the same.

A clean filter (.gitattributes): it reads a notebook from standard input and writes what git is to compare. Running a
notebook changes its outputs and numbers, which is no change of the notebook. One that `make notebooks` has built anew
says so by the digest of its outputs, and is taken as it is.

`git status` calls no filter where a file's size has changed, and lists it. So each time that Jupyter has saved a notebook
that has not changed, or that a command of Jupyter ends (`jupyter execute --inplace`), git is told that it has looked at it.
`make setup` installs all of that: `python notebooks/unchanged.py --install`. What writes past Jupyter (VS Code) is listed until
`git add --update`, and never has a difference.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
HERE = Path(__file__).resolve()
# Worktrees share git's settings, and have no environment of their own: without the script or Python a file is taken as it is.
SCRIPT, PYTHON = "notebooks/unchanged.py", shlex.quote(sys.executable)
FILTER = f"if test -x {PYTHON} -a -f {SCRIPT}; then {PYTHON} {SCRIPT} %f; else cat; fi"
NAME = "flatlab-notebook"
HEAD = "# Written by flatlab's `make setup`."
HOOK = f"""{HEAD}
import atexit
import sys
from pathlib import Path

sys.path.append({str(HERE.parent)!r})
if Path(sys.path[-1], "unchanged.py").exists():
    import unchanged

    c.ContentsManager.post_save_hook = "unchanged.saved"
    atexit.register(unchanged.look_again)
"""


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


def git(folder: Path | None, *words: str) -> str | None:
    """What git answers; None where it refuses."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True)
    return done.stdout.decode() if done.returncode == 0 else None


def saved(model: dict[str, Any], os_path: str, contents_manager: object) -> None:
    """Jupyter has saved a file: if it is a notebook of ours that has not changed, `git status` is not to list it."""
    path = Path(os_path)
    ours = (git(path.parent, "check-attr", "filter", "--", path.name) or "").endswith(f": {NAME}\n")
    before = git(path.parent, "show", f":./{path.name}") if ours else None
    if before is not None and cleaned(path.read_text("utf-8"), before) == before:
        git(path.parent, "-c", f"filter.{NAME}.clean={FILTER}", "update-index", "--", path.name)


def look_again() -> None:
    """A command of Jupyter ends, and may have run notebooks where they lie: as if it had saved them."""
    root = HERE.parent.parent
    for name in (git(root, "diff-files", "--name-only", "--", "*.ipynb") or "").splitlines():
        if (root / name).exists():
            saved({}, str(root / name), None)


def install() -> None:
    """Make the filter known to git, and the hooks to this environment's Jupyter; what others have set there stays."""
    git(HERE.parent, "config", f"filter.{NAME}.clean", FILTER)
    settings = Path(sys.prefix) / "etc" / "jupyter" / "jupyter_config.py"  # of all its commands
    earlier = settings.with_name("jupyter_server_config.py")
    ours = [place for place in (settings, earlier) if not place.exists() or place.read_text("utf-8").startswith(HEAD)]
    if settings in ours:
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(HOOK, "utf-8")
    if earlier in ours:
        earlier.unlink(missing_ok=True)


def main() -> None:
    """The filter."""
    text, before = sys.stdin.buffer.read().decode(), git(None, "show", f":./{sys.argv[1]}")
    sys.stdout.buffer.write((text if before is None else cleaned(text, before)).encode())


if __name__ == "__main__":
    install() if sys.argv[1:] == ["--install"] else main()
