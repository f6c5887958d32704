"""Personalized accuracy: every client fine-tunes the global model on its own samples and is scored after each epoch.

Source: Oh et al. (2106.06042, section 4) and the official FedBABU code: 5 epochs of SGD at learning rate 0.001,
momentum 0.9, batches of 50, on body and head, from the final global model; the last epoch counts, not the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import pandas as pd

from ..algorithms import FedAvg, Local, Part
from ..declare import SettingError
from ..results import Result
from ..training import Diverged, Run, score_clients


@dataclass(frozen=True)
class Personalization(Result):
    """Accuracy of every client after each fine-tuning epoch; epoch 0 is the initial accuracy.

    `frame` has the columns run, name, seed, round, client, epoch, accuracy and loss (on the client's own test set), and
    samples (in that set).
    """

    def curve(self) -> pd.DataFrame:
        """Per run and epoch: mean accuracy over clients, its spread (population standard deviation), and how many."""
        groups = self.frame.groupby(["run", "name", "seed", "round", "epoch"], sort=False)["accuracy"]
        return groups.agg(mean="mean", std=lambda values: values.std(ddof=0), clients="count").reset_index()

    def summary(self) -> pd.DataFrame:
        """Per run: initial accuracy, personalized accuracy after the last epoch, and the gain, over clients."""
        curve = self.curve()
        first = curve[curve["epoch"] == 0].set_index(["run", "round"])
        last = curve[curve["epoch"] == curve["epoch"].max()].set_index(["run", "round"])
        table = pd.DataFrame(
            {
                "name": first["name"],
                "seed": first["seed"],
                "initial": first["mean"],
                "initial std": first["std"],
                "personalized": last["mean"],
                "personalized std": last["std"],
                "gain": last["mean"] - first["mean"],
                "clients": first["clients"],
            }
        )
        return table.reset_index()


def as_runs(runs: Run | Iterable[Run]) -> list[Run]:
    """One run or several, as a list.

    Raises:
        SettingError: if there is none.
    """
    found = [runs] if isinstance(runs, Run) else list(runs)
    if not found:
        raise SettingError("runs = []: needs at least one run")
    return found


def personalize(
    runs: Run | Iterable[Run],
    epochs: int = 5,
    *,
    part: Part = "all",
    lr: float = 0.001,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    batch_size: int = 50,
    local: Local | str = "sgd",
    round: int | Literal["best"] | None = None,
    clients: Sequence[int] | None = None,
) -> Personalization:
    """Fine-tune a copy of the model for every client and score it on the client's test set after each epoch.

    The run itself does not change. Batches come from streams of the run's seed, so methods of one seed see the same.

    Args:
        runs: a run or several.
        epochs: fine-tuning epochs, at least 0.
        part: what is tuned, "all", "head" or "body".
        lr: learning rate; its own, not the training's.
        momentum: of SGD, started at 0.
        weight_decay: L2 penalty on the tuned part.
        batch_size: samples in a batch; the last of an epoch may be smaller, none is dropped.
        local: how a step gets its gradient, e.g. `SAM(rho=0.05)`.
        round: tune the model after this round; "best" is the evaluated round with the best mean initial accuracy
            (the official FedBABU code's choice, on test data); None is the latest.
        clients: which clients; None is all.

    Raises:
        SettingError: if a setting is out of range or a client does not exist.
        Diverged: if a client's loss is no longer a number.
    """
    runs = as_runs(runs)
    if epochs < 0:
        raise SettingError(f"epochs = {epochs}: must be at least 0")
    settings: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "batch_size": batch_size}
    tuner = FedAvg(epochs=max(epochs, 1), **settings | {"local": local, "train": part})
    rows: list[dict[str, Any]] = []
    for run in runs:
        at = run_round(run, round)
        for client, epoch, loss, accuracy in _curves(run, tuner, epochs, at, clients):
            samples = len(run.data.test[client])
            rows.append({"client": client, "epoch": epoch, "accuracy": accuracy, "loss": loss, "samples": samples})
            rows[-1] |= {"run": run.id, "name": run.name, "seed": run.experiment.seed, "round": at}
    about = {"epochs": epochs, "tuning": tuner.to_dict(), "best": round == "best"}
    columns = ["run", "name", "seed", "round", "client", "epoch", "accuracy", "loss", "samples"]
    return Personalization(pd.DataFrame(rows)[columns], about)


def run_round(run: Run, round: int | Literal["best"] | None) -> int:
    """The round that "best" or None stands for; a number as it is.

    Raises:
        SettingError: if it is something else, or no round was evaluated on the clients.
    """
    if round is None:
        return run.round
    if isinstance(round, Integral):
        return int(round)
    if round != "best":
        raise SettingError(f"round = {round!r}: must be a round, 'best' or None")
    best = run.best_round
    if best is None:
        raise SettingError(
            f"round = 'best': {run.id} has no evaluated round; set evaluation.clients_every, or train on"
        )
    return best


def client_ids(run: Run, clients: Sequence[int] | None) -> list[int]:
    """All clients of a run, or those asked for.

    Raises:
        SettingError: if one of them does not exist.
    """
    known = range(run.data.clients)
    wanted = [int(client) for client in (known if clients is None else clients)]
    strange = [client for client in wanted if client not in known]
    if strange or not wanted:
        raise SettingError(f"clients = {wanted}: must be some of 0 to {len(known) - 1}")
    return wanted


def _curves(
    run: Run, tuner: FedAvg, epochs: int, round: int | None, clients: Sequence[int] | None
) -> list[tuple[int, int, float, float]]:
    state, cohort, wanted = run.state(round), run.cohort, client_ids(run, clients)
    bn_eval = run.experiment.evaluation.bn_eval
    own = {name: value[wanted] for name, value in state.personal.items()}

    def scored(rows: list[int], epoch: int, mine: dict[str, Any]) -> list[tuple[int, int, float, float]]:
        ids = [wanted[row] for row in rows]
        with cohort.paced():
            found = score_clients(
                cohort.model, state.served, run.data, ids, bn_eval, mine, cohort.channels_last, cohort.batched
            )
        return [
            (client, epoch, loss, accuracy)
            for client, loss, accuracy in zip(ids, found.loss.tolist(), found.accuracy.tolist(), strict=True)
        ]

    curves = scored(list(range(len(wanted))), 0, own)
    if epochs:
        for chunk in cohort.train(
            tuner,
            state.served,
            [run.data.train[client] for client in wanted],
            [("fine-tuning", client) for client in wanted],
            seed=run.experiment.seed,
            lr=tuner.lr,
            own=own,
            every_epoch=True,
        ):
            for row, loss in zip(chunk.clients, chunk.loss.tolist(), strict=True):
                if not math.isfinite(loss):
                    raise Diverged(
                        f"{run.id}, fine-tuning epoch {chunk.epoch}, client {wanted[row]}: the training loss became"
                        f" {loss}; lower lr = {tuner.lr:g}"
                    )
            rest = {name: value[chunk.clients] for name, value in own.items()}
            curves += scored(chunk.clients, chunk.epoch, rest | chunk.params)
    return sorted(curves, key=lambda row: (wanted.index(row[0]), row[1]))
