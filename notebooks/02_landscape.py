# %% [markdown]
# # Loss landscapes of two federated models
#
# FedASAM + SWA is made to land in a flat minimum; FedAvg lands where it lands. We look at both from the same directions,
# with the same samples, range and colours, and walk between them. After so few rounds their losses differ: a model that has
# learned less can be flat for that reason alone, so nothing here says which method is flatter (`flatlab demo` shows a setting
# in which losses are alike). The networks normalise with batch statistics, so the
# samples come in fixed batches, which are part of what is measured; the captions say so. On a GPU or with patience, set `FULL = True`.

# %%
import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 16
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)
SAMPLES = None if FULL else 128

data = fl.load("digits").federate(fl.Dirichlet(alpha=1.0), clients=10, seed=0)
avg = fl.train(fl.FedAvg(lr=0.05, momentum=0.9), data, MODEL, rounds=ROUNDS)
asam = fl.train(
    fl.FedASAM(lr=0.05, momentum=0.9, rho=0.3, eta=0.2, swa=fl.SWA(start=0.5, cycle=4, low=0.01)),
    data,
    MODEL,
    rounds=ROUNDS,
)
runs = {"FedAvg": avg, "FedASAM + SWA": asam}

# %% [markdown]
# ## A plane around each model
#
# Two random directions, each filter scaled to the length of the model's own filter, so that networks of different weights
# can be compared. **What to look for:** the loss at the centre, which is the model's own, and how far the low region
# reaches. One plane is one sample of all directions: never conclude from one alone.

# %%
around = fl.landscape(runs, points=13, limit=SAMPLES)
around.plot(log=True)

# %% [markdown]
# Several random lines say more than one plane. **What to look for:** whether the means differ by more than
# their bands (one standard deviation of three lines) are wide.

# %%
lines = fl.landscape(runs, dimensions=1, points=13, repeats=3, limit=SAMPLES)
lines.plot()

# %% [markdown]
# ## The plane through three models
#
# Three clients of the last round, after their local training, lie in this plane exactly, and the global model beside it.
# **What to look for:** this is the loss on *everybody's* test images; the clients' own losses, which they lowered, are not
# in the picture. Compare it at the three clients and between them.

# %%
clients = list(avg.clients(avg.round).items())[:3]
between = fl.landscape(
    {f"client {client}": model for client, model in clients},
    data,
    directions="plane",
    points=11,
    limit=SAMPLES,
    store=False,
    markers={"global": avg.model()},
)
between.plot(log=True)

# %% [markdown]
# ## The way there
#
# The checkpoints projected on their two principal components. The share of variance is printed: the path lies off the
# plane, so the true loss of a mark is not that of the surface under it. **What to look for:** how far off the plane the
# marks lie; the table below has each mark's true loss (`loss`) and distance (`residual`).

# %%
way = fl.landscape(avg, directions="pca", points=11, limit=SAMPLES)
way.plot(log=True)

# %%
way.marks()[["name", "x", "y", "loss", "residual"]]

# %% [markdown]
# ## Between two models
#
# The loss along the straight line from FedAvg's model to FedASAM's. t = 0 is FedAvg, t = 1 the other. **What to look for:** the
# barrier. Both began at the same weights, and saw the same clients and batches.

# %%
fl.path(avg, asam, points=13, limit=SAMPLES).plot()
