# %% [markdown]
# # Domains that nobody has seen
#
# Each client draws its digits in one style; one style stays away from all of them. Does a minimum that is flat where the
# clients are help there, too? On a GPU or with patience, set `FULL = True`; with photographs and sketches, take
# `fl.load("pacs64")`, whose file is described in data/README.md.

# %%
import numpy as np
import pandas as pd
from scipy.ndimage import grey_dilation
from scipy.stats import spearmanr

import flatlab as fl

FULL = False
ROUNDS = 60 if FULL else 6
MODEL = fl.ModelSpec(name="cnn4", width=1.0 if FULL else 0.25)
SAMPLES = None if FULL else 128

digits = fl.load("digits")
plain = digits.images[:, 0].numpy()
styles = {
    "plain": plain,
    "bold": grey_dilation(plain, size=(1, 2, 2)),
    "outlined": np.abs(plain.astype(int) - np.roll(plain, 1, axis=2)).astype(np.uint8),
    "negative": 255 - plain,
}
quarter = np.arange(len(plain)) % 4  # each image in one style
source = fl.Source.from_pool(
    "styles",
    np.select([(quarter == place)[:, None, None] for place in range(4)], list(styles.values())),
    digits.labels.numpy(),
    digits.class_names,
    groups=np.array(list(styles))[quarter],
)
partitions = {unseen: fl.Domains(unseen=(unseen,), clients_per_domain=2) for unseen in styles}
data = {unseen: source.federate(partition) for unseen, partition in partitions.items()}

# %% [markdown]
# ## Who holds what
#
# **What to look for:** `group` is the client's domain. No client holds an image of the style that is left out; the holdout is
# of the others, too, and is what a model is chosen by.

# %%
one = data["outlined"]
print(
    f"unseen: {', '.join(one.unseen)}, {sum(map(len, one.unseen.values()))} images; holdout: {len(one.holdout)} images"
)
one.summary()

# %% [markdown]
# ## Each style left out once
#
# **What to look for:** which style is out of reach of the others, and whether methods differ more within a style than styles
# do: the lines below say it. One seed: a difference of some points may be chance. Batch statistics are those of the batch that is
# scored, also of an unseen style: the network adapts that far by itself.

# %%
settings = {"lr": 0.1}
swa = fl.SWA(start=0.5, cycle=1)
methods = {
    "FedAvg": fl.FedAvg(**settings),
    "FedASAM": fl.FedASAM(rho=0.3, **settings),
    "FedASAM + SWA": fl.FedASAM(rho=0.3, swa=swa, **settings),
}
evaluation = fl.Evaluation(every=2)
runs = {
    (unseen, name): fl.train(method, data[unseen], MODEL, rounds=ROUNDS, evaluation=evaluation)
    for unseen in styles
    for name, method in methods.items()
}
scores = pd.concat(
    [fl.compare(run).frame[["holdout", "unseen"]].assign(left_out=key[0], method=key[1]) for key, run in runs.items()]
)
table = (100 * scores.pivot_table(index="left_out", columns="method", values=["holdout", "unseen"], sort=False)).round(
    1
)
table

# %%
means = 100 * scores.groupby("method")[["holdout", "unseen"]].mean().loc[list(methods)]
gain = means - means.loc["FedAvg"]
hardest = scores.groupby("left_out")["unseen"].mean().idxmin()
unseen = 100 * scores.pivot_table(index="left_out", columns="method", values="unseen")
between = {"methods within a style": np.ptp(unseen, axis=1), "styles under one method": np.ptp(unseen, axis=0)}
for what, range_ in between.items():
    print(f"unseen accuracy of {what}: {range_.min():.0f} to {range_.max():.0f} points from the lowest to the highest")
print(f"hardest to reach: {hardest}, {100 * scores.groupby('left_out')['unseen'].mean().min():.1f} % unseen")
for name in ("FedASAM", "FedASAM + SWA"):
    print(
        f"{name} against FedAvg, mean of four: {gain.loc[name, 'holdout']:+.1f} points seen, {gain.loc[name, 'unseen']:+.1f} unseen"
    )

# %%
fl.plot([runs["outlined", name] for name in methods], metrics=["accuracy", "unseen"])

# %% [markdown]
# ## Flat where?
#
# The top eigenvalue on samples of the seen and of the unseen domains. **What to look for:** a model may be flat on the one and
# steep on the other; where its loss is large, curvature says less. One seed does not tell methods apart that are this close.

# %%
flatness = pd.DataFrame(
    {
        (unseen, name): {
            which: fl.hessian(run, which, limit=SAMPLES).top(1).frame["eigenvalue"].item()
            for which in ("holdout", "unseen")
        }
        for (unseen, name), run in runs.items()
        if unseen in ("bold", "outlined")
    }
).T.rename(columns={"holdout": "λ₁ seen", "unseen": "λ₁ unseen"})
flatness.round(2)

# %%
flattest = flatness.groupby(level=0)["λ₁ unseen"].idxmin()
for unseen, key in flattest.items():
    print(
        f"{unseen} left out: flattest on unseen samples is {key[1]}; on seen ones {flatness.loc[unseen]['λ₁ seen'].idxmin()}"
    )

# %% [markdown]
# The same plane, on seen and on unseen samples. **What to look for:** whether the bottom of the one is the bottom of the other.

# %%
pair = {name: runs["outlined", name] for name in ("FedAvg", "FedASAM")}
fl.landscape(pair, data="holdout", points=9, limit=SAMPLES).plot(log=True)

# %%
fl.landscape(pair, data="unseen", points=9, limit=SAMPLES).plot(log=True)

# %% [markdown]
# ## Does flatness go with the gap?
#
# Gap: accuracy on seen minus unseen domains, against the sharpness on seen samples, for all runs. **What to look for:** the
# rank correlation, and that most of the gap is the style's, not the minimum's: within a style there are three points, which
# say nothing, and a correlation near 0 of twelve runs is undecided.

# %%
sharp = fl.sharpness(
    {" / ".join(key): run for key, run in runs.items()}, measures=["asam"], limit=SAMPLES
).frame.set_index("model")["value"]
gaps = (scores["holdout"] - scores["unseen"]).to_numpy()
overall = spearmanr(sharp.to_numpy(), gaps).statistic
within = [
    spearmanr(sharp.to_numpy()[rows], gaps[rows]).statistic
    for rows in (np.flatnonzero(scores["left_out"] == style) for style in styles)
]
print(
    f"rank correlation of sharpness and gap: {overall:+.2f} over {len(gaps)} runs; within styles {', '.join(f'{value:+.1f}' for value in within)}"
)
