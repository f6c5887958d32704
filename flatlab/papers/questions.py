"""The questions of both papers, of the crossing and of the wider ground as claims: `claims(scale)`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from ..algorithms import ServerData
from . import crossing, fedasam, fedbabu, fedbabu_tables
from .fedasam_tables import EVEN, datasets
from .hypotheses import hypotheses
from .judging import Claim, Part, Side, side
from .measurements import LONGEST
from .quantities import (
    Quantity,
    eigenvalue,
    eigenvalue_ratio,
    gain,
    head_accuracy,
    headless_accuracy,
    initial,
    personalized,
    roughness,
    score,
    top_eigenvalues,
)
from .tables import ScaleName

ALIKE = 0.02  # accuracies that are called equal: two points
SAME_CURVATURE = 0.25  # logarithms of eigenvalues that are called equal: a factor of 1.28


def claims(scale: ScaleName) -> dict[str, Claim]:
    """All claims at one scale by id: FedBABU's, FedASAM's, the crossing's, those of our own tables."""
    papers = ([_heads, _personalizing], [_sharpness_aware, _averaged_and_mixed], [_crossing], [hypotheses])
    ordered = [
        sorted((claim for part in parts for claim in part(scale)), key=lambda claim: claim.id) for parts in papers
    ]
    return {claim.id: claim for claim in chain.from_iterable(ordered)}


def _babu(scale: ScaleName, name: str, quantity: Quantity, label: str = "", **setting: Any) -> Side:
    less = setting.pop("less", None)
    settings = {"epochs": fedbabu_tables.grid(scale)[-1][1], **setting}
    make = partial(fedbabu.experiment, name, scale=scale, **settings)
    return side(label or name, quantity, make, fedbabu.size_of(scale).seeds, less)


def _heads(scale: ScaleName) -> list[Claim]:
    """FedBABU on what a head does."""
    tuned = personalized(fedbabu.tuning(scale))
    babu = partial(_babu, scale)
    full, body = ServerData(share=0.1, train="all"), ServerData(share=0.1, train="body")
    rq1 = (
        Part("initial accuracy, s=10", babu("FedAvg", initial(), "server trains all", server_data=full),
             babu("FedAvg", initial(), "no server data"), "+"),
        Part("personalized accuracy, s=10", babu("FedAvg", tuned, "server trains all", server_data=full),
             babu("FedAvg", tuned, "no server data"), "-"),
        Part("personalized accuracy, s=10", babu("FedAvg", tuned, "server trains the body", server_data=body),
             babu("FedAvg", tuned, "server trains all", server_data=full), "+"),
    )  # fmt: skip
    trained = fedbabu_tables.figure2(scale)
    pooled = {name: Side(name, score(), runs) for name, runs in trained.series.items()}
    rq2 = (
        Part("centralized accuracy", pooled["body"], pooled["head"], "+"),
        Part("centralized accuracy", pooled["body"], pooled["full"], "=", ALIKE),
        Part("accuracy without head, s=10", babu("FedBABU", headless_accuracy()),
             babu("FedAvg", headless_accuracy()), "+"),
    )  # fmt: skip
    official = babu("FedBABU", headless_accuracy("official"), "official templates")
    templates = [
        Part("accuracy without head, clean templates, s=10", babu("FedBABU", headless_accuracy()),
             babu("FedAvg", headless_accuracy()), "+"),
        Part("accuracy with head over owned classes, s=10", babu("FedBABU", head_accuracy()),
             babu("FedAvg", head_accuracy()), "+"),
    ]  # fmt: skip
    if any(map(fedbabu.templates_differ, official.experiments)):
        clean = babu("FedBABU", headless_accuracy(), "clean templates")
        templates.insert(1, Part("accuracy without head, s=10", official, clean, "=", ALIKE))
    return [
        Claim("fedbabu.rq1", "Does training the head on the server's data hurt personalization? (RQ1)", rq1, scale),
        Claim("fedbabu.rq2", "Is a frozen random head enough? (RQ2)", rq2, scale),
        Claim("fedbabu.rq4", "Is the headless gap an artefact of the templates? (RQ4)", tuple(templates), scale),
    ]


def _personalizing(scale: ScaleName) -> list[Claim]:
    """FedBABU on accuracy before and after fine-tuning."""
    tuned = personalized(fedbabu.tuning(scale))
    babu = partial(_babu, scale)
    rq3 = [
        Part(f"personalized accuracy, s={s}", babu("FedBABU", tuned, shards=s), babu("FedAvg", tuned, shards=s), "+")
        for s in reversed(fedbabu_tables.shards_of(scale, "cifar100"))
    ]
    lead = {
        s: babu("FedBABU", tuned, f"FedBABU's lead, s={s}", shards=s, less=babu("FedAvg", tuned, shards=s))
        for s in (10, 100)
    }
    rq3.append(Part("lead over FedAvg", lead[10], lead[100], "+"))
    gains = gain(fedbabu.tuning(scale))
    rq3 += [
        Part("gain from fine-tuning", babu(name, gains, f"{name}, s=10"),
             babu(name, gains, f"{name}, s=100", shards=100), "+")
        for name in ("FedAvg", "FedBABU")
    ]  # fmt: skip
    rq3 += [
        Part("personalized accuracy, s=10", babu("FedBABU", tuned), babu(name, tuned), "+")
        for name in ("LocalOnly", "FedPer", "FedRep")
    ]
    rq3 += _on_cifar10(scale, "personalized accuracy", tuned, ("FedAvg", "LocalOnly", "FedPer", "FedRep"))
    rq3b = (
        Part("initial accuracy, s=10", babu("FedBABU", initial()), babu("FedAvg", initial()), "+"),
        Part(
            "initial accuracy, s=100",
            babu("FedBABU", initial(), shards=100),
            babu("FedAvg", initial(), shards=100),
            "-",
        ),
        *_on_cifar10(scale, "initial accuracy", initial(), ("FedAvg",)),
    )
    rq5 = (
        Part("personalized accuracy, s=10", babu("FedProx", tuned), babu("FedAvg", tuned), "-"),
        Part("personalized accuracy, s=10", babu("FedProx+BABU", tuned), babu("FedProx", tuned), "+"),
    )
    long = fedbabu.tuning(scale, epochs=LONGEST)
    after = {epochs: personalized(long, epochs) for epochs in (1, 5)}
    missing = {name: babu(name, after[5], less=babu(name, after[1])) for name in ("FedBABU", "FedAvg")}
    first = personalized(fedbabu.tuning(scale), 1)
    one_epoch = _on_cifar10(scale, "accuracy after one tuning epoch", first, ("FedAvg",))
    rq6 = (
        Part("accuracy after one tuning epoch, s=10", babu("FedBABU", after[1]), babu("FedAvg", after[1]), "+"),
        Part("what epochs 2 to 5 still add, s=10", missing["FedBABU"], missing["FedAvg"], "-"),
        Part("FedBABU, s=10", babu("FedBABU", after[1], "1 epoch"), babu("FedBABU", after[5], "5 epochs"), "=", ALIKE),
        *one_epoch,
        *(
            Part(
                part.what.replace("accuracy after one tuning epoch", "FedBABU"), replace(part.left, name="1 epoch"),
                replace(part.left, name="5 epochs", quantity=tuned), "=", ALIKE,
            )
            for part in one_epoch
        ),
    )  # fmt: skip
    return [
        Claim("fedbabu.rq3", "Does FedBABU personalize better, the more the skew? (RQ3)", tuple(rq3), scale),
        Claim("fedbabu.rq3b", "Is FedBABU's initial accuracy better? (RQ3b)", rq3b, scale),
        Claim("fedbabu.rq5", "Does it combine with FedProx? (RQ5)", rq5, scale),
        Claim("fedbabu.rq6", "Does FedBABU personalize within about one epoch? (RQ6)", rq6, scale),
    ]


def _on_cifar10(scale: ScaleName, what: str, quantity: Quantity, others: tuple[str, ...]) -> list[Part]:
    """FedBABU against others with 4convNet; at scale "quick" both data sets are the same digits."""
    babu = partial(_babu, scale, quantity=quantity, dataset="cifar10")
    taus = [tau for share, tau in fedbabu_tables.grid(scale, "cifar10") if share == 0.1]
    return [
        Part(
            f"{what}, CIFAR-10, s={s}, τ={tau}", babu("FedBABU", shards=s, epochs=tau),
            babu(name, shards=s, epochs=tau), "+",
        )
        for tau in (() if scale == "quick" else taus)
        for s in (10, 2)
        for name in others
    ]  # fmt: skip


def _asam(scale: ScaleName, name: str, quantity: Quantity, label: str = "", **setting: Any) -> Side:
    settings = {"dataset": datasets(scale)[0], "alpha": 0.0, **setting}
    less = settings.pop("less", None)
    make = partial(fedasam.experiment, name, scale=scale, **settings)
    return side(label or name, quantity, make, fedasam.size_of(scale).seeds, less)


def _pooled(scale: ScaleName, row: str, less: Side | None = None) -> Side:
    make = partial(fedasam.centralized, row, dataset=datasets(scale)[0], scale=scale)
    return side(f"centralized {row}", score(), make, fedasam.size_of(scale).seeds, less)


def _sharpness_aware(scale: ScaleName) -> list[Claim]:
    """FedASAM on skew, SAM and SWA."""
    size = fedasam.size_of(scale)
    needs, accuracy = top_eigenvalues(size.samples or 10_000), score(size.window)
    top, ratio = eigenvalue(needs), eigenvalue_ratio(needs)
    asam = partial(_asam, scale)
    even: dict[str, Any] = {"alpha": EVEN[datasets(scale)[0]]}
    q1 = (
        Part("accuracy", asam("FedAvg", accuracy, "α=0"), asam("FedAvg", accuracy, "even clients", **even), "-"),
        Part("λ₁/λ₅", asam("FedAvg", ratio, "α=0"), asam("FedAvg", ratio, "even clients", **even), "+"),
    )
    q2: tuple[Part, ...] = (
        *(
            Part(f"λ₁, {where}", asam(flat, top, **chosen), asam(plain, top, **chosen), "-")
            for where, chosen in (("α=0", {}), ("even clients", even))
            for flat, plain in (("FedSAM", "FedAvg"), ("FedASAM", "FedSAM"))
        ),
        Part("accuracy, α=0", asam("FedSAM", accuracy), asam("FedAvg", accuracy), "+"),
        Part("accuracy, α=0", asam("FedASAM", accuracy), asam("FedSAM", accuracy), "+"),
    )
    averaged = {
        alpha: asam("FedAvg + SWA", accuracy, f"SWA's gain, {name}", less=asam("FedAvg", accuracy, **chosen), **chosen)
        for alpha, name, chosen in ((0, "α=0", {}), (1, "even clients", even))
    }
    jumps = roughness(max(size.window, size.every * 4))
    q3: tuple[Part, ...] = (
        Part("accuracy, α=0", asam("FedAvg + SWA", accuracy), asam("FedAvg", accuracy), "+"),
        Part("gain from SWA", averaged[0], averaged[1], "+"),
        Part("jumps of accuracy, α=0", asam("FedAvg + SWA", jumps), asam("FedAvg", jumps), "-"),
        Part("λ₁, α=0", asam("FedAvg + SWA", top), asam("FedAvg", top), ">=", SAME_CURVATURE),
    )
    if "cifar10" not in datasets(scale):  # its table is looked at, too, which is half as long
        ten, where = partial(asam, dataset="cifar10"), "cifar10, α=0"
        q2 += tuple(
            Part(f"accuracy, {where}", ten(better, accuracy), ten(plain, accuracy), "+")
            for better, plain in (("FedSAM", "FedAvg"), ("FedASAM", "FedSAM"), ("FedASAM", "FedAvg"))
        )
        q3 += (
            Part(f"accuracy, {where}", ten("FedAvg + SWA", accuracy), ten("FedAvg", accuracy), "+"),
            Part(f"jumps of accuracy, {where}", ten("FedAvg + SWA", jumps), ten("FedAvg", jumps), "-"),
        )
    mild: dict[str, Any] = {"alpha": 0.05, "dataset": "cifar10"}
    q7 = (Part("accuracy, cifar10, α=0.05", asam("FedSAM", accuracy, **mild), asam("FedAvg", accuracy, **mild), "-"),)
    return [
        Claim("fedasam.q1", "Does skew lower accuracy and sharpen the minimum? (Q1)", q1, scale),
        Claim("fedasam.q2", "Do SAM and ASAM flatten and generalise? (Q2)", q2, scale),
        Claim("fedasam.q3", "What does server SWA do? (Q3)", q3, scale),
        Claim("fedasam.q7", "Is plain FedSAM fragile under skew? (Q7)", q7, scale),
    ]


def _averaged_and_mixed(scale: ScaleName) -> list[Claim]:
    """FedASAM on centralized training, mixed images and local epochs."""
    size = fedasam.size_of(scale)
    accuracy, top = score(size.window), eigenvalue(top_eigenvalues(size.samples or 10_000))
    asam = partial(_asam, scale)
    federated = asam("FedASAM + SWA", accuracy, "ASAM + SWA, federated gain", less=asam("FedAvg", accuracy))
    pooled = _pooled(scale, "ASAM + SWA", less=_pooled(scale, "SGD"))
    q4 = (Part("gain over plain SGD", federated, pooled, "+"),)
    q5 = tuple(
        part
        for row in ("Mixup", "Cutout")
        for part in (
            Part("centralized accuracy", _pooled(scale, row), _pooled(scale, "SGD"), "+"),
            Part("accuracy, α=0", asam("FedAvg", accuracy, f"FedAvg with {row}", **{row.lower(): True}),
                 asam("FedAvg", accuracy), "-"),
        )
    )  # fmt: skip
    q6 = (
        Part("accuracy, α=0", asam("FedAvg E=2", accuracy), asam("FedAvg", accuracy), "-"),
        Part("λ₁, α=0", asam("FedAvg E=2", top), asam("FedAvg", top), "+"),
    )
    return [
        Claim("fedasam.q4", "Are the gains larger than in centralized training? (Q4)", q4, scale),
        Claim("fedasam.q5", "Do Mixup and Cutout help centralized training and hurt FedAvg? (Q5)", q5, scale),
        Claim("fedasam.q6", "Do more local epochs hurt? (Q6)", q6, scale),
    ]


def _crossing(scale: ScaleName) -> list[Claim]:
    level, setting = next(iter(crossing.levels(scale).items()))
    tuned, top = personalized(fedbabu.tuning(scale)), eigenvalue(top_eigenvalues(crossing.SAMPLES))

    def cross(base: str, local: str, swa: bool, quantity: Quantity) -> Side:
        make = partial(crossing.experiment, base, local=local, swa=swa, scale=scale, **setting)
        return side(f"{base} {local}{' + SWA' if swa else ''}", quantity, make, fedbabu.size_of(scale).seeds)

    flat = tuple(
        Part(f"λ₁, {level}", cross(base, "ASAM", True, top), cross(base, "SGD", False, top), "-")
        for base in crossing.BASES
    )
    both = tuple(
        Part(f"personalized accuracy, {level}", cross(base, "ASAM", True, tuned), cross(base, "SGD", False, tuned), "+")
        for base in crossing.BASES
    )
    block = {part: eigenvalue(crossing.part_eigenvalue(part)) for part in ("body", "head")}

    def of_part(base: str, part: str, local: str, swa: bool) -> Side:
        made = cross(base, local, swa, block[part])
        return replace(made, name=f"{base}'s {part} ({local}{' + SWA' if swa else ''})")

    where: list[Part] = []
    for how in (("SGD", False), ("SAM", True), ("ASAM", True)):
        head, body = (of_part("FedBABU", part, *how) for part in ("head", "body"))
        where.append(Part(f"λ₁, {level}", head, body, "+"))
        where.append(Part(f"λ₁, {level}", body, of_part("FedAvg", "body", *how), "=", SAME_CURVATURE))
    return [
        Claim("crossing.flat", "Does ASAM + SWA flatten FedBABU as it flattens FedAvg?", flat, scale, ours=True),
        Claim(
            "crossing.where",
            "Is FedBABU's large eigenvalue that of the head, which it never trains?",
            tuple(where),
            scale,
            ours=True,
        ),
        Claim("crossing.personal", "Does a flatter model personalize better?", both, scale, ours=True),
    ]
