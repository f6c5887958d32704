"""What the documentation shows is run as it stands."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page):
    """The Python blocks of a page, each with the line that it begins in."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.S | re.M):
        yield text[: match.start()].count("\n") + 2, match[1]


@pytest.mark.parametrize("page", ["extending.md"])
def test_blocks_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code in blocks(page):
        exec(compile("\n" * (line - 1) + code, str(DOCS / page), "exec"), names)


def test_where_to_change_what_names_files_that_exist():
    table = (DOCS / "where.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| `(flatlab/[^`]+)`", table, re.M)
    assert len(rows) >= 17
    missing = [path for _, path in rows if not (DOCS.parent / path).exists()]
    assert not missing
