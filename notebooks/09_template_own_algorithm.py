# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Template: your own algorithm
#
# An algorithm is a local step, the part trained and shared, a server update and an average. Replace one of them and keep
# the rest: it then works with every other setting, in scripts, files and the lab, for one client after another and for all
# clients in one batch. Write it for ONE client, as a pure function.

# %%
from typing import Literal

import torch

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
# ## An algorithm
#
# A name for a set of defaults, so that figures and tables call it by its own name.


# %%
class FedNormalised(fl.Algorithm):
    """FedAvg whose clients take steps of normalised gradients."""

    kind: Literal["FedNormalised"] = "FedNormalised"
    local: fl.Local = fl.setting(Normalised(), "how a local step gets its gradient")


# %% [markdown]
# ## Against the others
#
# It crosses with everything: here with FedBABU's body and with server averaging. **What to look for:** the
# second and third curve bear one name and differ in what the legend adds; all of them saw the same clients and batches.

# %%
data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=12, seed=0)
model = fl.ModelSpec(name="cnn4", width=0.25)
runs = [
    fl.train(algorithm, data, model, rounds=8, participation=0.5)
    for algorithm in (
        fl.FedAvg(lr=0.05),
        FedNormalised(lr=0.05),
        FedNormalised(lr=0.05, train="body", share="body", swa=fl.SWA(start=0.5, cycle=2, low=0.01)),
    )
]
fl.plot(runs)

# %% [markdown]
# A wrong value is refused before any work, with the field, the value and what is allowed:

# %%
try:
    FedNormalised(local=Normalised(length=-1))
except fl.SettingError as error:
    print(error)

# %% [markdown]
# The loop and the batch must agree: one round with each engine, in two stores. **What to look for:** a difference of the
# size of rounding.

# %%
losses = [
    fl.train(FedNormalised(lr=0.05), data, model, rounds=1, engine=engine, store=f"runs-{engine}").history["value"]
    for engine in ("loop", "batch")
]
(losses[0] - losses[1]).abs().max()
