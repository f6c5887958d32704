"""FedGAMMA: SCAFFOLD whose gradients are SAM's (Dai et al., IEEE TNNLS 2023, doi 10.1109/TNNLS.2023.3304453)."""

from __future__ import annotations

from typing import Literal

from ..algorithms import SAM, Local
from ..declare import setting
from .scaffold import SCAFFOLD


class FedGAMMA(SCAFFOLD):
    """y -= lr (g_SAM(y) - c_i + c), with the control variates of SCAFFOLD, so of SAM's gradients by option II.

    With `local=SAM(rho=0)` it is SCAFFOLD, as SCAFFOLD with `local=SAM(rho)` is this.

    >>> fl.train(fl.FedGAMMA(local=fl.SAM(rho=0.1)), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedGAMMA"] = "FedGAMMA"  # type: ignore[assignment]  # a kind of its own, told apart by name
    local: Local = setting(SAM(), "how a local step gets its gradient")
