# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first federated run
#
# Twenty clients hold real handwritten digits, each only a few of the ten classes. We look at who holds what, train two
# methods on the same clients and batches, let every client fine-tune its own copy, and compare.
#
# On a GPU or with patience, set `FULL = True`: more rounds, and the network at full width.

# %%
import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 10
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)

# %% [markdown]
# ## Who holds what
#
# A Dirichlet partition of 0.3 is strongly skewed. **What to look for:** most columns, one a client, have two or three
# dark cells; the client sees only those classes, and its own test set has the same mixture.

# %%
data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
data.summary().head()

# %%
data.plot()

# %% [markdown]
# ## Two methods, the same federation
#
# FedAvg trains everything. FedBABU trains and shares the body only: the random head never moves until fine-tuning.
# Both have the same seed, so they sample the same clients and see the same batches. A run is a directory under `runs/`;
# running this cell again loads it.

# %%
avg = fl.train(fl.FedAvg(lr=0.05, momentum=0.9), data, MODEL, rounds=ROUNDS)
babu = fl.train(fl.FedBABU(lr=0.05, momentum=0.9), data, MODEL, rounds=ROUNDS)

# %% [markdown]
# **What to look for:** accuracy on the *global* test set. FedAvg, which may move its head, is ahead here.

# %%
fl.plot([avg, babu])

# %% [markdown]
# ## Personalize
#
# Every client fine-tunes a copy of the final global model on its own images; epoch 0 is the *initial* accuracy, on the
# client's *own* test set. **What to look for:** where the curves start, how much the first epoch gains, and how wide the
# band over clients is. The networks normalise with the statistics of the batch they are scored on, so initial accuracy
# on a set of two classes is far below the global one.

# %%
tuned = fl.personalize([avg, babu], epochs=5, lr=0.005)
tuned.plot()

# %% [markdown]
# ## Compare
#
# One table: mean ± spread over the 20 clients, one seed. **What to look for:** which column you would have reported.

# %%
fl.compare([avg, babu], tuned)

# %% [markdown]
# And without the head at all: predict the class whose mean feature, over the client's own training images, is nearest.
# This is a choice among the client's own classes only, so it is easier than the accuracies above.

# %%
fl.headless([avg, babu]).summary()
