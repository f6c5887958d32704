# %% [markdown]
# # Clients that lie
#
# Some clients send what they like, or train on what they like. Which rule holds, what does it cost where nobody lies, and
# does personalization wash a backdoor out? And what do changed images do to models that everybody holds? On a GPU or with patience, set `FULL = True`.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import flatlab as fl
from flatlab.figures import draw_cohort

FULL = False
ROUNDS = 60 if FULL else 6
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)
SAMPLES = None if FULL else 128

digits = fl.load("digits")
skewed = digits.federate(fl.Dirichlet(alpha=0.3), clients=10, seed=0)
even = digits.federate("iid", clients=10, seed=0)

# %% [markdown]
# ## Forged messages
#
# Two of ten clients send three times their update backwards, or leave the mean of the honest ones by one standard deviation
# (ALIE, whose own formula has two of ten stay at the mean). **What to look for:** the column without an attack first: a robust
# rule may hear minorities less under skew. All numbers are one seed's.

# %%
rules = {"mean": "weighted", "median": "median", "geometric": "geometric"}
attacks = {"none": None, "sign flip": fl.attacks.SignFlip(scale=3.0), "ALIE": fl.attacks.ALIE(z=1.0)}


def lying(message=None, poison=None, **settings):
    return fl.World(adversary=fl.Adversary(share=0.2, message=message, data=poison, **settings))


def last(run, split="holdout", metric="accuracy"):
    rows = run.history[(run.history["split"] == split) & (run.history["metric"] == metric)]
    return rows["value"].iloc[-1]


runs = {
    (where, rule, attack): fl.train(
        fl.FedAvg(lr=0.1, aggregation=rules[rule]),
        data,
        MODEL,
        rounds=ROUNDS,
        world=None if message is None else lying(message),
    )
    for where, data in (("even", even), ("skewed", skewed))
    for rule in rules
    for attack, message in attacks.items()
}
scores = pd.DataFrame(
    [(*key, 100 * last(run)) for key, run in runs.items()], columns=["data", "rule", "attack", "holdout %"]
)
table = scores.pivot_table(index=["data", "rule"], columns="attack", values="holdout %", sort=False).round(1)
table

# %%
for where in ("even", "skewed"):
    cost = table.loc[(where, "mean"), "none"] - table.loc[where]["none"].drop("mean")
    rows = table.loc[where][["sign flip", "ALIE"]]
    print(
        f"{where}: without an attack {cost.idxmax()} costs most, {cost.max():.1f} points; under the sign flip {rows['sign flip'].idxmax()}"
        f" is best ({rows['sign flip'].max():.1f} %), the mean has {rows.loc['mean', 'sign flip']:.1f} %; under ALIE {rows['ALIE'].idxmin()}"
        f" is worst ({rows['ALIE'].min():.1f} %)"
    )

# %% [markdown]
# ## Who was heard
#
# Rules that weigh clients say so. **What to look for:** the weights of the bad ones, which are marked. Drift does not give
# them away: it is how far they trained, before they forged.

# %%
draw_cohort(runs["even", "geometric", "sign flip"])

# %% [markdown]
# ## A backdoor
#
# The two mark half of their images with a bright square, call them 0, and enlarge their updates until the global model is
# theirs; after half of the rounds they stop. **What to look for:** accuracy recovers, and then says nothing of the door; success does,
# and it may decay over the clean rounds. One class of ten is 0, so a success near 10 % is no door. Cutting updates to one length is the simplest defence.

# %%
patch, at = fl.attacks.Patch(target=0, margin=0), ROUNDS // 2 + 1
world = lying(fl.attacks.Replacement(), patch, stop=0.5)
doors = {
    "mean": fl.FedAvg(lr=0.1),
    "clipped": fl.FedAvg(lr=0.1, aggregation=fl.aggregation.Clipped(tau=0.5)),
    "FedBABU": fl.FedBABU(lr=0.1),
}
opened = {name: fl.train(algorithm, even, MODEL, rounds=ROUNDS + 2, world=world) for name, algorithm in doors.items()}
for name, run in opened.items():
    fl.annotate(run, label=name)
fl.plot(list(opened.values()), metrics=["accuracy", "attack success"])

# %%
for name, run in opened.items():
    success = run.history.query("split == 'attack'")["value"]
    print(
        f"{name}: accuracy {100 * last(run):.1f} %; success {100 * success.iloc[at - 1]:.0f} % when the attack ends,"
        f" {100 * success.iloc[-1]:.0f} % {len(success) - at} clean rounds later"
    )

# %% [markdown]
# ## Does fine-tuning wash it out, and of which part?
#
# From the model at the end of the attack the honest clients tune the head, the body, or all of it, on clean images.
# **What to look for:** how far each line falls, and from where: what never was far above chance has little to wash out.
# FedBABU's head never moved in training, so a backdoor of its would lie in the body.

# %%
good = [client for client in range(even.clients) if client not in opened["mean"].bad]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True)
left = {}
for axis, name in zip(axes, ("mean", "FedBABU"), strict=True):
    for part in ("head", "body", "all"):
        tuned = fl.personalize(opened[name], round=at, epochs=5, lr=0.05, part=part, clients=good)
        success = tuned.curve("success").set_index("epoch")["mean"]
        left[name, part] = success.iloc[0], success.iloc[-1]
        axis.plot(100 * success, label=part)
    axis.set(title=name, xlabel="epochs of fine-tuning", ylim=(0, 102))
axes[0].set_ylabel("attack success (%)")
_ = axes[1].legend(frameon=False)
# %%
for name in ("mean", "FedBABU"):
    falls = {part: 100 * (left[name, part][0] - left[name, part][1]) for part in ("head", "body", "all")}
    order = sorted(falls, key=falls.get, reverse=True)
    print(
        f"{name}: success falls most by tuning {'all of it' if order[0] == 'all' else f'the {order[0]}'}:",
        ", ".join(f"{part} {falls[part]:.0f} points" for part in order),
    )

# %% [markdown]
# ## Is the poisoned minimum another one?
#
# The same plane around the model, once on clean and once on triggered samples with the label that the attackers want (all
# of one class, which is meant here). **What to look for:** the loss in the centres, and where each surface rises; each
# picture has a colour scale of its own.

# %%
triggered = fl.triggered(even, patch)
views = [
    fl.landscape({name: opened["mean"].model(at)}, data=part, points=9, limit=SAMPLES, one_class=True)
    for name, part in (("clean samples", even), ("triggered samples", triggered))
]
views[0].plot(log=True)

# %%
views[1].plot(log=True)

# %%
tops = {
    name: fl.hessian(opened["mean"].model(at), part.samples("holdout", limit=128), one_class=True)
    .top(1)
    .frame["eigenvalue"]
    .item()
    for name, part in (("clean", even), ("triggered", triggered))
}
sharper = max(tops, key=tops.get)
print(
    f"top eigenvalue: {tops['clean']:.3g} on clean, {tops['triggered']:.3g} on triggered samples: sharper on the {sharper} ones,"
    " whose loss is another: one seed, no law"
)

# %% [markdown]
# ## Changed images
#
# Every client holds the weights, so each can look for the small change of an image that hurts most: one step of the gradient's
# sign (FGSM), or five, each kept within eps of the image (PGD). **What to look for:** whether the models that were trained for
# flat minima, and their averages, keep more of their accuracy, and up to which eps. Compare shares of the clean accuracy: who
# learned less in so few rounds has less to lose. eps is in shares of the range of pixels.

# %%
asam, swa = fl.ASAM(rho=0.3), fl.SWA(start=0.5, cycle=1)
targets = {"FedAvg": runs["skewed", "mean", "none"]}
for name, settings in (
    ("FedAvg + SWA", {"swa": swa}),
    ("FedASAM", {"local": asam}),
    ("FedASAM + SWA", {"local": asam, "swa": swa}),
):
    targets[name] = fl.train(fl.FedAvg(lr=0.1, **settings), skewed, MODEL, rounds=ROUNDS)
EPS = (0.03, 0.06, 0.12)
ways = [fl.FGSM(eps=eps) for eps in EPS] + [fl.PGD(eps=eps, step=eps / 2, steps=5) for eps in EPS]


def under(tested):
    """Mean accuracy in percent by attack and eps."""
    return 100 * tested.frame.groupby(["attack", "eps"], sort=False)["accuracy"].mean()


evaded = pd.DataFrame({name: under(fl.evade(run, ways)) for name, run in targets.items()}).T
evaded.round(1)

# %%
clean = evaded["none", 0.0]
for eps in EPS:
    lost = clean - evaded["pgd", eps]
    best, worst = evaded["pgd", eps].idxmax(), evaded["pgd", eps].idxmin()
    print(
        f"eps {eps:g}: PGD takes {lost.min():.1f} to {lost.max():.1f} points, FGSM {(clean - evaded['fgsm', eps]).min():.1f} to"
        f" {(clean - evaded['fgsm', eps]).max():.1f}; most is left of {best} ({evaded.loc[best, ('pgd', eps)]:.1f} %), least of"
        f" {worst} ({evaded.loc[worst, ('pgd', eps)]:.1f} %)"
    )
shift = evaded.loc["FedASAM + SWA"] - evaded.loc["FedAvg"]
print(
    f"FedASAM + SWA against FedAvg: {shift['none', 0.0]:+.1f} points on clean images,",
    ", ".join(f"{shift['pgd', eps]:+.1f} under PGD of eps {eps:g}" for eps in EPS),
)

kept = 100 * evaded["pgd", EPS[0]] / clean
print(
    f"of the clean accuracy PGD of eps {EPS[0]:g} leaves",
    ", ".join(f"{name} {share:.0f} %" for name, share in kept.sort_values(ascending=False).items()),
)

# %% [markdown]
# ## Does personalization cost robustness?
#
# Clients' models before and after three epochs of fine-tuning, each on its own test images. **What to look for:** tuning raises
# accuracy on clean images; compare what it does to the accuracy under attack. A client's own images are of few classes, and among
# few an image is harder to push over. The mean is over five of the ten clients, one seed.

# %%
strong, some = [fl.PGD(eps=eps, step=eps / 2, steps=5) for eps in EPS], [0, 2, 4, 6, 8]
own = {
    (name, when): under(fl.evade(targets[name], strong, clients=some, epochs=epochs, lr=0.05))
    for name in ("FedAvg", "FedASAM + SWA")
    for when, epochs in (("before", 0), ("tuned", 3))
}
own = pd.DataFrame(own).T
own.round(1)

# %%
for name in ("FedAvg", "FedASAM + SWA"):
    gained = own.loc[name, "tuned"] - own.loc[name, "before"]
    print(
        f"{name}: tuning changes accuracy by {gained['none', 0.0]:+.1f} points on clean images,",
        ", ".join(f"{gained['pgd', eps]:+.1f} at eps {eps:g}" for eps in EPS),
    )
