"""Plain scoring: loss and accuracy of weights on the holdout and on the clients' own sets, without augmentation.

Networks with batch statistics normalise with the statistics of the batch that is scored, so the batch belongs to the
protocol (FedBABU's official code does the same; the result is transductive). A client's set is one batch unless
`bn_eval="batch128"`, which cuts it into batches of 128 as the official code does; the holdout is scored in batches of
`batch_size` in a fixed shuffled order, so that a test set sorted by class does not make batches of one class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..algorithms import Params
from ..data import FederatedDataset
from ..declare import Declared, setting
from ..models import Model
from ..streams import stream
from ..tasks import Classification, Task
from .objective import logits

MOST_COPIED = 2**30  # bytes of clients' own parameters in one batch
CLASSIFICATION = Classification()
CUT = 128  # samples of a client's test set in a batch under "batch128"


class Evaluation(Declared):
    """What is scored, and when. The last round is scored in any case, unless `final` says otherwise."""

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
    """Mean loss and means of the task's scores, float64; per client if given for clients.

    A share is the count over the number, exactly (12 of 100 are 0.12). Where the loss is not finite there are no
    scores: a network whose outputs are no numbers would "predict" its first class.
    """

    loss: Tensor
    scores: dict[str, Tensor]

    @property
    def accuracy(self) -> Tensor:
        """The score of that name."""
        return self.scores["accuracy"]

    @classmethod
    def of(cls, sums: Mapping[str, Tensor], count: int | Tensor) -> Score:
        """From sums over samples: that of the losses, "loss", and those of the scores."""
        means = {name: value.double() / count for name, value in sums.items()}
        loss = means.pop("loss")
        return cls(loss, {name: torch.where(loss.isfinite(), value, torch.nan) for name, value in means.items()})


def score(
    model: Model,
    params: Params,
    data: FederatedDataset,
    index: Tensor,
    batch_size: int,
    channels_last: bool = False,
    task: Task = CLASSIFICATION,
) -> Score:
    """Score `params` on the samples `index`, in order, in batches of `batch_size`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if channels_last:
        params = {k: v.contiguous(memory_format=layout) if v.dim() == 4 else v for k, v in params.items()}
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for part in index.split(batch_size):
            images, labels = data.prepared(part), data.labels[part]
            outputs = logits(model, params, images.contiguous(memory_format=layout))
            for name, value in _sums(task, outputs, labels).items():
                sums[name] = sums[name] + value if name in sums else value
    return Score.of(sums, len(index))


def _sums(task: Task, outputs: Tensor, labels: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Of losses and scores over the samples of weight 1."""
    each = {"loss": task.losses(outputs, labels), **task.scores(outputs, labels)}
    if weight is not None:  # where, not only times: an overflow on a padded sample must not become 0 * inf
        each = {name: torch.where(weight > 0, value, torch.zeros_like(value)) for name, value in each.items()}
    return {name: value.double().sum() for name, value in each.items()}


def score_holdout(
    model: Model,
    params: Params,
    data: FederatedDataset,
    batch_size: int,
    channels_last: bool = False,
    task: Task = CLASSIFICATION,
) -> Score:
    """Score on the whole global test set."""
    order = torch.from_numpy(stream(0, "holdout order").permutation(len(data.holdout))).to(data.holdout.device)
    return score(model, params, data, data.holdout[order], batch_size, channels_last, task)


def score_clients(
    model: Model,
    params: Params,
    data: FederatedDataset,
    clients: Sequence[int],
    bn_eval: str = "client",
    own: Params | None = None,
    channels_last: bool = False,
    batched: bool = False,
    budget: int = 2**13,
    task: Task = CLASSIFICATION,
) -> Score:
    """Score each of `clients` on its own test set; `own` holds parameters with a leading axis over `clients`.

    Returns losses and scores [clients]; nan for a client without test samples.
    """
    if batched:
        return _score_stacked(model, params, data, clients, bn_eval, own or {}, budget, task)
    found = []
    for row, client in enumerate(clients):
        mine = {name: value[row] for name, value in (own or {}).items()}
        index = data.test[client]
        size = CUT if bn_eval == "batch128" else max(1, len(index))
        found.append(score(model, {**params, **mine}, data, index, size, channels_last, task))

    def column(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([value.cpu() for value in values])

    names = found[0].scores if found else {}
    scores = {name: column(client.scores[name] for client in found) for name in names}
    return Score(column(client.loss for client in found), scores)


def _score_stacked(
    model: Model,
    params: Params,
    data: FederatedDataset,
    clients: Sequence[int],
    bn_eval: str,
    own: Params,
    budget: int,
    task: Task,
) -> Score:
    """Many clients in one batch."""
    shared = {name: value for name, value in params.items() if name not in own}
    tests = [data.test[client] for client in clients]
    lots = [test.split(CUT) if bn_eval == "batch128" else (test,) for test in tests]
    owner = torch.tensor([row for row, parts in enumerate(lots) for _ in parts])

    def sums(mine: Params, images: Tensor, labels: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return _sums(task, logits(model, {**shared, **mine}, images, weight), labels, weight)

    found = []
    with torch.no_grad():
        for _, mine, index, weight in rectangles([lot for parts in lots for lot in parts], owner, own, budget):
            found.append(torch.func.vmap(sums)(mine, data.prepared(index), data.labels[index], weight))
    counts = torch.tensor([len(test) for test in tests])

    def total(values: Sequence[Tensor]) -> Tensor:  # on the CPU: a GPU would add up in any order
        sums = torch.zeros(len(tests), dtype=torch.float64)
        return sums.index_add_(0, owner, torch.cat(list(values)).cpu().double())

    return Score.of({name: total([part[name] for part in found]) for name in found[0]}, counts)


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
