# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # FedBABU: the paper's tables and figures
#
# Nothing is trained here: tables, figures and verdicts come from the histories that are kept in `reproduction/`, made by
# `flatlab reproduce fedbabu`. The papers' numbers are recalled, unverified: targets to compare with. A table of which runs
# are missing says so and shows the rest.

# %%
from pathlib import Path

from IPython.display import Markdown, display

import flatlab as fl

kept = fl.papers.Archive(Path(fl.__file__).parents[1] / "reproduction")
SCALE = fl.papers.kept_scale(kept, "fedbabu")  # or "quick", "short", "paper"
items = {name: item for name, item in fl.papers.items(SCALE).items() if name.startswith("fedbabu")}
print(
    f"scale {SCALE}; {sum(kept.has(run) for item in items.values() for run in item.experiments().values())} runs are kept"
)

# %% [markdown]
# ## What the claims come to
#
# Differences are paired by seed; one whose interval includes 0 is undecided.

# %%
claims = [claim for name, claim in fl.papers.claims(SCALE).items() if name.startswith("fedbabu")]
Markdown(fl.papers.page(claims, kept))

# %% [markdown]
# ## Tables

# %%
for item in items.values():
    if isinstance(item, fl.papers.Table) and any(kept.has(run) for run in item.experiments().values()):
        display(Markdown(fl.papers.fill(item, kept).markdown()))

# %% [markdown]
# ## Figures

# %%
for item in items.values():
    drawing = fl.papers.picture(item, kept) if isinstance(item, fl.papers.Figure) else None
    if drawing is not None:
        display(drawing)

# %% [markdown]
# ## Any cell again, or with one thing changed
#
# The experiment of a cell is an ordinary one: train it with `fl.Run(experiment).to()`, or change a setting first.
# `flatlab reproduce TABLE --cell ROW COLUMN --again` trains a cell from nothing and sets the numbers side by side.

# %%
fl.papers.fedbabu.experiment("FedBABU", dataset="cifar10", shards=2, lr=0.05)
