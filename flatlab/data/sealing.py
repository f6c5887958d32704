"""What the fingerprint of federated data stands for, and whether they still are what it stands for."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..declare import SettingError
from ..digest import digest, own
from .given import indices_digest

if TYPE_CHECKING:
    from .federated import FederatedDataset


class Seal(NamedTuple):
    """The parts of data by identity, and how often torch had written into each: comparing them takes no time.

    Attributes:
        origin: fingerprint of the images.
        looks: what one sees of them: images, labels, masks, holdout, unseen groups, mean and std.
        held: train and test images of the clients.
        written: the counts of the tensors of looks, and of those held.
    """

    origin: str
    looks: tuple[Any, ...]
    held: tuple[Any, ...]
    written: tuple[tuple[int, ...], tuple[int, ...]]


def sealed(data: FederatedDataset) -> Seal:
    """The seal of data as they are; where `dataclasses.replace` was given other parts, they get another fingerprint."""
    looks = (data.images, data.labels, data.masks, data.holdout, data.unseen, data.mean, data.std)
    now = Seal(data.origin, looks, (data.train, data.test), _written(data))
    before = data.seal
    if before is None or _equal(before, now):
        return now
    if before.origin == now.origin and not (_same(before.looks, looks) and before.written[0] == now.written[0]):
        now = now._replace(origin=_digest(*looks))
        object.__setattr__(data, "origin", now.origin)
    object.__setattr__(data, "changed", True)
    object.__setattr__(data, "spec", data.spec.replace(fingerprint=data.fingerprint))
    return now


def check_unchanged(data: FederatedDataset) -> None:
    """Refuse data into whose tensors somebody wrote: they are no longer those that their fingerprint stands for.

    Raises:
        SettingError: saying how to change data.
    """
    if data.seal is not None and data.seal.written != _written(data):
        told = "was written into since it was made; give another a copy, as dataclasses.replace(data, labels=changed)"
        raise SettingError("data", data.spec.name, told)


def fingerprint(data: FederatedDataset) -> str:
    """Stands for images, labels and who holds them; of a partition of one's own also for what is scored."""
    held = indices_digest(*([part.cpu().numpy() for part in parts] for parts in (data.train, data.test)))
    scored = f" {_digest(data.holdout, data.unseen)}" if own(type(data.spec.partition)) else ""
    return hashlib.blake2b(f"{data.origin} {held}{scored}".encode(), digest_size=16).hexdigest()


def written(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    """How often torch has written into each."""
    return tuple(0 if part is None or part.is_inference() else part._version for part in tensors)


def content(data: FederatedDataset) -> str:
    """Stands for all of them as they are, whatever their origin says; the same on every device."""
    return _digest(*data.seal.looks, *data.seal.held) if data.seal else ""


def _digest(*looks: Any) -> str:
    """The same on every device."""

    def here(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: value.cpu() for name, value in part.items()}
        if isinstance(part, (tuple, list)):
            return [here(value) for value in part]
        return part.cpu() if isinstance(part, Tensor) else part

    return digest(*map(here, looks))


def _written(data: FederatedDataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
    looks = (data.images, data.labels, data.masks, data.holdout, *data.unseen.values())
    return written(looks), written((*data.train, *data.test))


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return all(map(operator.is_, before, now))


def _equal(before: Seal, now: Seal) -> bool:
    alike = before.origin == now.origin and before.written == now.written
    return alike and _same(before.looks, now.looks) and _same(before.held, now.held)
