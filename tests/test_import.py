"""What flatlab costs beside torch, in a process of its own: nothing when imported, little when all of it is used."""

import json
import os
import re
import subprocess
import sys

import pytest

LATER = {
    "IPython",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "matplotlib",
    "seaborn",
    "pandas",
    "pyarrow",
    "pyhessian",
    "scipy",
    "sklearn",
    "torchvision",
}
MEASURED = """
import json, sys, time

def held():
    try:
        with open("/proc/self/status") as file:  # without pages of files, which come and go with the system's cache
            return next(int(line.split()[1]) / 2**10 for line in file if line.startswith("RssAnon"))  # MiB
    except OSError:  # no Linux
        return 0

import torch
seconds, memory = [time.process_time()], held()
import flatlab
seconds.append(time.process_time())
flatlab.load, flatlab.train, flatlab.hessian, flatlab.zoo
seconds.append(time.process_time())
print(json.dumps({"seconds": seconds, "memory": held() - memory, "modules": list(sys.modules)}))
"""


def test_importing_costs_little_more_than_torch():
    for _ in range(3):  # a busy machine may stumble in one half of it
        said = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
        cost = json.loads(said.stdout)
        assert not LATER & set(cost.pop("modules"))
        assert cost["memory"] < 100  # MiB, with every public name; 13 when it was written
        torch, imported, used = cost["seconds"]
        # with every public name .17 when it was written, twice that where no bytecode is kept
        if imported - torch < 0.1 * torch and used - torch < 0.5 * torch:
            return
    raise AssertionError(cost)


def test_threads_that_wait_for_each_other_fall_asleep_so_that_processes_can_share_cores():
    def told(*lines, **environment):
        """What OpenMP says of its settings as it is loaded."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        said = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            capture_output=True, text=True, check=True, env=kept | {"OMP_DISPLAY_ENV": "VERBOSE"} | environment,
        ).stderr  # fmt: skip
        return dict(re.findall(r"(\w+) = '(\w+)'", said))

    if "GOMP_SPINCOUNT" not in told("import torch"):
        pytest.skip("torch has another OpenMP than GNU's here")
    assert told("import flatlab", "flatlab.train")["GOMP_SPINCOUNT"] == "10000"
    assert told("import flatlab", "flatlab.train", GOMP_SPINCOUNT="7")["GOMP_SPINCOUNT"] == "7"
    passive = told("import flatlab", "flatlab.train", OMP_WAIT_POLICY="passive")
    assert passive["GOMP_SPINCOUNT"] == "0" and passive["OMP_WAIT_POLICY"] == "PASSIVE"
