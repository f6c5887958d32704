"""Which version of flatlab this is, and of other packages."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path


def version() -> str:
    """The version of flatlab, as `fl.__version__`: of the installed package, else what its source tree says.

    >>> fl.__version__ == fl.version.version()
    True
    """
    return package_version("flatlab") or _written_version(Path(__file__).resolve().parents[1]) or "unknown"


def package_version(name: str) -> str | None:
    """The version of an installed package; None if there is no record of one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _written_version(tree: Path) -> str | None:
    """The version that a source tree says it is."""
    try:
        settings = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
        return str(settings["tool"]["setuptools_scm"]["fallback_version"])
    except (OSError, ValueError, KeyError):
        return None
