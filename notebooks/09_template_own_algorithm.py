# %% [markdown]
# # Template: your own algorithm
#
# Everything that a researcher adds is one class or function: a local step, an algorithm with memory at the clients and a
# word from the server, an aggregation, a partition, a network. Each then works with every other setting, in scripts, files
# and the lab, for one client after another and for all clients in one batch. Write it for ONE client, as a pure function.

# %%
from typing import Literal

import numpy as np
import torch
from torch import nn

import flatlab as fl

# %% [markdown]
# ## A local step
#
# Normalised gradient descent: the direction of the gradient, a length of our own. `at(params)` gives the gradients and the
# loss of the batch at any weights (SAM asks twice). A setting is declared once, with its range and a line of help.


# %%
class Normalised(fl.Local):
    """The gradient scaled to a given length."""

    kind: Literal["normalised"] = "normalised"
    length: float = fl.setting(1.0, "length of the gradient", gt=0)

    def gradient(self, at, params):
        """One backward pass, rescaled."""
        grads, loss = at(params)
        norm = torch.stack([g.pow(2).sum() for g in grads.values()]).sum().sqrt()
        return {name: self.length * g / (norm + 1e-12) for name, g in grads.items()}, loss


# %% [markdown]
# ## An algorithm with memory and a server word
#
# SCAFFOLD (Karimireddy et al., 1910.06378, option II), as if flatlab had none. A client remembers its control variate
# $c_k$, the server sends the common $c$, a step goes along $g - c_k + c$; then
# $c_k' = c_k - c + (x - y)/(K\,\eta)$ stays with the client and $c_k' - c_k$ goes to the server, which sums it.
# Slots are `{slot: {name of a parameter: tensor}}`.


# %%
def zeros(like):
    """A slot at its beginning."""
    return {name: torch.zeros_like(value) for name, value in like.items()}


class Scaffold(fl.Algorithm):
    """Control variates take the clients' drift out of each step."""

    kind: Literal["Scaffold"] = "Scaffold"

    def memory(self, trained):
        """What a client keeps from round to round."""
        return super().memory(trained) | {"own": zeros(trained)}

    def broadcast(self, slots, trained):
        """What the server sends besides the model."""
        return {"common": slots.get("common") or zeros(trained)}

    def step(self, carry, batch, lr):
        """One local step; `descend` adds momentum, decay and the like, if they are set."""
        grads, loss = self.local.gradient(batch.gradient, carry.params)
        own, common = carry.memory["own"], carry.received["common"]
        return self.descend(carry, {k: g - own[k] + common[k] for k, g in grads.items()}, lr), loss

    def finish(self, carry, lr):
        """What the client hands over: the usual update, its new memory, and a word for the server."""
        message = super().finish(carry, lr)
        own, common = carry.memory["own"], carry.received["common"]
        new = {k: own[k] - common[k] - moved / (carry.steps * lr) for k, moved in message.update.items()}
        change = {k: new[k] - own[k] for k in new}
        return message._replace(memory=message.memory | {"own": new}, extra={"change": change})

    def receive(self, slots, extra, heard, population):
        """The server's slots, from the sum of the clients' words."""
        common = slots.get("common") or zeros(extra["change"])
        return slots | {"common": {k: common[k] + v / population for k, v in extra["change"].items()}}


# %% [markdown]
# ## An aggregation
#
# The round's clients are put into groups, and each coordinate takes the median of the groups' means: a liar spoils one
# group only. `updates` holds each tensor as `[clients, ...]`; a rule that weighs clients returns their weights, too.


# %%
class MedianOfMeans(fl.Aggregation):
    """The median over groups of their mean updates, coordinate by coordinate."""

    kind: Literal["median_of_means"] = "median_of_means"
    groups: int = fl.setting(3, "groups of clients; an odd number has a middle one", ge=1)

    def check(self, clients):
        """No group may be empty."""
        if clients < self.groups:
            raise fl.SettingError("groups", self.groups, f"at most the {clients} clients of a round")

    def combine(self, updates, sizes):
        """The aggregate; nobody has a weight of his own."""
        return {
            name: torch.stack([part.mean(0) for part in value.tensor_split(self.groups)]).median(0).values
            for name, value in updates.items()
        }, None


# %% [markdown]
# ## A partition
#
# Even clients hold even digits, odd clients odd ones. `Drawn` is the base for the common case: deal the train images; test
# sets are drawn to match.


# %%
class EvenOdd(fl.data.Drawn):
    """Clients of even number hold the classes of even number, the others the others."""

    kind: Literal["even_odd"] = "even_odd"

    def deal(self, labels, classes, clients, rng):
        """The train images of each client."""
        parts = [np.empty(0, np.int64)] * clients
        for side in (0, 1):
            images, holders = rng.permutation(np.flatnonzero(labels % 2 == side)), range(side, clients, 2)
            for client, share in zip(holders, np.array_split(images, len(holders)), strict=True):
                parts[client] = share
        return parts


# %% [markdown]
# ## A network
#
# The body, and how many features it gives, from the specification and the shape (C, H, W) of an image. The head, a linear
# layer, is put on.


# %%
@fl.models.network("two_layers", norm="none")
def two_layers(spec, shape):
    """Two convolutions, with as many channels as `width` says."""
    channels = spec.channels(16)
    layers = [nn.Conv2d(shape[0], channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2), nn.ReLU(), nn.Flatten()]
    body = nn.Sequential(*layers)
    return body, body(torch.zeros(1, *shape)).shape[1]


# %% [markdown]
# ## Together
#
# All of them at once, and crossed with what was there: SCAFFOLD with normalised steps, with FedBABU's body, with server
# averaging. **What to look for:** nobody wrote a line for these crosses; all runs saw the same clients and batches. The
# legend names the local step and SWA; what else differs (the third run has MedianOfMeans, the fourth trains and shares the
# body alone) stands in the code.

# %%
data = fl.load("digits").federate(EvenOdd(), clients=12, seed=0)
data.plot()

# %%
model = fl.ModelSpec(name="two_layers")
settings = {"rounds": 8, "participation": 0.5}
runs = [
    fl.train(algorithm, data, model, **settings)
    for algorithm in (
        fl.FedAvg(lr=0.05),
        Scaffold(lr=0.05),
        Scaffold(lr=0.05, local=Normalised(), aggregation=MedianOfMeans()),
        Scaffold(lr=0.05, train="body", share="body", swa=fl.SWA(start=0.5, cycle=2, low=0.01)),
    )
]
fl.plot(runs)

# %% [markdown]
# ## Is it right?
#
# Ours beside flatlab's own, weight by weight, after eight rounds; and the loop beside the batch. **What to look for:** 0,
# and a difference of the size of rounding.

# %%
theirs = fl.train(fl.SCAFFOLD(lr=0.05), data, model, **settings)
ours, other = runs[1].state().params, theirs.state().params
max((ours[name] - other[name]).abs().max().item() for name in ours)

# %%
losses = [
    fl.train(Scaffold(lr=0.05), data, model, rounds=1, engine=engine, store=f"runs-{engine}").history["value"]
    for engine in ("loop", "batch")
]
(losses[0] - losses[1]).abs().max()

# %% [markdown]
# What a client remembers is on record, and fine-tuning, Hessian and landscapes take the run like any other:

# %%
memory = runs[1].state().memory["own"]["head.weight"]  # [clients, ...]
print({client: round(value.norm().item(), 3) for client, value in enumerate(memory)})
fl.compare(runs, fl.personalize(runs, epochs=3, lr=0.01))

# %% [markdown]
# A wrong value is refused before any work, with the field, the value and what is allowed; so is a hook that returns what
# nobody uses:

# %%
try:
    Scaffold(local=Normalised(length=-1))
except fl.SettingError as error:
    print(error)

# %% [markdown]
# In a file `mine.py` beside the notebook, everything above works in sweeps over seeds (workers import it) and on the command
# line: `flatlab run experiment.toml --import mine`. See `docs/extending.md` for a server, a schedule and a task of your own.
