"""The arguments of the command line, and how it says what is wrong with them: in one line, as everything there does."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from .declare import Declared, SettingError, near, shown
from .describe import within
from .files import printable
from .papers.command import parse_part
from .papers.tables import SCALES
from .training.device import Precision
from .values import read_number
from .version import version

LONGEST = 1500  # signs of a message
Command = Callable[[argparse.Namespace], None]


def complain(error: object, status: int) -> int:
    """Say what was wrong in one line without what a terminal would obey; returns the status."""
    line = "; ".join(str(error).splitlines())
    print("flatlab:", printable(line if len(line) <= LONGEST else f"{line[:LONGEST]}…"), file=sys.stderr)
    return status


def _change(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{shown(text)}: write it as name=value, e.g. algorithm.lr=0.05")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):  # a bare word, or a number that TOML writes otherwise
        return name, read_number(value.strip())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        sys.exit(complain(f"{message} (see {self.prog} --help)", 2))


def parsed(arguments: Sequence[str], functions: Sequence[Command]) -> argparse.Namespace:
    """The options of a call, with its function as `command`; each function is a command of its name.

    Raises:
        SystemExit: with status 2, after a line that says what is wrong; with 0 for help.
    """
    parser, commands = _parser({function.__name__: function for function in functions})
    if arguments and arguments[0][:1] != "-" and arguments[0] not in commands:
        parser.error(f"{arguments[0]}: no such command{near(arguments[0], commands)}")
    end = list(arguments).index("--") if "--" in arguments and arguments[0] == "lab" else len(arguments)
    own = argparse.Namespace(arguments=arguments, further=list(arguments[end + 1 :]))
    options, strange = parser.parse_known_args(arguments[:end], own)
    if strange:
        flags = re.findall(r"--[\w-]+", commands[arguments[0]].format_help())
        parser.error(f"{strange[0]}: no such argument of {arguments[0]}{near(strange[0], flags)}")
    return options


def called(wanted: Sequence[str], declared: type[Declared]) -> list[Any]:
    """The classes `within` one that are called so, in any letters; without names all.

    Raises:
        SettingError: if none is called so.
    """
    names: dict[Any, set[str]] = {}
    classes = list(within(declared, names))
    chosen: list[Any] = []
    for name in wanted:
        last = name.rpartition(".")[2].casefold()
        fitting = [cls for cls in classes if last in {word.casefold() for word in names[cls]}]
        if not fitting:
            known = {word.casefold(): word for cls in classes for word in sorted(names[cls], reverse=True)}.values()
            said = f"no settings are called so{near(name, known)}; known: {', '.join(sorted(known))}"
            raise SettingError("schema", name, said)
        chosen += fitting
    return list(dict.fromkeys(chosen)) if wanted else classes


def _parser(functions: dict[str, Command]) -> tuple[_Parser, dict[str, _Parser]]:
    """The parser, and those of the commands."""
    parser = _Parser(prog="flatlab", description="Flat minima and personalization in federated learning.")
    parser.add_argument("--version", action="version", version=f"flatlab {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, *, trains: bool = False, own: bool = True) -> argparse.ArgumentParser:
        about = functions[name].__doc__
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=functions[name])
        _common(added, trains, own)
        return added

    command("demo", trains=True, own=False)
    running = command("run", trains=True)
    running.add_argument(
        "experiment", type=Path, help="TOML file (`flatlab schema --toml` prints one), or a run's folder"
    )
    running.add_argument(
        "--set", type=_change, action="append", default=[], metavar="NAME=VALUE", help="change a setting of the file"
    )
    running.add_argument("--wait", type=float, default=0.0, help="seconds to wait if another process trains this run")
    showing = command("show", trains=True)
    showing.add_argument("run", type=Path, help="directory of the run")
    showing.add_argument("--hessian", action="store_true", help="top eigenvalues, trace and spectrum on the holdout")
    showing.add_argument("--budget", type=int, help="most Hessian-vector products for each question of --hessian")
    showing.add_argument("--tolerance", type=float, help="of the eigenvalues, as a share of them (see fl.hessian)")
    showing.add_argument("--landscape", action="store_true", help="loss on a random plane around the model")
    showing.add_argument("--client", type=int, help="whose model is measured, where clients keep parts of it")
    watching = command("watch")
    watching.add_argument("--store", default="runs", help="folder of the runs (default: runs)")
    watching.add_argument(
        "--every", type=float, metavar="SECONDS", help="look again, until all are done or Ctrl-C is pressed"
    )
    _reproducing(command("reproduce", trains=True))
    listing = command("schema")
    listing.add_argument(
        "names", nargs="*", metavar="NAME", help="only these: an algorithm, a kind, a class, or a group such as data"
    )
    listing.add_argument("--json", action="store_true", help="as JSON Schema")
    listing.add_argument("--toml", action="store_true", help="as a file for `flatlab run`, to be changed")
    telling = command("story", trains=True, own=False)
    telling.add_argument("name", nargs="?", help="which; without one, all are listed")
    telling.add_argument("--page", type=Path, metavar="FILE", help="write it as one HTML page")
    telling.add_argument("--make", action="store_true", help="train and measure its record anew, in the package")
    opening = command("lab", own=False)
    opening.add_argument("place", nargs="?", help="notebook or folder (default: notebooks, made if it is not there)")
    opening.add_argument("--to", metavar="FOLDER", help="copy flatlab's notebooks there first; none is written over")
    opening.usage = "flatlab lab [-h] [--to FOLDER] [place] [-- JUPYTER'S OPTIONS]"
    return parser, commands.choices


def _common(parser: argparse.ArgumentParser, trains: bool, own: bool) -> None:
    """The arguments that commands share: those that train or measure, those that take classes of a user's own."""
    if own:
        text = "module with classes of your own, e.g. an algorithm; may be given again"
        parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE", help=text)
    if trains:
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        parser.add_argument("--root", default="data", help="folder of the data sets (default: data)")
        parser.add_argument("--store", default="runs", help="folder of the runs (default: runs)")


def _reproducing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="tables, figures, claims, or groups of them; page: build the report")
    parser.add_argument("--scale", default="quick", choices=SCALES, help="quick: minutes; short: hours; paper")
    parser.add_argument(
        "--plan", nargs="?", const="show", choices=("show", "slurm"), help="say what is to be done; or a SLURM array"
    )
    parser.add_argument("--part", type=parse_part, metavar="I/N", help="only one of N parts of the plan")
    text = "processes that train and measure side by side, each with its own data; on a GPU under MPS (default: 1)"
    parser.add_argument("--workers", type=int, metavar="N", help=text)
    text = "digits of products on a GPU (default: float32); what is kept says which"
    parser.add_argument("--precision", choices=get_args(Precision), help=text)
    parser.add_argument("--cell", nargs=2, metavar=("ROW", "COLUMN"), help="only one cell")
    parser.add_argument("--again", action="store_true", help="train the cell anew, elsewhere, and compare")
    parser.add_argument("--merge", type=Path, metavar="FOLDER", help="take in the results of another machine first")
    parser.add_argument("--results", type=Path, default=Path("reproduction"), help="what is kept of runs")
    page = Path("docs/reproduction.md")
    parser.add_argument("--page", type=Path, default=page, help="where `flatlab reproduce page` writes the report")
    parser.add_argument("--samples-per-second", type=float, metavar="S", help="of this machine, for the plan")
