# %% [markdown]
# # Compare two methods
#
# Two runs that differ in nothing but the method: same data, clients, batches and seed. The setting is that of `flatlab demo`,
# in which losses come out alike over five seeds, so that curvatures may be compared; one seed proves nothing. The panel shows them side by side
# in every view; *Copy as code* gives the Python that makes exactly what is on the screen. On a GPU or with patience, set
# `FULL = True`.

# %%
import flatlab as fl

FULL = False
ROUNDS = 300 if FULL else 100
MODEL = fl.ModelSpec(name="lenet", width=1.0 if FULL else 0.5)

data = fl.load("digits").federate(fl.Dirichlet(alpha=0.5), clients=20, seed=0)
settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 4e-4, "epochs": 2}
one = fl.train(fl.FedAvg(**settings), data, MODEL, rounds=ROUNDS, participation=0.25)
two = fl.train(
    fl.FedASAM(rho=0.2, eta=0.2, swa=fl.SWA(start=0.75, cycle=5, low=0.005), **settings),
    data,
    MODEL,
    rounds=ROUNDS,
    participation=0.25,
)

# %% [markdown]
# **What to look for:** in the live panel the table of differences first (here it comes below, from `compare.differences()`);
# then the same tab for both before the next one.

# %%
compare = fl.lab.Compare([one, two])
compare

# %% [markdown]
# The views can be driven from cells, too. **What to look for:** one scale for both landscapes.

# %%
compare.view.value = "Landscape"
compare.panel.settings.change(points=11, limit=128)
compare.panel.measure()
compare.settle()
compare.figure()

# %% [markdown]
# What differs, as a table; measured quantities join it. **What to look for:** of the settings only the method's own are listed.

# %%
compare.differences()

# %% [markdown]
# The code of what is shown:

# %%
print(compare.code())
