"""What is wrong outside the algorithm: clients that lie, and messages that are lost or late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.attacks import Forgery, Poison
from ..algorithms.schedules import floored
from ..arguments import checked
from ..data import FederatedDataset
from ..declare import Declared, SettingError, setting
from ..digest import digest, own
from ..streams import some_of, stream


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
        return floored(self.start, rounds) <= round < floored(self.stop, rounds)

    def chosen(self, clients: int, seed: int) -> tuple[int, ...]:
        """Who is bad, ascending.

        Raises:
            SettingError: if nobody would be.
        """
        count = floored(self.share, clients)
        if not count:
            raise SettingError(
                "Adversary.share", self.share, f"of {clients} clients is nobody; needs {1 / clients:.2g}"
            )
        return tuple(sorted(stream(seed, "adversaries").choice(clients, count, replace=False).tolist()))


class Channel(Declared):
    """Messages that are lost, or come late.

    To a server: what does not arrive is left out of a round's mean, whose weights are those of what does; if nothing
    arrives, the model stays. A message that is a rounds late counts (1 + a)^-fade of its weight in the round in which
    it comes. What the server sends is never lost. A rule that needs more messages than arrive leaves the model, too.

    Over a topology: a message along an edge is lost with the same probability in each mix, and a client keeps for
    itself the weight of what it did not hear. With `both_ways` an edge fails in both directions at once, so the weights
    W stay symmetric, E[W] = I - (1 - loss)(I - W), and so does the clients' mean; else that is a random walk.

    >>> lossy = fl.World(channel=fl.Channel(loss=0.3, delay=1))
    >>> fl.train(fl.FedAvg(), data, "lenet", rounds=2, world=lossy).history["metric"].unique().tolist()[:6]
    ['lr', 'megabytes', 'loss', 'drift', 'lost', 'late']
    """

    loss: float = setting(0.0, "probability that a message is lost", ge=0, le=1)
    both_ways: bool = setting(True, "over a topology: an edge fails in both directions at once")
    delay: int = setting(
        0,
        "how many rounds a message to the server may be late; drawn evenly, from `least` on",
        ge=0,
        le=10_000,
        span=(0, 10),
    )
    least: int = setting(0, "how many rounds it is late at least", ge=0, span=(0, 10))
    fade: float = setting(0.0, "exponent by which a late message counts less", ge=0, span=(0.0, 2.0))

    def ages(self, seed: int, round: int, clients: Sequence[int]) -> list[int | None]:
        """By how many rounds each client's message is late, None if it is lost."""
        draws = (stream(seed, "channel", round, client) for client in clients)
        return [None if rng.random() < self.loss else int(rng.integers(self.least, self.delay + 1)) for rng in draws]

    def factors(self, ages: Sequence[int | None]) -> list[list[float]]:
        """By age, 0 to `delay`: how much of each client's weight comes then."""
        return [[(1.0 + age) ** -self.fade if age == own else 0.0 for own in ages] for age in range(self.delay + 1)]

    def heard(self, matrix: Tensor, seed: int, mix: int) -> Tensor:
        """The weights [clients, clients] of a topology without what is lost; `mix` counts through all rounds."""
        draws = torch.from_numpy(stream(seed, "channel", "mix", mix).random(tuple(matrix.shape)))
        if self.both_ways:
            draws = draws.triu(1) + draws.triu(1).T
        fails = (draws < self.loss) & ~torch.eye(len(matrix), dtype=torch.bool, device="cpu")
        return matrix.masked_fill(fails, 0) + matrix.masked_fill(~fails, 0).sum(1).diag()

    def check(self, algorithm: Algorithm) -> None:
        """Refuse what cannot be.

        Raises:
            SettingError: naming the setting.
        """
        if self.least > self.delay:
            raise SettingError("world.channel.least", self.least, f"must be at most delay = {self.delay}")
        if algorithm.pooled or algorithm.share == "none":
            raise SettingError(
                "world.channel", allowed=f"{algorithm.kind} sends no messages that could be lost or late"
            )
        reasons = {
            "over a topology neighbours average what they have in a round": algorithm.topology is not None,
            f"{algorithm.aggregation.kind} needs all messages of a round at once": not algorithm.aggregation.linear,
            f"{algorithm.kind}'s server also adds up other things of a round (receive)":
                type(algorithm).receive is not Algorithm.receive,
        }  # fmt: skip
        for reason, holds in reasons.items():
            if holds and self.delay:
                raise SettingError("world.channel.delay", self.delay, f"{reason}; set it to 0")


class World(Declared):
    """What goes wrong around the algorithm; by default nothing.

    >>> fl.World(adversary=fl.Adversary(message="lazy")).adversary.message
    Lazy()
    """

    adversary: Adversary | None = setting(None, "clients that lie")
    channel: Channel | None = setting(None, "messages that are lost or late", new=True)

    def check(self, algorithm: Algorithm, rounds: int) -> None:
        """Refuse what cannot be.

        Raises:
            SettingError: naming the setting.
        """
        if self.channel is not None:
            self.channel.check(algorithm)
        adversary = self.adversary
        if adversary is None:
            return
        if adversary.data is None and adversary.message is None:
            raise SettingError(
                "world.adversary", allowed="does nothing; give data (a poison), message (a forgery), or both"
            )
        if adversary.start >= adversary.stop:
            raise SettingError("world.adversary.stop", adversary.stop, f"must exceed start = {adversary.start}")
        if not any(adversary.active(number, rounds) for number in range(rounds)):
            told = f"with stop = {adversary.stop} nobody attacks in any of {rounds} rounds"
            raise SettingError("world.adversary.start", adversary.start, told)
        if algorithm.pooled:
            raise SettingError("world.adversary", allowed="there are no clients to be bad with pooled = True")
        public = algorithm.server_data is not None and algorithm.server_data.clients
        if adversary.data is not None and public:
            told = "honest clients would train on them, too, where they are public; set server_data.clients to False"
            raise SettingError("world.adversary.data", adversary.data, told)
        if adversary.message is not None and algorithm.share == "none":
            raise SettingError("world.adversary.message", adversary.message, "nothing is sent with share = 'none'")
        if adversary.message is not None and algorithm.topology is not None:
            told = "over a topology models are averaged, no updates are sent; attack data instead"
            raise SettingError("world.adversary.message", adversary.message, told)


def poisoned(data: FederatedDataset, poison: Poison, bad: tuple[int, ...], seed: int) -> FederatedDataset:
    """The data with a share of the bad clients' train images poisoned; nobody else holds these, so nobody sees it.

    Raises:
        SettingError: for images with masks.
    """
    _labelled(data, "world.adversary.data", poison)
    drawn = []
    for client in bad:
        held = data.train[client]
        count = max(1, floored(poison.share, len(held)))
        drawn.append(some_of(held, count, stream(seed, "poison", client)))
    index = torch.cat(drawn)
    images, labels = data.images.clone(), data.labels.clone()
    images[index], labels[index] = poison.apply(images[index], labels[index], data.classes)
    return replace(data, images=images, labels=labels, seal=None)  # whose run is told apart by its world


def _labelled(data: FederatedDataset, name: str, poison: Poison) -> None:
    if data.masks is not None:
        told = f"changes labels, and the images of {data.spec.name} have masks; forge messages instead"
        raise SettingError(name, poison, told)


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
    _labelled(data, "poison", poison)
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
    origin = f"{data.origin} {poison.to_json()}" + (f" {digest(poison)}" if own(type(poison)) else "")
    return replace(
        data, images=images, labels=labels, test=test, holdout=left(data.holdout), unseen=unseen, origin=origin
    )
