# %% [markdown]
# # Gossip: no server, and is the mean flat?
#
# Every client keeps a model of its own and averages it with its neighbours' after each round. The mean of all models is
# "the" model. Zhu et al. (2306.02913) say that such training acts like SAM along the directions in which clients differ:
# then these should be sharp ones, and the mean should end where it is flat. Both can be measured. `FULL = True` is the
# experiment's size.

# %%
import flatlab as fl

FULL = False
CLIENTS, ROUNDS, STEPS = (16, 100, 5) if FULL else (8, 12, 5)
MODEL = fl.ModelSpec(name="cnn4", width=0.25 if FULL else 0.125)
SAMPLES = 512 if FULL else 96

data = fl.load("mnist" if FULL else "digits").federate(fl.Dirichlet(alpha=0.3), clients=CLIENTS, seed=0)
graphs = {
    "ring": fl.topology.Ring(),
    "random": fl.topology.Random(p=0.4),
    "half of complete": fl.topology.Matcha(base="complete", budget=0.5),
    "complete": fl.topology.Complete(),
}

# %% [markdown]
# ## Who talks to whom
#
# |λ|₂ is the factor that at most is left of the differences between clients after a mix: 0 is agreement at once, 1 is none.
# **What to look for:** edges and the number: more edges need not mean a smaller one.

# %%
fl.plot(graphs["ring"], nodes=CLIENTS)

# %%
fl.plot(graphs["random"], nodes=CLIENTS)

# %% [markdown]
# ## The same local steps over each graph, and with a server

# %%
settings = {"lr": 0.1, "local_steps": STEPS}
scored = fl.Evaluation(clients_every=ROUNDS)
runs = {"server": fl.train(fl.FedAvg(**settings), data, MODEL, ROUNDS, evaluation=scored, progress=False)}
for name, graph in graphs.items():
    algorithm = fl.FedAvg(topology=graph, **settings)
    runs[name] = fl.train(algorithm, data, MODEL, ROUNDS, evaluation=scored, progress=False)
fl.plot([runs["server"], runs["ring"], runs["complete"]], x="megabytes")

# %% [markdown]
# **What to look for:** the mean of the models against the models that it is the mean of, on everybody's test images, and
# each client's on its own. Over MATCHA's half of the graph a client weighs its own model by 1 - a times its active edges,
# which may be 0 or below: after such a mix it has nothing of its own training, and its own images may suffer most.

# %%
import pandas as pd
import torch

images, labels = data.samples("holdout", limit=512)


@torch.no_grad()
def on_all(model):
    return float((model(images).argmax(1) == labels).float().mean())


rows = {}
for name, run in runs.items():
    last = run.history.query("round == @ROUNDS").groupby(["split", "metric"])["value"].mean()
    each = [on_all(run.model(client=client)) for client in range(CLIENTS)]
    rows[name] = {
        "the mean, all images": on_all(run.model()),
        "clients', all images": sum(each) / CLIENTS,
        "clients', own images": last["test", "accuracy"],
        "MB": run.history.query("metric == 'megabytes'")["value"].sum(),
    }
table = pd.DataFrame(rows).T
table.round(2)

# %%
ring = table.loc["ring"]
print(
    f"Over the ring the mean of the models has {100 * ring.iloc[0]:.0f} % of all images right, the models themselves "
    f"{100 * ring.iloc[1]:.0f} %, and {100 * ring.iloc[2]:.0f} % of their own clients'. The server's model has "
    f"{100 * table.loc['server'].iloc[0]:.0f} % of all."
)

# %% [markdown]
# ## Do clients differ along sharp directions?
#
# `alignment` is the curvature along the clients' differences; that of a random direction is the mean eigenvalue, and no
# direction has more than λ₁. With a server the differences are those before the server averages; over a graph those that
# are left after neighbours have. Over the complete graph nothing is left.

# %%
compared = {"server": runs["server"], "ring": runs["ring"], "random": runs["random"]}
compared["server, ASAM"] = fl.train(fl.FedASAM(rho=0.3, **settings), data, MODEL, ROUNDS, progress=False)
found = fl.disagreement(compared, limit=SAMPLES)
found.plot()

# %%
found.frame.drop(columns=["run", "round", "clients"]).round(3)

# %%
frame = found.frame.set_index("name")
for name, row in frame.iterrows():
    times = row["alignment"] / row["mean eigenvalue"]
    print(
        f"{name}: curvature {row['alignment']:.3g} along the differences, {times:.1f} times that of a random direction, "
        f"{100 * row['alignment'] / row['lambda_1']:.0f} % of the largest."
    )
flatter = "flatter" if frame["lambda_1"]["ring"] < frame["lambda_1"]["server"] else "not flatter"
print(
    f"The ring's mean is {flatter} than the server's model: λ₁ = {frame['lambda_1']['ring']:.3g} against "
    f"{frame['lambda_1']['server']:.3g}, after {ROUNDS} rounds and with one seed; where their losses differ, this says "
    "little of the methods."
)

# %% [markdown]
# With other seeds, more rounds and images the answer may be another: train the runs above in a loop over
# `fl.train(..., seed=seed)`, with `FULL = True`. Along the rounds of these:

# %%
rounds = [ROUNDS // 4, ROUNDS // 2, ROUNDS]
pd.DataFrame(
    {
        name: [fl.disagreement(run, round=r, limit=SAMPLES).frame["alignment"].item() for r in rounds]
        for name, run in [("server", runs["server"]), ("ring", runs["ring"])]
    },
    index=pd.Index(rounds, name="round"),
).round(3)
