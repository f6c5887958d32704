"""FedBABU (Oh, Kim and Yun, ICLR 2022, arXiv 2106.06042): its protocol, for any cell of its tables.

    fedbabu.experiment("FedBABU", shards=2, epochs=10, dataset="cifar10")            # a cell of Table 13
    fedbabu.experiment("FedAvg", shards=10, lr=0.05)                                 # Table 1, with another rate

Constants are those of the official code (jhoon-oh/FedBABU): 100 clients, SGD with learning rate 0.1 and momentum 0.9,
batches of 50, K rounds of tau epochs with K tau = 320, the rate divided by 10 after K/2 and 3K/4 rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..algorithms import Constant, Schedule, Steps
from ..data import IID, Augmentation, DataSpec, Partition, Shards
from ..declare import tell
from ..models import ModelSpec
from ..training import Evaluation, Experiment
from ..training.experiment import Parent
from .measurements import Measurement
from .quantities import personalization
from .tables import ScaleName, checked_scale, method

STEPS, CONSTANT = Steps(), Constant()


@dataclass(frozen=True)
class Size:
    """What a scale makes of the protocol."""

    passes: int  # K tau
    local_epochs: int  # of LocalOnly
    centralized_epochs: int
    seeds: tuple[int, ...]
    smaller: str  # data set and network, of centralized training too
    fewer: str = ""  # what else the federated tables leave out, the numbers aside
    tuned: int = 1  # every so many clients are fine-tuned
    scored: int = 32  # rounds in which clients are scored, or a few more: for curves, and for the best round
    lr: float = 0.1
    schedule: Schedule = STEPS
    tuning_lr: float = 0.001
    clients: int = 100
    dataset: str | None = None  # None: the paper's
    model: ModelSpec | None = None
    participation: Mapping[float, float] | None = None  # by the paper's
    shards: Mapping[int, int] | None = None

    @property
    def leaves_out(self) -> str:
        """What tables of federated runs leave out; `protocols` adds what only some of them do."""
        full = SIZES["paper"].passes
        passes = f"K tau = {self.passes} instead of {full}" if self.passes != full else ""
        return "; ".join(filter(None, (self.smaller, passes, self.fewer)))


SIZES: dict[ScaleName, Size] = {
    "paper": Size(320, 160, 160, (0, 1, 2), "nothing of the protocol; the paper has one seed, here are three"),
    "short": Size(
        80,
        10,
        15,
        (0, 1, 2),
        "cnn4 of half width in the place of MobileNet and 4convNet",
        "f = 0.1 only; fewer tau; clients scored in fewer rounds; every fifth client fine-tuned",
        tuned=5,
        scored=8,
        model=ModelSpec(name="cnn4", width=0.5),
    ),
    "quick": Size(
        150,
        30,
        20,
        (0, 1, 2),
        "the data set (digits, 8x8 pixels, 50 clients), the network (lenet of half width)",
        "tuning rate 0.01, s = 100, 50, 10 become 10, 5, 2; f = 0.1 becomes 0.2; one tau; clients scored in fewer"
        " rounds",
        scored=8,
        lr=0.05,
        schedule=CONSTANT,
        tuning_lr=0.01,
        clients=50,
        dataset="digits",
        model=ModelSpec(name="lenet", width=0.5),
        participation={0.1: 0.2},
        shards={100: 10, 50: 5, 10: 2},
    ),
}
DATASETS = ("cifar10", "cifar100")
_OWN: dict[str, dict[str, Any]] = {
    "FedProx": {"mu": 0.01},
    "FedProx+BABU": {"mu": 0.01, "train": "body", "share": "body"},
    "Ditto": {"lam": 0.75, "schedule": Constant()},
    "PerFedAvg": {"schedule": Constant()},
    "LGFedAvg": {"lr": 0.001, "schedule": Constant()},
}
# Where the official scripts of two rivals do otherwise.
OTHERWISE = "LGFedAvg goes on from FedAvg's last round, in the official code from its best by test accuracy"
WHOLE_EPOCHS = "an epoch of PerFedAvg passes over all images, there it is floor(10 / tau) + 1 steps of two batches"


def experiment(
    method_name: str = "FedBABU",
    *,
    dataset: str = "cifar100",
    shards: int = 10,
    participation: float = 0.1,
    epochs: int = 10,
    seed: int = 0,
    scale: ScaleName = "paper",
    model: str | ModelSpec | None = None,
    partition: Partition | None = None,
    **changes: Any,
) -> Experiment:
    """The experiment of one cell and seed.

    Args:
        method_name: the kind of an algorithm, or "FedProx+BABU".
        dataset: "cifar100" (MobileNet) or "cifar10" (4convNet). Scale "quick" puts digits in its place, with few
            clients and a small network; the other scales take any name, with MobileNet and 100 clients, and warn.
        shards: s, the most classes that a client holds; ignored with `partition`.
        participation: f.
        epochs: tau, local epochs a round.
        seed: of everything random, the partition included.
        scale: "paper", "short" or "quick".
        model: another network.
        partition: another partition.
        **changes: of the algorithm's settings, e.g. `lr=0.05` or `local=fl.SAM()`.

    Returns:
        The experiment. LGFedAvg's is a fork of FedAvg's last round, which `flatlab reproduce` trains before it.

    Raises:
        SettingError: if there is no such method, or a setting is wrong.
    """
    size = size_of(scale)
    if dataset not in DATASETS and size.dataset is None:
        used = "another model" if model is not None else (size.model or _model(dataset)).name
        tell(f"dataset = {dataset!r} is none of the paper's: {used} and {size.clients} clients; see scale='quick'")
    kind = method_name.partition("+")[0]
    settings = {"lr": size.lr, "momentum": 0.9, "batch_size": 50, "epochs": epochs, "schedule": size.schedule}
    rounds = max(1, size.passes // epochs)
    share = (size.participation or {}).get(participation, participation)
    if kind == "LocalOnly":
        rounds, share, settings["epochs"] = size.local_epochs, 1.0, 1
    if kind == "PerFedAvg":
        settings["alpha"] = size.lr
        if scale == "paper":
            settings |= {"epochs": 1, "local_steps": epochs * (10 // epochs + 1)}
    if kind == "FedRep":  # as many epochs of the head as the others have, then one of the body
        settings |= {"epochs": epochs + 1, "head_epochs": epochs}
    algorithm = method(kind, settings | _OWN.get(method_name, {}))
    if changes:
        algorithm = algorithm.replace(**changes)
    parent = None
    if kind == "LGFedAvg":
        same: dict[str, Any] = {"dataset": dataset, "shards": shards, "participation": participation, "model": model}
        before = experiment("FedAvg", epochs=epochs, seed=seed, scale=scale, partition=partition, **same)
        parent = Parent(run=before.id, round=rounds)
        rounds += max(1, rounds // 4)
    every = max(1, rounds // size.scored)
    return Experiment(
        data=data_of(dataset, scale, seed, partition or Shards(per_client=(size.shards or {}).get(shards, shards))),
        model=ModelSpec.from_dict(model) if model is not None else size.model or _model(dataset),
        algorithm=algorithm,
        rounds=rounds,
        participation=share,
        evaluation=Evaluation(every=every, clients_every=every),
        seed=seed,
        parent=parent,
    )


def centralized(
    train: str = "all", *, dataset: str = "cifar100", seed: int = 0, scale: ScaleName = "paper", **changes: Any
) -> Experiment:
    """Figure 2: ordinary training on all images, of the whole network, its body or its head.

    Args:
        train: "all", "body" or "head".
        dataset: as of `experiment`.
        seed: as there.
        scale: as there.
        **changes: of the algorithm's settings.
    """
    size = size_of(scale)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128, "schedule": Steps()}
    algorithm = method("Centralized", settings | {"train": train}).replace(**changes)
    return Experiment(
        data=data_of(dataset, scale, seed, IID()).replace(clients=1),
        model=size.model or _model(dataset),
        algorithm=algorithm,
        rounds=size.centralized_epochs,
        evaluation=Evaluation(every=1),
        seed=seed,
    )


def tuning(scale: ScaleName = "paper", epochs: int = 5, **settings: Any) -> Measurement:
    """Personalization by the paper's protocol: 5 epochs of SGD(0.001, momentum 0.9) on body and head, batches of 50."""
    size = size_of(scale)
    some = {"clients": list(range(0, size.clients, size.tuned))} if size.tuned > 1 else {}
    return personalization(epochs, size.tuning_lr, **some, **settings)


def templates_differ(run: Experiment) -> bool:
    """Whether order and augmentation, all in which the official code's templates are not clean, change any number."""
    return run.model.normalisation == "batch" or run.data.augmentation != Augmentation()


def unbalanced_sizes(users: int, moved: int, clients: int = 100, mean: int = 500) -> tuple[int, ...]:
    """Sizes of the official code's unbalanced split: groups of `users` clients, `moved` images apart.

    5/50 gives 25, 75, ..., 975; 50/500 gives 250 and 750.
    """
    groups = clients // users
    return tuple(mean + round(moved * (group - (groups - 1) / 2)) for group in range(groups) for _ in range(users))


def size_of(scale: str) -> Size:
    """What a scale makes of the protocol.

    Raises:
        SettingError: if there is no such scale.
    """
    return SIZES[checked_scale(scale)]


def data_of(dataset: str, scale: ScaleName, seed: int, partition: Partition) -> DataSpec:
    """The data of a cell: FedBABU's constants of normalisation where they are known."""
    size = size_of(scale)
    name = size.dataset or dataset
    known: Literal["default", "fedbabu"] = "fedbabu" if name in ("cifar10", "cifar100") else "default"
    return DataSpec(name=name, partition=partition, clients=size.clients, seed=seed, normalise=known)


def _model(dataset: str) -> ModelSpec:
    return ModelSpec(name="cnn4" if dataset == "cifar10" else "mobilenet")
