"""An `Experiment` says what to train: frozen, validated, with an exact JSON round trip; its hash names the run."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from .. import zoo  # noqa: F401  its algorithms are then known by their names
from ..algorithms import Algorithm
from ..algorithms.schedules import floored
from ..arguments import Seed
from ..data import DataSpec, FederatedDataset
from ..declare import Declared, SettingError, declared_classes, setting, with_changes
from ..digest import digest, own
from ..files import Damaged, read_json, user_path
from ..models import ModelSpec
from ..tasks import Classification, Task
from .evaluate import Evaluation
from .world import World


class Parent(Declared):
    """Where a forked run begins."""

    run: str = setting(..., "id of the run it was forked from")
    round: int = setting(..., "round after which it was forked", ge=0)


class Experiment(Declared):
    """Data, model, algorithm and schedule of one run. Values that only change speed are not part of it.

    >>> experiment = fl.Experiment(data=data.spec, model="lenet", algorithm=fl.FedBABU(lr=0.05), rounds=40)
    >>> fl.Experiment.from_json(experiment.to_json()) == experiment
    True
    >>> experiment.replace(seed=1).id == experiment.id
    False
    """

    data: DataSpec = setting(..., "data set, partition, clients, augmentation")
    model: ModelSpec = setting(ModelSpec(name="cnn4"), "network")
    algorithm: Algorithm = setting(..., "what clients and server do")
    task: Task = setting(Classification(), "what is predicted, and how it is scored", new=True)
    world: World | None = setting(None, "what goes wrong around it: clients that lie", new=True)
    rounds: int = setting(100, "communication rounds", ge=1, unit="rounds", span=(1, 500))
    participation: float = setting(1.0, "fraction of the clients sampled in each round", gt=0, le=1)
    sampling: Literal["stream", "round_seed"] = setting(
        "stream", "clients drawn from seed and round, or as the official FedSAM code does: from the round alone"
    )
    evaluation: Evaluation = setting(Evaluation(), "what is scored, and when")
    seed: Seed = setting(0, "seed of all random streams but the partition's")
    parent: Parent | None = setting(None, "where a forked run begins")
    initial: str | None = setting(None, "digest of the state that it begins with, if one was given", new=True)
    code: str | None = setting(None, "digest of the classes of one's own in it; noted by itself", new=True)

    @model_validator(mode="after")
    def _knows_its_code(self) -> Experiment:
        here = own_code(self)
        if self.code not in (None, here):
            said = (
                f"the classes of its own ({self.algorithm.kind}, ...) are defined otherwise here ({here}); import the"
                " same code, under the same Python version, or leave `code` out to take them as they are here"
                if here
                else "all its classes are flatlab's, so there is no code of one's own to tell apart: leave it out"
            )
            raise SettingError("code", self.code, said)
        self.__dict__["code"] = here
        return self

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        self.algorithm.check(self.rounds)
        if self.algorithm.topology is not None and self.participation < 1:
            raise SettingError(
                "participation",
                self.participation,
                "over a topology every client takes part in each round; set it to 1",
            )
        if self.world is not None:
            self.world.check(self.algorithm, self.rounds)
        if self.parent is not None and self.parent.round >= self.rounds:
            raise SettingError("rounds", self.rounds, f"must exceed the parent's round {self.parent.round}")
        return self

    @property
    def id(self) -> str:
        """Readable name with a hash of the canonical JSON."""
        digest = hashlib.blake2b(self.to_json().encode(), digest_size=5).hexdigest()
        name = f"{self.algorithm.kind}-{self.model.name}-{self.data.name}-{digest}".lower()
        return re.sub(r"[^\w.-]", "_", name)

    @property
    def from_scratch(self) -> bool:
        """Whether the run begins with the network's first weights, which can be made again."""
        return self.parent is None and self.initial is None

    def check(self, data: FederatedDataset) -> None:
        """Refuse settings that cannot work with these clients, or with this augmentation of their images.

        Raises:
            SettingError: naming the setting.
        """
        algorithm, population = self.algorithm, 1 if self.algorithm.pooled else data.clients
        algorithm.check_rates(self.rounds)  # not as it is stated: plans state thousands, of ten thousand rounds each
        if algorithm.batches_per_step > 1 and data.augmentation.mixup:
            told = f"{algorithm.kind} halves its batches; set it to 0"
            raise SettingError("augment.mixup", data.augmentation.mixup, told)
        algorithm.aggregation.check(self.cohort_size(population))
        if algorithm.topology is not None:
            algorithm.topology.mixing(population, self.seed, 0)

    def cohort_size(self, population: int) -> int:
        """Clients sampled in a round: max(floor(participation x clients), 1), as in FedBABU's official code."""
        return max(floored(self.participation, population), 1)

    @classmethod
    def recorded(cls, text: str) -> Self:
        """An experiment as it was written, with the code that its classes had then, whatever they are by now."""
        values = cls.values(text)
        code = values.get("code") if isinstance(values, dict) else None
        experiment = cls.from_dict({**values, "code": None} if isinstance(code, str) else values)
        experiment.__dict__["code"] = code
        return experiment

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some settings changed, and the code that its classes have here."""
        return super().replace(**{"code": None, **changes})

    @classmethod
    def from_file(cls, path: str | Path, changes: dict[str, Any] | None = None) -> Experiment:
        """Read a TOML file, or a JSON file such as a run's `experiment.json`, with `changes` applied.

        Args:
            path: of the file; `.json` is JSON, all else TOML. A folder stands for the `experiment.json` in it.
            changes: by dotted names, such as {"algorithm.lr": 0.05}. With another `algorithm.kind` what the file's
                algorithm has by default is that of the new one.

        Raises:
            SettingError: if the file is not TOML or JSON, or a setting is wrong.

        >>> fl.Experiment.from_file(run.directory / "experiment.json", {"seed": 3}) == run.experiment.replace(seed=3)
        True
        """
        path = user_path(path)
        path = path / "experiment.json" if path.is_dir() else path
        values = _json(path) if path.suffix == ".json" else _toml(path)
        if not isinstance(values, dict):
            raise SettingError(f"{path}", allowed="holds no experiment")
        if changes and values.get("code"):  # it is that of the classes in the file
            cls.from_dict(values)
            values = {**values, "code": None}
        return cls.from_dict(with_changes(_of_own_kind(values, changes or {}), changes or {}))


def _of_own_kind(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A file's settings without the defaults of its algorithm, where the changes ask for another: it has its own."""
    given, kind = values.get("algorithm"), changes.get("algorithm.kind")
    if not isinstance(given, dict) or kind in (None, given.get("kind")):
        return values
    algorithm = Algorithm.from_dict(given)
    return values | {"algorithm": {"kind": algorithm.kind, **algorithm.changed()}}


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except Damaged as error:
        raise SettingError(f"{path}", allowed=str(error).removeprefix(f"{path}: ")) from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((content := path.read_bytes()).decode("utf-8-sig"))
    except RecursionError:
        raise SettingError(f"{path}", allowed="not valid TOML: nested too deeply") from None
    except ValueError as error:  # what tomllib and the decoding raise
        hint = "; in a path, write / for \\, or put it in single quotes" if b"\\" in content else ""
        raise SettingError(f"{path}", allowed=f"not valid TOML: {error}{hint}") from None


def own_code(experiment: Experiment) -> str | None:
    """What stands for the classes of the user's own that decide how weights move; None if all are flatlab's.

    A partition does not count: the fingerprint of the data tells what it came to, and of one's own what is scored. A
    network has a digest of its own.
    """
    parts = [experiment.algorithm, experiment.evaluation, experiment.task, experiment.data.augmentation]
    classes = [cls for cls in declared_classes([*parts, experiment.world]) if own(cls)]
    return digest(*classes, strict=False) if classes else None
