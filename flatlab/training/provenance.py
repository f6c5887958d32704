"""Which code made a run, on which machine, and how it computes."""

from __future__ import annotations

import datetime
import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from ..version import package_version, version
from .clients import Cohort

PACKAGES = ("torch", "torchvision", "numpy", "pandas")
GIT_SECONDS = 10.0


@functools.cache
def made_by() -> dict[str, Any]:
    """Versions of flatlab (with commit and dirty flag in a checkout), of what it computes with, and the processor."""
    home = Path(__file__).resolve().parents[1]
    return {
        "flatlab": version(),
        **checkout(home),
        **{name: package_version(name) for name in PACKAGES},
        "torch": torch.__version__,  # with the build, as 2.14.1+cu126
        "python": platform.python_version(),
        "processor": processor(),
    }


def computed_by(cohort: Cohort) -> dict[str, Any]:
    """By what, and how, rounds are computed here: what stands in a run's `versions.json`."""
    device = cohort.data.images.device
    return {
        **made_by(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "device_type": device.type,
        "engine": cohort.way,
        "precision": cohort.precision,
        "channels_last": cohort.channels_last,
        "convolution": "grouped",  # earlier versions knew another way, too
        **({"graphs": "of each client"} if cohort.way == "graph" else {}),  # they rounded in another way as one
        "threads": cohort.threads,
        "workers": cohort.workers,
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def checkout(package: Path) -> dict[str, Any]:
    """The commit of the git checkout that `package` lies in, and whether its files differ; {} if it is in none."""
    if not (package.parent / ".git").exists():  # a package installed inside somebody's project is not that project
        return {}
    try:
        commit = _git(package, "rev-parse", "HEAD")
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return {"commit": commit, "dirty": bool(_git(package, "status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):  # no git, not one's own folder, or a copy without history
        return {}


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name"]
    return named[0] if named else platform.processor() or platform.machine()


def _git(folder: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=GIT_SECONDS
    )
    return done.stdout.strip()
