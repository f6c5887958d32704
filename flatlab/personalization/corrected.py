"""Which of its test images a client's model has right, before and after fine-tuning: those that tuning put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..arguments import Whole, with_settings
from ..declare import SettingError, tell
from ..later import pd
from ..models import frame
from ..results import Result
from ..training import Run
from ..training.evaluate import right_ones
from ..training.finding import client_ids, run_round
from .finetune import Tuning, tuned_parts


@dataclass(frozen=True)
class Corrected(Result):
    """`frame` has the columns client, image (its place in the data set), label, before and after (whether it is right).

    The means of before and after are the accuracies that `personalize` states at epoch 0 and after the last.
    """

    def summary(self) -> pd.DataFrame:
        """Per client: images, those right before and after, those put right and those spoilt."""
        frame = self.frame.assign(
            put_right=self.frame["after"] & ~self.frame["before"], spoilt=self.frame["before"] & ~self.frame["after"]
        )
        table = frame.groupby("client").agg(
            images=("image", "size"),
            before=("before", "sum"),
            after=("after", "sum"),
            put_right=("put_right", "sum"),
            spoilt=("spoilt", "sum"),
        )
        return table.reset_index()


@with_settings(Tuning)
@frame()
def corrected(
    run: Run,
    clients: Sequence[Whole],
    settings: Tuning,
    *,
    round: Whole | Literal["best"] | None = None,
) -> Corrected:
    """The test images of some clients, each with whether the model has it right before and after fine-tuning.

    Args:
        run: whose model; it does not change.
        clients: which clients.
        settings: made of the keyword arguments.
        round: as in `personalize`.

    Raises:
        SettingError: as `personalize`; of a segmentation, of which no image is wholly right.
        Diverged: as `personalize`.

    >>> fl.corrected(run, [3], epochs=1).summary().columns.tolist()
    ['client', 'images', 'before', 'after', 'put_right', 'spoilt']
    """
    if run.experiment.task.dense:
        raise SettingError("run", run.name, "no image of a segmentation is wholly right or wrong; see fl.per_class")
    at, wanted = run_round(run, round), client_ids(run, clients)
    state, data = run.state(at), run.data
    if bare := [client for client in wanted if not len(data.test[client])]:
        tell(f"clients {', '.join(map(str, bare))} are left out: they have no test images")
    own, bn_eval = run.own(state, wanted), run.experiment.evaluation.bn_eval
    tuned = tuned_parts(run, settings, state, wanted)
    parts = []
    for place, client in enumerate(wanted):
        before = {**state.served, **{name: value[place] for name, value in own.items()}}
        index = data.test[client]
        with torch.no_grad():
            right = [right_ones(run.cohort, params, index, bn_eval) for params in (before, {**before, **tuned[place]})]
        rows = {"client": client, "image": index.cpu().numpy(), "label": data.labels[index].cpu().numpy()}
        parts.append(pd.DataFrame({**rows, "before": right[0].cpu().numpy(), "after": right[1].cpu().numpy()}))
    about = {"run": run.id, "round": at, "tuning": settings.to_dict()}
    return Corrected(pd.concat(parts, ignore_index=True), about)
