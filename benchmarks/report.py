"""Where a benchmark ran, and the file that keeps its figures."""

from __future__ import annotations

import datetime
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from flatlab.version import package_version


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """The machine, in words; what computes stands under "cpu", also if it is a GPU."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    cpu = names[0] if names else platform.processor()
    cuda = torch.device(device).type == "cuda"
    return {
        "cpu": torch.cuda.get_device_name(device) if cuda else cpu,
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def header(*packages: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """How a report begins: date, machine, versions of these packages."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(device),
        "versions": {name: package_version(name) for name in packages},  # none of a source tree that is not installed
    }


def write(report: dict[str, Any], name: str, folder: Path, suffix: str = "") -> Path:
    """Write a report, whose `machine` names where it was made, to a file named after the benchmark and the CPU."""
    slug = re.sub(r"[^a-z0-9]+", "-", report["machine"]["cpu"].lower()).strip("-") or "unknown"
    path = folder / f"{name}-{slug}{suffix}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    return path
