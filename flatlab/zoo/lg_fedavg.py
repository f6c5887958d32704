"""LG-FedAvg: local representations, a global head (Liang et al., 2001.01523)."""

from __future__ import annotations

from typing import Literal

from ..algorithms import Algorithm, Share
from ..declare import setting


class LGFedAvg(Algorithm):
    """Train everything, share the head; each client keeps its body. FedBABU's tables start it from a trained FedAvg.

    >>> "head.weight" in fl.train(fl.LGFedAvg(), data, "lenet", rounds=1).kept
    False
    """

    kind: Literal["LGFedAvg"] = "LGFedAvg"
    share: Share = setting("head", "the part that is sent and averaged")
