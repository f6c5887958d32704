"""Directions and planes: lengths, draws and projections against independent computations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import flat, moved, network, samples, smooth
from scipy.interpolate import CubicSpline
from sklearn.decomposition import PCA

import flatlab as fl
from flatlab.geometry.directions import eigen_plane, plane_through, random_plane, trajectory_plane
from flatlab.geometry.grid import spline_matrix
from flatlab.geometry.objective import Target
from flatlab.geometry.plane import Plane, window


def test_every_filter_of_a_random_direction_is_as_long_as_the_models_own_and_vectors_are_zero():
    target = Target.of(network(), *samples())
    plane = random_plane(target, seed=3)
    for axis in (plane.x, plane.y):
        for name, direction in target.shaped(axis).items():
            weight = target.weights[name]
            if weight.dim() == 1:
                assert not direction.any(), name
            else:
                for row, own in zip(direction, weight, strict=True):
                    assert row.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)
    assert abs(torch.cosine_similarity(plane.x, plane.y, dim=0).item()) < 0.1


def test_compared_models_share_the_draw_whatever_their_weights_and_whatever_part_varies():
    one, other = Target.of(network(seed=0), *samples()), Target.of(network(seed=1), *samples())
    head = Target.of(network(seed=0), *samples(), part="head")
    first, second = one.shaped(random_plane(one).x), other.shaped(random_plane(other).x)
    for name, direction in first.items():
        if direction.dim() > 1:
            cosines = torch.cosine_similarity(direction.flatten(1), second[name].flatten(1))
            torch.testing.assert_close(cosines, torch.ones(len(cosines)))
    torch.testing.assert_close(head.shaped(random_plane(head).x)["head.weight"], first["head.weight"])
    assert not torch.equal(random_plane(one, seed=1).x, random_plane(one, seed=0).x)
    assert not torch.equal(random_plane(one, index=1).x, random_plane(one, index=0).x)


def test_projection_finds_the_nearest_point_of_a_plane_with_slanted_axes():
    target = Target.of(smooth(), *samples())
    plane = random_plane(target)
    slanted = type(plane)(origin=plane.origin, x=plane.x, y=plane.y + 0.5 * plane.x)
    away = torch.randn(target.size, generator=torch.Generator().manual_seed(0)).double()
    axes = torch.linalg.qr(torch.stack([slanted.x, slanted.y], 1).double()).Q
    away -= axes @ (axes.T @ away)
    a, b, residual = slanted.project(slanted.at(0.7, -0.3).double() + away)
    assert (a, b) == pytest.approx((0.7, -0.3), abs=1e-5)
    assert residual == pytest.approx(away.norm().item(), rel=1e-5)
    assert torch.equal(slanted.at(0.0, 0.0), target.flat(target.weights))


def test_a_trajectorys_axes_and_explained_variance_are_those_of_scikit_learns_pca():
    random = np.random.default_rng(0)
    way = torch.from_numpy(random.normal(size=(6, 40)) * np.linspace(5, 1, 40)).float()
    plane = trajectory_plane(list(way), way[-1])
    oracle = PCA(2).fit(way.numpy())
    assert plane.explained == pytest.approx(tuple(oracle.explained_variance_ratio_), rel=1e-5)
    for axis, component in zip((plane.x, plane.y), oracle.components_, strict=True):
        assert abs(axis.numpy() @ component) == pytest.approx(1, rel=1e-5)
    assert torch.equal(plane.at(0, 0), way[-1])


def test_principal_components_need_three_checkpoints_that_span_a_plane():
    way = [torch.ones(5) * step for step in range(4)]
    with pytest.raises(ValueError, match="at least 3"):
        trajectory_plane(way[:2], way[-1])
    with pytest.raises(ValueError, match="fewer than 2 directions"):
        trajectory_plane(way, way[-1])
    assert trajectory_plane(way, way[-1], dimensions=1).explained == pytest.approx((1.0,))


def test_a_plane_through_three_models_holds_them():
    models = [torch.randn(50, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    plane = plane_through(*models)
    for model in models:
        a, b, residual = plane.project(model)
        assert residual < 1e-5
        torch.testing.assert_close(plane.at(a, b), model)
    assert plane.x.norm().item() == pytest.approx(1, rel=1e-5)
    assert (plane.x @ plane.y).item() == pytest.approx(0, abs=1e-6)


def test_three_models_on_a_line_or_twice_the_same_have_no_plane():
    first, second = torch.zeros(4), torch.ones(4)
    with pytest.raises(ValueError, match="the same"):
        plane_through(first, first, second)
    with pytest.raises(ValueError, match="on one line"):
        plane_through(first, second, 3 * second)


def test_eigenvectors_are_those_of_the_dense_hessian():
    images, labels = samples(60, torch.float64)
    model = smooth().double()
    target = Target.of(model, images, labels, part="head")
    plane = eigen_plane(target)

    def loss(vector):
        return torch.nn.functional.cross_entropy(
            torch.func.functional_call(model, target.shaped(vector), (images,)), labels
        )

    dense = torch.func.hessian(loss)(target.flat(target.weights).detach())
    values, vectors = torch.linalg.eigh(dense)
    assert plane.eigenvalues == pytest.approx(values[[-1, -2]].tolist(), rel=1e-4)
    for axis, vector in zip((plane.x, plane.y), (vectors[:, -1], vectors[:, -2]), strict=True):
        assert abs((axis @ vector).item()) == pytest.approx(1, abs=1e-4)
        assert axis[axis.abs().argmax()] > 0


@given(st.floats(-50, 50), st.floats(0.01, 50), st.integers(1, 30), st.floats(0, 1))
def test_a_window_shows_what_it_must_and_has_a_point_at_exactly_zero(low, width, half, margin):
    axis = window(low, low + width, 2 * half + 1, margin)
    assert len(axis) == 2 * half + 1
    assert (axis == 0).sum() == 1
    assert axis[0] <= min(low, 0) + 1e-9
    assert axis[-1] >= max(low + width, 0) - 1e-9
    assert np.allclose(np.diff(axis), axis[1] - axis[0])


@given(st.integers(4, 15), st.integers(0, 1000))
def test_the_spline_is_scipys_not_a_knot_spline(count, seed):
    random = np.random.default_rng(seed)
    knots = np.cumsum(random.uniform(0.1, 2, count))
    values = random.normal(size=count)
    at = random.uniform(knots[0] - 0.2, knots[-1] + 0.2, 30)
    np.testing.assert_allclose(
        spline_matrix(knots, at) @ values, CubicSpline(knots, values, bc_type="not-a-knot")(at), rtol=1e-8, atol=1e-8
    )


def test_a_spline_needs_four_increasing_knots():
    with pytest.raises(ValueError, match="at least 4"):
        spline_matrix([0, 1, 2], [0.5])
    with pytest.raises(ValueError, match="increasing"):
        spline_matrix([0, 2, 1, 3], [0.5])


def test_weights_are_read_in_the_order_of_the_parameters():
    model = smooth()
    target = Target.of(model, *samples())
    torch.testing.assert_close(random_plane(target).origin, flat(model))
    torch.testing.assert_close(target.flat(target.at(moved(model, (1.0, 0.1))).weights), flat(model) + 0.1)


def test_own_directions_are_looked_at_before_work_starts():
    model = network(seed=0)
    weights = flat(model)
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.randn(weights.shape, generator=rng).to(weights) for _ in range(2))
    shown = fl.landscape(model, samples(), directions=Plane(weights, x, y), points=3, span=1.0)
    assert np.isfinite(shown.surfaces["loss"]).all()
    for plane, told in (
        (Plane(weights, x, x), "two directions"),
        (Plane(weights, x, 0 * x), "two directions"),
        (Plane(weights, x, y[:5]), r"y has shape \(5,\)"),
        (Plane(weights[:7], x, y), r"origin has shape \(7,\)"),
        (Plane(weights, x, y / 0), "y holds numbers that are not finite"),
    ):
        with pytest.raises(fl.SettingError, match=told):
            fl.landscape(model, samples(), directions=plane, points=3, span=1.0)
    with pytest.raises(fl.SettingError, match="all models lie at one place"):
        fl.landscape(model, samples(), directions=Plane(weights, x, y), points=3)
