"""Headless accuracy: how good are the features alone? Predict the class whose template is nearest.

A template is the mean feature (the head's input) of a client's own training samples of a class.
Source: Oh et al. (2106.06042, Table 3, "without classifier") and the official code. It is easier than a choice among
all classes, so compare it only with what the head reaches among the same classes, which stands beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence

from ..algorithms import Params
from ..arguments import Count, Whole, checked
from ..later import pd
from ..models import frame, plain_attention, sample_weight
from ..results import Result, spread
from ..streams import stream
from ..training import Run, State
from ..training.evaluate import CUT, rectangles
from ..training.finding import as_runs, at_rounds
from ..training.objective import mappable
from ..training.single_samples import tell_lone
from ..training.threads import computing_with

AT_ONCE = 2**13  # samples in a forward pass, where clients are computed as one batch
Held = tuple[Tensor, dict[str, Tensor]]  # a client's samples, and how each is augmented


@dataclass(frozen=True)
class Headless(Result):
    """Template accuracy per client: columns run, name, seed, round, client, accuracy, samples, and `with head`, that
    through the client's head on the same features among the same classes (NaN where a head has no logit per class).

    Of a segmentation each pixel that has a class counts: its features are the map's, interpolated to the mask's size.
    """

    def summary(self) -> pd.DataFrame:
        """Per run: mean over clients, its population standard deviation, how many, and how many have no accuracy."""
        keys = ["run", "name", "seed", *(["round"] if "round" in self.frame else [])]  # earlier results lack it
        rows = [(*key, *spread(values)) for key, values in self.frame.groupby(keys, sort=False)["accuracy"]]
        return pd.DataFrame(rows, columns=[*keys, "mean", "std", "clients", "left_out"])


@checked
@frame()
@computing_with(1)
def headless(
    runs: Run | Iterable[Run],
    *,
    classes: Literal["own", "all"] = "own",
    metric: Literal["euclidean", "cosine"] = "euclidean",
    templates: Literal["clean", "official"] = "clean",
    batch_size: Count = 128,
    round: Whole | Literal["best"] | None = None,
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

    >>> fl.headless(run).summary()[["name", "clients"]].values.tolist()
    [['FedAvg', 4]]
    """
    rows: list[dict[str, Any]] = []
    lone: dict[str, list[int]] = {}
    for run, at, label in at_rounds(as_runs(runs), round):
        state = run.state(at)
        sizes = [len(part) for part in run.data.train]
        if alone := tell_lone(run.cohort.model, run.data, run.experiment.evaluation, batch_size, sizes):
            lone[run.id] = alone
        own = run.own(state, range(run.data.clients))
        table = _templates(run, state, own, classes, templates, batch_size)
        of_run = {"run": run.id, "name": label, "seed": run.experiment.seed, "round": at}
        rows += [{**of_run, **scores} for scores in _scores(run, state, own, table, metric)]
    about = {"classes": classes, "metric": metric, "templates": templates, "batch_size": batch_size, "round": round}
    return Headless(pd.DataFrame(rows), {**about, "lone": lone})


def _templates(
    run: Run, state: State, own: Params, classes: str, templates: str, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each client's templates `[classes, d]`, and of which classes it has one (bool `[classes]`)."""
    data, sums, counts = run.data, [], []
    held = [_train_set(run, client, templates) for client in range(data.clients)]
    for (index, drawn), features in zip(held, _features(run, state, own, held, batch_size), strict=True):
        rows, labels = run.experiment.task.rows(features, data.targets(index, drawn), data.classes)
        onehot = F.one_hot(labels, data.classes).to(rows.dtype)
        sums.append(onehot.T @ rows)
        counts.append(onehot.sum(0))
    all_sums, all_counts = torch.stack(sums).sum(0), torch.stack(counts).sum(0)
    for total, count in zip(sums, counts, strict=True):
        among, means = count > 0, total / count.clamp(min=1)[:, None]
        if classes == "own":
            yield means, among
        else:
            yield torch.where(among[:, None], means, all_sums / all_counts.clamp(min=1)[:, None]), all_counts > 0


def _scores(
    run: Run, state: State, own: Params, table: Iterable[tuple[Tensor, Tensor]], metric: str
) -> Iterator[dict[str, float]]:
    """What each client's test set gets by its templates, and through the head among the same classes."""
    data, task = run.data, run.experiment.task
    test: list[Held] = [(part, {}) for part in data.test]
    size = None if run.experiment.evaluation.bn_eval == "client" else CUT
    several = zip(table, _features(run, state, own, test, size), strict=True)
    for client, ((means, among), features) in enumerate(several):
        targets, accuracy, through_head = data.targets(data.test[client]), float("nan"), float("nan")
        if len(targets) and bool(features.isfinite().all() and means[among].isfinite().all()):
            rows, labels = task.rows(features, targets, data.classes)
            accuracy = _share(nearest(rows, means, among, metric) == labels)
            logits, _ = task.rows(_logits(run, state, own, client, features), targets, data.classes)
            if logits.shape[1:] == among.shape and bool(logits.isfinite().all()):
                through_head = _share(logits.masked_fill(~among, -float("inf")).argmax(1) == labels)
        yield {"client": client, "accuracy": accuracy, "samples": len(targets), "with head": through_head}


def nearest(features: Tensor, templates: Tensor, among: Tensor, metric: str) -> Tensor:
    """The class [n] of the nearest of `templates` [classes, d] for `features` [n, d], among the classes `among`."""
    if metric == "cosine":
        distance = 1 - F.normalize(features, dim=1) @ F.normalize(templates, dim=1).T
    else:
        distance = torch.cdist(features, templates, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.masked_fill(~among, float("inf")).argmin(1)


def _train_set(run: Run, client: int, templates: str) -> Held:
    index = run.data.train[client]
    rng = stream(run.experiment.seed, "templates", client)
    if templates == "clean":
        return index[torch.from_numpy(rng.permutation(len(index))).to(index.device)], {}
    drawn = run.data.augmentation.draw(rng, len(index))
    draws = {key: torch.from_numpy(value).to(index.device) for key, value in drawn.items()}
    return index[run.data.labels[index].argsort(stable=True)], draws


def _features(run: Run, state: State, own: Params, held: Sequence[Held], size: int | None) -> Iterator[Tensor]:
    """The features [samples, d] of what each client holds, computed in batches of `size`, or of all that it holds.

    A client without samples has an empty tensor.
    """
    data, body = run.data, run.cohort.model.body
    batched = run.cohort.batched and mappable(body)
    shared, own = _part(state.served, "body."), _part(own, "body.")
    batches: list[Tensor] = []
    draws: list[dict[str, Tensor]] = []
    owner: list[int] = []
    for client, (index, drawn) in enumerate(held):
        places = torch.arange(len(index), device=index.device)
        for part in places.split(min(size or len(index), len(index))) if len(index) else ():
            batches.append(index[part])
            draws.append({key: value[part] for key, value in drawn.items()})
            owner.append(client)

    def features_of(kept: Params, images: Tensor, weight: Tensor | None) -> Tensor:
        with sample_weight(weight):
            return functional_call(body, {**shared, **kept}, (images,))

    parts: list[list[Tensor]] = [[] for _ in held]
    ready = 0  # clients that are done
    for here, kept, index, weight in rectangles(batches, torch.tensor(owner), own, AT_ONCE if batched else 1):
        drawn = {key: pad_sequence([draw[key] for draw in draws[here]], batch_first=True) for key in draws[0]}
        images = data.prepared(index, drawn)
        with torch.no_grad(), plain_attention() if batched else contextlib.nullcontext():
            if batched:
                features = torch.func.vmap(features_of)(kept, images, weight)
            else:
                features = features_of({name: value[0] for name, value in kept.items()}, images[0], None)[None]
        for row, batch, client in zip(features, batches[here], owner[here], strict=True):
            parts[client].append(row[: len(batch)])
        stop = owner[here.stop] if here.stop < len(owner) else len(held)
        for client in range(ready, stop):
            yield torch.cat(parts[client]) if parts[client] else features.new_empty(0)
            parts[client].clear()
        ready = stop


def _logits(run: Run, state: State, own: Params, client: int, features: Tensor) -> Tensor:
    """What the head that the client uses makes of features [n, d]."""
    own = {name: value[client] for name, value in _part(own, "head.").items()}
    with torch.no_grad():
        return functional_call(run.cohort.model.head, {**_part(state.served, "head."), **own}, (features,))


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right) if len(right) else float("nan")


def _part(params: Params, prefix: str) -> Params:
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
