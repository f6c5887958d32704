"""What tests share: the devices present, and a small federation of real images."""

from __future__ import annotations

import os
import signal

import pytest
import ten_clients
import torch
from hypothesis import HealthCheck, settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and tests send it
torch.set_num_threads(1)  # the tests' networks are too small to share, and waiting threads fight over the cores

# The same examples everywhere, and no limit on their time: a busy machine is slow, not wrong. Others are drawn with
# `--hypothesis-profile=search`.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", derandomize=True, **PATIENT)
settings.register_profile("search", max_examples=1000, **PATIENT)
settings.load_profile("steady")

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
if os.environ.get("FLATLAB_REQUIRE_CUDA") and "cuda" not in DEVICES:
    raise pytest.UsageError("make test-gpu needs a CUDA device, and torch sees none")


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
