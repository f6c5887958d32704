# %% [markdown]
# # A first federated run
#
# Fifty clients hold real handwritten digits, each of two classes or one. We look at who holds what, train two
# methods on the same clients and batches, let every client fine-tune its own copy, and compare.
#
# The setting is that of `flatlab demo`: there are others in which the order of the methods is another. On a GPU or with
# patience, set `FULL = True`: more rounds, and the network at full width.

# %%
import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 30
MODEL = fl.ModelSpec(name="lenet", width=1.0 if FULL else 0.5)

# %% [markdown]
# ## Who holds what
#
# Two shards of one class each are a strong skew. **What to look for:** every column, a client, has one or two dark cells;
# the client sees only those classes, and its own test set has the same mixture.

# %%
data = fl.load("digits").federate(fl.Shards(per_client=2), clients=50, seed=0)
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
settings = {"lr": 0.05, "momentum": 0.9, "epochs": 5}
avg = fl.train(fl.FedAvg(**settings), data, MODEL, rounds=ROUNDS, participation=0.2)
babu = fl.train(fl.FedBABU(**settings), data, MODEL, rounds=ROUNDS, participation=0.2)

# %% [markdown]
# **What to look for:** accuracy on the *global* test set: which is ahead at the end, and how much both jump from round to
# round, since ten clients of one or two classes each change what the model is good at.

# %%
fl.plot([avg, babu])

# %% [markdown]
# ## Personalize
#
# Every client fine-tunes a copy of the final global model on its own images; epoch 0 is the *initial* accuracy, on the
# client's *own* test set. **What to look for:** where the curves start, how much the first epoch gains, and how wide the
# band over clients is. FedBABU's claim is the first epoch; with these clients' few test images (six to eight each) one
# seed is an anecdote, so the lines below are about this seed only; `flatlab demo` has three.

# %%
tuned = fl.personalize([avg, babu], epochs=5, lr=0.01)
tuned.plot()

# %%
curve = tuned.curve().pivot_table(index="epoch", columns="name", values="mean")
for epoch in (0, 1, 5):
    print(
        f"after {epoch} epochs: FedAvg {100 * curve['FedAvg'][epoch]:.1f} %, FedBABU {100 * curve['FedBABU'][epoch]:.1f} %"
    )

# %% [markdown]
# ## Compare
#
# One table: mean ± spread over the 50 clients, one seed. **What to look for:** which column you would have reported.

# %%
fl.compare([avg, babu], tuned)

# %% [markdown]
# And without the head at all: predict the class whose mean feature, over the client's own training images, is nearest.
# This is a choice among the client's own classes only, so it is easier than the accuracies above.

# %%
fl.headless([avg, babu]).summary()
