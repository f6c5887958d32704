# %% [markdown]
# # Template: your own data
#
# Replace the first cell by your own images and everything below works on them. As a stand-in we take scikit-learn's digits
# and pretend that they come from five cameras, four of which darken their pictures, each differently: a client is a camera.

# %%
import numpy as np
from sklearn.datasets import load_digits

import flatlab as fl

digits = load_digits()
images = (digits.images * 15.9).astype(np.uint8)  # uint8, [N, H, W] or [N, H, W, C]
labels = digits.target  # integers from 0
camera = (
    np.arange(len(labels)) % 5
)  # who took it; if nobody in particular did, leave it out and federate as in the last cell
images = (images * np.linspace(0.4, 1.0, 5)[camera][:, None, None]).astype(np.uint8)
test = np.arange(len(labels)) >= 1400

source = fl.Source.from_arrays(
    "cameras",
    images[~test],
    labels[~test],
    images[test],
    labels[test],
    class_names=[str(name) for name in digits.target_names],
    train_groups=camera[~test],
    test_groups=camera[test],
)

# %% [markdown]
# `source.save("data/cameras.npz")` keeps it: `fl.load("cameras")` then finds it by name, in scripts and in the lab.
# **What to look for:** a row a class; natural groups are skewed in their own way, here in brightness, which this
# picture does not show, and hardly in classes.

# %%
data = source.federate(fl.Groups())
data.plot()

# %%
data.summary()

# %% [markdown]
# **What to look for:** the same calls as in every other notebook.

# %%
run = fl.train(fl.FedBABU(lr=0.05, momentum=0.9), data, fl.ModelSpec(name="cnn4", width=0.25), rounds=8)
tuned = fl.personalize(run, epochs=3, lr=0.005)
tuned.plot()

# %% [markdown]
# Or share the same images out in another way, without their groups:

# %%
mixed = source.federate(fl.Dirichlet(alpha=0.1), clients=10, seed=0)
mixed.heterogeneity()
