"""Plain scoring: loss and accuracy of weights on the holdout and on the clients' own sets, without augmentation.

Networks with batch statistics normalise with the statistics of the batch that is scored, so the batch belongs to the
protocol (FedBABU's official code does the same; the result is transductive). A client's set is one batch unless
`bn_eval="batch128"`, which cuts it into batches of 128 as the official code does; the holdout is scored in batches of
`batch_size` in a fixed shuffled order, so that a test set sorted by class does not make batches of one class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..algorithms import Params
from ..data import FederatedDataset
from ..declare import Declared, setting
from ..models import Model
from ..streams import stream
from .objective import logits

MOST_COPIED = 2**30  # bytes of clients' own parameters in one batch
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


class Score(NamedTuple):
    """Mean cross-entropy and share of correct predictions, float64; per client if given for clients.

    A share is the count over the number, exactly (12 of 100 are 0.12). Where the loss is not finite there is no share:
    a network whose outputs are no numbers would "predict" its first class.
    """

    loss: Tensor
    accuracy: Tensor


def score(
    model: Model, params: Params, data: FederatedDataset, index: Tensor, batch_size: int, channels_last: bool = False
) -> Score:
    """Score `params` on the samples `index`, in order, in batches of `batch_size`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if channels_last:
        params = {k: v.contiguous(memory_format=layout) if v.dim() == 4 else v for k, v in params.items()}
    lost: Tensor | float = 0.0
    right: Tensor | int = 0
    with torch.no_grad():
        for part in index.split(batch_size):
            images, labels = data.prepared(part), data.labels[part]
            outputs = logits(model, params, images.contiguous(memory_format=layout))
            lost = lost + F.cross_entropy(outputs, labels, reduction="sum").double()
            right = right + (outputs.argmax(1) == labels).sum()
    return _score(torch.as_tensor(lost), torch.as_tensor(right), len(index))


def score_holdout(
    model: Model, params: Params, data: FederatedDataset, batch_size: int, channels_last: bool = False
) -> Score:
    """Score on the whole global test set."""
    order = torch.from_numpy(stream(0, "holdout order").permutation(len(data.holdout))).to(data.holdout.device)
    return score(model, params, data, data.holdout[order], batch_size, channels_last)


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
) -> Score:
    """Score each of `clients` on its own test set; `own` holds parameters with a leading axis over `clients`.

    Returns losses and accuracies [clients]; nan for a client without test samples.
    """
    if batched:
        return _score_stacked(model, params, data, clients, bn_eval, own or {}, budget)
    found = []
    for row, client in enumerate(clients):
        mine = {name: value[row] for name, value in (own or {}).items()}
        index = data.test[client]
        size = CUT if bn_eval == "batch128" else max(1, len(index))
        found.append(score(model, {**params, **mine}, data, index, size, channels_last))
    return Score(*(torch.stack([value.cpu().double() for value in column]) for column in zip(*found, strict=True)))


def _score_stacked(
    model: Model,
    params: Params,
    data: FederatedDataset,
    clients: Sequence[int],
    bn_eval: str,
    own: Params,
    budget: int,
) -> Score:
    """Many clients in one batch."""
    shared = {name: value for name, value in params.items() if name not in own}
    tests = [data.test[client] for client in clients]
    lots = [test.split(CUT) if bn_eval == "batch128" else (test,) for test in tests]
    owner = torch.tensor([row for row, parts in enumerate(lots) for _ in parts])

    def one(mine: Params, images: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        outputs = logits(model, {**shared, **mine}, images, weight)
        kept = weight > 0
        each = F.cross_entropy(outputs, labels, reduction="none")
        lost = torch.where(kept, each, torch.zeros_like(each)).double().sum()
        return lost, ((outputs.argmax(1) == labels) & kept).sum()

    found = []
    with torch.no_grad():
        for _, mine, index, weight in rectangles([lot for parts in lots for lot in parts], owner, own, budget):
            found.append(torch.func.vmap(one)(mine, data.prepared(index), data.labels[index], weight))
    counts = torch.tensor([len(test) for test in tests])

    def total(values: Sequence[Tensor]) -> Tensor:  # on the CPU: a GPU would add up in any order
        sums = torch.zeros(len(tests), dtype=torch.float64)
        return sums.index_add_(0, owner, torch.cat(list(values)).cpu().double())

    lost, right = (total(column) for column in zip(*found, strict=True))
    return _score(lost, right, counts)


def _score(lost: Tensor, right: Tensor, count: int | Tensor) -> Score:
    loss = lost.double() / count
    return Score(loss, torch.where(loss.isfinite(), right.double() / count, torch.nan))


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
