"""Do what a plan says: train runs, measure them, keep histories and measurements. Interrupt it anywhere and call again.

work = Workshop(archive, store="runs", root="data")
work.do(plan([table], archive, has_weights=work.has_weights))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data import DataSpec, FederatedDataset, Source, load
from ..data.dealing import federate
from ..declare import SettingError
from ..training import Diverged, Experiment, Run
from ..training.clients import Engine
from ..training.device import Precision, pick_device
from ..training.lockstep import shape, train_together
from ..training.network import identified
from ..training.progress import reporter
from ..training.start import reuse_rounds
from .archive import Archive
from .costs import checkpoint_every
from .drawn import DRAWN
from .measurements import Measurement
from .planning import Measuring, Plan, Training
from .unseen import NEEDS

Report = Callable[[str], object]
TOGETHER = 12  # runs at a time on a GPU; what they come to is kept when all have ended
BUSY_SECONDS = 60.0  # another process may be in the last round of a run that is needed here


class Workshop:
    """Where runs are trained and measured.

    Args:
        archive: what is kept.
        store: folder of the runs, with their weights.
        root: folder of the data sets.
        device: as of `Run`.
        report: told, in a line, what is being done.
        bars: whether to show how far a training is.
        precision: as of `Run`, of runs that begin; what has begun goes on as it did.
        engine: likewise.
    """

    def __init__(
        self,
        archive: Archive,
        store: str | Path = "runs",
        root: str | Path = "data",
        device: str | torch.device = "auto",
        report: Report = print,
        bars: bool = True,
        precision: Precision | None = None,
        engine: Engine = "auto",
    ) -> None:
        self.archive, self.store, self.root = archive, Path(store), Path(root)
        self.precision, self.engine = precision, engine
        self.device = pick_device(device)
        self.report = report
        self._bars = bars
        self._fills = self.device.type == "cuda"
        self._sources: dict[str, Source] = {}
        self._data: dict[str, FederatedDataset] = {}
        self._experiments: dict[str, Experiment] = {}  # of the plan at hand, by id

    def has_weights(self, experiment: Experiment) -> bool:
        """Whether the finished run of a kept history is in the store."""
        if not self.archive.has(experiment):
            return False
        made = Experiment.from_dict(self.archive.about(experiment)["experiment"])
        return any((self.store / made.id / "checkpoints").glob(f"round-{made.rounds:06d}.*"))

    def do(self, plan: Plan) -> None:
        """Train, measure and keep all that the plan names.

        Raises:
            SettingError: before any work, if files are missing that cannot be downloaded, and nothing can be done
                without them; else what needs them is left out, and told.
            KeyboardInterrupt: after the round in flight; the same call goes on.
        """
        self._experiments = plan.runs
        plan = self.possible(plan)
        waiting = list(plan.measurings)
        ready = {id: run for id, run in self._experiments.items() if self.archive.has(run)}
        ready = {id: run for id, run in ready.items() if id not in {step.experiment.id for step in plan.trainings}}
        todo = list(plan.trainings)
        shapes = {step.experiment.id: shape(step.experiment) for step in todo} if self._fills else {}
        while todo:
            steps = self._together(todo, shapes)
            now = {step.experiment.id: step.experiment for step in steps}
            todo = [step for step in todo if step.experiment.id not in now]
            self._train(steps, f"[{len(plan.trainings) - len(todo)}/{len(plan.trainings)}]")
            ready |= now
            done = [step for step in waiting if all(experiment.id in ready for experiment in step.experiments)]
            for measuring in done:
                self._measure(measuring)
                waiting.remove(measuring)
        for measuring in waiting:
            self._measure(measuring)

    def run(self, experiment: Experiment) -> Run:
        """The run of an experiment as a table states it, as far as it has come; a fork is made from its parent's."""
        if experiment.parent is None:
            data = self.data(experiment.data)
            begun = (self.store / identified(experiment, data).id).exists()
            way: dict[str, Any] = {} if begun else {"precision": self.precision, "engine": self.engine}
            return Run(experiment, data, **way, **self._options(experiment))
        parent = self.run(self._experiments[experiment.parent.run])
        own = {name: getattr(experiment, name) for name in ("algorithm", "rounds", "evaluation")}
        return parent.fork(round=experiment.parent.round, **own)

    def data(self, spec: DataSpec) -> FederatedDataset:
        """The data of a specification; images are loaded once a data set and shared."""
        key = spec.to_json()
        if key not in self._data:
            made = federate(self.source(spec.name), spec)
            self._data[key] = made.sharing(self._data.values()).to(self.device)
        return self._data[key]

    def source(self, name: str) -> Source:
        """A data set's images; downloaded or drawn, if it has to be."""
        if name not in self._sources:
            place = self.root / f"{name}.npz"
            if name in DRAWN:  # anew: an older version may have drawn others
                place.parent.mkdir(parents=True, exist_ok=True)
                DRAWN[name]().save(place)
            self._sources[name] = load(name, self.root)
        return self._sources[name]

    def possible(self, plan: Plan) -> Plan:
        """What can be done of a plan with the files that are there; what is left out is told.

        Raises:
            SettingError: if nothing of it can.
        """
        named = {step.experiment.data.name for step in plan.trainings}
        lacking = sorted(name for name in named & NEEDS.keys() if not (self.root / f"{name}.npz").exists())
        if not lacking:
            return plan
        files = ", ".join(f"{name}.npz ({NEEDS[name]})" for name in lacking)
        told = f"lacks {files}, which cannot be downloaded: put it there (layout: data/README.md), or take scale quick"
        if named == {*lacking}:
            raise SettingError("root", str(self.root), told)
        self.report(f"left out: {self.root} {told}")
        return replace(
            plan,
            trainings=tuple(step for step in plan.trainings if step.experiment.data.name not in lacking),
            measurings=tuple(step for step in plan.measurings if step.experiments[0].data.name not in lacking),
        )

    def _options(self, experiment: Experiment) -> dict[str, Any]:
        every = checkpoint_every(experiment)
        return {"store": self.store, "root": self.root, "device": self.device, "checkpoint_every": every}

    def _together(self, todo: list[Training], shapes: dict[str, str]) -> list[Training]:
        """The first run, and on CUDA others of its shape that need none of those to come: they fill the device."""
        if not self._fills:
            return todo[:1]
        coming = {step.experiment.id for step in todo}

        def free(step: Training) -> bool:
            parent = step.experiment.parent
            needs = {"" if step.begins is None else step.begins[0], "" if parent is None else parent.run}
            return not needs & coming

        alike = shapes[todo[0].experiment.id]
        return [step for step in todo if shapes[step.experiment.id] == alike and free(step)][:TOGETHER]

    def _train(self, steps: list[Training], place: str) -> None:
        runs = {}
        for step in steps:
            experiment = step.experiment
            self.report(f"{place} {experiment.algorithm.name}, seed {experiment.seed}: {experiment.id}")
            parent = None if experiment.parent is None else self._experiments[experiment.parent.run]
            if parent is not None and self.archive.failure(parent):
                self.archive.keep_failure(experiment, f"its parent failed: {self.archive.failure(parent)}")
                continue
            run = runs[experiment.id] = self.run(experiment)
            said = reuse_rounds(run)
            if said:
                self.report(f"    {said}")
        errors = self._trained(list(runs.values()))
        for step in steps:
            if step.experiment.id not in runs:
                continue
            run = runs[step.experiment.id]
            error = errors.get(run.id)
            if error is not None:
                if not isinstance(error, Diverged):
                    raise error
                self.archive.keep_failure(step.experiment, str(error))
                self.report(f"    diverged: {error}")
            elif step.for_weights:
                self.archive.keep_again(step.experiment, run)
            else:
                self.archive.keep(step.experiment, run)

    def _trained(self, runs: list[Run]) -> dict[str, BaseException]:
        """Runs trained to their ends; the errors of those that failed."""
        if len(runs) != 1:
            return train_together(runs, wait=BUSY_SECONDS)
        try:
            runs[0].to(listener=reporter(runs[0], self._bars), wait=BUSY_SECONDS)
        except Diverged as error:
            return {runs[0].id: error}
        return {}

    def _measure(self, step: Measuring) -> None:
        if any(self.archive.failure(experiment) for experiment in step.experiments):
            return
        names = ", ".join(dict.fromkeys(experiment.algorithm.name for experiment in step.experiments))
        self.report(f"    {step.measurement.kind} of {names}")
        result = measure(step.measurement, [self.run(experiment) for experiment in step.experiments], self.report)
        if result is not None:
            self.archive.keep_measured(step.measurement, step.experiments, result)


def measure(measurement: Measurement, runs: list[Run], report: Report) -> Any:
    """What is measured; None, and a line, if it cannot be."""
    try:
        return measurement.of(runs)
    except (ValueError, Diverged) as error:
        report(f"    {measurement.kind}: cannot be measured: {error}")
        return None
