"""Equal eigenvalues as often as they occur, the order asked for, and the spectrum's error over probes."""

import sys
import threading
import warnings

import numpy as np
import pyhessian
import pytest
import torch
from hessian_nets import dense_hessian, network, noise
from scenes import samples
from torch import nn

from flatlab.geometry.hessian_api import hessian
from flatlab.geometry.lanczos import extreme_pairs, lanczos
from flatlab.geometry.objective import Target


def planted(values, seed=0):
    """A symmetric map with these eigenvalues, and any vector it takes."""
    random = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=random, dtype=torch.float64))[0]
    matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    return (lambda vector: matrix @ vector), torch.zeros(len(values), dtype=torch.float64)


def test_logistic_regression_from_zero_has_its_largest_eigenvalue_nine_times():
    images, labels = samples(200)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    target = Target.of(model, images.double(), labels, dtype=torch.float64)
    dense = torch.linalg.eigvalsh(dense_hessian(target)).flip(0)[:12].numpy()
    assert np.ptp(dense[:9]) < 1e-9 and dense[9] < 0.9 * dense[0]
    for dtype in (torch.float32, torch.float64):
        found = hessian(model, (images, labels), dtype=dtype).top(12)
        assert np.abs(found.frame["eigenvalue"] - dense).max() <= 1e-4 * dense[0]
        assert (np.abs(found.frame["eigenvalue"] - dense) <= found.frame["error"] + 1e-6).all()
        vectors = torch.stack([target.flat(vector) for vector in found.vectors]).double()
        assert torch.allclose(vectors @ vectors.T, torch.eye(12, dtype=torch.float64), atol=1e-3)
        assert "found no more" in found.about["repeats"]
    assert "one value" in hessian(model, (images, labels)).top(1).about["repeats"]


@pytest.mark.parametrize("end", ["top", "bottom", "size"])
def test_planted_repeats_are_found_in_every_order(end):
    for seed in range(5):
        values = [5.0, 5, 5, -6, -6, 3, 3, -2.5, *np.linspace(-1, 1, 72)]
        product, like = planted(values, seed)
        expected = {"top": [5, 5, 5, 3, 3], "bottom": [-6, -6, -2.5, -1], "size": [6, 6, 5, 5, 5, 3, 3]}[end]
        found = extreme_pairs(lanczos(product, like, seed), len(expected), end, seed=seed)
        assert np.abs(found.values if end != "size" else np.abs(found.values)) == pytest.approx(
            np.abs(expected), abs=1e-4
        )
        assert found.converged.all()


@pytest.mark.parametrize("end", ["top", "bottom", "size"])
@pytest.mark.parametrize("positive", range(5))
def test_more_than_there_are_of_a_sign_are_the_next_of_the_other(positive, end):
    """Found vectors are set aside at a value of their own: at 0 they would come again before any of the other sign."""
    for seed in range(8):
        random = np.random.default_rng(seed)
        values = [*random.uniform(0.1, 50, positive), *-random.uniform(0.1, 50, 20 - positive)]
        values[-1] = 0.0 if seed % 2 else values[-2]
        values = values if end != "bottom" else [-value for value in values]
        product, like = planted(values, seed)
        order = {"top": lambda value: -value, "bottom": lambda value: value, "size": lambda value: -abs(value)}[end]
        found = extreme_pairs(lanczos(product, like, seed), 5, end, budget=1000, seed=seed)
        assert found.values == pytest.approx(sorted(values, key=order)[:5], abs=1e-3)
        assert found.vectors @ found.vectors.T == pytest.approx(np.eye(5), abs=1e-4)


def test_products_that_run_out_say_that_equal_eigenvalues_may_be_missing():
    product, like = planted([5.0, 5, 5, *np.linspace(-1, 1, 77)])
    assert "equal ones may be missing" in extreme_pairs(lanczos(product, like), 2, budget=9).repeats
    product, like = planted([2.0, 2, 2])
    assert extreme_pairs(lanczos(product, like), 3).values == pytest.approx([2, 2, 2])


class Saddle(nn.Module):
    """A loss of its own: the Hessian is diag(curvature)."""

    def __init__(self, curvature):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(curvature)))
        self.curvature = torch.tensor(curvature)

    def forward(self, x):
        return (self.curvature * self.weight**2 / 2).sum() + 0 * x.flatten(1)[:, :2]


def saddle(curvature):
    images, labels = samples(20)
    return hessian(Saddle(curvature), (images, labels % 2), loss=lambda z, y: z[:, 0], limit=20)


def test_the_order_is_said_and_a_larger_negative_eigenvalue_warned_of():
    measured = saddle([2.0, 1.0, -5.0, 0.5])
    with pytest.warns(UserWarning, match=r"largest eigenvalue with sign is 2, but one is at most -5"):
        top = measured.top(2)
    assert top.frame["eigenvalue"].to_numpy() == pytest.approx([2, 1], abs=1e-4) and top.about["order"] == "signed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        big = measured.top(2, order="magnitude")
        assert big.frame["eigenvalue"].to_numpy() == pytest.approx([-5, 2], abs=1e-4)
        assert saddle([2.0, 1.0, -1.5]).top(1).frame["eigenvalue"][0] == pytest.approx(2, abs=1e-4)
        for method in ("power", "pyhessian"):
            other = hessian(network("group"), noise(16), method=method, tolerance=0.05).top(1)
            assert other.about["order"] == "magnitude"
            with pytest.raises(ValueError, match="order = 'signed'"):
                hessian(network("group"), noise(16), method=method).top(1, order="signed")


@pytest.mark.parametrize("method", ["lanczos", "pyhessian"])
def test_the_spectrum_states_its_error_over_probes(method):
    measured = hessian(network("group"), noise(32), dtype=torch.float64)
    several = measured.spectrum(steps=15, probes=6, method=method)
    frame, curve = several.frame, several.density()
    one = [several.__class__(part, several.about).summary()["near_zero"][0] for _, part in frame.groupby("probe")]
    shares = several.frame.assign(in_=frame["node"].abs() <= 0.01 * np.ptp(frame["node"]))
    per_probe = shares[shares["in_"]].groupby("probe")["weight"].sum().reindex(range(6), fill_value=0.0)
    assert several.summary()["near_zero_error"][0] == pytest.approx(per_probe.std() / 6**0.5) and len(one) == 6
    assert (curve["error"] > 0).any() and "6 probes" in several.about["errors"]["error"]
    single = measured.spectrum(steps=15, method=method)
    assert single.density()["error"].isna().all() and "one probe" in single.about["errors"]["error"]


def test_what_pyhessian_finds_twice_is_not_called_converged():
    """Of rank three; its fourth vector is one of the first three again."""
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(3, 1, 2, 2, generator=random), torch.tensor([0, 1, 0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()

    def squared(outputs, labels):
        return (outputs[:, 0] - 1) ** 2

    settings = {"loss": squared, "method": "pyhessian", "dtype": torch.float64}
    measured = hessian(model, (images.double(), labels), **settings)
    with pytest.warns(UserWarning, match="of 4 eigenvalues have not converged"):
        found = measured.top(4)
    dense = 2 / 3 * torch.linalg.svdvals(images.double().flatten(1)) ** 2
    told = found.frame[found.frame["converged"]]
    for value in told["eigenvalue"]:
        assert (dense - value).abs().min() < 0.02 * dense[0]
    assert told["eigenvalue"].round(1).is_unique and not found.frame["converged"].all()


def test_pyhessian_is_never_altered():
    module, model = sys.modules[pyhessian.hessian.__module__], network("group")
    before, seen, state = module.torch, [], torch.get_rng_state()
    stop = threading.Event()

    def watch():
        while not seen or not stop.is_set():
            seen.append(module.torch is before and torch.equal(torch.get_rng_state(), state))

    thread = threading.Thread(target=watch)
    thread.start()
    hessian(model, noise(16)).spectrum(steps=10, method="pyhessian")
    hessian(model, noise(16), method="pyhessian", tolerance=0.1).top(1)
    stop.set()
    thread.join()
    assert all(seen)
