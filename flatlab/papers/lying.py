"""What those who lie do to a model: backdoors that are to be tuned away, images that are changed. No paper has these.

    lying.backdoor("short"), lying.evasion("short")     # rows of `flatlab reproduce background`

Short takes 5,000 images of MNIST and of CIFAR-10, quick the digits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..algorithms import ASAM, FGSM, PGD, SAM, SGD, attacks
from ..data import Dirichlet
from ..models import ModelSpec
from ..training import Adversary, Evaluation, Experiment, World
from .measurements import Measurement
from .quantities import eigenvalue, personalization, personalized, score, top_eigenvalues, under_attack
from .tables import Item, ScaleName, Table, crossed
from .unseen import AVERAGED, SEEDS, Size, experiment

PARTS, AFTER = ("head", "body", "all"), (1, 5)  # that are tuned; epochs
EVEN, SKEWED = 100.0, 3.0  # alpha in all; the second is .3 a class
LIARS = 0.2  # share of the clients
BEGIN: dict[ScaleName, float] = {"quick": 0.0, "short": 0.5, "paper": 0.5}  # share of the rounds before they lie
EPS = (0, 2, 4, 8)  # of 255
SAMPLES, TUNED = 256, 2  # of the Hessian; epochs of fine-tuning before images are changed
STEPS = 5  # of PGD
ROWS: dict[str, dict[str, Any]] = {
    f"{name}{end}": {"local": local, "swa": swa}
    for name, local in (("FedAvg", SGD()), ("FedSAM", SAM(rho=0.05)), ("FedASAM", ASAM(rho=0.5, eta=0.2)))
    for end, swa in (("", None), (" + SWA", AVERAGED))
}
_SHARED: dict[str, Any] = {"lr": 0.05, "batch_size": 50, "clients": 10}
_SMALL: dict[str, Any] = {"model": ModelSpec(name="cnn4", width=0.25), "images": 500, "tests": 100, **_SHARED}
_WHOLE: dict[str, Any] = {"model": ModelSpec(name="cnn4"), "leaves_out": "nothing; no paper has this table", **_SHARED}
_QUICK: dict[str, Any] = {
    "dataset": "digits",
    "about": "digits",
    "model": ModelSpec(name="cnn4", width=0.25),
    "rounds": 8,
    "lr": 0.05,
    "batch_size": 16,
    "clients": 10,
    "tuning_lr": 0.02,
}
DOORS: dict[ScaleName, Size] = {
    "quick": Size(leaves_out="MNIST (digits)", **(_QUICK | {"rounds": 24})),
    "short": Size(
        "mnist", "5,000 images of MNIST", "55,000 images, cnn4 of full width, two thirds of the rounds", rounds=24,
        tuning_lr=0.02, **_SMALL,
    ),
    "paper": Size("mnist", "MNIST", rounds=72, **_WHOLE),
}  # fmt: skip
EVADED: dict[ScaleName, Size] = {
    "quick": Size(leaves_out="CIFAR-10 (digits)", **_QUICK),
    "short": Size(
        "cifar10", "5,000 images of CIFAR-10", "45,000 images, cnn4 of full width, two thirds of the rounds", rounds=32,
        **_SMALL,
    ),
    "paper": Size("cifar10", "CIFAR-10", rounds=96, **_WHOLE),
}  # fmt: skip


def dealt(kind: str, size: Size, alpha: float, seed: int, **changes: Any) -> Experiment:
    """An algorithm on as many images a client as the size says, all clients in each round.

    Args:
        kind: of the algorithm.
        size: of data, network and training.
        alpha: of the Dirichlet partition, in all.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    sizes: Any = "equal" if size.images is None else (size.images,) * size.clients
    made = experiment(kind, size, Dirichlet(alpha=alpha, sizes=sizes, test_size=size.tests), seed, changes)
    return made.replace(**{"data.clients": size.clients, "evaluation": Evaluation(every=size.rounds // 4)})


def backdoored(kind: str = "FedAvg", *, scale: ScaleName = "short", seed: int = 0, **changes: Any) -> Experiment:
    """A fifth of even clients teaches a patch from some round on, with updates that replace the model.

    Args:
        kind: of the algorithm.
        scale: of the table.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    patch = attacks.Patch(margin=0)
    liars = Adversary(share=LIARS, data=patch, message=attacks.Replacement(), start=BEGIN[scale])
    return dealt(kind, DOORS[scale], EVEN, seed, **changes).replace(world=World(adversary=liars))


def shown(kind: str = "FedAvg", *, scale: ScaleName = "short", seed: int = 0, **changes: Any) -> Experiment:
    """Nobody lies in training; whoever shows images to the model may.

    Args:
        kind: of the algorithm.
        scale: of the table.
        seed: of everything random.
        **changes: of the algorithm's settings.
    """
    return dealt(kind, EVADED[scale], SKEWED, seed, **changes)


def tuned_part(scale: ScaleName, part: str) -> Measurement:
    """All clients tune a part on their clean images, the liars too."""
    return personalization(AFTER[-1], DOORS[scale].tuning_lr, part=part)


def attacked(scale: ScaleName, way: str, tuned: bool = False) -> Measurement:
    """Each client's test images changed by FGSM or PGD; its model tuned before or not."""
    radii = [eps / 255 for eps in EPS if eps]
    ways = [FGSM(eps=eps) if way == "FGSM" else PGD(eps=eps, step=eps / 2, steps=STEPS) for eps in radii]
    settings: dict[str, Any] = {"attacks": [attack.to_dict() for attack in ways]}
    if tuned:
        settings |= {"epochs": TUNED, "lr": EVADED[scale].tuning_lr}
    return Measurement(kind="evade", settings=settings)


def backdoor(scale: ScaleName) -> Table:
    """Accuracy and attack success before fine-tuning, and after one and five epochs of each part."""
    size = DOORS[scale]
    columns = {"accuracy, global": score()}
    for metric in ("accuracy", "success"):
        columns[f"{metric}, before"] = personalized(tuned_part(scale, PARTS[0]), 0, metric)
        columns |= {
            f"{metric}, {part}, {after}": personalized(tuned_part(scale, part), after, metric)
            for part in PARTS
            for after in AFTER
        }
    rows = {kind: {"kind": kind} for kind in ("FedAvg", "FedBABU")}
    cells = crossed(rows, columns, partial(backdoored, scale=scale), SEEDS)
    done = (
        f"{_protocol(size, EVEN)}; from {BEGIN[scale]:.0%} of the rounds on a fifth of the clients marks half of its"
        " images with a square, calls them 0, and enlarges its updates until the model is its own; tuning: epochs"
        f" of SGD {size.tuning_lr:g}, momentum 0.9, by all clients on clean images; success: of triggered test images"
        " of other classes those that are called 0"
    )
    title = "A backdoor: does fine-tuning wash it out, and of which part?"
    return Table("background.backdoor", title, scale, tuple(cells), done, size.leaves_out)


def evasion(scale: ScaleName) -> Table:
    """Accuracy on images that were changed to harm, of models trained for flat minima, and the largest eigenvalue."""
    size, top = EVADED[scale], top_eigenvalues(SAMPLES, k=1)
    columns = {"clean": under_attack(attacked(scale, "PGD"), 0)}
    for way, tuned in (("FGSM", False), ("PGD", False), ("PGD", True)):
        name, needs = f"{way}, tuned" if tuned else way, attacked(scale, way, tuned)
        columns |= {f"{name} {eps}/255": under_attack(needs, eps / 255) for eps in EPS if eps or tuned}
    columns["λ₁"] = eigenvalue(top)
    cells = crossed(ROWS, columns, partial(shown, scale=scale), SEEDS)
    done = (
        f"{_protocol(size, SKEWED)}; SAM rho 0.05, ASAM rho 0.5, eta 0.2, SWA of each round from 75 % on; accuracy on"
        f" clients' own test images, each set attacked as one batch of batch statistics; PGD: {STEPS} steps of eps / 2"
        f" from a random start; tuned: {TUNED} epochs of SGD {size.tuning_lr:g} before; Hessian on {SAMPLES} images"
    )
    title = "Changed images: are flat models robust, too?"
    return Table("background.evasion", title, scale, tuple(cells), done, size.leaves_out)


def _protocol(size: Size, alpha: float) -> str:
    return (
        f"{size.about}, {size.clients} clients, alpha {alpha:g} in all ten classes, all clients in each of"
        f" {size.rounds} rounds of one epoch, SGD {size.lr:g}, momentum 0.9, batches of {size.batch_size}"
    )


TABLES: dict[str, Callable[[ScaleName], Item]] = {"background.backdoor": backdoor, "background.evasion": evasion}
