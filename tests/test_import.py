"""What `import flatlab` costs beside `import torch`, in a process of its own."""

import json
import subprocess
import sys

LATER = {
    "IPython",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "matplotlib",
    "seaborn",
    "pyhessian",
    "scipy.stats",
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
seconds, memory = time.process_time(), held()
import flatlab
print(json.dumps({
    "torch": seconds, "more": time.process_time() - seconds, "memory": held() - memory, "modules": list(sys.modules)
}))
"""


def test_importing_costs_little_more_than_torch():
    for _ in range(3):  # a busy machine may stumble in one half of it
        said = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
        cost = json.loads(said.stdout)
        assert not LATER & set(cost["modules"])
        assert cost["memory"] < 130  # MiB; 88 when it was written
        if cost["more"] < 0.8 * cost["torch"]:  # 0.49 when it was written, most of it pandas
            return
    raise AssertionError(cost)
