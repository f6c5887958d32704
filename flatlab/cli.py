"""The command line: `flatlab demo | run | show | watch | reproduce | schema | story | lab`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import functools
import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from . import figures
from .algorithms import Algorithm, FedBABU, Local, Schedule, Server
from .arguments import Seconds, fitted
from .command_line import called, complain, parsed
from .data import DataSpec, Dirichlet, Partition
from .declare import Family, SettingError
from .describe import sample, settings_text
from .files import printable, user_folder, user_path
from .geometry import hessian, landscape
from .later import pd
from .models import registered
from .papers import command as papers
from .papers import demonstration
from .results import spread
from .training import BadCheckpoint, Diverged, Experiment, RankLost, Ranks, Run, RunBusy, Standing, train_shared
from .training.importing import import_module
from .training.progress import Lines, reporter
from .training.start import reuse_rounds
from .training.status import readable, summary

WRONG_PATH = (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
DAY = 86400  # seconds
SAMPLE = Experiment(
    data=DataSpec(name="digits", partition=Dirichlet(alpha=0.3), clients=20), algorithm=FedBABU(), rounds=40
)
INTERRUPTED = 130  # exit status after Ctrl-C, by custom 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for a wrong setting, 1 for a failed run, 130 after an interrupt."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parsed(arguments, COMMANDS)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal of few letters gets the others spelled out
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():  # each is one line, without the line of code that gave it
            warnings.showwarning = lambda message, *_: _say(f"flatlab: {message}", to=sys.stderr)
            if modules := getattr(options, "modules", []):
                sys.path.insert(0, str(Path.cwd()))  # as `python -m flatlab` has it
                for name in modules:
                    import_module(name)
            options.command(options)
    except (RunBusy, Diverged, BadCheckpoint, RankLost) as error:
        return complain(error, 1)
    except ValueError as error:
        return complain(error, 2)
    except OSError as error:
        return complain(error, 2 if error.errno in WRONG_PATH or type(error) is FileNotFoundError else 1)
    except KeyboardInterrupt as error:
        return complain(str(error) or "interrupted", INTERRUPTED)
    return 0


def _say(*lines: object, to: TextIO | None = None) -> None:
    """Print lines; names of folders, runs and settings may hold anything, and nothing of it commands the terminal."""
    print(*map(printable, lines), sep="\n", file=to or sys.stdout, flush=True)


def demo(options: argparse.Namespace) -> None:
    """Show on digits what the two papers claim: train them, print one table and what it says, write one figure."""
    store, root = user_folder(options.store, "store"), user_folder(options.root, "root")
    demonstration.demo(store, root, options.device, _say, functools.partial(_say, to=sys.stderr))


def run(options: argparse.Namespace) -> None:
    """Train the experiment of a TOML or JSON file, from where it is; under torchrun with all its processes."""
    options.wait = fitted("wait", options.wait, Seconds)
    experiment = Experiment.from_file(options.experiment, dict(options.set))
    if Ranks.launched():
        _run_shared(experiment, options)
        return
    chosen = Run(experiment, store=options.store, device=options.device, root=options.root)
    _say(f"run: {chosen.directory}", to=sys.stderr)
    if said := reuse_rounds(chosen):
        _say(said, to=sys.stderr)
    try:
        chosen.to(listener=reporter(chosen), wait=options.wait)
    except KeyboardInterrupt:
        raise _stopped(f"stopped after round {chosen.round} of {chosen.rounds}", options) from None
    _summary(chosen)


def _stopped(said: str, options: argparse.Namespace) -> KeyboardInterrupt:
    return KeyboardInterrupt(f"{said}; go on with: {shlex.join(['flatlab', *options.arguments])}")


def _run_shared(experiment: Experiment, options: argparse.Namespace) -> None:
    ranks = Ranks(options.device)
    try:
        own_gpu = ranks.device.type == "cuda"
        device = ranks.device if own_gpu or options.device == "auto" else options.device
        chosen = Run(experiment, store=options.store, device=device, root=options.root)
        if ranks.rank == 0:
            _say(f"run: {chosen.directory}, {ranks.size} processes", to=sys.stderr)
        train_shared(chosen, ranks, reporter(chosen, show=ranks.rank == 0), options.wait)
        if ranks.rank == 0:
            _summary(chosen)
    except KeyboardInterrupt:
        if ranks.rank != 0:
            raise SystemExit(INTERRUPTED) from None  # the first process says it
        raise _stopped(f"stopped after round {chosen.round} of {chosen.rounds}", options) from None
    finally:
        ranks.leave()


def show(options: argparse.Namespace) -> None:
    """Print a run's results and write its figures beside it."""
    chosen = Run.open(options.run, root=options.root, device=options.device)
    own = {} if options.client is None else {"client": options.client}
    for name, needed in (("client", "hessian or --landscape"), ("budget", "hessian"), ("tolerance", "hessian")):
        asked = options.hessian or (name == "client" and options.landscape)
        if (value := getattr(options, name)) is not None and not asked:
            raise SettingError(f"--{name}", value, f"is of a measurement: give --{needed}, too")
    if options.hessian or options.landscape:
        if chosen.kept and options.client is None:
            raise SettingError(
                "--client",
                allowed=f"{chosen.name} has no global model, its clients have their own; choose one: --client 0 to"
                f" {chosen.data.clients - 1}",
            )
        if own and not chosen.kept:
            raise SettingError("--client", options.client, f"{chosen.name} has a global model; leave it out")
        chosen.model(**own)
    _summary(chosen)
    drawn: dict[str, Any] = {"curves": chosen}
    if options.hessian:
        effort = {name: getattr(options, name) for name in ("budget", "tolerance")}
        measured = hessian(chosen, **own, **{name: value for name, value in effort.items() if value is not None})
        top, trace = measured.top(5), measured.trace()
        print(f"\n{_table(top.summary())}\n{_table(trace.summary())}")
        drawn["spectrum"] = measured.spectrum()
    if options.landscape:
        drawn["landscape"] = landscape(chosen, refine=True, **own)
    for name, result in drawn.items():
        written = figures.save(figures.draw(result), chosen.directory / f"{name}.png")
        _say(f"figure: {written[0].resolve()}")


def watch(options: argparse.Namespace) -> None:
    """Print how far the runs of a store have come, once or again and again, while others train them."""
    if options.every is not None and not 0 < options.every <= DAY:
        raise SettingError("every", options.every, f"must be more than 0 and at most {DAY} seconds")
    store = Standing(options.store)
    screen = Lines(sys.stdout) if options.every and sys.stdout.isatty() else None
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        while True:
            table = store.table()
            lines = [f"{options.store}: no runs yet"]
            problems = [f"{name}: cannot be read here: {why}" for name, why in store.unreadable.items()]
            if len(table):
                lines = [*_table(readable(table).assign(run=table["run"])).splitlines(), summary(table), *problems]
            elif options.every is None:
                problem = "".join(f"; {line}" for line in problems)
                raise FileNotFoundError(f"{options.store}: holds no run that can be read here{problem}")
            if screen is None:
                _say(*lines)
            else:
                screen.write(lines)
            if options.every is None or (len(table) and (table["round"] == table["rounds"]).all()):
                return
            time.sleep(options.every)


def reproduce(options: argparse.Namespace) -> None:
    """Run or resume tables, figures and claims of the papers, from what is kept; without names, list them."""
    names = [field.name for field in dataclasses.fields(papers.Options)]
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    given |= {name: tuple(given[name]) for name in ("names", "cell") if name in given}
    given |= {
        name: user_path(given[name], name) for name in ("results", "store", "root", "merge", "page") if name in given
    }
    try:
        papers.reproduce(papers.Options(**given), _say)
    except KeyboardInterrupt:
        raise _stopped("stopped; what is finished is kept", options) from None


def schema(options: argparse.Namespace) -> None:
    """Print settings with type, range, default and help: those named, or all, and what local steps cost."""
    if options.json and options.toml:
        raise SettingError("--toml", allowed="--json prints something else: give one of them")
    if options.json:
        families: tuple[type[Family], ...] = (Algorithm, Local, Partition, Schedule, Server)
        kinds = {
            family.__name__: {kind: member.model_json_schema() for kind, member in family.members().items()}
            for family in families
        }
        print(json.dumps({"Experiment": Experiment.model_json_schema(), "kinds": kinds}, indent=1))
        return
    if options.toml:
        print(sample(SAMPLE), end="")
        return
    _say("\n\n".join(settings_text(declared) for declared in called(options.names, Experiment)) + "\n")
    if options.names:
        return
    print(f"Cost of a local step, in gradients of a batch\n{_table(_costs())}\n")
    print(f"Networks: {', '.join(registered())}")


def _costs() -> pd.DataFrame:
    """What a step of each algorithm costs with its default settings, and of each local step that it may be given."""
    kinds: dict[str, Any] = {**Algorithm.members(), **{f"local = {k}": kind for k, kind in Local.members().items()}}
    rows = []
    for name, kind in kinds.items():
        with contextlib.suppress(SettingError):  # of a user's own: a setting that must be given
            rows.append({"kind": name, "gradients": kind().gradients_per_step})
    return pd.DataFrame(rows)


def story(options: argparse.Namespace) -> None:
    """Tell a story of those that come with flatlab: what was trained, and what its numbers say."""
    from . import stories

    if options.name is None:
        return _say(*(f"{name}: {title}" for name, title in stories.TITLES.items()))
    told = stories.story(options.name)
    if options.make:
        store, root = (user_folder(getattr(options, name), name) for name in ("store", "root"))
        stories.make(told, store, root, options.device, functools.partial(_say, to=sys.stderr))
    _say(told.title, told.about, told.protocol(), *(f"- {sentence}" for sentence in told.sentences()))
    if options.page is not None:
        _say(f"page: {told.page().save(options.page).resolve()}")


def lab(options: argparse.Namespace) -> None:
    """Open JupyterLab on a notebook or a folder; what stands after -- goes to Jupyter."""
    from . import notebook_copies as notebooks

    place, copied = notebooks.place_of(options.place, options.to)
    if copied:
        _say(f"{len(copied)} notebooks copied to {copied[0].parent.resolve()}", to=sys.stderr)
    notebooks.open_lab(place, options.further)


MEASURED_ON = {
    "holdout": "global test set",
    "unseen": "unseen domains",
    "attack": "triggered images",
    "test": "clients' own test sets",
}


def _summary(chosen: Run) -> None:
    history = chosen.history
    rows = []
    for (split, metric), values in history[history["split"] != "train"].groupby(["split", "metric"]):
        final = values[values["round"] == values["round"].max()]
        over = spread(final["value"])
        rows.append(
            {
                "measured on": MEASURED_ON[str(split)],
                "metric": metric,
                "round": int(final["round"].iloc[0]),
                "mean": f"{over.mean:.4f}",
                "std over clients": f"{over.std:.4f}" if split == "test" else "",
                "left out": over.left_out,
            }
        )
    _say(f"{chosen.id}: {chosen.name}, {chosen.round} of {chosen.rounds} rounds")
    print(_table(pd.DataFrame(rows)) if rows else "nothing evaluated yet")
    times = chosen.timings
    if len(times):
        speed = times["samples"].sum() / times["seconds"].sum()
        print(f"{times['seconds'].mean():.3f} s a round, {speed:,.0f} samples/s while training")


def _table(frame: pd.DataFrame) -> str:
    return frame.map(lambda cell: printable(cell) if isinstance(cell, str) else cell).to_string(index=False)


COMMANDS = (demo, run, show, watch, reproduce, schema, story, lab)
if __name__ == "__main__":
    sys.exit(main())
