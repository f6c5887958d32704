"""What the tables and figures of both papers say they did, and what a scale leaves out: read off the runs they make.

    stated(Table("fedasam.cifar10", title, scale, cells, "", ""), fedasam_words)

A number in words that stands beside the runs, not in them, is false as soon as a table makes others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ..algorithms import ASAM, SAM, SWA, Constant
from ..training import Experiment
from . import fedasam, fedbabu
from .tables import Figure, ScaleName, Table

Words = tuple[str, str]  # what was done, and what the scale leaves out
Runs = Sequence[Experiment]
Told = TypeVar("Told", Table, Figure)


def stated(item: Told, words: Callable[[ScaleName, Iterable[Experiment]], Words]) -> Told:
    """A table or figure with the words of a paper's protocol, before what it says and leaves out of its own."""
    done, less = words(item.scale, item.experiments().values())
    protocol, leaves_out = ("; ".join(filter(None, said)) for said in ((done, item.protocol), (less, item.leaves_out)))
    return replace(item, protocol=protocol, leaves_out=leaves_out)


def fedbabu_words(scale: ScaleName, runs: Iterable[Experiment]) -> Words:
    """FedBABU's protocol, of a table's or figure's runs."""
    pooled, federated = _split(runs)
    size, full = fedbabu.size_of(scale), fedbabu.size_of("paper")
    done, less = [], [size.smaller]
    if federated:
        done += [
            f"{size.dataset or 'the data set named'}, {size.clients} clients, partition dealt once a seed for all"
            " methods",
            f"SGD {_usual(federated, _rate)}, momentum {_usual(federated, _momentum)}, batches of"
            f" {_usual(federated, _batch)}, K tau = {size.passes}",
            f"{_usual(federated, _length)}; {_usual(federated, _schedule)}",
            f"tuning: SGD {size.tuning_lr:g}, momentum 0.9; last round; {_seeds(federated)}",
            "accuracy on clients' own test sets",
        ]
        less = [size.leaves_out]
        less += [f"rate {size.lr:g} instead of {full.lr:g}"] if size.lr != full.lr else []
        less += ["constant rate"] if size.schedule != full.schedule else []
        if size.local_epochs != full.local_epochs and any(run.algorithm.kind == "LocalOnly" for run in federated):
            less.append(f"{size.local_epochs} epochs instead of {full.local_epochs} for LocalOnly")
    if pooled:
        done.append(
            f"centralized training: {_usual(pooled, lambda run: f'{run.rounds:,} epochs')}, SGD"
            f" {_usual(pooled, _rate)}, momentum {_usual(pooled, _momentum)}, weight decay"
            f" {_usual(pooled, _decay)}, batches of {_usual(pooled, _batch)}, {_usual(pooled, _schedule)};"
            f" {_seeds(pooled)}"
        )
        if size.centralized_epochs != full.centralized_epochs:
            less.append(f"{size.centralized_epochs} epochs instead of {full.centralized_epochs} centralized")
    return "; ".join(done), "; ".join(less)


def fedasam_words(scale: ScaleName, runs: Iterable[Experiment]) -> Words:
    """FedASAM's protocol, of a table's or figure's runs."""
    pooled, federated = _split(runs)
    size = fedasam.size_of(scale)
    every = [*federated, *pooled]
    done = [
        f"{size.dataset or 'the data set named'}, {size.clients} clients, partition dealt once a seed for all methods",
        _all(federated, _length),
        f"SGD {_all(every, _rate)}, momentum {_all(every, _momentum)}, batches of"
        f" {_all(every, _batch)}, weight decay {_all(every, _decay)}",
        *_steps(every),
        *_averaging(federated, "rounds"),
        f"holdout accuracy, mean of the last {size.window} rounds, scored every {_all(federated, _scored)}",
        f"{_seeds(every)}",
    ]
    if pooled:
        lasts = _all(pooled, lambda run: f"{run.rounds:,} epochs")
        done.append("; ".join([f"centralized: {lasts} of all images", *_averaging(pooled, "epochs")]))
        done[-1] += ", accuracy after the last alone"
    return "; ".join(done), "; ".join(_fewer(scale, pooled, federated))


def _fewer(scale: ScaleName, pooled: Runs, federated: Runs) -> list[str]:
    """What FedASAM's runs have otherwise than the paper's, with what no run says."""
    size, full = fedasam.size_of(scale), fedasam.size_of("paper")
    less = [
        f"scores are means of the rounds scored among the last {size.window}, the paper's of all of its last"
        f" {full.window}",
        size.leaves_out,
    ]
    if scale == "paper":
        return less
    names = list(dict.fromkeys(run.data.name for run in (*federated, *pooled)))
    less.append(f"{_all(federated, lambda run: f'{run.rounds:,}')} rounds instead of {_papers(names, 'rounds')}")
    if size.epochs != full.epochs:
        epochs = sorted({run.algorithm.epochs for run in federated})
        ours, theirs = (_or(str(count // times) for count in epochs) for times in (1, size.epochs))
        less.append(f"{ours} local epochs instead of {theirs}")
    if pooled:
        lasts = _all(pooled, lambda run: f"{run.rounds:,}")
        less.append(f"{lasts} epochs centralized instead of {_papers(names, 'centralized')}")
    less.append(f"rate {size.lr:g} instead of {full.lr:g}")
    if any(run.algorithm.momentum for run in (*federated, *pooled)):
        less.append(f"momentum {size.momentum:g} instead of none")
    less += [f"batches of {size.batch_size} instead of {full.batch_size}"] if size.batch_size != full.batch_size else []
    lows = set[float]()
    for runs, unit in ((federated, "rounds"), (pooled, "epochs")):
        own = [run.algorithm.swa for run in runs if isinstance(run.algorithm.swa, SWA)]
        lows |= {swa.low for swa in own}
        cycles, theirs = _distinct(f"{swa.cycle:,}" for swa in own), _papers(names, "cycle")
        if own and _or(cycles) != theirs:
            less.append(f"cycles of SWA of {_or(cycles)} {unit} instead of {theirs}")
    less += [f"SWA down to the rate {low:g} instead of {full.low:g}" for low in sorted(lows) if low != full.low]
    return less


def _papers(names: list[str], what: str) -> str:
    """A number of the paper's for data sets; digits stand for either of its two."""
    full = fedasam.size_of("paper")
    by_name = {
        "rounds": full.rounds,
        "cycle": full.cycle,
        "centralized": {name: fedasam.epochs_centralized(name, "paper") for name in full.rounds},
    }[what]
    named = {*names} & {*by_name} or {*by_name}
    return _or(_distinct(f"{number:,}" for name, number in by_name.items() if name in named))


def _averaging(runs: Runs, unit: str) -> list[str]:
    """SWA of those runs that have it, in words: cycles in rounds or, of pooled training, in epochs."""
    own = [run.algorithm.swa for run in runs if isinstance(run.algorithm.swa, SWA)]
    told = [f"cycles of {swa.cycle} {unit} down to the rate {swa.low:g}" for swa in own]
    begin = _or(_distinct(f"{100 * swa.start:g} %" for swa in own))
    return [f"SWA from {begin} on, in {_or(_distinct(told))}"] if own else []


def _steps(runs: Runs) -> list[str]:
    """SAM's and ASAM's rho, and ASAM's eta."""
    sam = sorted({run.algorithm.local.rho for run in runs if type(run.algorithm.local) is SAM})
    asam = sorted({(run.algorithm.local.rho, run.algorithm.local.eta) for run in runs
                   if isinstance(run.algorithm.local, ASAM)})  # fmt: skip
    told = [f"SAM rho {_or(f'{rho:g}' for rho in sam)}"] if sam else []
    if asam:
        etas = _distinct(f"{eta:g}" for _, eta in asam)
        told.append(f"ASAM rho {_or(_distinct(f'{rho:g}' for rho, _ in asam))}, eta {_or(etas)}")
    return told


def _split(runs: Iterable[Experiment]) -> tuple[list[Experiment], list[Experiment]]:
    """Centralized and federated ones, each once."""
    every = list({run.id: run for run in runs}.values())
    return [run for run in every if run.algorithm.pooled], [run for run in every if not run.algorithm.pooled]


def _usual(runs: Runs, of: Callable[[Experiment], str]) -> str:
    """What most methods have, and in brackets those that have something else: "0.05 (LGFedAvg: 0.001)"."""
    has: dict[str, list[str]] = {}
    for run in runs:
        has.setdefault(run.algorithm.kind, []).append(of(run))
    alike: dict[str, list[str]] = {}
    for kind, values in has.items():
        alike.setdefault(_or(_distinct(values)), []).append(kind)
    most = max(alike, key=lambda said: len(alike[said]))
    others = [f"{', '.join(kinds)}: {said}" for said, kinds in alike.items() if said != most]
    return f"{most} ({'; '.join(others)})" if others else most


def _all(runs: Runs, of: Callable[[Experiment], str]) -> str:
    """What there is among the runs, each once."""
    return _or(_distinct(of(run) for run in runs))


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _or(words: Iterable[str]) -> str:
    said = list(words)
    return " or ".join(filter(None, (", ".join(said[:-1]), *said[-1:])))


def _length(run: Experiment) -> str:
    algorithm = run.algorithm
    count, unit = (algorithm.epochs, "epoch") if algorithm.local_steps is None else (algorithm.local_steps, "step")
    before = f", {run.parent.round:,} of them FedAvg's" if run.parent else ""
    return f"{run.rounds:,} rounds of {count} {unit}{'s' if count > 1 else ''}{before}"


def _schedule(run: Experiment) -> str:
    return "constant rate" if run.algorithm.schedule == Constant() else "rate / 10 after 1/2 and 3/4 of the rounds"


def _rate(run: Experiment) -> str:
    return f"{run.algorithm.lr:g}"


def _momentum(run: Experiment) -> str:
    return f"{run.algorithm.momentum:g}"


def _batch(run: Experiment) -> str:
    return str(run.algorithm.batch_size)


def _decay(run: Experiment) -> str:
    return f"{run.algorithm.weight_decay:g}"


def _scored(run: Experiment) -> str:
    return str(run.evaluation.every)


def _seeds(runs: Runs) -> str:
    seeds = sorted({run.seed for run in runs})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
