# %% [markdown]
# # Personalization: which part, how many epochs, who gains
#
# After the federation every client fine-tunes a copy of the global model on its own images. We take one FedAvg and one
# FedBABU run and turn the knobs. On a GPU or with patience, set `FULL = True`.

# %%
import pandas as pd

import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 30
MODEL = fl.ModelSpec(name="lenet", width=1.0 if FULL else 0.5)

data = fl.load("digits").federate(fl.Shards(per_client=2), clients=50, seed=0)
settings = {"lr": 0.05, "momentum": 0.9, "epochs": 5}
avg = fl.train(fl.FedAvg(**settings), data, MODEL, rounds=ROUNDS, participation=0.2)
babu = fl.train(fl.FedBABU(**settings), data, MODEL, rounds=ROUNDS, participation=0.2)

# %% [markdown]
# ## The knobs
#
# **What to look for:** the learning rate that FedBABU's paper uses, 0.001, is small for so few images (28 to 30 a client); where
# each curve is after one epoch, and after five. The button fine-tunes in the background.

# %%
panel = fl.lab.Personalization([avg, babu])
panel.tuning.value = fl.Tuning(lr=0.01)
panel.measure()
panel.settle()
panel

# %% [markdown]
# ## Which part
#
# FedBABU's Table 4 in small: only the head, only the body, or both. **What to look for:** which part is enough for which
# method, in the table.

# %%
parts = {part: fl.personalize([avg, babu], epochs=5, lr=0.01, part=part) for part in ("head", "body", "all")}
parts["head"].plot()

# %%
parts["body"].plot()

# %%
pd.concat({part: tuned.summary() for part, tuned in parts.items()}, names=["tuned"]).droplevel(1)[
    ["name", "initial", "personalized"]
]

# %% [markdown]
# ## Who gains
#
# Each point is a client; many lie on one another. **What to look for:** who gains, and who loses by tuning on so few images.

# %%
fl.plot(parts["all"], view="gains")

# %% [markdown]
# ## Without a head
#
# Features against the mean feature of each class, on the client's own images: no head is needed at all. **What to look
# for:** whether the body of FedBABU, trained under a fixed head, separates classes better.

# %%
fl.headless([avg, babu]).summary()
