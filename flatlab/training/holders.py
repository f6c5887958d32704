"""Who trains on which samples: clients on what they hold and on what is public, the server on its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..algorithms import Algorithm, FedAvg
from ..streams import stream


def at_server(algorithm: Algorithm, train: Sequence[Tensor], seed: int) -> Tensor:
    """The training samples that the server holds; they stay with their clients, too."""
    pool = torch.cat(list(train))
    if algorithm.server_data is None:
        return pool[:0]
    size = max(1, int(algorithm.server_data.share * len(pool)))
    return pool[torch.from_numpy(stream(seed, "server data").choice(len(pool), size, replace=False))]


def holders(algorithm: Algorithm, train: Sequence[Tensor], public: Tensor) -> tuple[Tensor, ...]:
    """What each client trains on: with pooled data there is one."""
    if algorithm.pooled:
        return (torch.cat(list(train)),)
    if algorithm.server_data is None or not algorithm.server_data.clients:
        return tuple(train)
    return tuple(torch.cat([part, public]).unique() for part in train)


def servers_own(algorithm: Algorithm) -> Algorithm:
    """How the server trains for an epoch: only what its steps need, no client's memory, no words to clients."""
    settings = {name: getattr(algorithm, name) for name in Algorithm.model_fields if name != "kind"}
    changes = {"epochs": 1, "mu": 0.0, "keep_momentum": False, "local_steps": None}
    return cast(Algorithm, FedAvg.from_dict(settings | changes))
