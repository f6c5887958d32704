"""What is wrong outside the algorithm: clients that lie."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ..algorithms import Algorithm
from ..algorithms.attacks import Forgery, Poison
from ..arguments import checked
from ..data import FederatedDataset
from ..declare import Declared, SettingError, setting
from ..streams import stream


class Adversary(Declared):
    """Clients that poison their data, forge their messages, or both; chosen once for the whole run.

    floor(share x clients) of them are bad. With partial participation a round may have more of them than an aggregation
    stands: the history says by client who is (`bad`), and whom a robust rule heard (`weight`).

    >>> patch = fl.attacks.Patch(margin=0)
    >>> world = fl.World(adversary=fl.Adversary(share=0.25, data=patch, message=fl.attacks.Replacement()))
    >>> attacked = fl.train(fl.FedAvg(), data, "lenet", rounds=2, world=world)
    >>> len(attacked.bad), attacked.history.query("split == 'attack'")["metric"].tolist()
    (1, ['success', 'success'])
    """

    share: float = setting(0.2, "share of the clients that are bad", gt=0, lt=1)
    data: Poison | None = setting(None, "what they do to their train images and labels")
    message: Forgery | None = setting(None, "what they send in place of their updates")
    start: float = setting(0.0, "share of the rounds after which they begin; before it they are honest", ge=0, lt=1)
    stop: float = setting(1.0, "share of the rounds after which they are honest again", gt=0, le=1)

    def active(self, round: int, rounds: int) -> bool:
        """Whether they attack in `round` (from 0) of `rounds`."""
        return self.start * rounds <= round < self.stop * rounds

    def chosen(self, clients: int, seed: int) -> tuple[int, ...]:
        """Who is bad, ascending.

        Raises:
            SettingError: if nobody would be.
        """
        count = math.floor(self.share * clients + 1e-9)
        if not count:
            raise SettingError(
                "Adversary.share", self.share, f"of {clients} clients is nobody; needs {1 / clients:.2g}"
            )
        return tuple(sorted(stream(seed, "adversaries").choice(clients, count, replace=False).tolist()))


class World(Declared):
    """What goes wrong around the algorithm; by default nothing.

    >>> fl.World(adversary=fl.Adversary(message="lazy")).adversary.message
    Lazy()
    """

    adversary: Adversary | None = setting(None, "clients that lie")

    def check(self, algorithm: Algorithm) -> None:
        """Refuse what cannot be.

        Raises:
            SettingError: naming the setting.
        """
        adversary = self.adversary
        if adversary is None:
            return
        if adversary.data is None and adversary.message is None:
            raise SettingError(
                "world.adversary", allowed="does nothing; give data (a poison), message (a forgery), or both"
            )
        if adversary.start >= adversary.stop:
            raise SettingError("world.adversary.stop", adversary.stop, f"must exceed start = {adversary.start}")
        if algorithm.pooled:
            raise SettingError("world.adversary", allowed="there are no clients to be bad with pooled = True")
        if adversary.message is not None and algorithm.share == "none":
            raise SettingError("world.adversary.message", adversary.message, "nothing is sent with share = 'none'")
        if adversary.message is not None and algorithm.topology is not None:
            told = "over a topology models are averaged, no updates are sent; attack data instead"
            raise SettingError("world.adversary.message", adversary.message, told)


def poisoned(data: FederatedDataset, poison: Poison, bad: tuple[int, ...], seed: int) -> FederatedDataset:
    """The data with a share of the bad clients' train images poisoned; nobody else holds these, so nobody sees it."""
    index = torch.cat([_drawn(data.train[client], poison.share, seed, client) for client in bad])
    images, labels = data.images.clone(), data.labels.clone()
    images[index], labels[index] = poison.apply(images[index], labels[index], data.classes)
    return replace(data, images=images, labels=labels)


def _drawn(held: torch.Tensor, share: float, seed: int, client: int) -> torch.Tensor:
    count = max(1, math.floor(share * len(held) + 1e-9))
    return held[
        torch.from_numpy(stream(seed, "poison", client).choice(len(held), count, replace=False)).to(held.device)
    ]


@checked
def triggered(data: FederatedDataset, poison: Poison) -> FederatedDataset:
    """The data set whose test images are poisoned: its accuracy is the attack's success.

    Left are the test images (holdout, clients' own, unseen) whose label the poison changes: images that are the
    target's already say nothing. Measurements take it in place of a data set, so that a landscape on clean and one on
    triggered samples lie in one plane.

    Raises:
        SettingError: if the poison does not fit the images, or changes no label.

    >>> there = fl.triggered(data, fl.attacks.Patch(target=3, margin=0))
    >>> len(there.holdout), int((data.labels[data.holdout] != 3).sum())
    (322, 322)
    >>> clean, dirty = (fl.landscape(run, data=part, points=3, limit=64, one_class=True) for part in (data, there))
    """
    index = torch.cat([data.holdout, *data.test, *data.unseen.values()]).unique()
    images, labels = data.images.clone(), data.labels.clone()
    images[index], labels[index] = poison.apply(images[index], labels[index], data.classes)
    attacked = torch.zeros_like(labels, dtype=torch.bool)
    attacked[index] = labels[index] != data.labels[index]
    if not attacked[data.holdout].any():
        raise SettingError("poison", poison, "changes the label of no image of the holdout")

    def left(part: torch.Tensor) -> torch.Tensor:
        return part[attacked[part]]

    unseen = {name: left(part) for name, part in data.unseen.items()}
    test = tuple(map(left, data.test))
    return replace(data, images=images, labels=labels, test=test, holdout=left(data.holdout), unseen=unseen)
