"""Real images for the tests that want them: from FLATLAB_DATA, else decoded once from ../shared/data, else skipped."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from flatlab.data import Source

DECODER = Path(__file__).parents[3] / "shared" / "data" / "decode.py"


@pytest.fixture(scope="session")
def real_root() -> Callable[[str], Path]:
    """The folder in which `<name>.npz` is."""

    def find(name: str) -> Path:
        root = Path(os.environ.get("FLATLAB_DATA") or Path(tempfile.gettempdir()) / "flatlab-real-images")
        if not (root / f"{name}.npz").exists():
            if "FLATLAB_DATA" in os.environ or not DECODER.exists():
                pytest.skip(f"needs real images: {name}.npz in FLATLAB_DATA, or the set beside the repository")
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / "decoding.lock"):  # tests run side by side
                if not (root / f"{name}.npz").exists():
                    subprocess.run([sys.executable, DECODER, root, name], check=True, stdout=subprocess.DEVNULL)
        return root

    return find


@pytest.fixture
def toy() -> Source:
    """60 train and 30 test images of 3 classes, 2 channels, 6x5 pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 6, 5, 2), dtype=np.uint8)
    labels = np.arange(90) % 3
    return Source.from_arrays("toy", images[:60], labels[:60], images[60:], labels[60:], ["a", "b", "c"])


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that is here."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param
