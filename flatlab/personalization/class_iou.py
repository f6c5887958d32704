"""How well each class of a segmentation is found: intersection over union of pixels, and pictures of what is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arguments import Whole, checked
from ..data import FederatedDataset
from ..declare import SettingError
from ..later import pd
from ..models import frame
from ..results import Result
from ..tasks import Segmentation, class_scores
from ..training import Run, State, score_clients, score_holdout, score_unseen
from ..training.finding import as_runs, at_rounds, client_ids
from ..training.single_samples import by_batch

TOGETHER = 16  # images whose batch statistics pictures have


class Picture(NamedTuple):
    """An image beside its mask and what runs say of it."""

    image: np.ndarray  # uint8 [H, W, C]
    truth: np.ndarray  # int [H, W]; -1: no class
    said: dict[str, np.ndarray]  # by run, int [H, W]


@dataclass(frozen=True)
class PerClass(Result):
    """A row a run and class: run, name, seed, round, class, and as shares iou, recall, precision (NaN for a class that
    the truth lacks) and share, of the pixels that have a class. `pictures` are not saved with it.
    """

    pictures: tuple[Picture, ...] = ()

    def summary(self) -> pd.DataFrame:
        """Per class: its share of the pixels, and each run's IoU, in percent; last the mean, the mIoU."""
        names = list(dict.fromkeys(self.frame["name"]))
        table = (
            100 * self.frame.pivot_table(index="class", columns="name", values="iou", sort=False, dropna=False)[names]
        )
        table.insert(0, "share %", 100 * self.frame.groupby("class")["share"].mean())
        table.loc["mean"] = table.mean().where(table.columns != "share %")
        return table.round(2).rename(columns={name: f"{name} IoU %" for name in names}).reset_index()


@checked
@frame()
def per_class(
    runs: Run | Iterable[Run],
    data: Literal["holdout", "unseen", "test"] = "holdout",
    *,
    clients: Sequence[Whole] | None = None,
    round: Whole | Literal["best"] | None = None,
    pictures: Whole = 3,
) -> PerClass:
    """Intersection over union of each class, of confusions summed over a set, as the history's `miou` is their mean.

    Args:
        runs: a segmentation or several.
        data: the holdout; the groups that no client trains on; or the clients' own test sets, by their own models.
        clients: whose test sets; None: all.
        round: as for `personalize`.
        pictures: how many images to keep for the drawing, evenly from the set (of "test": of the first client's). They
            are predicted in one batch of up to 16 images, to which batch statistics belong.

    Raises:
        SettingError: for a run that is no segmentation, has no global model or no unseen groups.

    >>> import numpy as np
    >>> masks = (np.arange(20 * 64).reshape(20, 8, 8) // 5 % 2).astype(np.uint8)
    >>> given = {"train_masks": masks, "test_masks": masks[:6]}
    >>> names = ["dark", "light"]
    >>> stripes = fl.Source.from_arrays("stripes", 100 * masks, None, 100 * masks[:6], None, names, **given)
    >>> held, small = stripes.federate(fl.Consecutive(), clients=2), fl.ModelSpec(name="segnet", width=0.25)
    >>> segmented = fl.train(fl.FedAvg(), held, small, rounds=1, task="segmentation")
    >>> fl.per_class(segmented).summary()["class"].tolist()
    ['dark', 'light', 'mean']
    """
    tables, shown = [], list[Picture]()
    several = as_runs(runs)
    for run, at, name in at_rounds(several, round):
        if not isinstance(run.experiment.task, Segmentation):
            raise SettingError("runs", name, "is no segmentation: fl.train(..., task='segmentation')")
        state, wanted = run.state(at), client_ids(run, clients)
        scores = class_scores(_confusion(run, state, data, wanted))
        columns = {key: value.tolist() for key, value in scores.items()}
        of_run = {"run": run.id, "name": name, "seed": run.experiment.seed, "round": at, "class": run.data.class_names}
        tables.append(pd.DataFrame({**of_run, **columns}))
        if run.data.origin == several[0].data.origin:
            shown = _pictures(run, state, data, wanted, pictures, name, shown)
    about = {"data": data, "batch statistics": by_batch(several[0].cohort.model), "together": TOGETHER, "round": round}
    return PerClass(pd.concat(tables, ignore_index=True), about, tuple(shown))


def _confusion(run: Run, state: State, data: str, clients: list[int]) -> Tensor:
    evaluation = run.experiment.evaluation
    if data == "test":
        score = score_clients(run.cohort, state.served, clients, evaluation.bn_eval, run.own(state, clients))
    elif run.kept:
        raise SettingError("data", data, f"clients keep {run.kept_part}, so no model is global; take 'test'")
    elif data == "unseen" and not run.data.unseen:
        raise SettingError("data", data, "no group of images is unseen")
    else:
        of_set = score_unseen if data == "unseen" else score_holdout
        score = of_set(run.cohort, state.served, evaluation.batch_size)
    confusion = score.sums["confusion"]
    return confusion.reshape(-1, *confusion.shape[-2:]).sum(0).cpu()


def _pictures(
    run: Run, state: State, data: str, clients: list[int], count: int, name: str, shown: list[Picture]
) -> list[Picture]:
    """Those so far with what this run says of the images; the first run chooses them."""
    held: FederatedDataset = run.data
    pools = {
        "holdout": held.holdout,
        "test": held.test[clients[0]],
        "unseen": torch.cat([*held.unseen.values(), held.holdout[:0]]),
    }
    together = _evenly(pools[data], TOGETHER)
    index = _evenly(together, count)
    places = torch.searchsorted(together, index)
    model = run.model(state.round, client=clients[0] if data == "test" and run.own_models else None)
    with torch.no_grad(), run.cohort.precise():
        said = model(held.prepared(together)).argmax(1)[places].cpu().numpy()
    if not shown:
        truth = held.targets(index).long()
        void = run.experiment.task.void if isinstance(run.experiment.task, Segmentation) else None
        truth[(truth >= held.classes) | (truth == (-1 if void is None else void))] = -1
        images = held.images[index].permute(0, 2, 3, 1).cpu().numpy()
        shown = [Picture(image, mask, {}) for image, mask in zip(images, truth.cpu().numpy(), strict=True)]
    return [picture._replace(said={**picture.said, name: mask}) for picture, mask in zip(shown, said, strict=True)]


def _evenly(index: Tensor, count: int) -> Tensor:
    """So many of them at most, evenly, ascending."""
    index, count = index.sort().values, min(count, len(index))
    return index[(torch.arange(count, device=index.device) + 0.5).mul(len(index) / max(count, 1)).long()]
