"""Are the directions in which clients differ sharp ones? For gossip, and for the clients of any run's round.

With x_i the clients' models and x their plain mean, v_i = x_i - x and H the Hessian at x:

    distance   (1/n) sum ||v_i||^2, the consensus distance (Kong et al., Consensus Control, ICML 2021)
    penalty    (1/2n) sum v_i'Hv_i, what decentralized SGD adds to its loss (Zhu et al., 2306.02913, up to a constant)
    gap        (1/n) sum L(x_i) - L(x), which is the penalty where L is quadratic
    alignment  sum v_i'Hv_i / sum ||v_i||^2, between the least and the largest eigenvalue; that of a random direction is
               the mean eigenvalue tr(H)/d
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import with_settings
from ..declare import SettingError
from ..later import pd
from ..models import frame
from ..results import Result
from ..training.progress import Progress, gather
from ..training.threads import computing_with
from .hvp import HessianProducts
from .inputs import aim, common_task, named, need_run
from .model_hessian import ModelHessian
from .settings import HessianSettings
from .trace import hutchinson

TRACE = 0.05  # standard error of the trace, as a share of it
PROBES = 50  # for it, at most

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Disagreement(Result):
    """A row a run.

    `frame`: `name`, `run`, `round`, `clients` that were compared, `parameters` d that they train; `distance`,
    `penalty`, `gap` and `alignment` (NaN where all models are one); `mean eigenvalue`, its standard `error` over random
    probes, and `lambda_1`, all at the mean.
    """


@with_settings(HessianSettings)
@frame()
@computing_with(1)
def disagreement(
    runs: Any, data: Any = "holdout", *, settings: HessianSettings, progress: Progress | None = None
) -> Disagreement:
    """How far clients' models are from their mean, and how sharp the loss at the mean is in these directions.

    Over a topology the models are all clients' own after the round, otherwise those of the round's clients after their
    local training, trained again. Both are compared in the part that clients train, unless `part` names another.

    Args:
        runs: a run, several, or a mapping from names to them.
        data: as for `hessian`; equal samples for all.
        settings: made of the keyword arguments.
        progress: called with the runs measured and their number; False stops.

    Raises:
        SettingError: if clients keep parts for themselves, so that their mean is no model, or nothing is trained yet;
            if `which` asks for another model than the mean of the clients'.

    >>> ring = fl.train(fl.FedAvg(topology="ring"), data, "lenet", rounds=1)
    >>> fl.disagreement([ring, run], limit=64).frame[["name", "clients"]].values.tolist()
    [['FedAvg ring', 4], ['FedAvg', 4]]
    """
    if settings.which != "auto":
        raise SettingError("which", settings.which, "the Hessian is at the mean of the clients' models: leave it out")
    subjects = {name: need_run(subject) for name, subject in named(runs).items()}
    source = settings.source or next(iter(subjects.values())).data
    common_task(subjects.values(), settings)
    parts = ([_row(name, run, data, settings.replace(source=source))] for name, run in subjects.items())
    rows, complete = gather(parts, len(subjects), "disagreement", progress)
    return Disagreement(pd.DataFrame(rows), {**settings.to_dict(), "complete": complete})


def _row(name: str, run: Any, data: Any, settings: HessianSettings) -> dict[str, Any]:
    round = run.round if settings.round is None else settings.round
    models = _models(run, round)
    part = run.experiment.algorithm.train if settings.part == "all" else settings.part
    chosen = settings.replace(round=None, which="auto", part=part)
    mean = _mean(run.model(round, which="global"), models)
    target = aim(mean, data, chosen, task=run.experiment.task)
    product, size = HessianProducts(target, settings.memory), target.size
    top = ModelHessian(target, chosen).top(1, warn=False)
    first, vector = top.frame["eigenvalue"].item(), target.flat(top.vectors[0])
    known: dict[str, Any] = {"basis": vector[None], "basis_trace": first, "seed": settings.seed}
    trace = hutchinson(product, vector, **known, tolerance=TRACE, budget=min(PROBES, settings.budget))
    row = {"name": name, "run": run.id, "round": round, "clients": len(models), "parameters": size}
    row |= spread(product, models)
    return row | {"mean eigenvalue": trace.value / size, "error": trace.standard_error / size, "lambda_1": first}


def _models(run: Any, round: int) -> list[dict[str, Tensor]]:
    """The parameters of the clients' models."""
    if run.kept:
        raise SettingError(
            "runs",
            allowed=f"{run.name}: clients keep {run.kept_part} for themselves, so the mean of their models is no model",
        )
    if run.experiment.algorithm.topology is not None:
        models: Iterator[nn.Module] = (run.model(round, client=client) for client in range(run.data.clients))
    elif round == 0:
        raise SettingError("round", 0, f"{run.name}: no client has trained yet; a round from 1")
    else:
        models = iter(run.clients(round).values())
    return [{name: value.detach() for name, value in model.named_parameters()} for model in models]


def _mean(model: nn.Module, models: Sequence[Params]) -> nn.Module:
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.stack([params[name] for params in models]).double().mean(0))
    return model


def spread(product: HessianProducts, models: Sequence[Params]) -> dict[str, float]:
    """`distance`, `penalty`, `gap` and `alignment` of models around their mean.

    Args:
        product: the Hessian of the loss at the mean.
        models: their parameters by name; what the Hessian's target does not vary is taken to be the mean's.
    """
    target = product.target
    mean = target.flat(target.weights)
    squares, bends, losses = [], [], []
    for params in models:
        point = {name: params[name].to(mean) for name in target.weights}
        away = target.flat(point) - mean
        squares.append(away.double().square().sum().item())
        bends.append((away.double() @ product(away).double()).item() if squares[-1] else 0.0)
        losses.append(target.loss(point))
    product.release()
    count, length = len(models), math.fsum(squares)
    return {
        "distance": length / count,
        "penalty": math.fsum(bends) / (2 * count),
        "gap": math.fsum(losses) / count - target.loss(),
        "alignment": math.fsum(bends) / length if length else math.nan,
    }
