"""Domains: groups whose images look different (photo, sketch; writers), some of which no client ever sees.

Leave-one-domain-out as in DomainBed (Gulrajani & Lopez-Paz, 2007.01434); `mix` after the FedDG benchmark (Bai et al.,
2307.04942): a client holds the share 1 - mix of its own domain, and an even share of mix of all seen domains.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..declare import SettingError, near, setting, tell
from ..streams import stream
from .given import by_group
from .partitions import Indices, Labels, Partition, apportion, hand_out


class Domains(Partition):
    """Clients that hold domains (the data set's natural groups); whole domains stay unseen, and are scored.

    Each seen domain is dealt at random to `clients_per_domain` clients. A client whose own domain is d gets of
    domain e, with n_e images, n_e ((1 - mix) [d = e] / clients_per_domain + mix / clients), rounded, and likewise of
    its test images; no image is held twice. The holdout is the seen domains' test images: what is chosen must be
    chosen by it. All images of an unseen domain, and of groups without train images, are `FederatedDataset.unseen`; the
    history scores them in the split `unseen`, where `client` counts the domains in that order. Images are normalised by
    the clients' own train images.

    Without `test` the split of the data set holds; where its file has none, that is a fixed fifth of each domain and
    class.

    >>> import numpy as np
    >>> images, labels = np.arange(80 * 64, dtype=np.uint32).astype(np.uint8).reshape(80, 8, 8), np.arange(80) % 2
    >>> groups = np.repeat(["photo", "cartoon", "sketch"], [40, 20, 20])
    >>> source = fl.Source.from_pool("drawn", images, labels, ["cat", "dog"], groups=groups)
    >>> drawn = source.federate(fl.Domains(unseen=("sketch",), clients_per_domain=2))
    >>> drawn.names, [len(images) for images in drawn.train], len(drawn.holdout), len(drawn.unseen["sketch"])
    (('cartoon', 'cartoon', 'photo', 'photo'), [8, 8, 16, 16], 12, 20)
    """

    kind: Literal["domains"] = "domains"
    unseen: tuple[str, ...] = setting((), "domains of which no client holds an image")
    clients_per_domain: int = setting(5, "clients among whom a seen domain is dealt", ge=1)
    mix: float = setting(0.0, "share of each domain that is dealt evenly to all clients; 1: no skew", ge=0, le=1)
    test: float | None = setting(
        None, "share of each domain and class that is drawn for testing; none: as the data set is split", gt=0, lt=1
    )

    def assign(self, labels: Labels, clients: int | None, seed: int) -> tuple[Indices, Indices]:
        train, test = self._seen(labels)
        count = self.clients_per_domain * len(train)
        if clients not in (None, count):
            told = f"{len(train)} seen domains with {self.clients_per_domain} clients each make {count}; leave it out"
            raise SettingError("DataSpec.clients", clients, told)
        own = np.kron(np.eye(len(train)), np.ones((self.clients_per_domain, 1)))  # [clients, domains]
        weights = (1 - self.mix) * own / self.clients_per_domain + self.mix / count

        def deal(domains: Indices, what: str) -> Indices:
            rng = stream(seed, "domains", what)
            shares = [apportion(len(part), weights[:, column]) for column, part in enumerate(domains)]
            return hand_out([rng.permutation(part) for part in domains], np.stack(shares, 1))

        held = deal(list(train.values()), "train")
        if not all(map(len, held)):
            name, fewest = min(train.items(), key=lambda domain: len(domain[1]))
            told = f"domain {name} has {len(fewest)} train images, which must give each of its clients one"
            raise SettingError("Domains.clients_per_domain", self.clients_per_domain, told)
        return held, deal([test.get(name, np.empty(0, np.int64)) for name in train], "test")

    def drawn_test(self, labels: Labels, seed: int) -> np.ndarray | None:
        if self.test is None:
            return None
        train, test = _groups(labels)
        return held_out(np.concatenate([labels.train, labels.test]), np.concatenate([train, test]), self.test, seed)

    def scored(self, labels: Labels) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        everything = by_group(np.concatenate(_groups(labels)))
        seen, test = self._seen(labels)
        holdout = np.concatenate([np.empty(0, np.int64), *(test[name] for name in seen if name in test)])
        if not len(holdout):
            raise SettingError("Domains.test", self.test, "no seen domain has test images; give a share")
        return np.sort(holdout) + len(labels.train), {k: part for k, part in everything.items() if k not in seen}

    def client_groups(self, labels: Labels) -> tuple[str, ...]:
        return tuple(name for name in self._seen(labels)[0] for _ in range(self.clients_per_domain))

    def _seen(self, labels: Labels) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The train images of each seen domain, and the test images of all."""
        train, test = map(by_group, _groups(labels))
        for name in self.unseen:
            if name not in (known := sorted({*train, *test})):
                told = f"the data set's groups are {', '.join(known)}{near(name, known)}"
                raise SettingError("Domains.unseen", name, told)
        seen = {name: part for name, part in train.items() if name not in self.unseen}
        if not seen:
            raise SettingError("Domains.unseen", self.unseen, "leaves no domain with train images to the clients")
        return seen, test


def _groups(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    if labels.groups is None:
        raise SettingError("DataSpec.partition", "domains", "this data set has no groups, which would be its domains")
    return labels.groups


def held_out(labels: np.ndarray, groups: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """Which images are for testing, bool [n]: `share` of those of each group and class, but never all of them.

    Rounded, that is none of a few: a class that is rare in every group may have no test image, which is told.
    """
    test = np.zeros(len(labels), dtype=bool)
    for name, part in by_group(np.zeros(len(labels), np.int64) if groups is None else groups).items():
        for label in np.unique(labels[part]):
            pool = part[labels[part] == label]
            rng = stream(seed, "test set", name, int(label))
            test[rng.choice(pool, min(round(share * len(pool)), len(pool) - 1), replace=False)] = True
    pooled, tested = np.bincount(labels), np.bincount(labels[test], minlength=int(labels.max()) + 1)
    untested = np.flatnonzero((pooled > 1) & (tested == 0))
    if len(untested) and test.any():
        some = ", ".join(map(str, untested[:5])) + ", ..." * (len(untested) > 5)
        told = f"{len(untested)} of {(pooled > 0).sum()} classes ({some}) have no test image, though several images"
        tell(f"{told}: a share of {share:g} of each group and class rounds to none; give test images yourself")
    return test
