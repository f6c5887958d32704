"""The documentation site: `make docs` builds it into docs/_build, strictly (a warning is an error) and offline."""

import os
import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402

ROOT = HERE.parent
URL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

project, author, copyright = "flatlab", "the flatlab developers", "the flatlab developers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "flatlab"
smartquotes = False
exclude_patterns = ["_build"]
myst_heading_anchors = 3

# Pages whose text stands elsewhere; what their own file has comes after it.
ELSEWHERE = {
    "index": "README.md",
    "data": "data/README.md",
    "notebooks": "notebooks/README.md",
    "contributing": "CONTRIBUTING.md",
}


def with_links(text, folder):
    """Links of a file in `folder`, as a page of the site has them: to a page, else to the repository."""

    def lead(match):
        target, _, anchor = match[1].partition("#")
        if not target or ":" in target:
            return match[0]
        path = Path(os.path.normpath(folder / target))
        pages = {ROOT / file: f"{page}.md" for page, file in ELSEWHERE.items()}
        if path.is_relative_to(HERE) and path.exists():
            place = str(path.relative_to(HERE))
        elif path.suffix == ".png":
            place = os.path.relpath(path, HERE)
        else:
            place = pages.get(path) or f"{URL}/blob/main/{path.relative_to(ROOT).as_posix()}"
        return f"]({place}{'#' + anchor if anchor else ''})"

    return re.sub(r"\]\(([^)\s]+)\)", lead, text)


def read(app, name, source):
    """Give pages their text from elsewhere."""
    if name.startswith("reference/"):
        return
    source[0] = with_links(source[0], HERE)
    if name in ELSEWHERE:
        file = ROOT / ELSEWHERE[name]
        source[0] = with_links(file.read_text(encoding="utf-8"), file.parent) + "\n" + source[0]


def setup(app):
    """Write the reference before anything is read."""
    app.connect("builder-inited", lambda app: reference.write(HERE / "reference"))
    app.connect("source-read", read)
