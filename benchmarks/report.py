"""Where a benchmark ran, and the file that keeps its figures."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The machine, in words."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return {"cpu": names[0] if names else platform.processor(), "system": platform.platform(), "threads": 1}


def write(report: dict[str, Any], name: str, folder: Path, suffix: str = "") -> Path:
    """Write a report, whose `machine` names where it was made, to a file named after the benchmark and the CPU."""
    slug = re.sub(r"[^a-z0-9]+", "-", report["machine"]["cpu"].lower()).strip("-") or "unknown"
    path = folder / f"{name}-{slug}{suffix}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    return path
