"""Batches of one sample, which batch statistics make meaningless: who has them, said where they are made.

Normalised with itself alone, a sample's output depends on it little, or not at all where a map has one pixel left. What
is scored there (a test set of one image, or what "batch128" leaves over) or learned there (the last batch of an epoch)
is no property of the model. GroupNorm does not look at the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from ..data import FederatedDataset
from ..declare import tell
from ..models import BatchStatNorm
from .evaluate import CUT, Evaluation

REMEDY = (
    "normalised with itself alone, a sample's output says little of it or nothing; GroupNorm does not depend on the"
    ' batch: ModelSpec(norm="group")'
)


def by_batch(model: nn.Module) -> bool:
    """Whether a network normalises with the statistics of the batch at hand."""
    return any(isinstance(layer, BatchStatNorm) for layer in model.modules())


def lone_tests(data: FederatedDataset, evaluation: Evaluation) -> list[int]:
    """Clients whose test set is one image, or ends in a batch of one."""
    cut = CUT if evaluation.bn_eval == "batch128" else None
    return [client for client, part in enumerate(data.test) if _ends_alone(len(part), cut)]


def tell_lone(
    model: nn.Module,
    data: FederatedDataset,
    evaluation: Evaluation,
    batch_size: int,
    held: Sequence[int],
    *,
    clients: Iterable[int] | None = None,
    holdout: bool = False,
) -> list[int]:
    """Warn of batches of one sample, if the network normalises with batch statistics.

    Args:
        model: the network.
        data: what the clients hold.
        evaluation: how they are scored.
        batch_size: of training.
        held: how many samples each of those who train holds.
        clients: who is scored; None is all.
        holdout: whether the holdout is scored, too.

    Returns:
        The clients whose score rests on a batch of one.
    """
    if not by_batch(model):
        return []
    asked = set(range(data.clients) if clients is None else clients)
    tests = [client for client in lone_tests(data, evaluation) if client in asked]
    said = []
    if tests:
        said.append(f"the test sets of {len(tests)} of {len(asked)} clients ({_listed(tests)}) are or end in one image")
    steps = sum(_ends_alone(count, batch_size) for count in held)
    if steps:
        said.append(f"epochs of {steps} of {len(held)} clients end in a training batch of one sample")
    if holdout and _ends_alone(len(data.holdout), evaluation.batch_size):
        said.append(f"the holdout ends in a batch of one (evaluation.batch_size = {evaluation.batch_size})")
    groups = sum(_ends_alone(len(part), evaluation.batch_size) for part in data.unseen.values()) if holdout else 0
    if groups:
        said.append(f"{groups} of {len(data.unseen)} unseen groups are or end in one image")
    if said:
        tell(f"{'; '.join(said)}: {REMEDY}")
    return tests


def _ends_alone(count: int, batch: int | None) -> bool:
    return count == 1 if batch is None else count > 0 and (batch == 1 or count % batch == 1)


def _listed(clients: Sequence[int]) -> str:
    return ", ".join(map(str, clients[:5])) + (", ..." if len(clients) > 5 else "")
