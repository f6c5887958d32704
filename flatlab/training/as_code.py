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
from ..data.distilled import SUFFIX
from ..data.known import TORCHVISION
from ..declare import Declared, declared_classes
from ..files import user_path
from .device import pick_device
from .experiment import Experiment
from .finding import as_runs
from .forking import KEPT
from .pace import memory_format
from .run import Run
from .run_files import read_experiment

WIDTH = 100
FORKED = [name for name in Experiment.model_fields if name not in KEPT]  # what a fork may change


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
        self.lost = {target.name for target in list(self.wanted.values()) if not self._parents(target)}
        self.changed = {run.data.fingerprint for run in runs if run.data.changed}
        self.data = self._data([target.experiment for target in self.wanted.values()])
        self.written: set[str] = set()
        for target in list(self.wanted.values()):
            self._write(target)
        for name, run in again:
            first = self.wanted[run.id].name
            opened = call("fl.Run.open", f"{first}.directory", self.data[run.experiment.data.to_json()])
            self.lines.append(f"{name} = {opened}.rewind({run.round})")

    def _parents(self, target: _Wanted) -> bool:
        """Add the runs that a fork comes from; False if one of them is not in the store any more."""
        parent = target.experiment.parent
        if parent is None:
            return True
        if parent.run not in self.wanted:
            try:
                experiment = read_experiment(target.like.directory.parent / parent.run)
            except FileNotFoundError:
                return False
            self.wanted[parent.run] = _Wanted(f"parent_of_{target.name}", experiment, target.like, parent.round)
        origin = self.wanted[parent.run]
        origin.reach = max(origin.reach, parent.round)
        return self._parents(origin)

    def _data(self, experiments: list[Experiment]) -> dict[str, str]:
        specs = {experiment.data.to_json(): experiment.data for experiment in experiments}
        names = {text: "data" if len(specs) == 1 else f"data{place}" for place, text in enumerate(specs, 1)}
        for text, spec in specs.items():
            self._foreign(spec)
            if (name := spec.name.removesuffix(SUFFIX)) != "digits" and name not in TORCHVISION:
                file = Path(self.root.get("root", "data")) / f"{name}.npz"
                self.lines.append(f"# supply: {literal(file)}, the images (layout: data/README.md)")
            if spec.fingerprint in self.changed:
                told = (
                    f"after this line (fl.distil, fl.triggered, dataclasses.replace), to fingerprint {spec.fingerprint}"
                )
                self.lines.append(f"# supply: {names[text]}, changed {told}")
            self.lines.append(f"{names[text]} = {self._federated(spec.replace(name=name))}")
        return names

    def _federated(self, spec: DataSpec) -> str:
        usual = DataSpec(name=spec.name)
        given = [] if spec.partition == fl.IID() else [literal(spec.partition)]
        named: dict[str, Any] = {"clients": spec.clients, "seed": spec.seed}
        for field in ("augmentation", "normalise", "shrink", "leak"):
            if getattr(spec, field) != getattr(usual, field):
                named["augment" if field == "augmentation" else field] = getattr(spec, field)
        return call(f"{call('fl.load', literal(spec.name), **self.root)}.federate", *given, **named)

    def _write(self, target: _Wanted) -> None:
        if target.name in self.written:
            return
        self.written.add(target.name)
        parent = target.experiment.parent
        self._foreign([target.experiment.algorithm, target.experiment.task, target.experiment.world])
        if parent is None or target.name in self.lost:
            made = self._made(target)
        else:
            origin = self.wanted[parent.run]
            self._write(origin)
            values = {name: getattr(target.experiment, name) for name in FORKED}
            changed = {name: value for name, value in values.items() if value != getattr(origin.experiment, name)}
            made = call(f"{origin.name}.fork", round=parent.round, **changed)
            made += ".to()" if target.reach == target.experiment.rounds else f".to({target.reach})"
        if target.shown not in (None, target.experiment.rounds):
            made += f".rewind({target.shown})"
        self.lines.append(f"{target.name} = {made}")

    def _made(self, target: _Wanted) -> str:
        experiment, data = target.experiment, self.data[target.experiment.data.to_json()]
        if target.name in self.lost:
            parent = f"the store of the run {target.name} was forked from, {experiment.parent}"
            self.lines.append(f"# supply: {parent}; it is not beside it")
            return call("fl.Run.open", literal(target.like.directory), data)
        changed = experiment.changed()
        given: dict[str, Any] = {"rounds": experiment.rounds, "seed": experiment.seed}
        settings = ("participation", "sampling", "evaluation", "task", "world")
        given |= {name: changed[name] for name in settings if name in changed}
        own = experiment.model.name == "custom"
        spec = experiment.model.name if experiment.model.changed().keys() <= {"name"} else experiment.model
        model = f"model_of_{target.name}" if own else literal(spec)
        if own:
            self.lines += [
                f"# supply: your network, a flatlab.models.Model with the weights it began with (fingerprint"
                f" {experiment.model.fingerprint})",
                f"{model} = ...",
            ]
        options, start = self._options(target.like), list[str]()
        if experiment.initial is not None:
            begun, how = f"start_of_{target.name}", "of weights: fl.training.State(0, fl.models.weights(...))"
            told = f"# supply: the state that {target.name} began with (digest {experiment.initial}); {how}"
            self.lines += [told, f"{begun} = ..."]
            start = [f"start={begun}"]
        if target.reach == experiment.rounds:
            return call("fl.train", literal(experiment.algorithm), data, model, *start, **given, **options)
        described = [f"data={data}.spec", f"algorithm={literal(experiment.algorithm)}", f"model={literal(spec)}"]
        run = [call("fl.Experiment", *described, **given), data, *([model] if own else []), *start]
        return f"{call('fl.Run', *run, **options)}.to({target.reach})"

    def _options(self, run: Run) -> dict[str, Any]:
        """Of `Run`: what is not as it would be without them."""
        cohort = run.cohort
        place = user_path(self.store or run.directory.parent, "store")
        if place.is_relative_to(Path.cwd()):  # short, as a person would write it
            place = place.relative_to(Path.cwd())
        options: dict[str, Any] = {"store": str(place), "device": str(run.device), "engine": cohort.engine}
        options |= {"chunk": cohort.chunk, "precision": cohort.precision}
        usual: dict[str, Any] = {"store": "runs", "device": str(pick_device("auto")), "engine": "auto"}
        usual |= {"chunk": None, "precision": "float32"}
        if not cohort.batched and run.device.type == "cpu":
            options["channels_last"] = cohort.channels_last
            rule = memory_format(cohort.model, torch.zeros(1, *cohort.data.shape))
            usual["channels_last"] = rule == torch.channels_last
        return {name: value for name, value in options.items() if value != usual[name]} | self.root

    def _foreign(self, settings: Any) -> None:
        """Import the classes that are not flatlab's, or say that they are needed."""
        for cls in declared_classes(settings):
            if _known(cls):
                continue
            line = f"from {cls.__module__} import {cls.__name__}"
            if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
                line = f"# supply: your class {cls.__name__}, as it was defined in {cls.__module__}"
            if line not in self.imports:
                self.imports.append(line)


def _known(cls: type) -> bool:
    return getattr(fl, cls.__name__, None) is cls
