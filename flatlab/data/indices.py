"""Who holds which images, as rules and files give it: what does not fit is refused by client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..declare import SettingError


def checked_parts(where: str, given: Any, total: int, clients: int | None, disjoint: bool = False) -> list[np.ndarray]:
    """What a rule of one's own gave, as sorted int64 arrays.

    Args:
        where: the rule, for errors.
        given: the images of each client.
        total: images of the set.
        clients: how many there must be; None: any number.
        disjoint: no image may be held twice.

    Raises:
        SettingError: if it is something else, naming the client.
    """
    if not isinstance(given, Sequence | np.ndarray):
        raise SettingError(f"{where} returned {type(given).__name__}", allowed="needs a list, an array for each client")
    if clients is not None and len(given) != clients:
        raise SettingError(f"{where} returned {len(given)} parts", allowed=f"needs {clients}, one for each client")
    parts = [np.asarray(part) for part in given]
    for client, part in enumerate(parts):
        if len(part.shape) != 1 or (part.size and part.dtype.kind not in "iu"):
            kind = f"{part.dtype} {[*part.shape]}" if part.ndim else type(given[client]).__name__
            raise SettingError(f"{where}, client {client}: {kind}", allowed=f"needs indices in 0..{total - 1}")
    parts = [np.sort(part.astype(np.int64)) for part in parts]
    check_indices(parts, total, where, disjoint)
    return parts


def check_indices(parts: Sequence[np.ndarray], total: int, where: str, disjoint: bool = False) -> None:
    """Refuse indices outside 0..total-1, an image twice in a client, or (if `disjoint`) in two clients.

    Raises:
        SettingError: naming the client or the image.
    """
    for client, part in enumerate(parts):
        if part.ndim != 1 or (len(part) and not 0 <= part.min() <= part.max() < total):
            raise SettingError(f"{where}, client {client}", allowed=f"needs a list of indices in 0..{total - 1}")
        if len(np.unique(part)) < len(part):
            raise SettingError(f"{where}, client {client}", allowed="holds an image twice")
    if disjoint and (held := np.bincount(np.concatenate([*parts, np.empty(0, np.int64)]), minlength=1)).max() > 1:
        raise SettingError(where, allowed=f"image {held.argmax()} is held by {held.max()} clients; at most one may")
