"""Losses, layers, precisions and numbers that nobody planned for: measured right, or refused in words."""

import copy
import math

import numpy as np
import pytest
import torch
from hessian_nets import dense_hessian, network, noise
from scenes import own_loss
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import flatlab as fl
from flatlab.geometry.inputs import choose_samples
from flatlab.geometry.objective import Target
from flatlab.geometry.second_derivatives import NoDerivative
from flatlab.geometry.sharpness_definitions import ascent

DATA = noise(32)


def losses(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def test_a_loss_that_draws_random_numbers_is_no_function():
    def noisy(logits, labels):
        return losses(logits, labels) * torch.rand(len(labels))

    for measure in (fl.hessian, fl.landscape, fl.sharpness, lambda m, data, **o: fl.path(m, m, data, **o)):
        with pytest.raises(fl.SettingError, match=r"^loss: two calls with the same logits and labels differ"):
            measure(network("group"), DATA, loss=noisy)


def test_a_loss_without_a_derivative_is_refused_and_has_no_curvature_of_zero():
    def blind(logits, labels):
        return losses(logits.detach(), labels)

    for measure in (lambda: fl.hessian(network("group"), DATA, loss=blind).top(),
                    lambda: fl.sharpness(network("group"), DATA, loss=blind, measures=["sam"])):  # fmt: skip
        with pytest.raises(NoDerivative, match=r"^loss: it has no derivative in the logits"):
            measure()
    shown = fl.landscape(network("group"), DATA, loss=blind, points=3)
    assert shown.frame["loss"].equals(fl.landscape(network("group"), DATA, loss=losses, points=3).frame["loss"])


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, of passes without gradients
@pytest.mark.parametrize(("reentrant", "at_once"), [(True, False), (False, False), (True, True)])
def test_checkpointed_layers_are_named_and_still_have_landscapes(reentrant, at_once):
    """Those that see the images at once lose their gradients with no more than a warning."""

    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(36, 6), nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x):
            hidden = x.flatten(1) if at_once else self.first(x.flatten(1))
            layers = lambda y: self.inner(self.first(y) if at_once else y).tanh()  # noqa: E731
            return self.last(checkpoint(layers, hidden, use_reentrant=reentrant))

    for measure in (lambda: fl.hessian(Saving(), DATA).top(),
                    lambda: fl.sharpness(Saving(), DATA, measures=["sam"])):  # fmt: skip
        with pytest.raises(NoDerivative, match=r"checkpoint.* with other weights than those measured"):
            measure()
    assert fl.landscape(Saving(), DATA, points=3).about["complete"]


def test_precision_is_that_asked_for_in_every_measure():
    model = network("running", smooth=True)
    wide, data = copy.deepcopy(model).double(), (DATA[0].double(), DATA[1])
    line = {"points": 5, "dimensions": 1}
    for measure in (
        lambda m, data, **o: fl.landscape(m, data, **line, **o),
        lambda m, data, **o: fl.path(m, network("running", smooth=True, seed=1), data, points=3, **o),
        lambda m, data, **o: fl.sharpness(m, data, measures=["top", "sam", "fisher_rao"], **o),
        lambda m, data, **o: fl.hessian(m, data, **o).top(2),
    ):
        found, expected = measure(model, DATA, dtype=torch.float64), measure(wide, data)
        assert found.about["precision"] == expected.about["precision"] == "float64"
        numbers = expected.frame.select_dtypes("number").columns
        np.testing.assert_allclose(found.frame[numbers], expected.frame[numbers], rtol=1e-9, atol=1e-12)


def test_models_of_two_precisions_are_each_measured_in_their_own():
    both = {"narrow": network("group"), "wide": network("group").double()}
    shown = fl.landscape(both, DATA, points=3).summary().set_index("panel")["loss"]
    expected = own_loss(both["wide"], DATA[0].double(), DATA[1])
    assert shown["wide"] == pytest.approx(expected, rel=1e-13) and shown["narrow"] == pytest.approx(expected, rel=1e-5)
    assert shown["narrow"] != shown["wide"]


def test_a_search_that_overflows_is_no_number_and_keeps_the_other_measures():
    model = network("none")
    with torch.no_grad():
        model.head.weight.mul_(1e25)
        model.body[0].weight.mul_(1e13)
    target = Target.of(model, *DATA)
    assert math.isnan(ascent(target, 0.05, scale=target.flat(target.weights).abs()).value)
    table = fl.sharpness(model, DATA, measures=["asam", "asam_steps", "sam"]).frame
    assert len(table) == 3 and not np.isfinite(table["value"]).any()


def test_the_length_of_a_path_does_not_overflow():
    a, b = network("group"), network("group", seed=1)
    with torch.no_grad():
        b.head.weight.mul_(1e25)
    wanted = torch.cat(
        [(x.double() - y.double()).flatten() for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    )
    assert fl.path(a, b, DATA, points=3).summary()["length"][0] == pytest.approx(wanted.norm().item(), rel=1e-5)


def test_paths_of_parts_and_indices_beyond_the_images_are_refused():
    with pytest.raises(fl.SettingError, match=r"^part = 'head': a path joins whole models"):
        fl.path(network("group"), network("group"), DATA, part="head")
    data = fl.load("digits").federate(fl.IID(), clients=2)
    for index in (torch.tensor([10**6]), torch.tensor([-(10**6)]), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(fl.SettingError, match=r"^data: indices of 1797 images are wanted"):
            choose_samples(index, data)


def test_a_curve_is_trained_on_the_function_that_is_measured():
    ends = [network("running", smooth=True, seed=seed) for seed in (0, 1)]
    options = {"points": 3, "curve": True, "train": DATA, "steps": 4, "statistics": "batch", "batch": 8}
    found = fl.path(*ends, DATA, dtype=torch.float64, **options)
    wide = [copy.deepcopy(model).double() for model in ends]
    again = fl.path(*wide, DATA, **options)
    assert found.about["precision"] == "float64" and found.about["complete"]
    np.testing.assert_allclose(found.frame["loss"], again.frame["loss"], rtol=1e-9)


@pytest.mark.parametrize("wrap", [lambda z: z, lambda z: (z, z), lambda z: {"logits": z}])
@pytest.mark.parametrize("norm", ["running", "batch", "group"])
def test_the_dense_hessian_under_autocast_with_weighted_smoothed_losses(norm, wrap):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(norm, smooth=True)

        def forward(self, x):
            return wrap(self.inner(x))

    weights = torch.tensor([1.0, 2.0, 0.5, 0.0])
    loss, model = nn.CrossEntropyLoss(reduction="none", weight=weights, label_smoothing=0.1), Net()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        top = fl.hessian(model, DATA, loss=loss, batch=16, dtype=torch.float64).top(1, warn=False)
    target = Target.of(network(norm, smooth=True), *DATA, batch=16, dtype=torch.float64)
    dense = dense_hessian(target, nn.CrossEntropyLoss(reduction="sum", weight=weights.double(), label_smoothing=0.1))
    assert top.frame["eigenvalue"][0] == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item(), rel=1e-6)
