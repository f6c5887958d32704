"""From runs to the Python that makes them: `code_for(runs)` writes plain flatlab, and only what differs from defaults.

Executed in another process, with another store, the lines give experiments of the same ids and equal histories (on the
same kind of machine, whose kernels decide how sums round).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import flatlab as fl

from ..data import DataSpec
from ..data.known import TORCHVISION
from ..declare import Declared, declared_classes
from ..files import user_path
from .device import pick_device
from .experiment import Experiment
from .finding import as_runs
from .pace import memory_format
from .run import Run
from .run_files import read_experiment

WIDTH = 100
FORKED = ("algorithm", "rounds", "participation", "sampling", "evaluation", "seed")  # what a fork may change


def code_for(runs: Run | Iterable[Run], *, store: str | Path | None = None) -> str:
    """The lines that make runs, named `run1`, `run2`, ... in their order, as far as each has come.

    What cannot be written (networks, classes and images of the user's own) gets a comment that says what to supply.

    Args:
        runs: a run or several.
        store: folder for the runs made; None: where these are.
    """
    script = _Script(as_runs(runs), store)
    return "\n".join([*script.imports, "", *script.lines]) + "\n"


def call(name: str, /, *given: str, **named: Any) -> str:
    """A call as Python: `given` are expressions, `named` are values; one argument a line if it is long."""
    parts = [*given, *(f"{key}={literal(value)}" for key, value in named.items())]
    line = f"{name}({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {part.replace(chr(10), chr(10) + '    ')},\n" for part in parts) + ")"


def literal(value: Any) -> str:
    """A value as Python: settings as `fl.Name(...)` with what differs from their defaults."""
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if not isinstance(value, Declared):
        return repr(value)
    cls = type(value)
    name = f"fl.{cls.__name__}" if _known(cls) else cls.__name__
    return call(name, **value.changed())


def run_names(count: int) -> str:
    """The runs of a panel as an expression: `run1`, or `[run1, run2]`."""
    return "run1" if count == 1 else f"[{', '.join(f'run{place}' for place in range(1, count + 1))}]"


@dataclass
class _Wanted:
    """A run to be made: how far, and at which round it is shown (None: only its forks are)."""

    name: str
    experiment: Experiment
    like: Run  # it is computed where and as this one is
    reach: int
    shown: int | None = None


class _Script:
    def __init__(self, runs: list[Run], store: str | Path | None) -> None:
        self.store = store
        root = str(runs[0].root)
        self.root = {} if root == "data" else {"root": root}
        self.imports, self.lines = ["import flatlab as fl"], list[str]()
        self.wanted: dict[str, _Wanted] = {}
        again = []
        for place, run in enumerate(runs, 1):
            if run.id in self.wanted:
                again.append((f"run{place}", run))
                self.wanted[run.id].reach = max(self.wanted[run.id].reach, run.round)
            else:
                self.wanted[run.id] = _Wanted(f"run{place}", run.experiment, run, run.round, run.round)
        self.lost = {one.name for one in list(self.wanted.values()) if not self._parents(one)}
        self.data = self._data([one.experiment for one in self.wanted.values()])
        self.written: set[str] = set()
        for one in list(self.wanted.values()):
            self._write(one)
        for name, run in again:
            first = self.wanted[run.id].name
            opened = call("fl.Run.open", f"{first}.directory", self.data[run.experiment.data.to_json()])
            self.lines.append(f"{name} = {opened}.rewind({run.round})")

    def _parents(self, one: _Wanted) -> bool:
        """Add the runs that a fork comes from; False if one of them is not in the store any more."""
        parent = one.experiment.parent
        if parent is None:
            return True
        if parent.run not in self.wanted:
            try:
                experiment = read_experiment(one.like.directory.parent / parent.run)
            except FileNotFoundError:
                return False
            self.wanted[parent.run] = _Wanted(f"parent_of_{one.name}", experiment, one.like, parent.round)
        origin = self.wanted[parent.run]
        origin.reach = max(origin.reach, parent.round)
        return self._parents(origin)

    def _data(self, experiments: list[Experiment]) -> dict[str, str]:
        specs = {experiment.data.to_json(): experiment.data for experiment in experiments}
        names = {text: "data" if len(specs) == 1 else f"data{place}" for place, text in enumerate(specs, 1)}
        for text, spec in specs.items():
            self._foreign(spec)
            if spec.name != "digits" and spec.name not in TORCHVISION:
                file = Path(self.root.get("root", "data")) / f"{spec.name}.npz"
                self.lines.append(f"# supply: {literal(file)}, the images (layout: data/README.md)")
            self.lines.append(f"{names[text]} = {self._federated(spec)}")
        return names

    def _federated(self, spec: DataSpec) -> str:
        usual = DataSpec(name=spec.name)
        given = [] if spec.partition == fl.IID() else [literal(spec.partition)]
        named: dict[str, Any] = {"clients": spec.clients, "seed": spec.seed}
        if spec.augmentation != usual.augmentation:
            named["augment"] = spec.augmentation
        named |= {
            name: getattr(spec, name) for name in ("normalise", "shrink") if getattr(spec, name) != getattr(usual, name)
        }
        return call(f"{call('fl.load', literal(spec.name), **self.root)}.federate", *given, **named)

    def _write(self, one: _Wanted) -> None:
        if one.name in self.written:
            return
        self.written.add(one.name)
        parent = one.experiment.parent
        for part in (one.experiment.algorithm, one.experiment.task, one.experiment.world):
            if part is not None:
                self._foreign(part)
        if parent is None or one.name in self.lost:
            made = self._made(one)
        else:
            origin = self.wanted[parent.run]
            self._write(origin)
            changed = {
                name: getattr(one.experiment, name)
                for name in FORKED
                if getattr(one.experiment, name) != getattr(origin.experiment, name)
            }
            made = call(f"{origin.name}.fork", round=parent.round, **changed)
            made += ".to()" if one.reach == one.experiment.rounds else f".to({one.reach})"
        if one.shown not in (None, one.experiment.rounds):
            made += f".rewind({one.shown})"
        self.lines.append(f"{one.name} = {made}")

    def _made(self, one: _Wanted) -> str:
        experiment, data = one.experiment, self.data[one.experiment.data.to_json()]
        if one.name in self.lost:
            self.lines.append(
                f"# supply: the store of the run {one.name} was forked from, {experiment.parent}; it is not beside it"
            )
            return call("fl.Run.open", literal(one.like.directory), data)
        given: dict[str, Any] = {"rounds": experiment.rounds}
        if experiment.participation != 1:
            given["participation"] = experiment.participation
        given["seed"] = experiment.seed
        changed = experiment.changed()
        given |= {name: changed[name] for name in ("sampling", "evaluation", "task", "world") if name in changed}
        own = experiment.model.name == "custom"
        model = f"model_of_{one.name}" if own else self._model(experiment)
        if own:
            self.lines += [
                f"# supply: your network, a flatlab.models.Model with the weights it began with (fingerprint"
                f" {experiment.model.fingerprint})",
                f"{model} = ...",
            ]
        options = self._options(one)
        if one.reach == experiment.rounds:
            return call("fl.train", literal(experiment.algorithm), data, model, **given, **options)
        described = [f"data={data}.spec", f"algorithm={literal(experiment.algorithm)}"]
        described.append(f"model={literal(experiment.model) if own else model}")
        run = [call("fl.Experiment", *described, **given), data, *([model] if own else [])]
        return f"{call('fl.Run', *run, **options)}.to({one.reach})"

    @staticmethod
    def _model(experiment: Experiment) -> str:
        plain = set(experiment.model.changed()) <= {"name"}
        return literal(experiment.model.name) if plain else literal(experiment.model)

    def _options(self, one: _Wanted) -> dict[str, Any]:
        cohort = one.like.cohort
        place = user_path(self.store or one.like.directory.parent, "store")
        here = place.is_relative_to(Path.cwd())  # short, as a person would write it
        options: dict[str, Any] = {"store": str(place.relative_to(Path.cwd()) if here else place)}
        if options["store"] == "runs":
            del options["store"]
        if one.like.device != pick_device("auto"):
            options["device"] = str(one.like.device)
        if cohort.engine != "auto":
            options["engine"] = cohort.engine
        if cohort.chunk is not None:
            options["chunk"] = cohort.chunk
        if cohort.precision != "float32":
            options["precision"] = cohort.precision
        if not cohort.batched and one.like.device.type == "cpu":
            usual = memory_format(cohort.model, torch.zeros(1, *cohort.data.shape))
            if cohort.channels_last != (usual == torch.channels_last):
                options["channels_last"] = cohort.channels_last
        return options | self.root

    def _foreign(self, value: Declared) -> None:
        """Import the classes that are not flatlab's, or say that they are needed."""
        for cls in declared_classes(value):
            if _known(cls):
                continue
            line = f"from {cls.__module__} import {cls.__name__}"
            if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
                line = f"# supply: your class {cls.__name__}, as it was defined in {cls.__module__}"
            if line not in self.imports:
                self.imports.append(line)


def _known(cls: type) -> bool:
    return getattr(fl, cls.__name__, None) is cls
