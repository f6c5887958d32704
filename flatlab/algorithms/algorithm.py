"""An algorithm is a composition: local step x part trained and shared x what clients remember x server x averaging.

The methods `init`, `step` and `finish` are pure functions of ONE client; the engines run them for many, one after
another or under `torch.func.vmap`, so they must not look at a tensor's value. Override them, and the hooks beside them,
for an algorithm that needs more than a composition:

    memory     what each client keeps from round to round        {slot: {name: tensor}}
    broadcast  what the server sends besides the model            {slot: {name: tensor}}
    init       the start of local training
    step       one local step; `descend` is its second half
    finish     the client's message: update, new memory, extra tensors for the server
    personal   the client's own model, if it has one
    receive    the server's slots after a round, from the sum of what the clients sent besides their updates
    serve      the server's step

Names in the innermost dictionaries are free; those of parameters are usual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ..declare import Family, SettingError, setting
from .aggregation import Aggregation, Weighted
from .averaging import Averaging
from .evasion import PGD, Evasion
from .local import SGD, Local, Params, Slots, each, joint_norm, pair, plus, refuse_unlike
from .schedules import Constant, Schedule
from .server import Average, Part, Server, ServerData, Share
from .topology import Topology


class Carry(NamedTuple):
    """What one client's local training carries from step to step."""

    params: Params  # the trained part
    velocity: Params  # momentum, empty without it
    anchor: Params  # the trained part as received
    memory: Slots  # what the client keeps; a step may change it
    received: Slots  # what the server sent besides the model
    steps: Tensor  # [] int64: how many steps this client takes in this round
    step: Tensor  # [] int64: steps done; the engine counts


class Message(NamedTuple):
    """What a client hands over after local training."""

    update: Params  # how far each trained tensor moved; the shared part of it is aggregated
    memory: Slots  # stays with the client; slots and names as `Algorithm.memory` gave them
    extra: Slots  # summed over the round's clients and given to `Algorithm.receive`


class LocalBatch(Protocol):
    """One client's batch, as `Algorithm.step` is given it."""

    @property
    def size(self) -> Tensor:
        """Samples in it, []."""

    def gradient(self, params: Params, loss: Callable[[Tensor], Tensor] | None = None) -> tuple[Params, Tensor]:
        """Gradients at `params` and the mean loss there; `loss` maps outputs [batch, ...] to losses [batch]."""

    def outputs(self, params: Params) -> Tensor:
        """The network's outputs at `params`, [batch, ...]."""

    def halves(self) -> tuple[LocalBatch, LocalBatch]:
        """Every second sample, and the others; a batch of a single sample is both."""


class Algorithm(Family):
    """Every setting works with every other; the named algorithms below this class only choose defaults.

    A subclass whose step needs two batches sets `batches_per_step`: see `LocalBatch.halves`.
    """

    batches_per_step: ClassVar[int] = 1
    inside: ClassVar[frozenset[str]] = frozenset()  # what is in the model or the update that is sent, too: no traffic

    lr: float = setting(0.1, "client learning rate", gt=0, log=True, span=(1e-4, 1.0))
    epochs: int = setting(1, "local epochs in a round", ge=1, unit="epochs", span=(1, 10))
    batch_size: int = setting(50, "samples in a local batch; the last batch of an epoch may be smaller", ge=1)
    momentum: float = setting(0.0, "client momentum, restarted in each round unless kept", ge=0, lt=1)
    keep_momentum: bool = setting(False, "whether a client keeps its momentum from round to round")
    weight_decay: float = setting(0.0, "L2 penalty on the trained part", ge=0, log=True, span=(1e-5, 1e-2))
    clip: float | None = setting(None, "largest joint norm of a step's gradient; none: no clipping", gt=0)
    mu: float = setting(0.0, "FedProx: strength of the pull to the received model", ge=0, log=True, span=(1e-3, 1.0))
    schedule: Schedule = setting(Constant(), "client learning rate over the rounds")
    local: Local = setting(SGD(), "how a local step gets its gradient")
    train: Part = setting("all", "the part that clients train")
    share: Share = setting("all", "the part that is sent and averaged; the rest stays with each client")
    aggregation: Aggregation = setting(Weighted(), "how the clients' updates become one")
    server: Server = setting(Average(), "what the server does with the mean update")
    swa: Averaging | None = setting(None, "server-side averaging of the global model")
    server_data: ServerData | None = setting(None, "training data that the server holds itself")
    pooled: bool = setting(False, "one client holds everybody's data: centralized training")
    topology: Topology | None = setting(None, "who averages with whom, in place of a server", new=True)
    local_steps: int | None = setting(
        None, "local steps in a round, in place of `epochs`; batches run on through a client's epochs", ge=1, new=True
    )
    adversarial: Evasion | None = setting(
        None, "attack on each local batch before it is trained on: adversarial training", new=True
    )

    @property
    def name(self) -> str:
        """How figures and tables call it: its kind, with a crossed local step, a topology and SWA named."""
        plain = type(self).model_fields["local"].default
        crossed = "" if self.local.kind == plain.kind else f" {self.local.kind.upper()}"
        against = f" {self.adversarial.kind.upper()}" if self.adversarial else ""
        over = f" {self.topology.kind}" if self.topology else ""
        return f"{self.kind}{crossed}{against}{over}{f' + {self.swa.kind}' if self.swa else ''}"

    @property
    def gradients_per_step(self) -> int:
        """What a local step costs, in gradients of a batch."""
        return self.local.gradients_per_step + (self.adversarial.gradients if self.adversarial else 0)

    @property
    def cost(self) -> str:
        """What a local step costs where that is more than FedAvg's single gradient, in words; else nothing."""
        more = [f"{self.gradients_per_step} gradients a step"] if self.gradients_per_step != 1 else []
        more += ["a gradient over all samples a round"] if self.whole_gradient else []
        return " and ".join(more)

    @property
    def personalizes(self) -> bool:
        """Whether each client has a model of its own, beside the parts that it keeps: whether `personal` says so."""
        return type(self).personal is not Algorithm.personal

    @property
    def whole_gradient(self) -> bool:
        """Whether `received["gradient"]` is to be the gradient over all the client's samples at the received model."""
        return False

    def check(self, rounds: int) -> None:
        """Refuse settings that cannot work together in a run of `rounds` rounds.

        Raises:
            SettingError: naming the setting.
        """
        if self.local_steps is not None and self.epochs != 1:
            raise SettingError("epochs", self.epochs, "local_steps says how long a round is; leave epochs at 1")
        if (held := self.server_data) is not None and held.train == "none" and not held.clients:
            raise SettingError("server_data.train", "none", "then nobody trains on it; set server_data.clients = True")
        if self.pooled and held is not None and held.train == "none":
            raise SettingError(
                "server_data", held, "one client holds everybody's samples already (pooled); set it to None"
            )
        if self.pooled and self.personalizes:
            told = f"{self.kind} keeps a model for each client, and a single one has all data; set it to False"
            raise SettingError("pooled", True, told)
        if isinstance(self.adversarial, PGD) and self.adversarial.restarts > 1:
            told = "training attacks once, from the images themselves; leave it at 1"
            raise SettingError("adversarial.restarts", self.adversarial.restarts, told)
        if self.topology is not None:
            self._check_serverless()
        if self.swa is not None:
            self.swa.check(rounds, self.lr)
            if self.share == "none":
                raise SettingError(
                    "swa", allowed="the server has nothing to average with share = 'none'; set swa to None"
                )

    def check_rates(self, rounds: int) -> None:
        """Refuse a schedule that gives something else than a rate in one of so many rounds.

        Raises:
            SettingError: naming the round and what it gives there.
        """
        for round in range(rounds):
            rate = self.rate(round, rounds)
            if not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
                told = f"gives {rate!r:.60} in round {round} (from 0): needs a finite number, 0 or more"
                raise SettingError("schedule", self.schedule, told)

    def _check_serverless(self) -> None:
        """Refuse what needs a server, where there is a topology in its place."""
        none = {
            "swa": (None, "it averages models of a server's"),
            "server": (Average(), "there is no server that could take a step"),
            "server_data": (None, "there is no server that could hold data"),
            "aggregation": (Weighted(), "neighbours average by the topology's own weights"),
            "pooled": (False, "a single client has no neighbours"),
        }
        for name, (without, reason) in none.items():
            if getattr(self, name) != without:
                raise SettingError(name, getattr(self, name), f"with a topology {reason}; set it to {without!r}")
        if self.share == "none":
            raise SettingError("share", "none", "with a topology neighbours average what is shared; share a part")
        for hook in ("broadcast", "receive", "serve"):
            if getattr(type(self), hook) is not getattr(Algorithm, hook):
                raise SettingError(
                    "topology", self.topology, f"{self.kind} needs a server ({hook}), and a topology has none"
                )

    def rate(self, round: int, rounds: int) -> float:
        """The clients' learning rate in `round` (from 0) of `rounds`."""
        base = self.schedule.lr(self.lr, round, rounds)
        return base if self.swa is None else self.swa.lr(base, round, rounds)

    def suspect(self) -> str:
        """What is likely to blame if training diverges, as "name = value": the setting furthest above its usual span.

        Looked at are the learning rates of clients and server, what the local step adds, and pulls of the weights
        (`mu`, `weight_decay`) where a step of the learning rate overshoots their target (lr x pull > 1).
        """
        places = {"": self, "local.": self.local, "server.": self.server}
        excess: dict[str, tuple[float, float]] = {}
        for prefix, settings in places.items():
            for name, field in type(settings).model_fields.items():
                extra, value = field.json_schema_extra, getattr(settings, name)
                if field.annotation is float and isinstance(extra, dict) and "span" in extra:
                    pull = prefix == "" and name in ("mu", "weight_decay")
                    if not pull or self.lr * value > 1:
                        excess[prefix + name] = (value / extra["span"][1], value)  # type: ignore[index]
        name = max(excess, key=lambda name: excess[name][0])
        name = name if excess[name][0] > 1 else "lr"
        return f"{name} = {excess[name][1]:g}"

    def memory(self, trained: Params) -> Slots:
        """What each client keeps from round to round, as it is before its first; nothing by default but momentum."""
        if self.keep_momentum and self.momentum:
            return {"momentum": {name: torch.zeros_like(value) for name, value in trained.items()}}
        return {}

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """What the server sends besides the model. `slots` are the server's, empty before the first round.

        Args:
            slots: as `receive` and `serve` left them.
            trained: the part that clients train, of the global model.
        """
        return {}

    def init(self, trained: Params, memory: Slots, received: Slots, steps: Tensor) -> Carry:
        """Start local training at `trained`."""
        velocity = memory.get("momentum", {}) if self.keep_momentum else {}
        if self.momentum and not velocity:
            velocity = {name: torch.zeros_like(value) for name, value in trained.items()}
        return Carry(trained, velocity, trained, memory, received, steps, torch.zeros_like(steps))

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """One local step and the loss before it."""
        made = self.local.gradient(batch.gradient, carry.params)
        grads, loss = pair(f"{self.local.kind}.gradient", made, dict, "(gradients, loss)")
        return self.descend(carry, grads, lr), loss

    def descend(self, carry: Carry, grads: Params, lr: float | Tensor) -> Carry:
        """Move along gradients, in the order of torch.optim.SGD on a loss with the proximal term.

        That is: pull to the received model, clipping, decay, momentum.

        Raises:
            SettingError: if these are no gradients of what is trained: other names, shapes or types.
        """
        refuse_unlike(f"{self.kind}: gradients", grads, carry.params)
        params, velocity = carry.params, carry.velocity
        if self.mu:
            grads = plus(grads, each("sub", params, carry.anchor), self.mu)
        if self.clip is not None:
            shrink = (self.clip / (joint_norm(grads) + 1e-6)).clamp(max=1.0)
            grads = each("mul", grads, shrink)
        if self.weight_decay:
            grads = plus(grads, params, self.weight_decay)
        if self.momentum:
            grads = velocity = plus(grads, velocity, self.momentum)
        return carry._replace(params=plus(params, grads, -lr), velocity=velocity)

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The client's message; by default how far each trained tensor moved, and the momentum if it is kept."""
        update = {k: value - carry.anchor[k] for k, value in carry.params.items()}
        kept = {"momentum": carry.velocity} if "momentum" in carry.memory else {}
        return Message(update, carry.memory | kept, {})

    def personal(self, params: Params, memory: Slots) -> Params:
        """The model that a client uses itself, from the global model (and the parts it keeps) and its memory."""
        return params

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """The server's slots after a round.

        Args:
            slots: before it.
            extra: plain sum of the clients' extra tensors.
            heard: clients that took part in the round.
            population: clients of the federation.
        """
        return slots

    def serve(self, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
        """The next shared part of the global model, and the server's slots; after `receive`."""
        return self.server.update(params, mean_update, slots)
