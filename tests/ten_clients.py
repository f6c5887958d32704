"""Digits held by ten clients of unequal sizes: the same in another process, too."""

import dataclasses

import flatlab as fl


def digits():
    """All of them."""
    partition = fl.Dirichlet(alpha=0.5, sizes="lognormal", sigma=0.5)
    return fl.load("digits").federate(partition, clients=10, seed=0)


def few_digits():
    """A third of what each client has."""
    return thinned(digits())


def few_in_a_file(root):
    """A third of the digits as `root/few.npz`, for processes that are to start in a moment: without scikit-learn."""
    digits = fl.load("digits")
    parts = digits.train_images[:, 0], digits.train_labels, digits.test_images[:, 0], digits.test_labels
    root.mkdir(parents=True, exist_ok=True)
    fl.Source.from_arrays("few", *(part[::3].numpy() for part in parts), digits.class_names).save(root / "few.npz")
    return root


def thinned(data, keep=3):
    """Every third sample of each client: as many clients in as many rounds, of fewer steps each."""
    return dataclasses.replace(
        data, train=[part[::keep] for part in data.train], test=[part[::keep] for part in data.test]
    )
