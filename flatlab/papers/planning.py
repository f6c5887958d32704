"""What is still to be done for some tables: runs, rounds that runs share, measurements; in an order that works.

    plan([table], archive).total()

One id is one run, however many tables need it. Runs that begin alike share their rounds: a run with SWA goes on from
the round of the plain run where averaging starts, or from the last one before it whose state is stored. A run whose
history is kept is not trained again, unless a measurement or another run needs its weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from ..declare import SettingError
from ..geometry.surrogate_loss import REAL
from ..training import Experiment
from ..training.start import shared_rounds
from .archive import Archive, gradients
from .costs import FORWARD, Cost, Speed, cost, samples_a_round, sizes, spending, stored_rounds
from .measurements import Kind, Measurement
from .speeds import arithmetic
from .tables import Item

# A Hessian-vector product and a point of a landscape in gradients of their samples; products to the top eigenvalue.
PRODUCT, POINT, TOP = 2.5, 0.3, 13


@dataclass(frozen=True)
class Training:
    """A run to be trained."""

    experiment: Experiment
    begins: tuple[str, int] | None  # id of a run whose first rounds it takes, and how many
    cost: Cost
    for_weights: bool = False  # its history is kept, but its weights are needed


@dataclass(frozen=True)
class Measuring:
    """A measurement to be made."""

    measurement: Measurement
    experiments: tuple[Experiment, ...]
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        items: the tables and figures.
        runs: all runs of these, by id.
        trainings: runs to be trained, in order: a run comes after those that it begins with.
        measurings: measurements to be made.
        kept: runs that are there already.
    """

    items: tuple[Item, ...]
    runs: dict[str, Experiment]
    trainings: tuple[Training, ...]
    measurings: tuple[Measuring, ...]
    kept: int

    def total(self) -> Cost:
        """Of all that is to be done."""
        return sum((step.cost for step in self.measurings), self._training())

    def saved(self, speed: Speed) -> Cost:
        """What shared beginnings spare."""
        whole = sum((cost(step.experiment, speed) for step in self.trainings), Cost())
        return Cost(*(all_of - left for all_of, left in zip(whole, self._training(), strict=True)))

    def jobs(self) -> list[list[str]]:
        """Ids of runs to be trained or measured, those together that need one another: work side by side."""
        group: dict[str, str] = {}

        def root(run: str) -> str:
            while group.setdefault(run, run) != run:
                run = group[run]
            return run

        for step in self.trainings:
            experiment = step.experiment
            others = [] if step.begins is None else [step.begins[0]]
            others += [] if experiment.parent is None else [experiment.parent.run]
            for other in others:
                group[root(experiment.id)] = root(other)
            root(experiment.id)
        for measuring in self.measurings:
            first, *rest = [experiment.id for experiment in measuring.experiments]
            root(first)  # measured alone, of a run that is trained already, it is a job, too
            for other in rest:
                group[root(other)] = root(first)
        parts: dict[str, list[str]] = {}
        for run in dict.fromkeys([*(s.experiment.id for s in self.trainings), *group]):
            parts.setdefault(root(run), []).append(run)
        return list(parts.values())

    def part(self, number: int, of: int) -> Plan:
        """One of `of` parts with about equal seconds, for machines side by side; together they are the plan.

        Raises:
            SettingError: if there is no such part.
        """
        if not (of >= 1 and 0 <= number < of):
            raise SettingError("part", f"{number}/{of}", f"must be 0/{of} to {max(of - 1, 0)}/{of}")
        return self.parts(of)[number]

    def parts(self, of: int) -> list[Plan]:
        """All of so many parts."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for training in self.trainings:
            seconds[training.experiment.id] += training.cost.seconds
        for measuring in self.measurings:
            seconds[measuring.experiments[0].id] += measuring.cost.seconds
        bins: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(of)]
        for job in sorted(self.jobs(), key=lambda job: -sum(seconds[run] for run in job)):
            least = min(range(of), key=lambda place: (bins[place][0], place))
            spent, runs = bins[least]
            bins[least] = (spent + sum(seconds[run] for run in job), runs + job)
        return [self.of(set(runs)) for _, runs in bins]

    def within(self, part: Plan) -> Plan:
        """What of this plan belongs to a part of a larger one.

        Parts of all the work stay what they are while runs are kept one by one, so those that begin at other times, as
        the jobs of a cluster's array do, still make up the whole together. Parts of what is left would not.
        """
        return self.of(set(chain.from_iterable(part.jobs())))

    def of(self, runs: Collection[str]) -> Plan:
        """What of this plan trains or measures these runs, and no other runs but those that these were forked from."""
        trainings = tuple(step for step in self.trainings if step.experiment.id in runs)
        measurings = tuple(step for step in self.measurings if step.experiments[0].id in runs)
        named = [step.experiment for step in trainings] + [run for step in measurings for run in step.experiments]
        for run in named:  # which grows by the parents
            named += [self.runs[run.parent.run]] if run.parent is not None else []
        return replace(self, runs={run.id: run for run in named}, trainings=trainings, measurings=measurings)

    def _training(self) -> Cost:
        return sum((step.cost for step in self.trainings), Cost())


def plan(
    items: Sequence[Item],
    archive: Archive,
    speed: Speed = arithmetic,
    has_weights: Callable[[Experiment], bool] = lambda experiment: False,
    again: bool = False,
) -> Plan:
    """What is to be done for tables and figures.

    Args:
        items: tables and figures, of one scale.
        archive: what is kept.
        speed: of the machine.
        has_weights: whether a finished run's weights are on this machine.
        again: as if nothing were kept.
    """
    runs = {id: run for item in items for id, run in item.experiments().items()}
    kept = set() if again else {id for id, run in runs.items() if archive.has(run)}
    failed = set() if again else {id for id, run in runs.items() if archive.failure(run)}
    measurings: dict[tuple[str, str], Measuring] = {}
    for item in items:
        for measurement, experiments in item.measurements():
            hopeless = failed.intersection(experiment.id for experiment in experiments)
            if again or not (hopeless or archive.has_measured(measurement, experiments)):
                key = (measurement.key, " ".join(experiment.id for experiment in experiments))
                measurings[key] = Measuring(measurement, experiments, _measuring_cost(measurement, experiments, speed))
    longer = {key: step.measurement.longer for key, step in measurings.items()}
    inside = [key for key, other in longer.items() if other is not None and (other.key, key[1]) in measurings]
    measurings = {key: step for key, step in measurings.items() if key not in inside}
    needed = {experiment.id for step in measurings.values() for experiment in step.experiments}
    there = {id for id in kept if has_weights(runs[id])}
    for id in (queue := [id for id in runs if id not in kept or (id in needed and id not in there)]):
        parent = runs[id].parent
        if parent is not None and parent.run not in needed:  # a fork begins with its weights, be it trained again
            needed.add(parent.run)
            queue += [parent.run] if parent.run in runs else []
    todo = {id: run for id, run in runs.items() if id not in kept or (id in needed and id not in there)}
    todo = {id: run for id, run in todo.items() if id not in failed}
    trainings = _ordered(todo, {id: runs[id] for id in there}, kept, speed)
    return Plan(tuple(items), runs, trainings, tuple(measurings.values()), len(kept))


def _ordered(
    todo: dict[str, Experiment], there: dict[str, Experiment], kept: set[str], speed: Speed
) -> tuple[Training, ...]:
    """Runs in an order in which each comes after those that it begins with; one seed of all cells after the other."""
    sources = sorted(todo.values(), key=lambda run: (run.seed, run.parent is not None, run.algorithm.swa is not None))
    before: dict[str, list[Experiment]] = {}  # what may share rounds: the same data, network and seed
    stored = {id: stored_rounds(experiment) for id, experiment in there.items()}
    for experiment in there.values():
        before.setdefault(_alike(experiment), []).append(experiment)
    trainings = []
    for experiment in sources:
        candidates = before.setdefault(_alike(experiment), [])
        common = {source.id: _taken(stored[source.id], shared_rounds(source, experiment)) for source in candidates}
        longest = max(common, key=lambda run: common[run], default="")
        begins = (longest, common[longest]) if longest and common[longest] else None
        candidates.append(experiment)
        own = stored_rounds(experiment)  # of rounds that it takes it has the states that the other has
        stored[experiment.id] = {n for n in own if not begins or n > begins[1] or n in stored[begins[0]]}
        price = cost(experiment, speed, begins[1] if begins else 0)
        trainings.append(Training(experiment, begins, price, experiment.id in kept))
    return tuple(trainings)


def _taken(stored: set[int], shared: int) -> int:
    """The last round of so many shared ones whose state is stored, so that another run can go on from it."""
    return max((round for round in stored if round <= shared), default=0)


def _alike(experiment: Experiment) -> str:
    return f"{experiment.data.to_json()} {experiment.model.to_json()} {experiment.seed}"


def _measuring_cost(measurement: Measurement, experiments: Sequence[Experiment], speed: Speed) -> Cost:
    """Of a measurement, about."""
    if measurement.settings.get("directions") == "plane":
        experiments = experiments[:1]
    passes = ((run, _gradients_of(measurement.kind, measurement.settings, run)) for run in experiments)
    return sum((spending(run, speed, count) for run, count in passes), Cost())


def _gradients_of(kind: Kind, settings: dict[str, Any], run: Experiment) -> float:
    """What a measurement of a run comes to in gradients of samples: counts of kept ones, factors timed on two cores."""
    images, clients = sizes(run), run.data.clients or 1
    limit, some = settings.get("limit", 1000), len(settings.get("clients") or range(clients))
    held, drawn = images.train / clients, min(limit, images.holdout)
    own, plane = min(limit, held), POINT * settings.get("points", 21) ** 2 * drawn
    epochs = settings.get("epochs", settings.get("tuning", {}).get("epochs", 0))
    tuning = some * (epochs * held + (epochs + 1) * FORWARD * images.tests / clients)
    near = PRODUCT * (TOP * drawn + 4 * run.cohort_size(clients) * own)  # clients begin from the global vectors
    again = samples_a_round(run) * gradients(run)
    steps = [attack.get("steps", 1) for attack in settings.get("attacks", ())]
    classes = clients * getattr(run.data.partition, "per_client", images.classes)
    counts: dict[Kind, float] = {
        "personalize": tuning,
        "headless": 1.4 * (images.train + images.tests),  # on one core
        "eigenvalues": PRODUCT * (TOP + 5 * (settings.get("k", 1) - 1)) * drawn,
        "trace": PRODUCT * 65 * drawn,
        "spectrum": PRODUCT * settings.get("steps", 100) * drawn,
        "disagreement": PRODUCT * (TOP + 50 + clients) * drawn,
        "client_eigenvalues": settings.get("moments", 4) * (near + again),
        "flatness": PRODUCT * 20 * some * own + tuning,
        "landscape": plane,
        "local_plane": plane + again,
        "evade": tuning * (epochs > 0) + images.tests * (1.5 * sum(steps) + FORWARD * len(steps)),  # on one core
        "surrogates": 3 * settings.get("iterations", 0) * classes * (FORWARD * REAL + settings.get("ipc", 10)),
    }
    return counts[kind]
