# %% [markdown]
# # A class for each pixel
#
# Each client holds the frames of a part of a video, and some videos look different. Does a segmentation personalize, and who
# gains? The scenes are drawn of handwritten digits that drift between ground and sky; with real streets, set
# `REAL = True`, which takes `fl.load("camvid240")` (its file: data/README.md) at 80x60 pixels.

# %%
import pandas as pd

import flatlab as fl
from flatlab.papers.drawn import scenes

FULL = REAL = False
ROUNDS = 40 if FULL or REAL else 8
MODEL = fl.ModelSpec(name="segnet", width=1.0 if FULL or REAL else 0.5)
SAMPLES = None if FULL else 32
source, clients, shrink = scenes(), 6, 1
if REAL:
    source, clients, shrink = fl.load("camvid240"), 12, 3
data = source.federate(fl.Consecutive(), clients=clients, shrink=shrink, augment=fl.Augmentation(flip=True, crop=2))

# %% [markdown]
# ## Who holds what
#
# **What to look for:** a client's frames follow one another, and the last fifth of them is its test set: a frame drawn at random
# would have its twin among the train images. `group` is the video. The holdout has later frames of videos that clients hold:
# of day and dusk.

# %%
print(
    f"holdout: {len(data.holdout)} frames; unseen: {', '.join(f'{k}, {len(v)} frames' for k, v in data.unseen.items())}"
)
data.summary()[["client", "group", "n_train", "n_test"]]

# %% [markdown]
# ## Three methods
#
# Scores are pixel accuracy and mIoU, the mean over classes of intersection over union, from one confusion matrix of all pixels of
# a set. **What to look for:** accuracy is mostly of the large classes; mIoU also of the small ones. And clients' own test sets
# (initial) against the holdout: with batch statistics a batch that mixes day and dusk is one that no client has trained on.
# All numbers below are of one seed: no difference between methods is decided.

# %%
settings = {"lr": 0.1, "momentum": 0.9, "batch_size": 8, "epochs": 2}
methods = {
    "FedAvg": fl.FedAvg(**settings),
    "FedBABU": fl.FedBABU(**settings),
    "FedASAM + SWA": fl.FedASAM(rho=0.3, swa=fl.SWA(start=0.6, cycle=1), **settings),
}
runs = {
    name: fl.train(method, data, MODEL, ROUNDS, task="segmentation", evaluation=fl.Evaluation(every=2))
    for name, method in methods.items()
}
tuned = {name: fl.personalize(run, epochs=2, lr=0.02) for name, run in runs.items()}
table = pd.concat([fl.compare(run, tuned[name]).frame for name, run in runs.items()]).assign(method=list(runs))
columns = ["holdout", "miou", "unseen", "unseen miou", "initial", "personalized"]
scores = 100 * table.set_index("method")[columns]
scores.round(1)

# %%
fl.plot(list(runs.values()), metrics=["accuracy", "miou", "unseen", "unseen miou"])

# %%
gain = scores - scores.loc["FedAvg"]
for name in list(runs)[1:]:
    print(
        f"{name} against FedAvg: mIoU {gain.loc[name, 'miou']:+.1f} points on seen videos, {gain.loc[name, 'unseen miou']:+.1f} unseen"
    )
alone = (scores["initial"] - scores["holdout"]).mean()
print(
    f"accuracy on clients' own test sets is {alone:+.1f} points from that on the holdout, whose batches mix their videos"
)

# %% [markdown]
# ## Classes
#
# **What to look for:** whether what takes many pixels is found best; four classes make no law. Batch statistics are those
# of whoever is scored: in federated training they stay local, as SiloBN has it, and only scale and shift are averaged.

# %%
classes = fl.per_class(list(runs.values()), "unseen", pictures=2)
classes.plot()

# %%
mean = classes.frame.groupby("class", sort=False)[["iou", "share"]].mean()
print(
    f"best: {mean['iou'].idxmax()} ({100 * mean['iou'].max():.0f} %), worst: {mean['iou'].idxmin()} ({100 * mean['iou'].min():.0f} %)"
)
print(f"rank correlation of a class's IoU and its share of pixels: {mean.corr('spearman').iloc[0, 1]:+.2f}")

# %% [markdown]
# ## Who gains from fine-tuning?
#
# **What to look for:** the gain by video, which the mean over clients hides, and how small it is: with two clients a
# video the order of videos is undecided.

# %%
ends = pd.concat([one.frame.assign(method=name) for name, one in tuned.items()])
ends = ends[ends["epoch"].isin([0, ends["epoch"].max()])].pivot_table(
    index=["method", "client"], columns="epoch", values="miou"
)
by_video = ends.diff(axis=1).iloc[:, -1].mul(100).rename("gain").reset_index()
by_video["video"] = [data.names[client] for client in by_video["client"]]
gains = by_video.pivot_table(index="video", columns="method", values="gain", sort=False)[list(runs)]
gains.round(2)

# %%
for name in gains:
    print(
        f"{name}: most {gains[name].max():+.2f} points of mIoU ({gains[name].idxmax()}),"
        f" least {gains[name].min():+.2f} ({gains[name].idxmin()})"
    )

# %% [markdown]
# ## Without the head
#
# Each pixel by the nearest of its client's templates, the mean features of its train pixels of a class. **What to look for:**
# whether the features alone say as much as the head does.

# %%
headless = {name: fl.headless(run).frame[["accuracy", "with head"]].mean() for name, run in runs.items()}
headless = (100 * pd.DataFrame(headless).T).round(1)
headless

# %% [markdown]
# ## Flat where?
#
# A sample is an image, its loss the mean over its pixels. **What to look for:** the largest eigenvalue on videos that clients
# hold, and on the one that nobody holds. Losses differ between the methods, and curvature says little where they do.

# %%
flatness = pd.DataFrame(
    {
        name: {
            f"λ₁ {which}": fl.hessian(run, which, limit=SAMPLES).top(1).frame["eigenvalue"].item()
            for which in ("holdout", "unseen")
        }
        for name, run in runs.items()
    }
).T
flatness.round(2)

# %%
for which in flatness:
    print(f"{which}: flattest is {flatness[which].idxmin()}; highest unseen mIoU has {scores['unseen miou'].idxmax()}")

# %%
pair = {name: runs[name] for name in ("FedAvg", "FedASAM + SWA")}
fl.landscape(pair, data="unseen", points=5, limit=SAMPLES).plot(log=True)
