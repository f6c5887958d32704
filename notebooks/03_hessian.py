# %% [markdown]
# # Curvature: eigenvalues, trace and spectrum of the Hessian
#
# Pictures of landscapes show a few directions; the Hessian speaks of all of them, but only near the model. We measure the
# models of two runs, and FedAvg's along the rounds and for every client. Their losses differ (see 02): the flatter one has
# learned less, so nothing here says which method is flatter. On a GPU or with patience, set `FULL = True`.

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

# %% [markdown]
# ## The top eigenvalues
#
# Lanczos iterations on Hessian-vector products, each value with an error bar and a word on whether it has converged. The
# error is numerical: it says how exactly this Hessian was measured, of this model, on these samples; another seed or other
# samples change the eigenvalue by far more. **What to look for:** the ratio of the first to the fifth, which the FedASAM paper reads as a sign of a sharp direction.

# %%
top = {run.name: fl.hessian(run, limit=SAMPLES).top(5) for run in (avg, asam)}
top["FedAvg"]

# %%
top["FedASAM + SWA"]

# %% [markdown]
# ## The whole spectrum
#
# Its density by stochastic Lanczos quadrature, through the pyhessian package: twenty nodes, each widened to a bump, stand
# for thousands of eigenvalues, so single bumps mean nothing. **What to look for:** how much weight lies near zero, and how
# far to the right the nodes reach.

# %%
spectra = {run.name: fl.hessian(run, limit=SAMPLES).spectrum(steps=20) for run in (avg, asam)}
fl.plot(spectra)

# %% [markdown]
# ## Along the run
#
# **What to look for:** how much the largest eigenvalue changes from one checkpoint to the next: a number at the end of
# training is a number of that moment. The loss, which the history has, belongs beside it.

# %%
along = fl.hessian(avg, limit=SAMPLES).along(every=ROUNDS // 4)
fl.plot(along, title=avg.name)

# %%
loss = avg.history.query("split == 'holdout' and metric == 'loss'").set_index("round")["value"]
along.frame.assign(loss=along.frame["round"].map(loss))[["round", "value", "error", "loss"]]

# %% [markdown]
# ## Every client
#
# The top eigenvalue of each sampled client's model on its own images (the paper's Figure 3b). **What to look for:** the
# spread over FedAvg's clients, against the difference between the two models above.

# %%
fl.plot(fl.hessian(avg, limit=SAMPLES).per_client(round=avg.round), title=avg.name)

# %% [markdown]
# ## Sharpness, many definitions
#
# Some change when a layer is multiplied by a factor and the next divided by it, though the network computes the same:
# never rank models of different weight norms by those. **What to look for:** whether the measures agree on which of the
# two models, at their different losses, is less curved.

# %%
sharp = fl.sharpness([avg, asam], measures=("top", "sam", "asam", "fisher_rao"), limit=SAMPLES)
sharp

# %% [markdown]
# ## Does flatness help personalization?
#
# For each client, the sharpness of the global model on its images against what fine-tuning gains it. **What to look
# for:** the confidence interval of the rank correlation, before its sign.

# %%
fl.flatness_vs_gain(avg, tuning={"epochs": 3, "lr": 0.01}).plot()
