"""Parts of a network by name, and training data that the server holds: for itself, or for everybody."""

from __future__ import annotations

from typing import Literal

from ..declare import Declared, setting

# See `flatlab.models.names`; of all a-b those that have no shorter name.
Part = Literal[
    "all", "body", "head", "norms", "context",
    "all-norms", "all-context", "body-norms", "head-norms", "head-context",
]  # fmt: skip
Share = Literal[Part, "none"]


class ServerData(Declared):
    """The server owns a share of the training data and trains on it for an epoch after each aggregation.

    Source: FedBABU, Table 2. The server's samples stay with their clients too, as in the official code. Public
    samples: Zhao et al. (1806.00582), `ServerData(share=0.05, train="none", clients=True)`.

    >>> helped = fl.FedBABU(server_data=fl.ServerData(share=0.1, train="all"))
    >>> fl.train(helped, data, "lenet", rounds=1).round
    1
    """

    share: float = setting(0.1, "fraction of all training samples that the server holds", gt=0, le=1)
    train: Share = setting("all", "the part that the server trains; none: it only gives samples to clients")
    clients: bool = setting(
        False,
        "whether its samples are public: clients train on them, too, and count by all they have",
        new=True,
    )
