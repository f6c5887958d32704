"""Along a run and per client: which end of the spectrum a value is of, and how far other samples would move it."""

import warnings

import numpy as np
import pytest
import torch
from scenes import FakeRun
from torch import nn

import flatlab as fl
from flatlab.geometry.objective import Target


class Scaled(nn.Module):
    """A loss whose Hessian is diag(curvature) times the mean of the samples' first pixels plus 1."""

    def __init__(self, *curvature):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(curvature), dtype=torch.float64))
        self.curvature = torch.tensor(curvature, dtype=torch.float64)

    def forward(self, x):
        factors = x.flatten(1).sum(1, keepdim=True).square() * 1e-3 + 1
        return (self.curvature * self.weight**2 / 2).sum() * factors + 0 * x.flatten(1)[:, :2]


def first(logits, labels):
    return logits[:, 0]


def measured(run, **options):
    return fl.hessian(run, "holdout", limit=20, loss=first, part="all", one_class=True, **options)


class Zeros(FakeRun):
    """Labels that the two logits of `Scaled` know."""

    round = 2

    def samples(self, *given, **named):
        images, labels = super().samples(*given, **named)
        return images.double(), labels % 2


@pytest.fixture
def run():
    models = [Scaled(3.0, -1.0, 0.5), Scaled(1.0, -4.0, 0.5), Scaled(2.0, -2.5, 1.0)]
    return Zeros(models, clients={2: Scaled(1.0, -7.0, 0.1), 5: Scaled(5.0, -1.0, 0.1)})


def factor(images):
    return (images.flatten(1).sum(1) ** 2 * 1e-3 + 1).mean().item()


@pytest.mark.parametrize("order", [None, "signed", "magnitude"])
def test_a_larger_negative_end_is_warned_of_by_round_and_magnitude_has_it(run, order):
    scale = factor(run.samples(limit=20)[0])
    if order == "magnitude":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = measured(run).along(order=order)
        assert found.frame["value"].to_numpy() == pytest.approx(scale * np.array([3, -4, -2.5]))
        assert "negative_end" not in found.about and found.about["order"] == "magnitude"
        assert "method lanczos (largest in size)" in found.plot().caption.replace("\n", " ")
        return
    with pytest.warns(UserWarning, match=r"at rounds 1, 2 a negative one is larger in size") as told:
        found = measured(run).along(order=order)
    assert len(told) == 1 and told[0].filename == __file__
    assert found.frame["value"].to_numpy() == pytest.approx(scale * np.array([3, 1, 2]))
    assert found.about["order"] == "signed" and "in size" not in found.plot().caption
    assert found.about["negative_end"] == pytest.approx({"1": -4 * scale, "2": -2.5 * scale})


def test_clients_are_named_whose_negative_end_is_larger(run):
    with pytest.warns(UserWarning, match=r"at client 2 a negative one is larger in size"):
        found = measured(run).per_client()
    scales = [factor(run.samples("train", client=client, limit=20)[0]) for client in (2, 5)]
    assert found.frame["value"].to_numpy() == pytest.approx(np.array([1, 5]) * scales)
    assert found.plot().caption.startswith("Each client's model on its own images.")
    largest = measured(run).per_client(order="magnitude")
    assert largest.about["order"] == "magnitude"
    largest = largest.frame["value"].to_numpy()
    assert largest == pytest.approx(np.array([-7, 5]) * scales)


@pytest.mark.filterwarnings("ignore:lambda_1 is the largest")
def test_the_sampling_error_is_that_of_each_model_measured_alone(run):
    along = measured(run).along(k=2, trace=True, subsets=4).frame
    for number, rows in along.groupby("round"):
        alone = measured(run, round=number)
        top, trace = alone.top(2, subsets=4, warn=False).frame, alone.trace(subsets=4).frame
        for column in ("sampling_error", "sampling_bias"):
            assert rows[column].tolist() == pytest.approx([*top[column], *trace[column]], rel=1e-4, abs=1e-9)
    own = measured(run).per_client(subsets=3)
    assert (own.frame["sampling_error"] > 0).all() and "3 groups" in own.about["errors"]["sampling_error"]
    assert "sampling_error" not in measured(run).along().frame


@pytest.mark.filterwarnings("ignore:lambda_1 is the largest")
def test_an_overflow_leaves_its_row_without_numbers_and_the_others_whole(run):
    run.models[1].curvature[:] = torch.inf
    frame = measured(run).along(subsets=2).frame
    assert frame["value"].isna().tolist() == [False, True, False]
    assert frame["sampling_error"].isna().tolist() == [False, True, False]


def test_sampling_error_of_magnitude_follows_the_sign():
    images = torch.ones(6, 1, 1, 2, dtype=torch.float64) * torch.arange(6)[:, None, None, None]
    model = Scaled(1.0, -4.0)
    h = fl.hessian(model, (images, torch.arange(6) % 2), loss=first)
    row = h.top(1, order="magnitude", subsets=6).frame.iloc[0]
    without = [-4 * factor(torch.cat([images[:i], images[i + 1 :]])) for i in range(6)]
    expected = np.sqrt(5 / 6 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert row["sampling_error"] == pytest.approx(expected, rel=1e-6)
    assert isinstance(h.target, Target)
