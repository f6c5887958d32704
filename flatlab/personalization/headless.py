"""Headless accuracy: how good are the features alone? Predict the class whose template is nearest.

A template is the mean feature (the head's input) of a client's own training samples of a class.
Source: Oh et al. (2106.06042, Table 3, "without classifier") and the official code; easier than a choice among all
classes, so never compare it with accuracy through a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ..algorithms import Params
from ..data import prepare
from ..declare import SettingError
from ..results import Result
from ..streams import stream
from ..training import Run
from .finetune import as_runs, run_round


@dataclass(frozen=True)
class Headless(Result):
    """Template accuracy per client: columns run, name, seed, client, accuracy, samples."""

    def summary(self) -> pd.DataFrame:
        """Per run: mean over clients and its population standard deviation."""
        groups = self.frame.groupby(["run", "name", "seed"], sort=False)["accuracy"]
        return groups.agg(mean="mean", std=lambda values: values.std(ddof=0), clients="count").reset_index()


def headless(
    runs: Run | Iterable[Run],
    *,
    classes: Literal["own", "all"] = "own",
    metric: Literal["euclidean", "cosine"] = "euclidean",
    templates: Literal["clean", "official"] = "clean",
    batch_size: int = 128,
    round: int | Literal["best"] | None = None,
) -> Headless:
    """Score every client's test set by nearest template.

    Args:
        runs: a run or several.
        classes: "own" chooses among the classes that the client holds, with its own templates (the paper); "all" adds
            templates of the other classes from all clients' training samples together.
        metric: distance to the template.
        templates: "clean" takes shuffled training samples without augmentation; "official" takes them sorted by class
            and augmented, as the official code does. With batch statistics the two differ.
        batch_size: training samples per forward pass.
        round: as for `personalize`.

    Raises:
        SettingError: if a setting is not one of those named.
    """
    for name, value, allowed in (
        ("classes", classes, ("own", "all")),
        ("metric", metric, ("euclidean", "cosine")),
        ("templates", templates, ("clean", "official")),
    ):
        if value not in allowed:
            raise SettingError(f"{name} = {value!r}: must be {' or '.join(allowed)}")
    if batch_size < 1:
        raise SettingError(f"batch_size = {batch_size}: must be at least 1")
    rows = []
    for run in as_runs(runs):
        state = run.state(run_round(run, round))
        whole = run.experiment.evaluation.bn_eval == "client"
        sums, counts = [], []
        for client in range(run.data.clients):
            params = _body(run, state.served, state.personal, client)
            features, labels = _train_features(run, params, client, templates, batch_size)
            onehot = F.one_hot(labels, run.data.classes).to(features.dtype)
            sums.append(onehot.T @ features)
            counts.append(onehot.sum(0))
        pooled, held = torch.stack(sums).sum(0), torch.stack(counts).sum(0)
        for client in range(run.data.clients):
            mine = counts[client] > 0
            means = sums[client] / counts[client].clamp(min=1)[:, None]
            known = mine
            if classes == "all":
                means = torch.where(mine[:, None], means, pooled / held.clamp(min=1)[:, None])
                known = held > 0
            params = _body(run, state.served, state.personal, client)
            test, accuracy = run.data.test[client], float("nan")
            if len(test):
                found = nearest(_features(run, params, test, len(test) if whole else 128), means, known, metric)
                accuracy = float((found == run.data.labels[test]).float().mean())
            rows.append({"run": run.id, "name": run.name, "seed": run.experiment.seed, "client": client})
            rows[-1] |= {"accuracy": accuracy, "samples": len(test)}
    about = {"classes": classes, "metric": metric, "templates": templates, "batch_size": batch_size, "round": round}
    return Headless(pd.DataFrame(rows), about)


def nearest(features: Tensor, templates: Tensor, known: Tensor, metric: str) -> Tensor:
    """The class [n] of the nearest of `templates` [classes, d] for `features` [n, d], among the classes `known`."""
    if metric == "cosine":
        distance = 1 - F.normalize(features, dim=1) @ F.normalize(templates, dim=1).T
    else:
        distance = torch.cdist(features, templates, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.masked_fill(~known, float("inf")).argmin(1)


def _body(run: Run, served: Params, personal: Params, client: int) -> Params:
    params = served | {name: value[client] for name, value in personal.items()}
    return {name.removeprefix("body."): value for name, value in params.items() if name.startswith("body.")}


def _train_features(run: Run, body: Params, client: int, templates: str, batch_size: int) -> tuple[Tensor, Tensor]:
    data, index = run.data, run.data.train[client]
    rng = stream(run.experiment.seed, "templates", client)
    if templates == "clean":
        index = index[torch.from_numpy(rng.permutation(len(index))).to(index.device)]
        return _features(run, body, index, batch_size), data.labels[index]
    index = index[data.labels[index].argsort(stable=True)]
    draws = {k: torch.from_numpy(v).to(index.device) for k, v in data.augmentation.draw(rng, len(index)).items()}
    return _features(run, body, index, batch_size, draws), data.labels[index]


def _features(run: Run, body: Params, index: Tensor, batch_size: int, draws: dict[str, Tensor] | None = None) -> Tensor:
    data, found = run.data, []
    with torch.no_grad():
        for start in range(0, len(index), batch_size):
            part = slice(start, start + batch_size)
            own = {key: value[part] for key, value in (draws or {}).items()}
            images = prepare(data.images[index[part]], data.mean, data.std, own, data.augmentation)
            found.append(functional_call(run.cohort.model.body, body, (images,)))
    return torch.cat(found)
