# %% [markdown]
# # Heterogeneity: what alpha and shards do
#
# "Non-IID" is not one thing. The same images are shared out in several ways; we look at who holds what, then train the
# same method on each, with the same seed. On a GPU or with patience, set `FULL = True`.

# %%
import pandas as pd

import flatlab as fl
from flatlab.figures import cohort_table

FULL = False
ROUNDS = 100 if FULL else 6
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)

digits = fl.load("digits")
partitions = {
    "IID": fl.IID(),
    "Dirichlet 1": fl.Dirichlet(alpha=1.0),
    "Dirichlet 0.1": fl.Dirichlet(alpha=0.1),
    "2 shards": fl.Shards(per_client=2),
}
data = {name: digits.federate(partition, clients=10, seed=0) for name, partition in partitions.items()}

# %% [markdown]
# ## Who holds what
#
# **What to look for:** with Dirichlet the classes fade out; with shards every client has exactly two pieces, most often two
# classes. The test sets follow the same mixtures, so an easy client stays easy.

# %%
data["Dirichlet 0.1"].plot()

# %%
data["2 shards"].plot()

# %% [markdown]
# Achieved heterogeneity, whatever the parameter's name. **What to look for:** "alpha" means different things in different
# libraries (total or per client); the distance to the pooled class mixture can be compared.

# %%
pd.DataFrame({name: one.heterogeneity() for name, one in data.items()}).T

# %% [markdown]
# ## The same method on each
#
# Half of the clients take part in a round. **What to look for:** where each curve is after the same rounds. Whether
# accuracy jumps more from round to round where the sampled clients' classes change is a matter of numbers, below the curves
# (while accuracy still rises, most of a change is learning, not a jump);
# with one seed and few rounds they need not be in the order of the skew.

# %%
runs = {
    name: fl.train(fl.FedAvg(lr=0.05, momentum=0.9), one, MODEL, rounds=ROUNDS, participation=0.5)
    for name, one in data.items()
}
fl.lab.Curves(list(runs.values()))

# %%
scores = {name: run.history.query("split == 'holdout' and metric == 'accuracy'")["value"] for name, run in runs.items()}
pd.DataFrame(
    {name: {"mean change between rounds": s.diff().abs().mean(), "last": s.iloc[-1]} for name, s in scores.items()}
).T

# %% [markdown]
# ## Who pulls where
#
# The clients of one round: what they hold, their loss, and drift: how far they moved the model. **What to look for:** whether
# few classes go with much drift; the rank correlation below is of five clients of one round: undecided, whatever its sign.

# %%
fl.lab.Clients(runs["Dirichlet 0.1"])

# %%
last_round = cohort_table(runs["Dirichlet 0.1"])
rank = last_round[["classes", "drift"]].corr(method="spearman").iloc[0, 1]
print(f"classes against drift over {len(last_round)} clients: rank correlation {rank:+.2f}")

# %% [markdown]
# ## Two accuracies
#
# Holdout accuracy is the global model's on the pooled test set; initial accuracy is the same model on each client's own
# test set; personalized is after fine-tuning. **What to look for:** the columns are different numbers, and need not put
# the rows in one order: a paper that reports one of them tells a third of the story.

# %%
tables = [fl.compare(run, fl.personalize(run, epochs=3, lr=0.005)).summary() for run in runs.values()]
pd.concat(tables, keys=list(runs), names=["partition"]).droplevel(1)[["holdout %", "initial %", "personalized %"]]
