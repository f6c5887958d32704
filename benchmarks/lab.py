"""What the lab costs a run: rounds with a live bench against rounds without, and how soon buttons and cells answer.

    python benchmarks/lab.py [--rounds 12] [--repeats 5] [--browser] [--out benchmarks/results]

Digits, 20 clients, `cnn4` at full width. The same run goes on in turns of some rounds, under a bare session and under a
bench whose Curves tab is in front (no browser unless asked for). Buttons are pressed at random moments; what is counted
is the time until the session rests or moves, less what was left of the round in flight. "Another cell" is a tenth of a
second of numpy in the main thread while a round runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import header, write

import flatlab as fl
from flatlab.lab import Lab, Session
from flatlab.training import Run

LONG = 10_000  # rounds: more than will be done


def bench(store: str) -> Lab:
    """The bench, with its run made."""
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
    lab = Lab(data, store=store, model="cnn4", rounds=LONG, participation=0.5)
    lab.ensure(1)
    lab.settle()
    return lab


def seconds_of(ensure: Callable[[int], object], run: Run, rounds: int) -> float:
    """Seconds a round."""
    start = time.perf_counter()
    ensure(run.round + rounds)
    return (time.perf_counter() - start) / rounds


def training(lab: Lab, rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds and processor seconds a round with and without the bench, in turns, and medians of the paired ratios."""
    run = lab.run
    assert run is not None
    seconds: dict[str, list[float]] = {"bare": [], "live": []}
    processor: dict[str, list[float]] = {"bare": [], "live": []}
    sent: list[int] = []
    chart = lab.tabs.panels[lab.tabs.front].chart
    show = chart.show
    chart.show = lambda shown: sent.append(show(shown))

    def measured(kind: str, ensure: Callable[[int], object]) -> None:
        begun = time.process_time()
        seconds[kind].append(seconds_of(ensure, run, rounds))
        processor[kind].append((time.process_time() - begun) / rounds)

    for _ in range(repeats):
        session = Session(run)  # takes the place of the bench's own
        measured("bare", session.ensure)
        session.stop()
        lab.start()
        lab.ensure(run.round + 1)
        measured("live", lab.ensure)
        lab.pause()
        lab.settle()
    report: dict[str, Any] = {"updates": len(sent), "bytes_per_update": statistics.median(sent)}
    for name, found in (("seconds", seconds), ("processor_seconds", processor)):
        ratios = [live / bare for live, bare in zip(found["live"], found["bare"], strict=True)]
        report |= {name: found, f"{name}_median_ratio": statistics.median(ratios)}
    return report


CELLS = [
    "import sys\nsys.path.insert(0, {here!r})\nimport lab as measuring\nlab = measuring.bench('store')\nlab",
    "import json\nprint('REPORT', json.dumps(measuring.training(lab, {rounds}, {repeats})), 'END')",
]
DRAWN = (
    "() => { window.drawn = []; document.addEventListener('flatlab-drawn',"
    " ({ detail }) => window.drawn.push(Date.now() / 1000 - detail.stamp)) }"
)


def attached(rounds: int, repeats: int) -> dict[str, Any]:
    """The same with JupyterLab and chromium on the same cores; the time from a round's end to its paint; traffic."""
    tests = Path(__file__).parents[1] / "tests"
    sys.path[:0] = [str(tests / "browser"), str(tests)]  # the helpers of the browser test, and theirs
    from jupyter import CHROMIUM, FLAGS, Notebook, server
    from playwright.sync_api import sync_playwright

    cells = [cell.format(here=str(Path(__file__).parent), rounds=rounds, repeats=repeats) for cell in CELLS]
    with (
        tempfile.TemporaryDirectory() as home,
        server(Path(home) / "jupyter", cells) as address,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        notebook = Notebook(browser, address)
        frames: list[int] = []
        spy = notebook.page.context.new_cdp_session(notebook.page)
        spy.send("Network.enable")
        spy.on("Network.webSocketFrameReceived", lambda event: frames.append(len(event["response"]["payloadData"])))
        notebook.run(0)
        notebook.output(0).locator(".flatlab-chart").first.wait_for(timeout=120_000)
        notebook.page.evaluate(DRAWN)
        first, frames[:] = sum(frames), []
        notebook.run(1)
        notebook.page.wait_for_function("() => document.body.textContent.includes(' END')", timeout=1_200_000)
        said = notebook.output(1).inner_text()
        drawn = sorted(notebook.page.evaluate("() => window.drawn"))
        browser.close()
    report = json.loads(said.split("REPORT", 1)[1].rsplit("END", 1)[0])
    latency = {"median": statistics.median(drawn), "95 %": drawn[int(0.95 * len(drawn))]}
    return report | {"first_bytes": first, "bytes": sum(frames), "painted": len(drawn), "paint_after_seconds": latency}


def answers(store: str, presses: int) -> dict[str, float]:
    """The longest time to rest after Pause or Stop and to begin after Step, less a round; and another cell's."""
    lab = bench(store)
    chance = random.Random(0)
    assert lab.run is not None
    assert lab.session is not None
    lab.ensure(lab.run.round + 3)
    round_seconds = lab.run.timings[["seconds", "evaluation_seconds"]].sum(axis=1).tail(3).max()
    worst = {"pause": 0.0, "step": 0.0, "stop": 0.0, "cell": 0.0}

    def timed(name: str, press: Callable[[], object], over: Callable[[], bool]) -> None:
        start = time.perf_counter()
        press()
        while not over():
            time.sleep(0.002)
        worst[name] = max(worst[name], time.perf_counter() - start - round_seconds)

    for _ in range(presses):
        before = lab.run.round
        timed("step", lab.step, lambda before=before: lab.run.round > before)
        lab.start()
        time.sleep(chance.uniform(0.2, 2 * round_seconds))
        alone = time.perf_counter()
        matrix = np.random.default_rng(0).normal(size=(200, 200))
        for _ in range(20):
            matrix = np.tanh(matrix @ matrix.T / 200)
        worst["cell"] = max(worst["cell"], time.perf_counter() - alone)
        timed("pause", lab.pause, lambda: lab.session.state == "paused")
    lab.start()
    time.sleep(0.2)
    timed("stop", lab.stop, lambda: lab.session.state == "stopped")
    lab.close()
    return {"round_seconds": float(round_seconds), **{f"{name}_seconds": value for name, value in worst.items()}}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--browser", action="store_true", help="once more with JupyterLab and chromium attached")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as store:
        report: dict[str, Any] = {
            **header("torch", "ipywidgets", "matplotlib"),
            "training": training(bench(f"{store}/a"), arguments.rounds, arguments.repeats),
            "answers": answers(f"{store}/b", 6),
        }
        if arguments.browser:
            report["attached"] = attached(arguments.rounds, arguments.repeats)
    report["processes_waiting"] = [*load, os.getloadavg()[0]]  # before and after: on a quiet machine about 0 and 1
    print(json.dumps(report, indent=1))
    print(f"written to {write(report, 'lab', arguments.out)}")


if __name__ == "__main__":
    main()
