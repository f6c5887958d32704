"""What an algorithm's hooks return, looked at before work starts: a name that nobody uses is an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Aggregation, Algorithm, Carry, Evasion, LocalBatch, Message, Params, Slots
from ..algorithms.local import pair, refuse_other_names, refuse_unlike
from ..declare import SettingError, near
from ..models import Model, names
from .work import leaves

NUMBER_BYTES = 4  # of a float32


def checked_slots(hook: str, given: Any) -> Slots:
    """`given`, if it is {slot: {name: tensor}}.

    Raises:
        SettingError: naming the hook and what it returned.
    """
    nested = isinstance(given, dict) and all(
        isinstance(values, dict) and all(isinstance(value, Tensor) for value in values.values())
        for values in given.values()
    )
    if not nested:
        what = {k: type(v).__name__ for k, v in given.items()} if isinstance(given, dict) else type(given).__name__
        raise SettingError(f"{hook} returned {what}", allowed="needs {slot: {name: tensor}}")
    strange = [name for slot, values in given.items() for name in (slot, *values) if "/" in str(name)]
    if strange:
        raise SettingError(f"{hook} returned the name {strange[0]!r}", allowed="a name may not hold '/'")
    return given


@dataclass(frozen=True)
class Shapes:
    """What one client's message and the server's slots look like: found by a training of no steps."""

    message: Message
    received: Slots  # without the whole gradient
    own_slots: frozenset[str]  # the server's slots that the algorithm keeps itself


def shapes(algorithm: Algorithm, trained: Params) -> Shapes:
    """A dry run of all hooks on one client that takes no step.

    Args:
        algorithm: whose hooks.
        trained: the part that clients train.

    Raises:
        SettingError: naming the hook, what it returned, and what was expected.
    """
    kind = algorithm.kind
    memory = checked_slots(f"{kind}.memory", algorithm.memory(trained))
    words = checked_slots(f"{kind}.broadcast", algorithm.broadcast({}, trained))
    received = {**words, "gradient": trained} if algorithm.whole_gradient else words
    steps = torch.ones((), dtype=torch.int64, device=next(iter(trained.values())).device)
    with torch.no_grad():
        start = algorithm.init(trained, memory, received, steps)
        if not isinstance(start, Carry):
            raise SettingError(f"{kind}.init returned {type(start).__name__}", allowed="needs a Carry")
        message = algorithm.finish(start, algorithm.lr)
    if not isinstance(message, Message):
        raise SettingError(
            f"{kind}.finish returned {type(message).__name__}",
            allowed="needs Message(update, memory, extra), as super().finish(carry, lr) gives it",
        )
    refuse_unlike(f"{kind}.finish: update", message.update, trained)
    if algorithm.topology is not None and not steps.is_meta:  # a network without numbers: only its sizes are asked for
        _sends_its_model(algorithm, start)
    same_slots(f"{kind}.finish: memory", checked_slots(f"{kind}.finish: memory", message.memory), memory)
    extra = checked_slots(f"{kind}.finish: extra", message.extra)
    if extra and type(algorithm).receive is Algorithm.receive:
        raise SettingError(
            f"{kind}.finish", allowed=f"extra holds {', '.join(extra)}, but there is no {kind}.receive to use it"
        )
    slots = checked_slots(f"{kind}.receive", algorithm.receive({}, extra, 1, 1))
    own = set(slots)
    if type(algorithm).serve is not Algorithm.serve:  # it may keep something there, too, beside its optimiser
        nowhere = {name: torch.zeros_like(value) for name, value in trained.items()}
        optimisers = set(algorithm.server.update(trained, nowhere, {})[1])
        own |= set(served(algorithm, trained, nowhere, slots)[1]) - optimisers
    return Shapes(message, words, frozenset(own))


def _sends_its_model(algorithm: Algorithm, start: Carry) -> None:
    """Refuse, over a topology, an update that is not how far the model moved: neighbours average the models."""
    moved = start._replace(params={name: value + 1 for name, value in start.params.items()})
    update = algorithm.finish(moved, algorithm.lr).update
    if not all(torch.allclose(update[name], value - start.anchor[name]) for name, value in moved.params.items()):
        told = f"neighbours average models, and {algorithm.kind} sends something else than its model (finish: update)"
        raise SettingError("topology", algorithm.topology, told)


def check_personal(algorithm: Algorithm, params: Params, memory: Slots) -> None:
    """Refuse what `personal` makes of a model and a client's memory, if it is nothing that the network can take.

    Raises:
        SettingError: naming the algorithm, what it returned, and what was expected.
    """
    made, where = algorithm.personal(params, memory), f"{algorithm.kind}.personal"
    if not isinstance(made, dict):
        raise SettingError(f"{where} returned {type(made).__name__}", allowed="needs {name: tensor}")
    if strange := next((name for name in made if name not in params), None):
        raise SettingError(f"{where} returned {strange!r}", allowed=f"no such parameter{near(strange, params)}")
    refuse_unlike(where, made, {name: params[name] for name in made})


def traffic(model: Model, algorithm: Algorithm) -> int:
    """Numbers that pass between the server and one client in a round, both ways: the part that is trained and shared,
    and what either sends besides, but for what the other can tell from that (`Algorithm.inside`). What the server alone
    trains on samples of its own goes down.
    """
    params = dict(model.named_parameters())
    trained = {name: params[name].detach() for name in names(model, algorithm.train)}
    shared = () if algorithm.share == "none" or algorithm.pooled else names(model, algorithm.share)
    look = shapes(algorithm, trained)
    received = {name: slot for name, slot in look.received.items() if name not in algorithm.inside}
    extra = {name: slot for name, slot in look.message.extra.items() if name not in algorithm.inside}
    besides = sum(value.numel() for value in leaves((received, extra)))
    if algorithm.server_data is not None and algorithm.server_data.train != "none":
        besides += sum(
            params[name].numel() for name in names(model, algorithm.server_data.train) if name not in trained
        )
    return 2 * sum(trained[name].numel() for name in shared if name in trained) + besides


def megabytes(algorithm: Algorithm, numbers: int, clients: int, seed: int, round: int) -> float:
    """What is sent in `round` (from 0), 10^6 bytes: to and from a server, or along the edges of a topology, both ways.

    Args:
        algorithm: whose topology, if it has one.
        numbers: see `traffic`; half of them go each way.
        clients: of the round.
        seed: of the experiment.
        round: from 0.
    """
    ways = 2 * clients
    if algorithm.topology is not None:
        matrices = algorithm.topology.mixing(clients, seed, round)
        ways = sum(int((matrix - matrix.diag().diag()).count_nonzero()) for matrix in matrices)
    return NUMBER_BYTES * numbers * ways / 2 / 1e6


def stepped(algorithm: Algorithm, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
    """A local step, if it gives a carry and a loss.

    Raises:
        SettingError: naming the algorithm, what its step returned, and what was expected.
    """
    where = f"{type(algorithm).__name__}.step"
    moved, loss = pair(where, algorithm.step(carry, batch, lr), Carry, "(carry, loss)")
    refuse_unlike(f"{where}: params", moved.params, carry.anchor)
    if not isinstance(loss, Tensor) or loss.dim():
        told = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise SettingError(f"{where}: the loss is {told}", allowed="needs a tensor of one number, shape ()")
    return moved, loss


def weighed(rule: Aggregation, sizes: list[int]) -> list[float]:
    """How much each client counts by a linear rule; of another, if it is one at all, their samples.

    Raises:
        SettingError: naming the rule, what it returned, and what was expected.
    """
    if not rule.linear:
        if type(rule).combine is Aggregation.combine:
            raise SettingError("aggregation", rule.kind, "define combine, or weights with linear = True")
        return [float(size) for size in sizes]
    where = f"{rule.kind}.weights"
    if type(rule).weights is Aggregation.weights:
        raise SettingError("aggregation", rule.kind, "linear = True: define weights")
    made = rule.weights(list(sizes))
    try:
        weights = [float(weight) for weight in made]
    except (TypeError, ValueError):
        raise SettingError(f"{where} returned {made!r:.80}", allowed=f"needs {len(sizes)} numbers") from None
    # Of a sum of 0 there is no mean, and below it the update would be turned round.
    if len(weights) != len(sizes) or not all(map(math.isfinite, weights)) or sum(weights) <= 0:
        told = f"needs {len(sizes)} finite numbers, a client each, whose sum is more than 0"
        raise SettingError(f"{where} returned {made!r:.80}", allowed=told)
    return weights


def aggregated(rule: Aggregation, updates: Params, sizes: Tensor) -> tuple[Params, Tensor | None]:
    """What a rule makes of the clients' updates [n, ...], and the weights [n] that it gave them, if any.

    Raises:
        SettingError: naming the rule, what it returned, and what was expected.
    """
    where = f"{rule.kind}.combine"
    made = rule.combine(updates, sizes)
    combined, weights = pair(where, made, dict, "(updates, weights of the clients or None)")
    refuse_unlike(where, combined, {name: value[0] for name, value in updates.items()})
    if weights is not None and (not isinstance(weights, Tensor) or weights.shape != sizes.shape):
        told = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__
        raise SettingError(f"{where}: weights are {told}", allowed=f"needs a tensor [{len(sizes)}], or None")
    return combined, weights


def served(algorithm: Algorithm, params: Params, mean_update: Params, slots: Slots) -> tuple[Params, Slots]:
    """The server's step, if it gives all that is shared, and its slots.

    Raises:
        SettingError: naming the algorithm, what `serve` returned, and what was expected.
    """
    where = f"{algorithm.kind}.serve"
    moved, slots = pair(where, algorithm.serve(params, mean_update, slots), dict, "(params, slots)")
    refuse_unlike(where, moved, params)
    return moved, checked_slots(f"{where}: slots", slots)


def same_slots(where: str, given: Slots, wanted: Slots) -> None:
    """Refuse slots whose slots, names, shapes or types differ from those wanted."""
    refuse_other_names(where, given, wanted)
    for slot, values in given.items():
        refuse_unlike(f"{where}[{slot!r}]", values, wanted[slot])


@dataclass(frozen=True)
class WholeGradient:
    """In an algorithm's place: the gradient over all of a client's samples at the received model, batch by batch."""

    batch_size: int
    train: str
    adversarial: Evasion | None = None
    epochs: int = 1
    batches_per_step: int = 1
    local_steps: None = None

    def init(self, trained: Params, memory: Slots, received: Slots, steps: Tensor) -> Carry:
        """Sums start at 0."""
        sums = {name: torch.zeros_like(value) for name, value in trained.items()}
        seen = {"samples": torch.zeros_like(next(iter(trained.values())).sum())}
        return Carry(trained, sums, trained, {"seen": seen}, {}, steps, torch.zeros_like(steps))

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """Add a batch's."""
        grads, loss = batch.gradient(carry.params)
        sums = {name: value + grads[name] * batch.size for name, value in carry.velocity.items()}
        seen = {"samples": carry.memory["seen"]["samples"] + batch.size}
        return carry._replace(velocity=sums, memory={"seen": seen}), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """The mean gradient, as an update."""
        samples = carry.memory["seen"]["samples"]
        return Message({name: value / samples for name, value in carry.velocity.items()}, {}, {})
