"""Personalized accuracy: every client fine-tunes the global model on its own samples and is scored after each epoch.

Source: Oh et al. (2106.06042, section 4) and the official FedBABU code: 5 epochs of SGD at learning rate 0.001,
momentum 0.9, batches of 50, on body and head, from the final global model; the last epoch counts, not the best.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..algorithms import SGD, FedAvg, Local, Params, Part
from ..arguments import Count, NotNegative, Positive, Settings, Whole, with_settings
from ..declare import SettingError, setting
from ..later import pd
from ..models import Model, frame, names
from ..results import Result, spread
from ..training import Diverged, Run, State, Trained, diverging, score_clients
from ..training.finding import as_runs, at_rounds, client_ids, run_round
from ..training.progress import Progress, gather
from ..training.single_samples import tell_lone


@dataclass(frozen=True)
class Personalization(Result):
    """Accuracy of every client after each fine-tuning epoch; epoch 0 is the initial accuracy.

    `frame` has the columns run, name, seed, round, client, epoch, accuracy and loss (on the client's own test set), and
    samples (in that set); of a segmentation also miou, of a task of one's own the scores that it has. Where a run's
    data are poisoned (`fl.Adversary(data=...)`) also success: the share of the client's triggered test images that its
    model calls what the attackers want.

    >>> fl.personalize(run, epochs=1, clients=[0, 2]).frame[["client", "epoch"]].values.tolist()
    [[0, 0], [0, 1], [2, 0], [2, 1]]
    """

    def curve(self, of: str = "accuracy") -> pd.DataFrame:
        """Per run and epoch: mean accuracy over clients, or another score (loss, miou, success of an attack on their
        data, a score of one's own task), its spread (population standard deviation), and how many.

        The same clients at every epoch: one whose accuracy is not finite at some epoch (it has no test images, or its
        outputs are no numbers) is counted under `left_out` instead.

        Raises:
            SettingError: if these runs have no such score.
        """
        keys = ["run", "name", "seed", "round"]
        scores = self.frame.columns.drop([*keys, "client", "epoch", "samples"], errors="ignore")
        if of not in scores:
            told = f"these runs have the scores {', '.join(scores)} (miou: of masks; success: of poisoned data)"
            raise SettingError("of", of, told)
        accuracy = self.frame[of].where(np.isfinite(self.frame[of]))
        whole = accuracy.notna().groupby([self.frame[key] for key in (*keys, "client")]).transform("all")
        groups = accuracy.where(whole).groupby([self.frame[key] for key in (*keys, "epoch")], sort=False)
        rows = [(*key, *spread(values)) for key, values in groups]
        return pd.DataFrame(rows, columns=[*keys, "epoch", "mean", "std", "clients", "left_out"])

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
                "left_out": first["left_out"],
            }
        )
        return table.reset_index()


class Tuning(Settings):
    """How every client fine-tunes its copy of the model.

    >>> fl.Tuning(epochs=1, part="head")
    Tuning(epochs=1, part='head')
    >>> len(fl.personalize(run, **dict(fl.Tuning(epochs=1, part="head"))).curve())
    2
    """

    epochs: Annotated[int, Field(ge=0, le=100_000)] = setting(5, "fine-tuning epochs", span=(0, 30))
    part: Part = setting("all", "what is tuned")
    lr: Positive = setting(0.001, "learning rate; its own, not the training's", log=True, span=(1e-5, 1.0))
    momentum: Annotated[float, Field(ge=0, lt=1)] = setting(0.9, "of SGD, started at 0", span=(0.0, 0.99))
    weight_decay: NotNegative = setting(0.0, "L2 penalty on the tuned part", log=True, span=(1e-5, 1e-2))
    batch_size: Count = setting(50, "samples in a batch; the last of an epoch may be smaller, none is dropped")
    local: Local = setting(SGD(), "how a step gets its gradient, e.g. `SAM(rho=0.05)`")

    @property
    def tuner(self) -> FedAvg:
        """The algorithm whose client steps tune."""
        settings = dict(self)
        return FedAvg(**settings | {"train": settings.pop("part"), "epochs": max(self.epochs, 1)})


@with_settings(Tuning)
@frame()
def personalize(
    runs: Run | Iterable[Run],
    settings: Tuning,
    *,
    round: Whole | Literal["best"] | None = None,
    clients: Sequence[Whole] | None = None,
    progress: Progress | None = None,
) -> Personalization:
    """Fine-tune a copy of the model for every client and score it on the client's test set after each epoch.

    The run itself does not change. Batches come from streams of the run's seed, so methods of one seed see the same.

    Args:
        runs: a run or several.
        settings: made of the keyword arguments.
        round: tune the model after this round; "best" is the evaluated round with the best mean initial accuracy
            (the official FedBABU code's choice, on test data); None is the latest.
        clients: which clients; None is all.
        progress: called with the client epochs done (scoring the initial accuracy counts as one) and their number;
            False stops. None: a bar in a terminal; False: none.

    Returns:
        The curves. After a stop `about["complete"]` is False, and only clients with a whole curve are in it.
        `about["lone"]` lists by run the clients whose score rests on a batch of one image under batch statistics.

    Raises:
        SettingError: if a setting is out of range or a client does not exist.
        Diverged: if a client's loss is no longer a number.

    >>> tuned = fl.personalize(run, epochs=1, lr=0.01)
    >>> tuned.summary()[["initial", "personalized", "gain"]].shape
    (1, 3)
    """
    runs = as_runs(runs)
    epochs = settings.epochs
    for run in runs if epochs else ():
        names(run.cohort.model, settings.part)  # refused before any work
    at = at_rounds(runs, round)
    wanted = [client_ids(run, clients) for run, *_ in at]
    lone = {run.id: _lone(run, settings, ids) for (run, *_), ids in zip(at, wanted, strict=True)}
    total = (epochs + 1) * sum(len(ids) for ids in wanted)
    rows, complete = gather(_scores(at, wanted, settings), total, "personalization", progress, len)
    frame = pd.DataFrame(rows).sort_values(["order", "epoch"], kind="stable")
    columns = [name for name in frame if name != "order"]
    curves = frame.groupby("order")["epoch"].transform("size")
    about = {"epochs": epochs, "tuning": settings.to_dict(), "best": round == "best", "complete": complete}
    about["lone"] = {run: ids for run, ids in lone.items() if ids}
    return Personalization(frame.loc[curves > epochs, columns].reset_index(drop=True), about)


@with_settings(Tuning)
@frame()
def fine_tuned(
    run: Run,
    clients: Sequence[Whole],
    settings: Tuning,
    *,
    round: Whole | Literal["best"] | None = None,
) -> dict[int, Model]:
    """The fine-tuned models of some clients: those whose accuracy `personalize` states after the last epoch.

    Args:
        run: whose global model is tuned; it does not change.
        clients: which clients.
        settings: made of the keyword arguments.
        round: as in `personalize`.

    Raises:
        SettingError: as `personalize`, and if `epochs` is 0.
        Diverged: as `personalize`.

    >>> models = fl.fine_tuned(run, [3], epochs=1)
    >>> [type(model).__name__ for model in models.values()]
    ['Model']
    """
    at, wanted = run_round(run, round), client_ids(run, clients)
    if not settings.epochs:
        raise SettingError("fine_tuned.epochs", 0, "must be a whole number ≥ 1")
    models: dict[int, Model] = {}
    for client, params in zip(wanted, tuned_parts(run, settings, run.state(at), wanted), strict=True):
        models[client] = run.model(at, client=client)
        with torch.no_grad():
            for name, value in params.items():
                models[client].get_parameter(name).copy_(value)
    return models


def tuned_parts(run: Run, settings: Tuning, state: State, wanted: list[int]) -> list[Params]:
    """What of the parameters fine-tuning has made of each client; of no epochs nothing."""
    parts: list[Params] = [{} for _ in wanted]
    for chunk in _tuning(run, settings.tuner, state, wanted, every_epoch=False) if settings.epochs else ():
        for place, row in enumerate(chunk.clients):
            parts[row] = {name: value[place] for name, value in chunk.params.items()}
    return parts


def _lone(run: Run, settings: Tuning, clients: list[int]) -> list[int]:
    """The clients of which some batch holds one image, which batch statistics cannot normalise; a warning says so."""
    sizes = [len(run.data.train[client]) for client in clients] if settings.epochs else []
    evaluation = run.experiment.evaluation
    return tell_lone(run.cohort.model, run.data, evaluation, settings.batch_size, sizes, clients=clients)


def _scores(
    runs: list[tuple[Run, int, str]], clients: list[list[int]], settings: Tuning
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the result, a few clients and an epoch at a time; `order` is where a client's curve belongs."""
    first = 0
    for (run, at, label), wanted in zip(runs, clients, strict=True):
        of_run = {"run": run.id, "name": label, "seed": run.experiment.seed, "round": at}
        for places, epoch, scores in _epochs(run, settings, at, wanted):
            each = {name: score.tolist() for name, score in scores.items()}
            yield [
                {
                    **of_run,
                    "client": wanted[place],
                    "epoch": epoch,
                    **{name: values[row] for name, values in each.items()},
                    "samples": len(run.data.test[wanted[place]]),
                    "order": first + place,
                }
                for row, place in enumerate(places)
            ]
        first += len(wanted)


def _epochs(
    run: Run, settings: Tuning, round: int, wanted: list[int]
) -> Iterator[tuple[list[int], int, dict[str, Tensor]]]:
    """Positions in `wanted`, the epochs that these clients have done, and their scores."""
    state, cohort = run.state(round), run.cohort
    bn_eval = run.experiment.evaluation.bn_eval
    own = run.own(state, wanted)

    def scored(places: list[int], params: dict[str, Any]) -> dict[str, Tensor]:
        which = [wanted[place] for place in places]
        clean = score_clients(cohort, state.served, which, bn_eval, params)
        aimed = run.federation.attackers.aimed
        attack = {"success": score_clients(aimed, state.served, which, bn_eval, params).accuracy} if aimed else {}
        return {**clean.scores, "loss": clean.loss, **attack}

    everyone = list(range(len(wanted)))
    yield everyone, 0, scored(everyone, own)
    if settings.epochs:
        for chunk in _tuning(run, settings.tuner, state, wanted, every_epoch=True):
            untuned = {name: value[chunk.clients] for name, value in own.items()}
            yield chunk.clients, chunk.epoch, scored(chunk.clients, untuned | chunk.params)


def _tuning(run: Run, tuner: FedAvg, state: State, wanted: list[int], every_epoch: bool) -> Iterator[Trained]:
    """Some clients' tuned parts, a few clients at a time, after each epoch or the last."""
    cohort = run.cohort if run.cohort.batched else dataclasses.replace(run.cohort, threads=1)

    def orders(clients: list[int]) -> dict[str, Any]:
        return {
            "indices": [run.data.train[client].cpu() for client in clients],  # where batches are drawn
            "streams": [("fine-tuning", client) for client in clients],
            "seed": run.experiment.seed,
            "lr": tuner.lr,
            "own": run.own(state, clients),
        }

    for chunk in cohort.train(tuner, state.served, **orders(wanted), every_epoch=every_epoch):
        for row, loss in zip(chunk.clients, chunk.loss.tolist(), strict=True):
            if not math.isfinite(loss):
                where = f"{run.id}, fine-tuning epoch {chunk.epoch}, client {wanted[row]}"
                message = f"{where}: the training loss became {loss}; lower {tuner.suspect()}"
                replay = diverging(cohort, tuner, state.served, **orders([wanted[row]]))
                raise Diverged(message, client=wanted[row], taken=replay)
        yield chunk
