"""What is missing or overflows is counted and shown, and never taken for a number."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import flatlab as fl
from flatlab.geometry.flatness import rank_correlation
from flatlab.geometry.mode_connectivity import Path
from flatlab.geometry.objective import Target
from flatlab.geometry.sharpness_measures import Sharpness, ascent
from flatlab.personalization import Headless, Personalization
from flatlab.results import spread
from flatlab.training.history import best_round


class Steep(nn.Module):
    """Logits that grow with a high power of the weights, so that they overflow early."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(images.flatten(1)) ** 15


@pytest.fixture(scope="module")
def scene():
    torch.manual_seed(0)
    return Steep(), (torch.randn(12, 1, 2, 2), torch.arange(12) % 3)


@pytest.fixture(scope="module", params=[1, 2])
def overflowing(request, scene):
    model, data = scene
    return fl.landscape(model, data, dimensions=request.param, points=11, span=1e3, store=False)


def test_points_that_overflow_are_counted_and_have_no_accuracy(overflowing):
    points = overflowing.surfaces
    lost = ~np.isfinite(points["loss"])
    assert lost.any() and not lost.all() and points["measured"].all()
    assert points.loc[lost, "accuracy"].isna().all() and points.loc[~lost, "accuracy"].notna().all()
    row = overflowing.summary().iloc[0]
    assert (row["not finite"], row["measured"], row["points"]) == (lost.sum(), len(points), len(points))
    finite = points.loc[~lost, "loss"].tolist()
    assert row["largest loss"] == max(finite)
    assert row["mean rise"] == pytest.approx(sum(finite) / len(finite) - row["loss"])
    figure = overflowing.plot()
    assert f"{lost.sum()} of {len(points)} points are not finite" in figure.caption
    crosses = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == lost.sum()
    for view in ("contour", "surface"):
        overflowing.plot(view=view, scale="own", log=True)


def test_a_spline_never_stands_for_points_that_overflow(scene):
    found = fl.landscape(*scene, dimensions=1, points=41, span=1e3, refine=True, tolerance=0.5, store=False)
    assert found.surfaces["measured"].all() and found.summary()["not finite"].item() > 0


def test_a_kept_landscape_that_took_overflow_for_missing_is_measured_again(scene, tmp_path):
    place = tmp_path / "kept.parquet"
    found = fl.landscape(*scene, dimensions=1, points=11, span=1e3, store=place)
    old = found.frame.assign(measured=np.isfinite(found.frame["loss"]), accuracy=found.frame["accuracy"].fillna(0.3))
    type(found)(old, found.about).save(place)
    again = fl.landscape(*scene, dimensions=1, points=11, span=1e3, store=place)
    pd.testing.assert_frame_equal(again.frame, found.frame)


def test_gaps_of_a_path_are_counted_and_left_out_of_the_barrier():
    loss = [1.0, np.nan, 2.5, np.inf, 2.0]
    columns = {"curve": "line", "t": np.linspace(0, 1, 5), "loss": loss, "loss_error": 0.0, "distance": range(5)}
    row = Path(pd.DataFrame({**columns, "accuracy": [0.9, np.nan, 0.3, np.nan, 0.7]}), {}).summary().iloc[0]
    assert (row["barrier"], row["at"], row["not finite"]) == (1.0, 0.5, 2)
    assert row["accuracy barrier"] == pytest.approx(0.5)


def test_a_rise_that_overflows_is_no_rise_of_zero(scene):
    target = Target.of(scene[0], *scene[1])
    assert not np.isfinite(ascent(target, 1e6, steps=3).value)


def test_a_model_without_values_stays_in_the_table():
    rows = [("b", -1, "sam", np.nan), ("a", -1, "sam", 2.0), ("b", -1, "top", np.nan), ("a", -1, "top", 1.0)]
    table = Sharpness(pd.DataFrame(rows, columns=["model", "client", "measure", "value"]), {}).summary()
    assert table["model"].tolist() == ["b", "a"] and table["top"].isna().tolist() == [True, False]


def test_correlations_leave_out_pairs_that_lack_a_number():
    x, y = [3.0, 1.0, np.nan, 4.0, 2.0, np.inf, 6.0], [1.0, 2.0, 3.0, np.nan, 5.0, 6.0, 0.0]
    found = rank_correlation(x, y, resamples=50)
    assert found["correlation"] == pytest.approx(spearmanr([3, 1, 2, 6], [1, 2, 5, 0]).statistic)
    assert (found["clients"], found["left_out"]) == (4, 3)
    assert np.isnan(rank_correlation([np.nan] * 5, range(5))["correlation"])


def curves(accuracy):
    """Two epochs of four clients."""
    rows = [
        ("run", "FedAvg", 0, 2, client, epoch, value) for epoch in (0, 1) for client, value in accuracy[epoch].items()
    ]
    frame = pd.DataFrame(rows, columns=["run", "name", "seed", "round", "client", "epoch", "accuracy"])
    return Personalization(frame, {"epochs": 1, "tuning": {"train": "all", "lr": 0.1}})


def test_a_mean_over_clients_is_over_the_same_ones_at_every_epoch():
    found = curves([{0: 0.2, 1: 0.4, 2: np.nan, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.8, 3: np.nan}])
    row = found.summary().iloc[0]
    assert (row["initial"], row["personalized"], row["gain"]) == pytest.approx((0.3, 0.6, 0.3))
    assert (row["clients"], row["left_out"]) == (2, 2)
    for view in ("curves", "gains"):
        assert "2 clients are left out" in found.plot(view=view).caption
    headless = Headless(found.frame[found.frame["epoch"] == 0], {})
    assert headless.summary()[["clients", "left_out"]].iloc[0].tolist() == [3, 1]
    assert headless.summary()["mean"].item() == pytest.approx(0.5)
    assert "1 client is left out" in headless.plot().caption


def history(*rows):
    """Rounds, clients and their initial accuracies."""
    frame = pd.DataFrame(rows, columns=["round", "client", "value"])
    return frame.assign(split="test", metric="accuracy")


def test_the_best_round_is_one_of_those_that_lack_nobody():
    assert best_round(history((1, 0, 0.5), (1, 1, 0.5), (2, 0, 0.9), (2, 1, np.nan), (3, 0, 0.4), (3, 1, 0.7))) == 3
    assert best_round(history((1, 0, np.nan))) is None
    assert best_round(history()) is None


def test_a_spread_of_nothing_is_no_number():
    assert spread([np.nan, np.inf])[2:] == (0, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(spread([]).mean)


def test_a_hessian_that_overflows_is_refused_in_words_and_leaves_the_other_measures(scene):
    model, (images, labels) = scene
    steep = (1e4 * images, labels)
    for ask in (lambda h: h.top(), lambda h: h.trace(), lambda h: h.spectrum(steps=3), lambda h: h.top(subsets=2)):
        for method in ("lanczos", "pyhessian"):
            with pytest.raises(ValueError, match="the Hessian is not finite here"):
                ask(fl.hessian(model, steep, method=method))
    found = fl.sharpness(model, steep, measures=["top", "ratio", "trace", "sam"])
    assert found.frame["value"].isna().all() and len(found.summary()) == 1
    found.plot()


@pytest.mark.filterwarnings("ignore:lambda_1 is the largest eigenvalue with sign")  # untrained networks
def test_a_client_whose_hessian_overflows_does_not_take_the_others_with_it(digits, tmp_path):
    spec = fl.ModelSpec(name="lenet", width=0.125)
    run = fl.train(fl.FedPer(lr=0.01), digits, spec, 1, participation=0.3, store=tmp_path, progress=False)
    models = run.clients(1)
    first, *rest = models
    with torch.no_grad():
        models[first].head.weight.mul_(1e30)
    run.clients = lambda round: models
    found = fl.hessian(run, "train", client=first, limit=20).per_client()
    values = found.frame.set_index("client")["value"]
    assert np.isnan(values[first]) and values[rest].notna().all()
    assert "1 of 3 values are not finite" in found.plot().caption
