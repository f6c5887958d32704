"""Plain scoring: loss and accuracy of weights on the holdout and on the clients' own sets, without augmentation.

Networks with batch statistics normalise with the statistics of the batch that is scored, so the batch belongs to the
protocol (FedBABU's official code does the same; the result is transductive). A client's set is one batch unless
`bn_eval="batch128"`, which cuts it into batches of 128 as the official code does; the holdout is scored in batches of
`batch_size` in a fixed shuffled order, so that a test set sorted by class does not make batches of one class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Params
from ..data import FederatedDataset
from ..declare import Declared, setting
from ..models import Model, plain_attention
from ..streams import stream
from ..tasks import Task
from .clients import Cohort
from .objective import logits, mappable
from .sequential import laid_out
from .threads import computing_with

MOST_COPIED = 2**30  # bytes of clients' own parameters in one batch
CUT = 128  # samples of a client's test set in a batch under "batch128"


class Evaluation(Declared):
    """What is scored, and when. The last round is scored in any case, unless `final` says otherwise.

    >>> seldom = fl.Evaluation(every=10, clients_every=20)
    >>> [round for round in range(1, 41) if seldom.holdout_due(round, rounds=40)]
    [10, 20, 30, 40]
    """

    every: int = setting(
        1, "score the global model on the holdout after every so many rounds; 0: only at the end (see final)", ge=0
    )
    clients_every: int = setting(
        0, "score every client's initial accuracy after so many rounds; 0: only at the end (see final)", ge=0
    )
    batch_size: int = setting(128, "samples per holdout batch; with batch statistics it is part of the protocol", ge=1)
    bn_eval: Literal["client", "batch128"] = setting(
        "client", "a client's test set as one batch, or in batches of 128 (FedBABU's official code)"
    )
    final: Literal["both", "holdout", "clients", "none"] = setting(
        "both", "what is scored after the last round even if it is not due: the holdout, all clients", new=True
    )

    def holdout_due(self, round: int, rounds: int) -> bool:
        """Whether the holdout is scored after `round` (from 1)."""
        return self._due(round, rounds, self.every, "holdout")

    def clients_due(self, round: int, rounds: int) -> bool:
        """Whether all clients are scored after `round` (from 1)."""
        return self._due(round, rounds, self.clients_every, "clients")

    def _due(self, round: int, rounds: int, every: int, what: str) -> bool:
        return (round == rounds and self.final in ("both", what)) or (every > 0 and round % every == 0)


@dataclass(frozen=True)
class Score:
    """Mean loss and the task's scores, float64; per client if given for clients. `sums` is what the scores are made of.

    A share is the count over the number, exactly (12 of 100 are 0.12). Where the loss is not finite there are no
    scores: a network whose outputs are no numbers would "predict" its first class.
    """

    loss: Tensor
    scores: dict[str, Tensor]
    sums: dict[str, Tensor] = field(default_factory=dict)

    @property
    def accuracy(self) -> Tensor:
        """The score of that name."""
        return self.scores["accuracy"]

    @classmethod
    def of(cls, sums: Mapping[str, Tensor], count: int | Tensor, task: Task | None = None) -> Score:
        """From sums over samples: that of the losses, "loss", and those of the task's counts; of scores without one."""
        counts = {name: value.double() for name, value in sums.items()}
        loss = counts.pop("loss") / count
        scores = {k: v / count for k, v in counts.items()} if task is None else task.measures(counts, count)
        return cls(
            loss, {name: torch.where(loss.isfinite(), value, torch.nan) for name, value in scores.items()}, counts
        )


def score(cohort: Cohort, params: Params, index: Tensor, batch_size: int) -> Score:
    """Score `params` on the samples `index`, in order, in batches of `batch_size`.

    On a GPU more at a time, where that changes nothing but how outputs round.
    """
    size = min(max(batch_size, cohort.filling), len(index) or 1)
    scored = _scored(cohort, params, [(part, {}) for part in index.split(size)])
    sums = {name: sum((part[name] for part in scored[1:]), scored[0][name]) for name in scored[0]}
    return Score.of(sums, len(index), cohort.task)


def _sums(task: Task, outputs: Tensor, labels: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Of losses and counts over the samples of weight 1."""
    each = {"loss": task.losses(outputs, labels), **task.counts(outputs, labels)}
    if weight is not None:  # where, not only times: an overflow on a padded sample must not become 0 * inf
        kept = {value.dim(): (weight > 0).reshape(-1, *[1] * (value.dim() - 1)) for value in each.values()}
        each = {name: torch.where(kept[value.dim()], value, torch.zeros_like(value)) for name, value in each.items()}
    return {name: value.double().sum(0) for name, value in each.items()}


def score_holdout(cohort: Cohort, params: Params, batch_size: int) -> Score:
    """Score on the whole global test set."""
    return score(cohort, params, torch.cat(holdout_lots(cohort.data, batch_size)), batch_size)


def holdout_lots(data: FederatedDataset, batch_size: int) -> tuple[Tensor, ...]:
    """The batches in which the holdout is scored."""
    return _shuffled(data.holdout, batch_size, "holdout order")


def _shuffled(index: Tensor, batch_size: int, *name: str | int) -> tuple[Tensor, ...]:
    """Batches of a set in the fixed order of that name."""
    order = torch.from_numpy(stream(0, *name).permutation(len(index))).to(index.device)
    return index[order].split(batch_size)


def client_lots(data: FederatedDataset, client: int, bn_eval: str) -> tuple[Tensor, ...]:
    """The batches in which a client's test set is scored."""
    return data.test[client].split(CUT) if bn_eval == "batch128" else (data.test[client],)


def score_unseen(cohort: Cohort, params: Params, batch_size: int) -> Score:
    """Score on each group of images that no client trains on, in the data's order; in batches as the holdout is."""
    groups = list(cohort.data.unseen.values())
    lots = [_shuffled(group, batch_size, "unseen order", place) for place, group in enumerate(groups)]
    scored = _scored(cohort, params, [(lot, {}) for parts in lots for lot in parts])
    return _by_owner(cohort.task, scored, lots, groups)


def score_clients(
    cohort: Cohort,
    params: Params,
    clients: Sequence[int],
    bn_eval: str = "client",
    own: Params | None = None,
    budget: int = 2**13,
) -> Score:
    """Score each of `clients` on its own test set; `own` holds parameters with a leading axis over `clients`.

    Returns losses and scores [clients]; nan for a client without test samples.
    """
    own = own or {}
    lots = [client_lots(cohort.data, client, bn_eval) for client in clients]
    flat = [(row, lot) for row, parts in enumerate(lots) for lot in parts]
    if cohort.batched and mappable(cohort.model):
        owner = torch.tensor([row for row, _ in flat])
        scored = _scored_stacked(cohort, params, [lot for _, lot in flat], owner, own, budget)
    else:
        scored = _scored(
            cohort, params, [(lot, {name: value[row] for name, value in own.items()}) for row, lot in flat]
        )
    return _by_owner(cohort.task, scored, lots, [cohort.data.test[client] for client in clients])


def _by_owner(
    task: Task, scored: Sequence[dict[str, Tensor]], lots: Sequence[Sequence[Tensor]], sets: Sequence[Tensor]
) -> Score:
    """The scores of sets of samples, from sums over the lots of each; `scored` has those of all lots in order."""
    owner = torch.tensor([place for place, parts in enumerate(lots) for _ in parts])

    def total(name: str) -> Tensor:  # on the CPU: a GPU would add up in any order
        shape = scored[0][name].shape[scored[0]["loss"].dim() :]  # of one lot: some come alone, some stacked
        sums = torch.cat([part[name].reshape(-1, *shape) for part in scored]).cpu().double()
        return sums.new_zeros(len(sets), *shape).index_add_(0, owner, sums)

    counts = torch.tensor([len(index) for index in sets])
    return Score.of({name: total(name) for name in scored[0]}, counts, task)


def right_ones(cohort: Cohort, params: Params, index: Tensor, bn_eval: str = "client") -> Tensor:
    """Whether `params` have each of a client's test samples right, bool [samples]; in the lots of `score_clients`."""
    data = cohort.data
    lots = index.split(CUT) if bn_eval == "batch128" else (index,)
    with cohort.precise():
        outputs = [logits(cohort.model, params, data.prepared(lot)) for lot in lots]
    return cohort.task.accuracy(torch.cat(outputs), data.targets(index), "whether samples are right") > 0


def _scored(cohort: Cohort, params: Params, lots: Sequence[tuple[Tensor, Params]]) -> list[dict[str, Tensor]]:
    """Sums of losses and scores over each lot, samples and parameters of its own."""
    data = cohort.data
    layout = torch.channels_last if cohort.channels_last else torch.contiguous_format
    shared = {name: laid_out(value, layout) for name, value in params.items()}

    @torch.no_grad()  # which holds for a thread, and this runs on several
    def scored(model: Model, lot: tuple[Tensor, Params]) -> dict[str, Tensor]:
        index, own = lot
        kept = {name: laid_out(value, layout) for name, value in own.items()}
        outputs = logits(model, {**shared, **kept}, laid_out(data.prepared(index), layout))
        return _sums(cohort.task, outputs, data.targets(index))

    return list(cohort.side_by_side(scored, lots, "score"))


@computing_with(1)
@torch.no_grad()
def _scored_stacked(
    cohort: Cohort, params: Params, lots: Sequence[Tensor], owner: Tensor, own: Params, budget: int
) -> list[dict[str, Tensor]]:
    """As `_scored`, with many lots in one batch; `owner` [lots] are rows of `own`."""
    data, model = cohort.data, cohort.model
    shared = {name: value for name, value in params.items() if name not in own}

    def sums(kept: Params, images: Tensor, labels: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return _sums(cohort.task, logits(model, {**shared, **kept}, images, weight), labels, weight)

    with cohort.precise(), plain_attention():
        return [
            torch.func.vmap(sums)(kept, data.prepared(index), data.targets(index), weight)
            for _, kept, index, weight in rectangles(lots, owner, own, budget)
        ]


def rectangles(
    lots: Sequence[Tensor], owner: Tensor, own: Params, budget: int
) -> Iterator[tuple[slice, Params, Tensor, Tensor]]:
    """Lots of samples as rectangles for `vmap`, some lots at a time.

    Args:
        lots: indices of each lot's samples.
        owner: [lots] whose each is, a row of `own`.
        own: parameters with a leading axis.
        budget: samples at a time, if a lot is not larger.

    Yields:
        Which lots; their owners' parameters; their indices [lots, longest]; and weights, 1 for a sample and 0 for a
        place that only fills up.
    """
    device = lots[0].device
    counts, whose = torch.tensor([len(lot) for lot in lots], device=device), owner.to(device)
    longest = max(1, max(len(lot) for lot in lots))
    copied = sum(value[0].numel() * value.element_size() for value in own.values())
    size = max(1, min(budget // longest, MOST_COPIED // max(1, copied)))
    for start in range(0, len(lots), size):
        here = slice(start, start + size)
        index = torch.nn.utils.rnn.pad_sequence(list(lots[here]), batch_first=True)
        weight = (torch.arange(index.shape[1], device=device) < counts[here, None]).float()
        yield here, {name: value[whose[here]] for name, value in own.items()}, index, weight
