"""What no client has seen: a style of pictures left out, a video by another light, writers. No paper has these tables.

    unseen.domains("short"), unseen.segmentation("short"), unseen.writers("short")     # `flatlab reproduce background`

Short takes PACS at 32x32 pixels, CamVid at 80x60 and FEMNIST, quick what `drawn` makes of scikit-learn's digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..algorithms import ASAM, SWA
from ..data import Augmentation, Consecutive, DataSpec, Domains, Groups, Partition
from ..models import ModelSpec
from ..tasks import Segmentation
from ..training import Evaluation, Experiment
from .quantities import Quantity, eigenvalue, gain, initial, personalization, personalized, score, top_eigenvalues
from .tables import Item, ScaleName, Table, cell, crossed, method

SEEDS = (0, 1, 2)
AVERAGED = SWA(start=0.75, cycle=1)
SAMPLES, FRAMES = 256, 64  # images of the Hessians
METHODS: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedAvg + SWA": {"swa": AVERAGED},
    "FedASAM": {"local": ASAM(rho=0.5, eta=0.2)},
    "FedASAM + SWA": {"local": ASAM(rho=0.5, eta=0.2), "swa": AVERAGED},
}
FED_BN: dict[str, Any] = {"share": "all-norms"}


@dataclass(frozen=True)
class Size:
    """What a scale makes of one of the tables."""

    dataset: str
    about: str  # the images, in words
    leaves_out: str
    model: ModelSpec
    rounds: int
    lr: float
    batch_size: int
    clients: int  # of a domain; or all that share the videos
    shrink: int = 1
    augmentation: Augmentation | None = None
    unseen: tuple[str, ...] = ()  # domains, each left out once
    dusk: tuple[int, ...] = ()  # clients that hold the dark video
    participation: float = 1.0
    images: int | None = None  # train images of a client, where it does not get its share of all
    tests: int | None = None  # its test images, likewise
    tuning_lr: float = 0.01


_PACS: dict[str, Any] = {
    "dataset": "pacs64",
    "lr": 0.05,
    "batch_size": 32,
    "clients": 5,
    "augmentation": Augmentation(flip=True, crop=4),
    "unseen": ("art_painting", "cartoon", "photo", "sketch"),
}
_CAMVID: dict[str, Any] = {
    "dataset": "camvid240",
    "lr": 0.1,
    "batch_size": 8,
    "clients": 12,
    "augmentation": Augmentation(flip=True, crop=2),
    "dusk": (0, 1),
    "participation": 0.5,
}
DOMAINS: dict[ScaleName, Size] = {
    "quick": Size(
        "digit_styles", "digits in four styles", "PACS (digits in four styles, of which two are left out)",
        ModelSpec(name="cnn4", width=0.25), rounds=24, lr=0.1, batch_size=32, clients=2,
        unseen=("outlined", "negative"),
    ),
    "short": Size(
        about="PACS at 32x32", leaves_out="64x64 pixels, cnn4 of full width, two thirds of the rounds",
        model=ModelSpec(name="cnn4", width=0.25), rounds=32, shrink=2, **_PACS,
    ),
    "paper": Size(
        about="PACS at 64x64", leaves_out="nothing; no paper has this table", model=ModelSpec(name="cnn4"), rounds=96,
        **_PACS,
    ),
}  # fmt: skip
VIDEOS: dict[ScaleName, Size] = {
    "quick": Size(
        "digit_scenes", "drawn scenes of 24x32", "CamVid (drawn scenes of digits that move)",
        ModelSpec(name="segnet", width=0.5), rounds=24, lr=0.1, batch_size=8, clients=6, dusk=(2, 3),
    ),
    "short": Size(
        about="CamVid at 80x60", leaves_out="120x90 pixels, segnet of width 2, two thirds of the rounds",
        model=ModelSpec(name="segnet"), rounds=40, shrink=3, **_CAMVID,
    ),
    "paper": Size(
        about="CamVid at 120x90", leaves_out="nothing; no paper has this table",
        model=ModelSpec(name="segnet", width=2.0), rounds=120, shrink=2, **_CAMVID,
    ),
}  # fmt: skip


_FEMNIST: dict[str, Any] = {
    "dataset": "femnist",
    "about": "FEMNIST, 184 writers, of whom 79 have test images only",
    "lr": 0.05,
    "batch_size": 20,
    "clients": 105,
    "participation": 0.2,
}
WRITERS: dict[ScaleName, Size] = {
    "quick": Size(
        "digit_styles", "digits in four styles, of which one is left out", "FEMNIST (digits in four styles)",
        ModelSpec(name="cnn4", width=0.25), rounds=24, lr=0.1, batch_size=32, clients=6, unseen=("outlined",),
    ),
    "short": Size(
        leaves_out="cnn4 of full width, five sixths of the rounds", model=ModelSpec(name="cnn4", width=0.25),
        rounds=56, **_FEMNIST,
    ),
    "paper": Size(leaves_out="nothing; no paper has this table", model=ModelSpec(name="cnn4"), rounds=336, **_FEMNIST),
}  # fmt: skip


def domain_experiment(
    unseen: str | None = None, *, scale: ScaleName = "short", seed: int = 0, **changes: Any
) -> Experiment:
    """FedAvg on clients of which each holds one domain, all in each round.

    Args:
        unseen: the domain that no client holds; the scale's first, if not given.
        scale: of the table.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    size = DOMAINS[scale]
    partition = Domains(unseen=(unseen or size.unseen[0],), clients_per_domain=size.clients)
    made = experiment("FedAvg", size, partition, seed, changes)
    return made.replace(**{"data.clients": 3 * size.clients})  # of the four domains


def video_experiment(
    kind: str = "FedAvg", *, scale: ScaleName = "short", seed: int = 0, norm: str = "default", **changes: Any
) -> Experiment:
    """A segmentation by clients that hold runs of consecutive frames.

    Args:
        kind: of the algorithm.
        scale: of the table.
        seed: of everything random.
        norm: of the network; batch statistics by default, which are local as SiloBN's are.
        **changes: of the algorithm's settings.
    """
    size = VIDEOS[scale]
    made = experiment(kind, size, Consecutive(), seed, changes)
    return made.replace(**{"task": Segmentation(), "data.clients": size.clients, "model.norm": norm})


def writer_experiment(*, scale: ScaleName = "short", seed: int = 0, **changes: Any) -> Experiment:
    """FedAvg on clients of which each holds the characters of one writer (quick: one style).

    Args:
        scale: of the table.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    size = WRITERS[scale]
    partition = Domains(unseen=size.unseen, clients_per_domain=2) if size.unseen else Groups()
    return experiment("FedAvg", size, partition, seed, changes).replace(**{"data.clients": size.clients})


def experiment(kind: str, size: Size, partition: Partition, seed: int, changes: Mapping[str, Any]) -> Experiment:
    """What a size makes of an algorithm.

    Args:
        kind: of the algorithm.
        size: of data, network and training.
        partition: who holds what.
        seed: of everything random.
        changes: of the algorithm's settings.
    """
    settings = {"lr": size.lr, "momentum": 0.9, "batch_size": size.batch_size, **changes}
    moved: dict[str, Any] = {} if size.augmentation is None else {"augmentation": size.augmentation}
    return Experiment(
        data=DataSpec(name=size.dataset, partition=partition, seed=seed, shrink=size.shrink, **moved),
        model=size.model,
        algorithm=method(kind, settings),
        rounds=size.rounds,
        participation=size.participation,
        evaluation=Evaluation(every=size.rounds // 8),
        seed=seed,
    )


def _flatness(samples: int) -> dict[str, Quantity]:
    return {
        "λ₁ seen": eigenvalue(top_eigenvalues(samples, k=1)),
        "λ₁ unseen": eigenvalue(top_eigenvalues(samples, k=1, data="unseen")),
    }


def domains(scale: ScaleName) -> Table:
    """Each domain left out once: accuracy and largest eigenvalue on seen and on unseen domains."""
    size = DOMAINS[scale]
    own = initial()
    columns = {"seen": score(), "unseen": score(split="unseen"), "clients' own": own, **_flatness(SAMPLES)}
    cells = [
        cell(row, f"{left_out} left out, {column}", quantity,
             partial(domain_experiment, left_out, scale=scale, **changes), SEEDS)
        for row, changes in {**METHODS, "FedBN": FED_BN}.items()
        for left_out in size.unseen
        for column, quantity in columns.items()
        if row != "FedBN" or quantity is own  # its clients keep their norms: there is no global model to score
    ]  # fmt: skip
    done = (
        f"{size.about}, {3 * size.clients} clients of one domain each, all in each round, {_trained(size, SAMPLES)};"
        " seen: the test images of the other domains; FedBN has no model for what nobody holds"
    )
    title = "Domains: is a flat minimum flat, and good, where no client has been?"
    return Table("background.domains", title, scale, tuple(cells), done, size.leaves_out)


def segmentation(scale: ScaleName) -> Table:
    """A class for each pixel: mIoU and largest eigenvalue on videos that clients hold and on one that none holds."""
    size = VIDEOS[scale]
    tuned = personalization(5, 0.01)
    bright = tuple(client for client in range(size.clients) if client not in size.dusk)
    columns = {
        "seen": score(metric="miou"),
        "unseen": score(split="unseen", metric="miou"),
        "clients' own": initial(metric="miou"),
        "personalized": personalized(tuned, metric="miou"),
        "gain at dusk": gain(tuned, "miou", size.dusk),
        "gain of the others": gain(tuned, "miou", bright),
        **_flatness(FRAMES),
    }
    rows = {**METHODS, "FedBABU": {"kind": "FedBABU"}, "FedAvg, GroupNorm": {"norm": "group"}}
    cells = crossed(rows, columns, partial(video_experiment, scale=scale), SEEDS)
    done = (
        f"{size.about}, {size.clients} clients with consecutive frames of a video, {size.participation:.0%} of them in"
        f" each of {_trained(size, FRAMES)}; mIoU of confusions summed over a set; tuning: 5 epochs of SGD 0.01;"
        " but for the last row batch statistics, which stay local as SiloBN's do"
    )
    title = "Segmentation: the video that nobody holds, and who gains from fine-tuning"
    return Table("background.segmentation", title, scale, tuple(cells), done, size.leaves_out)


def writers(scale: ScaleName) -> Table:
    """Accuracy and largest eigenvalue on writers who are clients, and on writers of whom nobody holds an image."""
    size = WRITERS[scale]
    columns = {"seen": initial(), "unseen": score(split="unseen"), **_flatness(SAMPLES)}
    cells = crossed(METHODS, columns, partial(writer_experiment, scale=scale), SEEDS)
    done = (
        f"{size.about}; {size.clients} clients, {size.participation:.0%} of them in each of {_trained(size, SAMPLES)};"
        " accuracies are means over writers; seen of the Hessian: the whole holdout"
    )
    title = "Writers: is a flat model better for those who are no clients?"
    return Table("background.writers", title, scale, tuple(cells), done, size.leaves_out)


def _trained(size: Size, samples: int) -> str:
    return (
        f"{size.rounds} rounds of one epoch, SGD {size.lr:g}, momentum 0.9, batches of {size.batch_size},"
        f" ASAM rho 0.5, eta 0.2, SWA of each round from 75 % on, Hessian on {samples} images"
    )


TABLES: dict[str, Callable[[ScaleName], Item]] = {
    "background.domains": domains,
    "background.segmentation": segmentation,
    "background.writers": writers,
}
NEEDS = {  # files that nobody may pass on, or that nobody can download in this form
    "pacs64": "PACS, 64x64 pixels",
    "camvid240": "CamVid, 240x180 pixels",
    "femnist": "FEMNIST with its writers as groups",
}
