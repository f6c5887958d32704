"""The helpers of the browser tests lie beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def browser():
    """Chromium, without a page; asked for only where `test_*.py` found it and playwright."""
    from jupyter import CHROMIUM, FLAGS
    from playwright import sync_api

    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
