"""What methods that correct the clients' drift share: they correct what clients send, and nothing that these keep."""

from __future__ import annotations

from ..algorithms import Algorithm, Params
from ..declare import SettingError
from .perturbing import check_server, refuse_unsent, zeros


def sent(algorithm: Algorithm, trained: Params) -> Params:
    """The trained parameters that clients send.

    A correction makes the clients' steps agree on one optimum. A part that stays with a client has an optimum of its
    own: corrected towards the others' it would not get there.

    Raises:
        SettingError: if that is nothing.
    """
    whole = algorithm.share == "all"
    part = {name: value for name, value in trained.items() if whole or name.partition(".")[0] == algorithm.share}
    if not part:
        refuse_unsent(algorithm)
    return part


def no_correction(algorithm: Algorithm, trained: Params) -> Params:
    """Zeros for what clients send."""
    return zeros(sent(algorithm, trained))


def check_sent(algorithm: Algorithm) -> None:
    """Refuse parts that the names of parameters do not tell, and clients that send nothing.

    Raises:
        SettingError: naming `share`.
    """
    check_server(algorithm)
    if algorithm.share not in ("all", "body", "head"):
        told = f"{algorithm.kind} corrects what clients send; share 'all', 'body' or 'head'"
        raise SettingError("share", algorithm.share, told)
