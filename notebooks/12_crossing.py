# %% [markdown]
# # The crossing: FedBABU and FedASAM + SWA together
#
# Nothing is trained here: tables, figures and verdicts come from the histories that are kept in `reproduction/`, made by
# `flatlab reproduce crossing`. What is missing is said first. No paper has this table: expected signs are
# hypotheses of our own. A difference whose interval includes 0, or of one seed, is undecided.

# %%
import flatlab as fl

kept = fl.papers.Archive()
fl.papers.show(kept, "crossing")  # each at the scale of which most is kept; scale="quick", "short" or "paper" chooses

# %% [markdown]
# ## Any cell again, or with one thing changed
#
# The experiment of a cell is an ordinary one: train it with `fl.Run(experiment).to()`, or change a setting first. The
# command below each table, with `--again`, trains a cell from nothing and sets the numbers side by side.

# %%
fl.papers.crossing.experiment("FedBABU", local="ASAM", swa=True, shards=2)
