"""What tests share: the devices present, and a small federation of real images."""

from __future__ import annotations

import gc
import os
import signal

import pytest
import ten_clients
import torch
from hypothesis import HealthCheck, settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and tests send it
# The tests' networks are too small to share, and waiting threads fight over the cores: here, and in what is started here
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.fsync = lambda _: None  # nobody cuts the power here: runs by the hundred need not wait for the disk

# The same examples everywhere, and no limit on their time: a busy machine is slow, not wrong. Others are drawn with
# `--hypothesis-profile=search`.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", derandomize=True, **PATIENT)
settings.register_profile("search", max_examples=1000, **PATIENT)
settings.load_profile("steady")

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
if os.environ.get("FLATLAB_REQUIRE_CUDA") and "cuda" not in DEVICES:
    raise pytest.UsageError("make test-gpu needs a CUDA device, and torch sees none")


def pytest_collection_finish():
    """What is imported by now stays: Python's collector of garbage need not go through it a hundred times.

    Frozen it would vanish from `gc.get_referrers`, by which earlier versions of hypothesis tell what is in use.
    """
    gc.collect()
    gc.set_threshold(7_000, 10, 100)  # ten times the usual, for what tests leave behind


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device that is present, in turn."""
    return request.param


@pytest.fixture(scope="session")
def digits():
    """Real handwritten digits, 8x8, held by 10 clients of unequal sizes."""
    return ten_clients.digits()


@pytest.fixture(scope="session")
def few_digits():
    """A third of them, for tests in which nothing has to be learned."""
    return ten_clients.few_digits()


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """A folder of data sets in which "few" is a third of the digits, read without scikit-learn: see `few_in_a_file`."""
    return ten_clients.few_in_a_file(tmp_path_factory.mktemp("data"))
