# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Personalization: which part, how many epochs, who gains
#
# After the federation every client fine-tunes a copy of the global model on its own images. We take one FedAvg and one
# FedBABU run and turn the knobs. On a GPU or with patience, set `FULL = True`.

# %%
import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 10
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)

data = fl.load("digits").federate(fl.Shards(per_client=3), clients=20, seed=0)
settings = {"lr": 0.05, "momentum": 0.9}
avg = fl.train(fl.FedAvg(**settings), data, MODEL, rounds=ROUNDS)
babu = fl.train(fl.FedBABU(**settings), data, MODEL, rounds=ROUNDS)

# %% [markdown]
# ## The knobs
#
# **What to look for:** the learning rate that FedBABU's paper uses, 0.001, is small for so few images; the part that is
# tuned changes where the curve ends more than how it starts. The button fine-tunes in the background.

# %%
panel = fl.lab.Personalization([avg, babu])
panel.lr.value, panel.epochs.value = 0.005, 5
panel.measure()
panel.settle()
panel

# %% [markdown]
# ## Which part
#
# FedBABU's Table 5 in small: only the head, only the body, or both. **What to look for:** a random head that federated
# training never touched needs to be tuned; a body that was trained for that very head may stay.

# %%
parts = {part: fl.personalize([avg, babu], epochs=5, lr=0.005, part=part) for part in ("head", "body", "all")}
parts["head"].plot()

# %%
parts["body"].plot()

# %% [markdown]
# ## Who gains
#
# Each point a client. **What to look for:** those that start low gain most, so the spread over clients shrinks.

# %%
fl.plot(parts["all"], view="gains")

# %% [markdown]
# ## Without a head
#
# Features against the mean feature of each class, on the client's own images: no head is needed at all. **What to look
# for:** whether the body of FedBABU, trained under a fixed head, separates classes better.

# %%
fl.headless([avg, babu]).summary()
