"""The wider ground, which has no table to compare with: gossip over graphs, and clients that lie.

    background.topologies("short"), background.attacks("short")     # rows of `flatlab reproduce background`

On FedBABU's data, network and constants; few clients, of which all take part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..algorithms import Aggregation, Topology
from ..algorithms import aggregation as rules
from ..algorithms import attacks as lies
from ..algorithms import topology as graphs
from ..data import Dirichlet
from ..training import Adversary, Experiment, World
from . import fedbabu
from .quantities import eigenvalue, initial, personalization, personalized, score, top_eigenvalues
from .tables import Item, ScaleName, Table, cell

EPOCHS = 5  # local, in a round
SAMPLES = 500  # of the Hessian
NODES, CLIENTS = 16, 20  # of the graphs; of those of whom a fifth lies
GRAPHS: dict[str, Topology | None] = {
    "server": None,
    "complete": graphs.Complete(),
    "random": graphs.Random(),
    "ring": graphs.Ring(),
    "MATCHA, half of random": graphs.Matcha(base=graphs.Random(), budget=0.5),
}
RULES: dict[str, Aggregation] = {
    "mean": rules.Uniform(),
    "median": rules.Median(),
    "trimmed": rules.Trimmed(share=0.2),
    "Krum": rules.Krum(share=0.2),
    "geometric": rules.Geometric(),
}
ATTACKS: dict[str, lies.Forgery | None] = {
    "nobody": None,
    "sign flip": lies.SignFlip(scale=3.0),
    "ALIE": lies.ALIE(),
}
LEVELS = {"α=100": 100.0, "α=0.3": 0.3}
LEAVES_OUT: dict[ScaleName, str] = {
    "quick": "CIFAR-10 (digits in its place), 4convNet (lenet of half width)",
    "short": "4convNet of full width; three quarters of the rounds",
    "paper": "nothing; no paper has this table",
}


def experiment(
    *, clients: int, alpha: float, scale: ScaleName, seed: int = 0, world: World | None = None, **changes: Any
) -> Experiment:
    """FedAvg with all of so many clients in each round.

    Args:
        clients: how many.
        alpha: of the Dirichlet partition.
        scale: as of `fedbabu.experiment`, as all that is not said here.
        seed: of everything random.
        world: what goes wrong.
        **changes: of the algorithm's settings.
    """
    known: dict[str, Any] = {
        "dataset": "cifar10",
        "partition": Dirichlet(alpha=alpha),
        "epochs": EPOCHS,
        "participation": 1.0,
    }
    made = fedbabu.experiment("FedAvg", scale=scale, seed=seed, **known, **changes)
    return made.replace(world=world, **{"data.clients": clients})


def topologies(scale: ScaleName) -> Table:
    """Accuracy and largest eigenvalue of the clients' mean, accuracy of clients' own models, over graphs."""
    size, tuned, top = fedbabu.size_of(scale), _tuning(scale), top_eigenvalues(SAMPLES)
    columns = {
        "mean of models": score(),
        "own models": initial(),
        "personalized": personalized(tuned),
        "λ₁": eigenvalue(top),
    }
    changes: Mapping[str, dict[str, Any]] = {
        name: {"aggregation": rules.Uniform()} if graph is None else {"topology": graph}
        for name, graph in GRAPHS.items()
    }
    cells = [
        cell(
            row,
            f"{level}, {column}",
            quantity,
            partial(experiment, clients=NODES, alpha=alpha, scale=scale, **changes[row]),
            size.seeds,
        )
        for row in GRAPHS
        for level, alpha in LEVELS.items()
        for column, quantity in columns.items()
    ]
    title = "Gossip: is the mean of clients' models flat, and are their own good?"
    return Table("background.topology", title, scale, tuple(cells), _protocol(scale, NODES), LEAVES_OUT[scale])


def attacks(scale: ScaleName) -> Table:
    """Accuracy by rule of aggregation and attack, before and after fine-tuning: do robust rules cost the minority?"""
    size, tuned = fedbabu.size_of(scale), _tuning(scale)
    columns = {"accuracy": score(), "personalized": personalized(tuned)}

    def make(row: str, attack: str, alpha: float) -> Callable[..., Experiment]:
        lie = ATTACKS[attack]
        world = None if lie is None else World(adversary=Adversary(share=0.2, message=lie))
        return partial(experiment, clients=CLIENTS, alpha=alpha, scale=scale, world=world, aggregation=RULES[row])

    cells = [
        cell(row, f"{level}, {attack}, {column}", quantity, make(row, attack, alpha), size.seeds)
        for row in RULES
        for level, alpha in LEVELS.items()
        for attack in ATTACKS
        for column, quantity in columns.items()
    ]
    title = "Clients that lie: what rules of aggregation stand, and what they cost where nobody lies"
    done = f"{_protocol(scale, CLIENTS)}; a fifth of the clients lies; sign flip times 3"
    return Table("background.attacks", title, scale, tuple(cells), done, LEAVES_OUT[scale])


def _tuning(scale: ScaleName) -> Any:
    return personalization(5, fedbabu.size_of(scale).tuning_lr)


def _protocol(scale: ScaleName, clients: int) -> str:
    size = fedbabu.size_of(scale)
    return (
        f"{clients} clients, all in each round, {EPOCHS} local epochs, {max(1, size.passes // EPOCHS)} rounds, SGD"
        f" {size.lr:g}, momentum 0.9, batches of 50; tuning: 5 epochs of SGD {size.tuning_lr:g}; Hessian on {SAMPLES}"
        " holdout samples"
    )


TABLES: dict[str, Callable[[ScaleName], Item]] = {"background.topology": topologies, "background.attacks": attacks}
