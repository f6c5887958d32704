"""The wider ground, which has no table to compare with: gossip over graphs, and clients that lie.

    background.topologies("short"), background.attacks("short")     # rows of `flatlab reproduce background`

Few clients, of which all take part. At scale "paper" FedBABU's data, network and constants; "short" is what two cores
carry: rounds of five steps, MNIST for the graphs, CIFAR-10 for the lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..algorithms import Aggregation, FedAvg, Topology
from ..algorithms import aggregation as rules
from ..algorithms import attacks as lies
from ..algorithms import topology as graphs
from ..data import DataSpec, Dirichlet
from ..models import ModelSpec
from ..training import Adversary, Evaluation, Experiment, World
from . import fedbabu
from .measurements import Measurement
from .quantities import eigenvalue, initial, personalization, personalized, score, top_eigenvalues
from .tables import Item, ScaleName, Table, cell, crossed

EPOCHS = 5  # local, in a round
STEPS, ROUNDS, RATE, TUNING_RATE = 5, 40, 0.05, 0.01  # of scale "short", where a round has steps
SHORT_MODEL, TUNED = ModelSpec(name="cnn4", width=0.25), 4  # every so many clients are fine-tuned there
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
SHORT_RULES = ("mean", "median", "Krum")
ATTACKS: dict[str, lies.Forgery | None] = {
    "nobody": None,
    "sign flip": lies.SignFlip(scale=3.0),
    "ALIE": lies.ALIE(),
}
GRAPH_LEVELS = {"α=100": {"alpha": 100.0}, "α=0.3": {"alpha": 0.3}}
LYING_LEVELS = {"α=100": 100.0, "α=0.1": 0.1}
LEAVES_OUT: dict[ScaleName, str] = {
    "quick": "CIFAR-10 (digits in its place), 4convNet (lenet of half width)",
    "short": "4convNet of full width (a quarter of it), CIFAR-10 for the graphs (MNIST), rounds of epochs (40 rounds of"
    " 5 steps at a constant rate), trimmed means and geometric medians; every fourth client fine-tuned",
    "paper": "nothing; no paper has this table",
}


def experiment(
    *,
    clients: int,
    alpha: float,
    scale: ScaleName,
    dataset: str = "cifar10",
    seed: int = 0,
    world: World | None = None,
    **changes: Any,
) -> Experiment:
    """FedAvg with all of so many clients in each round.

    Args:
        clients: how many.
        alpha: of the Dirichlet partition.
        scale: as of `fedbabu.experiment`, as all that is not said here; rounds of steps at "short".
        dataset: at scale "short"; the others have FedBABU's CIFAR-10, or digits.
        seed: of everything random.
        world: what goes wrong.
        **changes: of the algorithm's settings.
    """
    partition = Dirichlet(alpha=alpha)
    if scale == "short":
        settings = {"lr": RATE, "momentum": 0.9, "batch_size": 50, "local_steps": STEPS, **changes}
        return Experiment(
            data=DataSpec(name=dataset, partition=partition, clients=clients, seed=seed),
            model=SHORT_MODEL,
            algorithm=FedAvg(**settings),
            rounds=ROUNDS,
            participation=1.0,
            evaluation=Evaluation(every=ROUNDS // 4),
            world=world,
            seed=seed,
        )
    known: dict[str, Any] = {
        "dataset": "cifar10",
        "partition": partition,
        "epochs": EPOCHS,
        "participation": 1.0,
    }
    made = fedbabu.experiment("FedAvg", scale=scale, seed=seed, **known, **changes)
    return made.replace(world=world, **{"data.clients": clients})


def topologies(scale: ScaleName) -> Table:
    """Accuracy and largest eigenvalue of the clients' mean, accuracy of clients' own models, over graphs."""
    size, tuned, top = fedbabu.size_of(scale), _tuning(scale, NODES), top_eigenvalues(SAMPLES)
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
    make = partial(experiment, clients=NODES, scale=scale, dataset="mnist")
    cells = crossed(changes, columns, make, size.seeds, GRAPH_LEVELS)
    title = "Gossip: is the mean of clients' models flat, and are their own good?"
    return Table("background.topology", title, scale, tuple(cells), _protocol(scale, NODES, "mnist"), LEAVES_OUT[scale])


def attacks(scale: ScaleName) -> Table:
    """Accuracy by rule of aggregation and attack, before and after fine-tuning: do robust rules cost the minority?"""
    size, tuned = fedbabu.size_of(scale), _tuning(scale, CLIENTS)
    columns = {"accuracy": score(), "personalized": personalized(tuned)}

    def make(row: str, attack: str, alpha: float) -> Callable[..., Experiment]:
        lie = ATTACKS[attack]
        world = None if lie is None else World(adversary=Adversary(share=0.2, message=lie))
        return partial(experiment, clients=CLIENTS, alpha=alpha, scale=scale, world=world, aggregation=RULES[row])

    cells = [
        cell(row, f"{level}, {attack}, {column}", quantity, make(row, attack, alpha), size.seeds)
        for row in (SHORT_RULES if scale == "short" else RULES)
        for level, alpha in LYING_LEVELS.items()
        for attack in ATTACKS
        for column, quantity in columns.items()
    ]
    title = "Clients that lie: what rules of aggregation stand, and what they cost where nobody lies"
    done = f"{_protocol(scale, CLIENTS, 'cifar10')}; a fifth of the clients lies; sign flip times 3"
    return Table("background.attacks", title, scale, tuple(cells), done, LEAVES_OUT[scale])


def _tuning(scale: ScaleName, clients: int) -> Measurement:
    if scale == "short":
        return personalization(5, TUNING_RATE, clients=list(range(0, clients, TUNED)))
    return personalization(5, fedbabu.size_of(scale).tuning_lr)


def trained(scale: ScaleName, clients: int, dataset: str) -> str:
    """Data and training, in words."""
    size = fedbabu.size_of(scale)
    rounds, each, lr, data = max(1, size.passes // EPOCHS), f"{EPOCHS} local epochs", size.lr, size.dataset or "cifar10"
    if scale == "short":
        rounds, each, lr, data = ROUNDS, f"{STEPS} local steps", RATE, dataset
    return (
        f"{data}, {clients} clients, all in each round, {rounds} rounds of {each}, SGD {lr:g}, momentum 0.9, batches of"
        " 50"
    )


def _protocol(scale: ScaleName, clients: int, dataset: str) -> str:
    lr = _tuning(scale, clients).settings["lr"]
    tuned = f"tuning: 5 epochs of SGD {lr:g}; Hessian on {SAMPLES} holdout samples"
    return f"{trained(scale, clients, dataset)}; {tuned}"


TABLES: dict[str, Callable[[ScaleName], Item]] = {"background.topology": topologies, "background.attacks": attacks}
