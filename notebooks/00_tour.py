# %% [markdown]
# # The tour: a federated run on one screen
#
# First a finished pair, which comes with flatlab: press **▶** and watch both methods learn, turn the landscapes, read what
# the numbers say. **Run your own** opens the bench with the same settings.

# %%
import flatlab as fl

fl.stories.show("flat")

# %% [markdown]
# Now your own. Choose data, who holds what, and a method on the left; press **Run** below. The tabs on the right show
# accuracy per round, the clients of a round, and, once their buttons are pressed, the loss landscape, the Hessian and
# personalization. Pause it, step one round, move the round slider to see any earlier moment, rewind, change a setting and fork (FedBABU's plain
# steps have no rho: choose SAM or ASAM as its local step first); pick finished runs in the list to lay them over this one. The bench makes ordinary runs: every one is a folder under `runs/` that scripts can open.
#
# On a GPU or with patience, set `FULL = True` for the network at full width and 100 rounds.

# %%
FULL = False
ROUNDS = 100 if FULL else 8
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)

data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
lab = fl.lab.Lab(data, model=MODEL, algorithm=fl.FedBABU(lr=0.05, momentum=0.9), rounds=ROUNDS, participation=0.5)
lab

# %% [markdown]
# A notebook that runs from top to bottom must not wait for a click: `ensure` trains as many rounds as are asked for, returns
# at once if they are there, and raises what went wrong. Clicks above and this cell end the same.

# %%
run = lab.ensure(ROUNDS)
run

# %% [markdown]
# **What to look for:** whatever is on the screen is also a result in Python, with the same numbers.

# %%
run.plot()

# %% [markdown]
# Rewind and fork from a script, as the buttons do: the fork has the same past, and goes on with another method.
# **What to look for:** where the curves part.

# %%
fork = run.fork(round=ROUNDS // 2, algorithm=fl.FedASAM(lr=0.05, momentum=0.9, rho=0.3, eta=0.2)).to()
fl.plot([run, fork])

# %% [markdown]
# Two runs side by side, in every view, with the Python that makes what is on the screen. **What to look for:** the table
# of the live panel says in which settings they differ; everything else, clients and batches too, is the same. `lab.save_page("bench.html")`
# writes what is on the screen as one page to share.

# %%
fl.lab.Compare([run, fork])
