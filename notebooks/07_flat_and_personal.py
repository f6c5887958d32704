# %% [markdown]
# # Flat minima meet personalization
#
# FedBABU says: leave the head alone and tune it at the end. FedASAM + SWA says: land where it is flat. One may do both, and flatlab can ask what the one does to the other: every cross is one line. On a GPU or with patience,
# set `FULL = True`.

# %%
import flatlab as fl

FULL = False
ROUNDS = 100 if FULL else 12
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)
SAMPLES = None if FULL else 128

data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=12, seed=0)
settings = {"lr": 0.05, "momentum": 0.9}
flat = fl.ASAM(rho=0.3, eta=0.2)
swa = fl.SWA(start=0.5, cycle=2, low=0.01)
methods = {
    "FedBABU": fl.FedBABU(**settings),
    "FedBABU + ASAM": fl.FedBABU(local=flat, **settings),
    "FedBABU + SWA": fl.FedBABU(swa=swa, **settings),
    "FedBABU + ASAM + SWA": fl.FedBABU(local=flat, swa=swa, **settings),
}
runs = [fl.train(method, data, MODEL, rounds=ROUNDS, participation=0.5) for method in methods.values()]

# %% [markdown]
# ## How well do they personalize?
#
# **What to look for:** the gain against the spread over clients, and remember that this is one seed.

# %%
tuned = fl.personalize(runs, epochs=4, lr=0.005)
fl.compare(runs, tuned)

# %%
tuned.plot()

# %% [markdown]
# ## How flat are they?
#
# Two definitions that survive the rescaling of a layer, and the top eigenvalue, which does not. **What to look for:**
# whether they rank the four alike.

# %%
fl.sharpness(runs, measures=("top", "asam", "fisher_rao"), limit=SAMPLES)

# %% [markdown]
# **What to look for:** all panels have the same scale and the same directions, each scaled to its own model's filters.
# Look at the loss in the centre of each first: curvatures of models with very different losses say little.

# %%
fl.landscape(runs, points=9, limit=SAMPLES).plot(log=True, columns=2)

# %% [markdown]
# ## Does flat mean personal?
#
# For each client of the plain run: the sharpness of the global model on its own images, against what fine-tuning gains it.
# **What to look for:** the interval of the rank correlation. With twelve clients it is wide, at full size too. The second
# picture is of the run with ASAM + SWA.

# %%
fl.flatness_vs_gain(runs[0], gains=fl.personalize(runs[0], epochs=4, lr=0.005)).plot()

# %%
fl.flatness_vs_gain(runs[-1], gains=fl.personalize(runs[-1], epochs=4, lr=0.005)).plot()

# %% [markdown]
# The curves of fine-tuning again, with controls: choose a run, the tuned part, the learning rate.

# %%
panel = fl.lab.Personalization(runs)
panel.tuning.value = fl.Tuning(lr=0.005, epochs=4)
panel.measure()
panel.settle()
panel
