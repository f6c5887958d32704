"""The same federated work by flatlab, Flower, pfl-research, fluke and the plain loop of official codes, side by side.

    python benchmarks/rivals/run.py [--setup B] [--full] [--only pfl fluke] [--turns 2] [--data data]

Makes an environment for each peer with venv and pip (about 6 GB each, once), proves on a small problem that all compute
the same, then lets the contestants take turns, so that a busy machine slows all of them. README.md says what is
compared. Start-up and a first round are not counted; memory is that of all processes a contestant starts.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import work as shared
from work import Work

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from report import machine, write  # noqa: E402

ROOM = 8 * 2**30  # bytes an environment may need
PEERS = {"flower": "flwr[simulation]>=1.41", "pfl": "pfl[pytorch]>=0.6", "fluke": "fluke-fl>=0.8.1"}
SCRIPTS = {
    "flatlab": "flatlab_.py",
    "loop": "loop.py",
    "flower": "flower.py",
    "pfl": "pfl_.py",
    "fluke": "fluke_.py",
    "kernels": "kernels.py",
}
CLOSE = 1e-4  # largest difference of a weight that rounding may make in the check


class NotRun(RuntimeError):
    """Why a contestant has no figures."""


@dataclasses.dataclass(frozen=True, eq=False)
class Contestant:
    """A way to do the work."""

    name: str
    kind: str  # a key of SCRIPTS
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    processes: int = 1


def contestants(cores: int) -> list[Contestant]:
    """All of them; Flower and pfl with their work on one worker, and on as many as there are cores."""
    found = [Contestant("flatlab", "flatlab"), Contestant("loop", "loop")]
    for workers in dict.fromkeys((1, cores)):
        options = {"cpus": cores // workers, "cores": cores}
        found.append(Contestant(f"flower, {workers} worker{'s' * (workers > 1)}", "flower", options))
    for count in dict.fromkeys((1, 1 if torch.cuda.is_available() else cores)):  # NCCL wants a GPU for each process
        name = f"pfl, {count} process{'es' * (count > 1)}"
        found.append(Contestant(name, "pfl", {"processes": count}, count))
    found.append(Contestant("fluke", "fluke"))
    # what no toolkit can undercut; on a GPU kernels of several clients run at once, so this is no floor there
    return found if torch.cuda.is_available() else [*found, Contestant("the kernels alone", "kernels")]


def environment(kind: str, folder: Path) -> tuple[Path, str]:
    """The interpreter to run a contestant with, and the version of what it runs; installs a peer that is not there.

    Raises:
        NotRun: if it cannot be installed.
    """
    if kind not in PEERS:
        return Path(sys.executable), importlib.metadata.version("flatlab") if kind == "flatlab" else torch.__version__
    package = PEERS[kind].split(">")[0].split("[")[0]
    python = folder / kind / "bin" / "python"
    ask = [str(python), "-c", f"import torch, importlib.metadata as m; print(m.version({package!r}))"]
    if not python.exists() or subprocess.run(ask, capture_output=True).returncode:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM:
            raise NotRun(f"less than {ROOM // 2**30} GB free in {folder}")
        print(f"{kind}: making {folder / kind} (minutes)", flush=True)
        version = torch.__version__.split("+")[0]
        wanted = [PEERS[kind], f"torch=={version}", "numpy"]
        for command in (
            [sys.executable, "-m", "venv", str(folder / kind)],
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise NotRun(f"could not be installed: {last_line(done.stderr)}")
    done = subprocess.run(ask, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"does not import: {last_line(done.stderr)}")
    return python, done.stdout.strip()


def last_line(text: str) -> str:
    """What an error came to."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def run(contestant: Contestant, python: Path, work: Work, limit: float) -> dict[str, Any]:
    """Run it once; what it reports, and the largest memory seen.

    Raises:
        NotRun: if it fails or takes longer than `limit` seconds.
    """
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch) / "settings.json"
        settings.write_text(json.dumps({"work": work.to_json(), "options": contestant.options}))
        mark = f"RIVALS_MARK={uuid.uuid4().hex}"
        here = dict(item for item in os.environ.items() if item[0] not in ("PYTHONPATH", "VIRTUAL_ENV"))
        here |= dict([mark.split("=")]) | {"XDG_CACHE_HOME": scratch}  # flatlab measures its pace anew
        command = [str(python)]
        if contestant.processes > 1:
            here["OMP_NUM_THREADS"] = str(max(1, cores // contestant.processes))
            command += ["-m", "torch.distributed.run", "--nproc-per-node", str(contestant.processes)]
        command += [str(HERE / SCRIPTS[contestant.kind]), str(settings)]
        with open(Path(scratch) / "log", "w+") as log:
            process = subprocess.Popen(command, env=here, stdout=log, stderr=log, start_new_session=True)
            started, peak = time.monotonic(), 0.0
            try:
                while process.poll() is None and time.monotonic() - started < limit:
                    peak = max(peak, memory(mark))
                    time.sleep(0.5)
                late = process.poll() is None
            finally:
                end(mark, process)
            result = settings.with_suffix(".result")
            if late or process.returncode or not result.exists():
                log.seek(0)
                what = f"took longer than {limit:.0f} s" if late else f"failed: {last_line(log.read())}"
                raise NotRun(what)
        found = json.loads(result.read_text())
        with np.load(settings.with_suffix(".npz")) as file:
            found["final"] = [file[name] for name in file.files]
    return found | {"peak_mb": peak or None}


def marked(mark: str) -> list[Path]:
    """Processes that a contestant started, wherever they hang in the tree: they inherit its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(folder)
        except OSError:
            continue
    return found


def memory(mark: str) -> float:
    """MB that these processes hold, shared pages counted once; 0 where there is no /proc."""
    total = 0
    for folder in marked(mark):
        try:
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def end(mark: str, process: subprocess.Popen[bytes]) -> None:
    """End what is left of a contestant."""
    for folder in marked(mark):
        try:
            os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue
    if process.poll() is None:
        process.kill()
    process.wait()


def figures(work: Work, found: dict[str, Any]) -> dict[str, Any]:
    """Of one turn: the first round warms up, and a test counts for as many rounds as it is for in the published work.

    Raises:
        NotRun: if it did other work than was asked for.
    """
    rounds = found["rounds"]
    if found["samples"] != work.samples * work.total or len(rounds) != work.total:
        asked = f"{work.samples * work.total} asked for"
        raise NotRun(f"did other work: {found['samples']} samples in {len(rounds)} rounds, {asked}")
    train = float(np.mean([one["train"] for one in rounds[1:]]))
    test = float(np.mean([one["test"] for one in rounds if "test" in one]))
    seconds = train + test / work.test_every
    return {
        "seconds_per_round": seconds,
        "samples_per_second": work.samples / seconds,
        "train_seconds": train,
        "test_seconds": test,
        "peak_mb": found["peak_mb"],
        "accuracy": [one for one in rounds if "test" in one][-1]["accuracy"],
        "seconds_in_all": found["seconds_in_all"],
    }


def check(setup: str, runners: dict[Contestant, Path], args: argparse.Namespace, reasons: dict[str, str]) -> Any:
    """Largest difference of a weight to flatlab's after two rounds, where nothing is left to chance.

    All clients take part, a batch is all that a client holds, and nothing is augmented, so the order of images cannot
    matter: whoever computes something else shows.
    """
    small = shared.SMALL[setup]
    small = dataclasses.replace(
        small, rounds=1, population=4, cohort=4, epochs=2, batch=small.each, augment=False, tests=500, test_every=1
    )
    finals: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        small, _ = shared.prepare(small, args.data, Path(folder))
        for contestant, python in runners.items():
            if contestant.kind not in finals:
                try:
                    finals[contestant.kind] = run(contestant, python, small, args.limit)["final"]
                except NotRun as reason:
                    reasons[contestant.name] = f"{reason} (in the check)"
    if "flatlab" not in finals:
        return None
    differences = {}
    for kind, final in finals.items():
        pairs = zip(final, finals["flatlab"], strict=True)
        differences[kind] = max(float(np.abs(one - other).max()) for one, other in pairs)
        if not differences[kind] < CLOSE:
            print(f"  {kind} COMPUTES SOMETHING ELSE: a weight differs by {differences[kind]:.2g}", flush=True)
    print("  largest difference of a weight to flatlab's:", {k: f"{v:.1e}" for k, v in differences.items()}, flush=True)
    return differences


def compare(setup: str, args: argparse.Namespace, versions: dict[str, str]) -> dict[str, Any]:
    """Check, then turns; the results of one setup."""
    wanted = [one for one in contestants(os.cpu_count() or 1) if one.kind in args.only]
    runners, reasons = {}, {}
    for contestant in wanted:
        try:
            runners[contestant], versions[contestant.kind] = environment(contestant.kind, args.envs)
        except NotRun as reason:
            reasons[contestant.name] = str(reason)
    print(f"setup {setup}", flush=True)
    differences = None if args.no_check else check(setup, runners, args, reasons)
    turns: dict[str, list[dict[str, Any]]] = {one.name: [] for one in wanted}
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work, source = shared.prepare(asked(setup, args), args.data, Path(folder))
        for turn in range(args.turns):
            for contestant, python in runners.items():
                if contestant.name in reasons:
                    continue
                try:
                    found = run(contestant, python, work, args.limit)
                    turns[contestant.name].append(figures(work, found))
                except NotRun as reason:
                    reasons[contestant.name] = str(reason)
                    print(f"  {contestant.name}: not run: {reason}", flush=True)
                    continue
                about[contestant.name] = found["about"] | {"parameters": found["parameters"], "torch": found["torch"]}
                last = turns[contestant.name][-1]
                print(
                    f"  turn {turn + 1}, {contestant.name}: {last['seconds_per_round']:.2f} s/round,"
                    f" {last['seconds_in_all']:.0f} s in all",
                    flush=True,
                )
    best = {name: min(done, key=lambda one: one["seconds_per_round"]) for name, done in turns.items() if done}
    base = best.get("flatlab", {}).get("seconds_per_round")
    results: dict[str, Any] = {}
    for one in wanted:
        if one.name in reasons:
            results[one.name] = {"not_run": reasons[one.name]}
        else:
            ratio = best[one.name]["seconds_per_round"] / base if base else None
            results[one.name] = {"seconds_of_flatlab": ratio, **best[one.name], "turns": turns[one.name]}
            results[one.name] |= {"about": about[one.name]}
    scores = [one["accuracy"] for one in best.values()]
    return {
        "work": {name: value for name, value in work.to_json().items() if name != "folder"},
        "images": source,
        "weight_differences_in_check": differences,
        "accuracy_spread": max(scores) - min(scores) if scores else None,
        "contestants": results,
    }


def asked(setup: str, args: argparse.Namespace) -> Work:
    """The work, with the command line's changes."""
    work = (shared.FULL if args.full else shared.SMALL)[setup]
    changes = {name: getattr(args, name) for name in ("rounds", "epochs") if getattr(args, name) is not None}
    if args.clients is not None:
        changes |= {"cohort": args.clients}
        changes |= {"population": args.clients if setup == "B" else max(work.population, args.clients)}
    if args.no_augment:
        changes |= {"augment": False}
    return dataclasses.replace(work, **changes)


def table(setup: str, report: dict[str, Any]) -> str:
    """For a terminal."""
    work = Work(**report["work"])
    lines = [
        f"setup {setup}: {report['images']}, {work.cohort} of {work.population} clients x {work.each} images x"
        f" {work.epochs} epochs, batch {work.batch}, {work.rounds} rounds; the best of each one's turns",
        f"{'':22}{'s/round':>9}{'x flatlab':>11}{'samples/s':>11}{'peak MB':>9}{'accuracy':>10}",
    ]
    for name, one in report["contestants"].items():
        if "not_run" in one:
            lines.append(f"{name:22}not run: {one['not_run']}")
            continue
        ratio, peak = one["seconds_of_flatlab"], one["peak_mb"]
        lines.append(
            f"{name:22}{one['seconds_per_round']:9.2f}{f'{ratio:.2f}' if ratio else '':>11}"
            f"{one['samples_per_second']:11,.0f}{f'{peak:,.0f}' if peak else '':>9}{one['accuracy']:10.3f}"
        )
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setup", choices=["A", "B"], default="B", help="whose published work; see README.md")
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="the published sizes: hours on a CPU")
    parser.add_argument("--rounds", type=int, help="timed rounds")
    parser.add_argument("--clients", type=int, help="clients of a round")
    parser.add_argument("--epochs", type=int, help="local epochs")
    parser.add_argument("--no-augment", action="store_true", help="no crop and flip in setup B")
    parser.add_argument("--no-check", action="store_true", help="skip the proof that all compute the same")
    parser.add_argument("--limit", type=float, help="seconds that a contestant may take in a turn")
    parser.add_argument("--envs", type=Path, default=Path(tempfile.gettempdir()) / "rivals-envs")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of cifar10.npz; without: random images")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    args = parser.parse_args(given)
    args.limit = args.limit or (float("inf") if args.full else 600)
    versions = {"python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__}
    found = compare(args.setup, args, versions)
    where = machine() | {"threads": os.cpu_count()}
    if torch.cuda.is_available():
        where |= {"gpu": torch.cuda.get_device_name()}
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": where,
        "versions": versions,
        "setup": args.setup,
        "sizes": "published" if args.full else "scaled down",
        "seconds_of_flatlab": "seconds of a round divided by flatlab's; above 1 is slower",
        **found,
    }
    print(f"\n{table(args.setup, found)}")
    suffix = f"-{args.setup.lower()}" + "-full" * args.full + "-gpu" * torch.cuda.is_available()
    print(f"\nwritten to {write(report, 'rivals', args.out, suffix)}")


if __name__ == "__main__":
    main()
