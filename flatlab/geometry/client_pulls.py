"""How clients pull the global model apart and the server puts it together again: the last rounds, on one plane a run.

From w_t the clients of round t train to w_i, and FedAvg's next model is their mean, w_{t+1} = sum_i p_i w_i. All of
these of the rounds looked at are projected onto the plane through their mean m along their first two principal
components u, v (float64 products, as in Li et al., 2018, arXiv 1712.09913, section 7); what lies in it is

    share = sum_j <w_j - m, u>^2 + <w_j - m, v>^2  over  sum_j ||w_j - m||^2

A projection is affine, so that the mean of the clients' places is the next model's place. Losses are the models' own,
at their own weights, never the plane's.

    fl.pulls({"IID": a, "Dirichlet .1": b}, rounds=3).plot()
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Params
from ..arguments import with_settings
from ..declare import SettingError
from ..later import pd
from ..models import frame
from ..results import Result
from ..training import Run
from ..training.progress import Progress, gather
from ..training.state import State
from ..training.threads import computing_with
from .directions import trajectory_plane
from .evaluate_points import Points
from .inputs import common_task, named, need_run, refuse_misfits, targets
from .objective import Target
from .plane import Plane
from .settings import PullSettings, Selection

Row = dict[str, Any]


class Model(NamedTuple):
    """What a model is, as columns of `Pulls`, and its weights `[parameters]`."""

    row: Row
    weights: Tensor


@dataclass(frozen=True)
class Pulls(Result):
    """Models of some rounds on a plane, one plane a run.

    `frame`, a row a model: `run`; `round` (from 1; of a "global" model the rounds done); `series`: "global", "client"
    (after its local training in the round), "mean" (of the round's clients, weighted as they are aggregated; a robust
    rule's plainly) or "swa" (the server's average after the round); `client` (-1: none), `main` (the class it holds
    most of; -1) and its `share` of the client's images, `weight` in the mean; `x`, `y`, and `residual`, how far it lies
    off the plane; `loss` and `accuracy` of the model itself, `loss_error` (standard error over the samples).

    `about["runs"]`, by run: `explained` (the shares of variance along x and y of the models through which the plane was
    laid, all but the averages), `retrained` (rounds that were trained again) and `seconds` (that this took).
    """

    def summary(self) -> pd.DataFrame:
        """A row a run: rounds, share of variance in the plane, how far clients went and what was left of it.

        `pull` is the mean distance in the plane from the global model to its clients', each counting as much as in
        their mean; `step` is the distance to that mean, and `kept` the ratio of the two: 1 if all pull one way.
        """
        rows = []
        for name, own in self.frame.groupby("run", sort=False):
            series = dict(list(own.groupby("series")))
            at = series["global"].set_index("round")[["x", "y"]]
            far = {}
            for moved in ("client", "mean"):
                way = series[moved][["x", "y"]].to_numpy() - at.loc[series[moved]["round"] - 1].to_numpy()
                far[moved] = series[moved].assign(far=np.hypot(*way.T)).groupby("round")
            pull = far["client"].apply(lambda own: np.average(own["far"], weights=own["weight"])).mean()
            step = far["mean"]["far"].mean().mean()
            row = {"run": name, "rounds": f"{at.index.min() + 1} to {at.index.max()}"}
            row |= {"share in the plane": sum(self.about["runs"][name]["explained"]), "pull": pull, "step": step}
            last = series["global"].iloc[-1]
            rows.append({**row, "kept": step / pull if pull else np.nan, **last[["loss", "accuracy"]]})
        return pd.DataFrame(rows)


@with_settings(PullSettings)
@frame()
@computing_with(1)
def pulls(runs: Any, data: Any = "holdout", *, settings: PullSettings, progress: Progress | None = None) -> Pulls:
    """The last rounds of runs: where each sampled client pulled the global model, and where their mean put it.

    Clients' models are not kept, so these rounds are trained again, and those from the stored state before them on;
    `Run.retraining` says beforehand how many that are and about how long they take.

    Args:
        runs: a run, several, or a mapping from names to them.
        data: as for `landscape`; equal samples for all.
        settings: made of the keyword arguments.
        progress: called with the models done and their number; False stops. None: a bar in a terminal; False: none.

    Returns:
        What was measured. After Ctrl-C or a stop `about["complete"]` is False, and rounds not reached are missing.

    Raises:
        SettingError: if a run has no such rounds, no global model, or no server that forms it.

    >>> fl.pulls(run, rounds=1, limit=64).frame["series"].value_counts().to_dict()
    {'client': 4, 'global': 2, 'mean': 1}
    """
    if settings.part != "all":
        raise SettingError("part", settings.part, "clients pull whole models; use part='all'")
    subjects = {name: need_run(run) for name, run in named(runs).items()}
    refuse_misfits(list(subjects.values()))
    spans = {name: _span(run, settings) for name, run in subjects.items()}
    chosen = Selection(**settings.of(Selection))
    models = {name: run.model(spans[name][1], which="global") for name, run in subjects.items()}
    source = next(iter(subjects.values())).data
    aimed = targets(models, data, chosen.replace(round=None), source, common_task(subjects.values(), chosen))
    about: dict[str, Any] = {}
    total = sum(_count(run, *spans[name]) for name, run in subjects.items())
    parts = (part for name, run in subjects.items() for part in _measured(name, run, aimed[name], spans[name], about))
    rows, complete = gather(parts, total, "pulls", progress, len)
    told = {**aimed[next(iter(aimed))].about, **settings.to_dict(), "classes": list(source.label_names)}
    whole = _whole(pd.DataFrame(rows)) if rows else pd.DataFrame(columns=["run", "round", "series", *"xy"])
    measured = {name: said for name, said in about.items() if name in set(whole["run"])}
    return Pulls(whole, {**told, "runs": measured, "complete": complete})


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Without rounds that were stopped on their way."""
    kept = []
    for _, own in frame.groupby("run", sort=False):
        there = {series: set(rows["round"]) for series, rows in own.groupby("series")}
        ended = {round for round in there.get("mean", ()) if {round - 1, round} <= there["global"]}
        ends = ended | {round - 1 for round in ended}
        kept.append(own[own["round"].isin(ended) | ((own["series"] == "global") & own["round"].isin(ends))])
    return pd.concat(kept, ignore_index=True)


def _span(run: Run, settings: PullSettings) -> tuple[int, int]:
    """The first and the last round to be looked at."""
    if run.kept or run.experiment.algorithm.topology is not None:
        why = f"clients keep {run.kept_part} for themselves" if run.kept else "neighbours average their models"
        raise SettingError("runs", allowed=f"{run.name}: {why}, so no server forms one model of their pulls")
    if (channel := run.federation.channel) is not None and (channel.loss or channel.delay):
        raise SettingError(
            "runs", allowed=f"{run.name}: messages are lost or late, so no round's mean is the next model"
        )
    (begin, end), last = run.span, run.round if settings.round is None else settings.round
    if not begin < last <= end:
        there = f"{begin + 1} to {end} are there" if begin < end else "none is done yet"
        raise SettingError("round", last, f"{run.name}: no such round; {there}")
    first = max(begin + 1, last - settings.rounds + 1)
    if forged := [number for number in range(first, last + 1) if run.federation.attackers.forges(number - 1)]:
        told = f"{run.name}: messages are forged in round {forged[0]}, so its mean is not the next model"
        raise SettingError("runs", allowed=told)
    return first, last


def _count(run: Run, first: int, last: int) -> int:
    """How many models there are to be measured, at most."""
    cohort = run.experiment.cohort_size(run.federation.population)
    return 1 + (last - first + 1) * (cohort + 2 + (run.experiment.algorithm.swa is not None))


def _measured(name: str, run: Run, target: Target, span: tuple[int, int], about: dict[str, Any]) -> Iterator[list[Row]]:
    """The rows of a run, some at a time; what is to be said of all of them goes into `about`."""
    begun, models = time.monotonic(), list[Model]()
    for before, trained, after in run.retrained(*span):
        models += _of_round(run, target, before, trained, after, first=not models)
        yield []
    seconds = time.monotonic() - begun
    plane = _plane([model.weights for model in models if model.row["series"] in ("global", "client")])
    count, _ = run.retraining(*span)
    about[name] = {"id": run.id, "explained": list(plane.explained), "retrained": count, "seconds": seconds}
    meter = Points(target)
    for start in range(0, len(models), meter.at_once):
        some = models[start : start + meter.at_once]
        scores = meter.table([model.weights for model in some])
        places = [dict(zip(("x", "y", "residual"), plane.project(model.weights), strict=True)) for model in some]
        yield [{"run": name, **model.row, **at, **own} for model, at, own in zip(some, places, scores, strict=True)]


def _of_round(
    run: Run, target: Target, before: State, trained: Mapping[int, Params], after: State, first: bool
) -> list[Model]:
    """The models of a round; with the global one before it, if it is the first."""
    algorithm, counts = run.experiment.algorithm, run.data.class_counts("train")
    counts = counts.sum(0, keepdims=True) if algorithm.pooled else counts
    rule, sizes = algorithm.aggregation, [len(run.federation.holders[client]) for client in trained]
    mass = rule.weights(sizes) if rule.linear else [1.0] * len(sizes)
    shares = [part / sum(mass) for part in mass]

    def model(series: str, weights: Tensor, round: int = after.round, **more: Any) -> Model:
        row = {"round": round, "series": series, "client": -1, "main": -1, "share": np.nan, "weight": np.nan}
        return Model(row | more, weights)

    def flat(params: Params) -> Tensor:
        return target.flat(params).to(target.images)

    models = [model("global", flat(before.params), before.round)] if first else []
    own = {client: flat(params) for client, params in trained.items()}
    for (client, weights), share in zip(own.items(), shares, strict=True):
        held = counts[client]
        main = {"main": int(held.argmax()), "share": held.max() / max(held.sum(), 1)}
        models.append(model("client", weights, client=client, weight=share, **main))
    models += [model("mean", _mean(list(own.values()), shares)), model("global", flat(after.params))]
    return models + ([model("swa", flat(after.average))] if after.swa else [])


def _plane(weights: Sequence[Tensor]) -> Plane:
    """The plane through the mean of models along their first two principal components."""
    try:
        return trajectory_plane(weights, _mean(weights, [1 / len(weights)] * len(weights)))
    except SettingError as error:
        reason = f"{len(weights)} models that lie on one line span no plane; take more"
        raise SettingError("rounds", allowed=reason) from error


def _mean(weights: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    mean = torch.zeros_like(weights[0], dtype=torch.float64)
    for vector, share in zip(weights, shares, strict=True):
        mean.add_(vector.double(), alpha=share)
    return mean.to(weights[0].dtype)
