"""The tables and figures of FedBABU as lists of experiments: `TABLES[id](scale)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..algorithms import ServerData
from ..data import IID
from ..models import ModelSpec
from . import published
from .fedbabu import OTHERWISE, WHOLE_EPOCHS, centralized, experiment, size_of, tuning, unbalanced_sizes
from .measurements import LONGEST
from .protocols import fedbabu_words, stated
from .quantities import Quantity, head_accuracy, headless_accuracy, initial, personalized, score
from .tables import Cell, Figure, Item, Published, ScaleName, Table, cell

SHARDS = {"cifar100": (100, 50, 10), "cifar10": (10, 5, 2)}
RIVALS = ("FedAvg", "FedBABU", "LocalOnly", "FedPer", "LGFedAvg", "FedRep", "PerFedAvg", "Ditto")
TUNED_AFTER = (0, 1, 2, 3, 4, 5, 10, 15, LONGEST)
UNBALANCED = ((5, 50), (10, 100), (25, 200), (50, 500))


def grid(scale: ScaleName, dataset: str = "cifar100") -> list[tuple[float, int]]:
    """Participation and tau of the rows of Tables 1, 3, 5 and 13."""
    if scale == "paper":
        return [(share, epochs) for share in (1.0, 0.1) for epochs in (1, 4, 10)]
    if scale == "short":
        return [(0.1, 1), (0.1, 10)] if dataset == "cifar10" else [(0.1, 10)]
    return [(0.1, 5)]


def shards_of(scale: ScaleName, dataset: str) -> tuple[int, ...]:
    """Shards of the columns: not the middle one at `quick`, nor of CIFAR-10 at `short`; alike ones at `quick` once."""
    every: tuple[int, ...] = SHARDS[dataset]
    become = size_of(scale).shards or {}
    if scale != "paper" and (scale == "quick" or dataset == "cifar10"):
        every = (every[0], every[-1])
    return tuple({become.get(shards, shards): shards for shards in every}.values())


def _cell(scale: ScaleName, row: str, column: str, quantity: Quantity, name: str, **rest: Any) -> Cell:
    numbers: tuple[Published, ...] = rest.pop("numbers", ())
    against = rest.pop("against", row.replace(name, "FedAvg", 1) if row.startswith(name) else "")  # of its setting
    make = partial(experiment, name, scale=scale, **rest)
    before = partial(experiment, "FedAvg", scale=scale, **rest) if name == "LGFedAvg" else None
    return cell(row, column, quantity, make, size_of(scale).seeds, numbers, before, against)


def _table(id: str, title: str, scale: ScaleName, cells: Iterable[Cell], otherwise: str = "") -> Table:
    return stated(Table(f"fedbabu.{id}", title, scale, tuple(cells), otherwise, ""), fedbabu_words)


def _figure(id: str, title: str, scale: ScaleName, kind: str, series: dict[str, Any], **rest: Any) -> Figure:
    return stated(Figure(f"fedbabu.{id}", title, scale, kind, series, "", "", **rest), fedbabu_words)


def _near(name: str, share: float, epochs: int, shards: int, tuned: bool) -> tuple[Published, ...]:
    """The re-run by others, beside the rows that are nearest to its protocol."""
    return published.etri(name, shards, tuned) if share == 0.1 and epochs in (4, 10) else ()


def table1(scale: ScaleName) -> Table:
    """FedAvg's initial and personalized accuracy over participation, local epochs and shards."""
    cells = []
    for share, epochs in grid(scale):
        for shards in shards_of(scale, "cifar100"):
            for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale)))):
                tuned = what == "personalized"
                numbers = published.fedavg(share, epochs, shards, tuned) + _near("FedAvg", share, epochs, shards, tuned)
                row, column = f"f={share:g}, τ={epochs}", f"s={shards}, {what}"
                setting = {"shards": shards, "participation": share, "epochs": epochs, "numbers": numbers}
                cells.append(_cell(scale, row, column, quantity, "FedAvg", **setting))
    return _table("table1", "FedAvg: initial and personalized accuracy (FedBABU, Table 1)", scale, cells)


def table2(scale: ScaleName) -> Table:
    """The server owns a share p of the data and trains the whole network (F) or the body (B) after each round."""
    rows: dict[str, ServerData | None] = {"p=0": None}
    for share in (0.05, 0.10) if scale == "paper" else (0.10,):
        rows[f"p={share:g}, F"] = ServerData(share=share, train="all")
        rows[f"p={share:g}, B"] = ServerData(share=share, train="body")
    epochs = grid(scale)[-1][1]
    cells = [
        _cell(
            scale, row, f"s={shards}, {what}", quantity, "FedAvg", shards=shards, epochs=epochs,
            **({} if held is None else {"server_data": held}),
        )
        for row, held in rows.items()
        for shards in (shards_of(scale, "cifar100") if scale == "paper" else (100, 10))
        for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale))))
    ]  # fmt: skip
    return _table("table2", f"Data on the server, τ={epochs} (FedBABU, Table 2)", scale, cells)


def table3(scale: ScaleName) -> Table:
    """Initial accuracy with the head, and by nearest template without it."""
    cells = [
        _cell(
            scale, f"{name}, f={share:g}, τ={epochs}", f"s={shards}, {what}", quantity, name, shards=shards,
            participation=share, epochs=epochs, numbers=_near(name, share, epochs, shards, False) if head else (),
        )
        for name in ("FedAvg", "FedBABU")
        for share, epochs in grid(scale)
        for shards in shards_of(scale, "cifar100")
        for what, quantity, head in (("with head", initial(), True), ("without", headless_accuracy(), False))
    ]  # fmt: skip
    return _table("table3", "Initial accuracy with and without the head (FedBABU, Table 3)", scale, cells)


def table4(scale: ScaleName) -> Table:
    """Personalized accuracy by the part that is tuned."""
    epochs = [tau for share, tau in grid(scale) if share == 0.1]
    cells = [
        _cell(
            scale, f"{name}, τ={tau}, {part} tuned", f"s={shards}",
            personalized(tuning(scale) if part == "all" else tuning(scale, part=part)), name, shards=shards, epochs=tau,
            against=f"{name}, τ={tau}, all tuned",
        )
        for name in ("FedBABU", "FedAvg")
        for tau in epochs
        for part in ("all", "body", "head")
        for shards in shards_of(scale, "cifar100")
    ]  # fmt: skip
    return _table("table4", "Personalized accuracy by tuned part (FedBABU, Table 4)", scale, cells)


def _rivals(id: str, title: str, dataset: str, scale: ScaleName) -> Table:
    cells = []
    for name in RIVALS:
        for share, epochs in grid(scale, dataset):
            for shards in shards_of(scale, dataset):
                for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale)))):
                    tuned = what == "personalized"
                    near = _near(name, share, epochs, shards, tuned) if dataset == "cifar100" else ()
                    setting = {"dataset": dataset, "shards": shards, "participation": share, "epochs": epochs}
                    row = name if name == "LocalOnly" else f"{name}, f={share:g}, τ={epochs}"
                    if name == "LocalOnly" and (share, epochs) != grid(scale, dataset)[0]:
                        continue  # it has no rounds: the same run for all of them
                    column = f"s={shards}, {what}"
                    cells.append(_cell(scale, row, column, quantity, name, **setting, numbers=near))
    return _table(id, title, scale, cells, OTHERWISE if scale == "paper" else f"{OTHERWISE}; {WHOLE_EPOCHS}")


def table5(scale: ScaleName) -> Table:
    """FedBABU and its rivals."""
    return _rivals("table5", "FedBABU and its rivals (FedBABU, Table 5)", "cifar100", scale)


def table13(scale: ScaleName) -> Table:
    """The same with 4convNet on CIFAR-10."""
    where = size_of(scale).dataset or "4convNet, CIFAR-10"
    return _rivals("table13", f"FedBABU and its rivals, {where} (FedBABU, Table 13)", "cifar10", scale)


def table6(scale: ScaleName) -> Table:
    """Personalized accuracy after so many tuning epochs."""
    long, epochs = tuning(scale, epochs=LONGEST), grid(scale)[-1][1]
    cells = [
        _cell(scale, f"{name}, s={shards}", str(after), personalized(long, after), name, shards=shards, epochs=epochs)
        for name in ("FedAvg", "FedBABU")
        for shards in shards_of(scale, "cifar100")
        for after in TUNED_AFTER
    ]
    return _table("table6", f"Accuracy after tuning epochs, f=0.1, τ={epochs} (FedBABU, Table 6)", scale, cells)


def table7(scale: ScaleName) -> Table:
    """FedProx, alone and with FedBABU's body."""
    cells = [
        _cell(scale, f"{name}, τ={tau}", f"s={shards}, {what}", quantity, name, shards=shards, epochs=tau)
        for name in ("FedAvg", "FedProx", "FedBABU", "FedProx+BABU")
        for share, tau in grid(scale)
        if share == 0.1
        for shards in shards_of(scale, "cifar100")
        for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale))))
    ]
    return _table("table7", "FedProx, μ = 0.01, f=0.1 (FedBABU, Table 7)", scale, cells)


def heads(scale: ScaleName) -> Table:
    """FedBABU under other first weights of its frozen head."""
    base = size_of(scale).model or ModelSpec(name="cnn4")
    epochs = grid(scale)[-1][1]
    cells = [
        _cell(
            scale, start, f"s={shards}, {what}", quantity, "FedBABU", dataset="cifar10", shards=shards, epochs=epochs,
            **({} if start == "default" else {"model": base.replace(head_init=start)}),
        )
        for start in ("default", "orthogonal", "he", "xavier")
        for shards in dict.fromkeys((shards_of(scale, "cifar10")[0], 2))
        for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale))))
    ]  # fmt: skip
    return _table("heads", f"FedBABU by the head's first weights, τ={epochs} (FedBABU, appendix)", scale, cells)


def unbalanced(scale: ScaleName) -> Table:
    """Clients of unequal sizes under IID, as in the official code's unbalanced split."""
    size, cells, epochs = size_of(scale), [], 4 if scale == "paper" else grid(scale)[-1][1]
    mean = 500 if size.dataset is None else 28
    for users, moved in UNBALANCED if scale == "paper" else ((50 * size.clients // 100, 500),):
        sizes = unbalanced_sizes(users, moved * mean // 500, size.clients, mean)
        for name in ("FedAvg", "FedBABU"):
            for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale)))):
                setting = {"dataset": "cifar10", "epochs": epochs, "partition": IID(sizes=sizes)}
                cells.append(_cell(scale, name, f"{users}/{moved}, {what}", quantity, name, **setting))
    return _table("unbalanced", f"Unbalanced sizes, IID, τ={epochs} (FedBABU, appendix)", scale, cells)


def legacy(scale: ScaleName) -> Table:
    """What the official code's habits change, one at a time; each is compared with the row that does without it."""
    epochs, plain = grid(scale)[-1][1], personalized(tuning(scale))
    rows: dict[str, tuple[Quantity, str, dict[str, Any]]] = {
        "default": (plain, "", {}),
        "checkpoint: best round by test accuracy": (personalized(tuning(scale, round="best")), "default", {}),
        "aggregation: plain mean": (plain, "default", {"aggregation": "uniform"}),
        "initial, last round": (initial(), "initial, last round", {}),
        "initial, best round by test accuracy": (initial(best=True), "initial, last round", {}),
        "with head, own classes": (head_accuracy(), "with head, own classes", {}),
        "without head, clean templates": (headless_accuracy(), "with head, own classes", {}),
        "without head, official templates": (headless_accuracy("official"), "without head, clean templates", {}),
    }
    cells = [
        _cell(
            scale, row, f"{name}, s={shards}", quantity, name, shards=shards, epochs=epochs, against=against, **setting
        )
        for row, (quantity, against, setting) in rows.items()
        for name in ("FedAvg", "FedBABU")
        for shards in (shards_of(scale, "cifar100")[-1],)
    ]  # fmt: skip
    return _table("legacy", f"Official habits as switches, f=0.1, τ={epochs} (FedBABU)", scale, cells)


def figure2(scale: ScaleName) -> Figure:
    """Centralized training of the whole network, the body, or the head."""
    names = {"full": "all", "body": "body", "head": "head"}
    series = {
        name: tuple(centralized(part, seed=seed, scale=scale) for seed in size_of(scale).seeds)
        for name, part in names.items()
    }
    title = "Centralized training of the whole network, its body or its head (FedBABU, Figure 2)"
    return _figure("figure2", title, scale, "curves", series)


def figure_tuning(scale: ScaleName) -> Figure:
    """Table 6 as curves, for the most skewed clients."""
    shards, epochs = SHARDS["cifar100"][-1], grid(scale)[-1][1]
    series = {
        name: tuple(experiment(name, shards=shards, epochs=epochs, seed=s, scale=scale) for s in size_of(scale).seeds)
        for name in ("FedAvg", "FedBABU")
    }
    title = f"Accuracy against tuning epochs, s={shards} (FedBABU, Table 6)"
    return _figure("tuning", title, scale, "tuning", series, measurement=tuning(scale, epochs=LONGEST), every_seed=True)


def table_centralized(scale: ScaleName) -> Table:
    """The last accuracies of Figure 2."""
    figure = figure2(scale)
    cells = [Cell(name, "holdout accuracy", score(), experiments) for name, experiments in figure.series.items()]
    return _table("centralized", f"{figure.title}: accuracy at the end", scale, cells)


def features(scale: ScaleName) -> Table:
    """Does a random head need many features? The same body with a wide last block; MobileNet's has 1,024."""
    size, (share, epochs) = size_of(scale), grid(scale)[-1]
    width = size.model.width if size.model else 1.0
    named = {"4convNet": "cnn4", "wide last block": "flatlab.papers.networks:cnn4_wide"}
    cells = [
        _cell(
            scale, f"{name}, {words}, rate {lr:g}", f"s={shards}, {what}", quantity, name, shards=shards, lr=lr,
            participation=share, epochs=epochs, model=ModelSpec(name=network, width=width),
        )
        for words, network in named.items()
        for lr in ((size.lr,) if network == "cnn4" else (size.lr, 0.3 * size.lr))
        for name in ("FedAvg", "FedBABU")
        for shards in (100, 10)
        for what, quantity in (("initial", initial()), ("personalized", personalized(tuning(scale))))
    ]  # fmt: skip
    title = f"How many features a random head needs, {size.dataset or 'CIFAR-100'} (no table of the paper)"
    return _table("features", title, scale, cells)


TABLES: dict[str, Callable[[ScaleName], Item]] = {
    "fedbabu.table1": table1,
    "fedbabu.table2": table2,
    "fedbabu.figure2": figure2,
    "fedbabu.centralized": table_centralized,
    "fedbabu.table3": table3,
    "fedbabu.table4": table4,
    "fedbabu.table5": table5,
    "fedbabu.table6": table6,
    "fedbabu.tuning": figure_tuning,
    "fedbabu.table7": table7,
    "fedbabu.table13": table13,
    "fedbabu.heads": heads,
    "fedbabu.features": features,
    "fedbabu.unbalanced": unbalanced,
    "fedbabu.legacy": legacy,
}
