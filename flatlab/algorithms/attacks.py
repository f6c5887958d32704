"""Clients that lie: what they send in place of their updates (`Forgery`), what they train on (`Poison`).

Messages are updates D_k = w_k - w as vectors. A forger knows the honest updates of its round (it is omniscient), whose
mean is mu and whose standard deviation, coordinate by coordinate with n - 1, is sigma. Poison changes the images
themselves once, before training, so every engine trains on it at full speed.

Your own: subclass `Forgery` or `Poison`, give it a `kind`, define `forge` or `apply`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..declare import Family, SettingError, setting
from .aggregation import squared_distances


class Forgery(Family):
    """What bad clients send in place of their updates."""

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """The messages of the bad clients of a round, [number of bad ones, d].

        Args:
            updates: [n, d] of all its clients, as local training gave them.
            bad: bool [n], who lies; somebody does.
            pull: [n] how far an update moves the global model: the server's rate times the client's share of the mean
                (by samples, where the aggregation decides only when it has seen all).
            rng: for what is drawn.
        """
        raise NotImplementedError


class SignFlip(Forgery):
    """- scale D_k.

    >>> updates, bad = torch.tensor([[1.0], [2.0]]), torch.tensor([False, True])
    >>> fl.attacks.SignFlip(scale=3.0).forge(updates, bad, pull=torch.full((2,), 0.5), rng=None)
    tensor([[-6.]])
    """

    kind: Literal["sign_flip"] = "sign_flip"
    scale: float = setting(1.0, "length of the message, in lengths of the client's own update", gt=0, span=(1, 10))

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """Each its own, backwards."""
        return -self.scale * updates[bad]


class Noise(Forgery):
    """Normal noise whose standard deviation is `scale` times the root mean square of the client's own update.

    >>> updates, bad = torch.ones(2, 4), torch.tensor([False, True])
    >>> fl.attacks.Noise().forge(updates, bad, torch.full((2,), 0.5), np.random.default_rng(0)).shape
    torch.Size([1, 4])
    """

    kind: Literal["noise"] = "noise"
    scale: float = setting(1.0, "standard deviation, in root mean squares of the client's own update", gt=0)

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """Each its own draw."""
        return _noise(updates[bad], self.scale * updates[bad].square().mean(1, keepdim=True).sqrt(), rng)


class IPM(Forgery):
    """- scale mu: inner product manipulation (Xie et al., 1903.03936).

    >>> updates, bad = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([False, False, True])
    >>> fl.attacks.IPM(scale=0.5).forge(updates, bad, pull=torch.full((3,), 1 / 3), rng=None)
    tensor([[-1.]])
    """

    kind: Literal["ipm"] = "ipm"
    scale: float = setting(1.0, "length of the message, in lengths of the honest mean", gt=0, span=(0.1, 10))

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """All the same."""
        return _together(-self.scale * _honest(updates, bad).mean(0), bad)


class ALIE(Forgery):
    """mu - z sigma: a little is enough (Baruch et al., 1902.06156).

    With b bad ones among n: z = Phi^-1((n - b - q) / (n - b)), q = floor(n / 2 + 1) - b supporters that are needed for
    a majority (at least one). For (n, b) = (10, 2) that is 0, no attack.

    >>> round(fl.attacks.ALIE().shift(50, 12), 4)
    0.336
    """

    kind: Literal["alie"] = "alie"
    z: float | None = setting(None, "standard deviations by which to leave the mean; none: by the formula", ge=0)

    def shift(self, clients: int, bad: int) -> float:
        """Z."""
        if self.z is not None:
            return self.z
        honest = clients - bad
        if honest < 2:
            return 0.0
        supporters = max(clients // 2 + 1 - bad, 1)
        return float(torch.special.ndtri(torch.tensor((honest - supporters) / honest, dtype=torch.float64)))

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """All the same."""
        honest = _honest(updates, bad)
        return _together(honest.mean(0) - self.shift(len(bad), int(bad.sum())) * _spread(honest), bad)


class MinMax(Forgery):
    """mu - g u with the largest g that is no further from any honest update than these are from one another
    (Shejwalkar & Houmansadr, NDSS 2021): max_k ||m - D_k|| <= max_kl ||D_k - D_l||, solved exactly.

    >>> updates, bad = torch.tensor([[0.0], [2.0], [7.0]]), torch.tensor([False, False, True])
    >>> fl.attacks.MinMax(direction="unit").forge(updates, bad, pull=torch.full((3,), 1 / 3), rng=None)
    tensor([[0.]])
    """

    kind: Literal["min_max"] = "min_max"
    direction: Literal["unit", "sign", "std"] = setting("std", "u: mu / ||mu||, the sign of mu, or sigma")

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """All the same."""
        honest = _honest(updates, bad).double()
        mean = honest.mean(0)
        if self.direction == "std":
            away = _spread(honest)
        else:
            away = mean.sign() if self.direction == "sign" else mean / mean.norm().clamp(min=1e-300)
        reach = squared_distances({"": honest}).max()
        offset = mean - honest  # ||offset_k - g u||^2 <= reach for all k
        square, along, free = away.square().sum(), offset @ away, (reach - offset.square().sum(1)).clamp(min=0)
        furthest = ((along + (along.square() + square * free).sqrt()) / square.clamp(min=1e-300)).min()
        return _together((mean - furthest * away).to(updates.dtype), bad)


class Replacement(Forgery):
    """boost D_k, so that the global model becomes the attackers' own (Bagdasaryan et al., 1807.00459).

    By default boost = 1 / (the bad ones' share of the mean x the server's rate): where the honest updates cancel out,
    the next global model is the mean of the bad clients' models.

    >>> updates, bad = torch.tensor([[1.0], [-1.0], [2.0]]), torch.tensor([False, False, True])
    >>> fl.attacks.Replacement().forge(updates, bad, pull=torch.full((3,), 0.25), rng=None)
    tensor([[8.]])
    """

    kind: Literal["replacement"] = "replacement"
    boost: float | None = setting(None, "factor of the update; none: what replaces the global model", gt=0)

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """Each its own, enlarged."""
        boost = 1 / pull[bad].sum() if self.boost is None else self.boost
        return boost * updates[bad]


class Lazy(Forgery):
    """Free riders, which send back what they received (an update of 0), disguised by noise if asked
    (Fraboni et al., 2006.11901).

    >>> updates, bad = torch.tensor([[1.0], [2.0]]), torch.tensor([False, True])
    >>> fl.attacks.Lazy().forge(updates, bad, pull=torch.full((2,), 0.5), rng=None)
    tensor([[0.]])
    """

    kind: Literal["lazy"] = "lazy"
    noise: float = setting(0.0, "standard deviation, in root mean squares of the honest mean update", ge=0)

    def forge(self, updates: Tensor, bad: Tensor, pull: Tensor, rng: np.random.Generator) -> Tensor:
        """Nothing, or noise."""
        nothing = torch.zeros_like(updates[bad])
        if not self.noise:
            return nothing
        return _noise(nothing, self.noise * _honest(updates, bad).mean(0).square().mean().sqrt(), rng)


class Poison(Family):
    """What bad clients do to their images and labels."""

    share: float = setting(1.0, "share of a bad client's train images that it poisons", gt=0, le=1)

    def apply(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """All these images and labels, poisoned; those given stay as they are.

        Args:
            images: uint8 [n, C, H, W].
            labels: int64 [n].
            classes: how many there are.
        """
        raise NotImplementedError


class LabelFlip(Poison):
    """Other labels on the same images: y becomes classes - 1 - y, or `source` becomes `target`.

    >>> images, labels = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 9])
    >>> fl.attacks.LabelFlip().apply(images, labels, classes=10)[1]
    tensor([9, 8, 0])
    """

    kind: Literal["label_flip"] = "label_flip"
    source: int | None = setting(None, "the class whose label changes; none: all, to classes - 1 - label", ge=0)
    target: int | None = setting(None, "the label that it gets; needed with source", ge=0)

    def apply(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Labels alone change."""
        if (self.source is None) != (self.target is None):
            raise SettingError("LabelFlip.target", self.target, "give source and target, or neither")
        if self.source is None or self.target is None:
            return images, classes - 1 - labels
        _class(self, max(self.source, self.target), classes)
        return images, torch.where(labels == self.source, self.target, labels)


class Patch(Poison):
    """A bright square near the lower right corner, and the label `target` (BadNets; Gu et al., 1708.06733).

    A random crop may cut what is nearer to the edge than its padding, 4 by default: hence `margin`.

    >>> images, labels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor([5])
    >>> poisoned, labels = fl.attacks.Patch(size=2, margin=1).apply(images, labels, classes=10)
    >>> poisoned[0, 0, 4:, 4:].tolist(), labels
    ([[0, 0, 0, 0], [0, 255, 255, 0], [0, 255, 255, 0], [0, 0, 0, 0]], tensor([0]))
    """

    kind: Literal["patch"] = "patch"
    share: float = setting(0.5, "share of a bad client's train images that it poisons", gt=0, le=1)
    target: int = setting(0, "the label of images with the patch", ge=0)
    size: int = setting(3, "side of the square", ge=1, unit="pixels")
    value: int = setting(255, "its brightness, in all channels", ge=0, le=255)
    margin: int = setting(4, "distance from the lower and the right edge", ge=0, unit="pixels")

    def apply(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Images and labels change."""
        height, width = images.shape[-2:]
        far = self.size + self.margin
        if far > min(height, width):
            told = f"with margin = {self.margin} it does not fit into images of {height} x {width}"
            raise SettingError("Patch.size", self.size, told)
        _class(self, self.target, classes)
        marked = images.clone()
        marked[..., height - far : height - self.margin, width - far : width - self.margin] = self.value
        return marked, torch.full_like(labels, self.target)


def _class(poison: Poison, label: int, classes: int) -> None:
    if label >= classes:
        raise SettingError(f"{type(poison).__name__}.target", label, f"needs a class, 0 to {classes - 1}")


def _honest(updates: Tensor, bad: Tensor) -> Tensor:
    """The honest updates; in a round of bad clients alone, what these would have sent."""
    return updates if bad.all() else updates[~bad]


def _spread(honest: Tensor) -> Tensor:
    return honest.std(0) if len(honest) > 1 else torch.zeros_like(honest[0])


def _together(message: Tensor, bad: Tensor) -> Tensor:
    """One message of all bad clients."""
    return message.expand(int(bad.sum()), -1)


def _noise(like: Tensor, scale: Tensor, rng: np.random.Generator) -> Tensor:
    return scale * torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=np.float32)).to(like)
