"""Lanczos, power iteration, the trace and the quadrature against dense linear algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatlab.geometry.lanczos import lanczos
from flatlab.geometry.power import power_iteration
from flatlab.geometry.trace import hutchinson


def symmetric(values, seed=0):
    """A dense matrix with these eigenvalues and random eigenvectors."""
    random = torch.Generator().manual_seed(seed)
    size = len(values)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))
    return basis @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ basis.T


def like_a_hessian(size=400, seed=0):
    """A bulk about zero and a few large eigenvalues, the fourth and fifth being near-twins."""
    bulk = np.random.default_rng(seed).normal(0, 0.3, size - 6)
    return np.concatenate([[10, 8.2, 6, 5, 4.98, 4.6], bulk])


@pytest.mark.parametrize("seed", range(8))
def test_five_largest_lie_within_their_error_bars(seed):
    matrix = symmetric(like_a_hessian(seed=seed), seed)
    found = lanczos(matrix.mv, matrix[0], seed).extreme(5)
    assert found.converged.all()
    assert (np.abs(found.values - [10, 8.2, 6, 5, 4.98]) <= found.errors).all()
    assert (found.errors <= 1.01e-3 * found.values).all()
    residuals = (matrix @ found.vectors.T - found.vectors.T * torch.tensor(found.values)).norm(dim=0)
    assert (residuals.numpy() <= found.errors).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_inside_the_error_bar(dtype):
    matrix = symmetric(like_a_hessian()).to(dtype)
    exact = torch.linalg.eigvalsh(matrix.double()).flip(0).numpy()
    found = lanczos(matrix.mv, matrix[0]).extreme(5, tolerance=1e-12, budget=60)
    assert (np.abs(found.values - exact[:5]) <= found.errors).all()
    assert (found.errors[:3] < 1e4 * torch.finfo(dtype).eps).all()


def test_the_smallest_come_first_at_the_bottom():
    values = like_a_hessian()
    found = lanczos(symmetric(values).mv, torch.empty(400, dtype=torch.float64)).extreme(3, "bottom")
    assert (np.abs(found.values - np.sort(values)[:3]) <= found.errors).all()


def test_answers_do_not_depend_on_what_was_asked_before():
    matrix = symmetric(like_a_hessian())
    alone = lanczos(matrix.mv, matrix[0]).extreme(2)
    space = lanczos(matrix.mv, matrix[0])
    space.extreme(4, "bottom", tolerance=1e-6)
    after = space.extreme(2)
    assert after.products == alone.products
    np.testing.assert_array_equal(after.values, alone.values)
    np.testing.assert_array_equal(after.errors, alone.errors)


def test_too_small_a_budget_is_said():
    matrix = symmetric(like_a_hessian())
    found = lanczos(matrix.mv, matrix[0]).extreme(5, budget=8)
    assert found.products == 8
    assert not found.converged.all()


def test_a_near_start_saves_products_and_still_finds_a_new_top():
    matrix = symmetric(like_a_hessian())
    cold = lanczos(matrix.mv, matrix[0]).extreme(1)
    moved = matrix + 0.02 * symmetric(np.random.default_rng(1).normal(0, 1, 400), seed=1)
    warm = lanczos(moved.mv, matrix[0], near=cold.vectors).extreme(1)
    assert warm.products < lanczos(moved.mv, matrix[0]).extreme(1).products
    direction = torch.linalg.eigh(matrix)[1][:, 100]
    for seed in range(5):
        other = matrix + 30 * torch.outer(direction, direction)
        assert lanczos(other.mv, matrix[0], seed, near=cold.vectors).extreme(1).values[0] > 29


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
@settings(max_examples=60)
def test_small_matrices_are_solved_whole_repeated_eigenvalues_too(values):
    matrix = symmetric(np.array(values, float))
    found = lanczos(matrix.mv, matrix[0].clone()).extreme(len(values), budget=20)
    np.testing.assert_allclose(found.values, sorted(values, reverse=True), atol=1e-10)
    assert found.converged.all()
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(len(values)), atol=1e-10)


def test_power_iteration_keeps_the_papers_protocol():
    values = np.array([9.0, -7, 5, 1, 0.5, 0.1])
    matrix = symmetric(values)
    found = power_iteration(matrix.mv, matrix[0], 3, steps=200, tolerance=1e-10)
    np.testing.assert_allclose(found.values, [9, 5, -7], rtol=1e-6)
    assert found.converged.all()
    short = power_iteration(matrix.mv, matrix[0], 3)
    assert short.products <= 60
    close = symmetric(np.linspace(9, 8, 50))
    unfinished = power_iteration(close.mv, close[0], 1, tolerance=1e-9)
    assert unfinished.products == 20
    assert not unfinished.converged[0]
    assert unfinished.errors[0] >= np.abs(np.linspace(9, 8, 50) - unfinished.values[0]).min()


@pytest.mark.parametrize(("deflated", "most"), [(0, 200), (12, 60)])
def test_the_trace_is_in_its_interval_in_at_least_95_of_100_seeds(deflated, most):
    matrix = symmetric(like_a_hessian() + 0.1)
    truth = matrix.trace().item()
    inside, probes, errors = 0, [], []
    for seed in range(100):
        space = lanczos(matrix.mv, matrix[0], seed)
        basis = space.basis(deflated) if deflated else None
        found = hutchinson(
            matrix.mv, matrix[0], basis=basis, basis_trace=space.trace(deflated), tolerance=0.05, seed=seed
        )
        inside += found.low <= truth <= found.high
        probes.append(found.probes)
        errors.append(found.value / truth - 1)
        assert found.converged == (found.standard_error <= 0.05 * found.value)
    assert inside >= 95
    assert np.mean(probes) <= most
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.07


def test_a_basis_of_everything_leaves_nothing_to_sample():
    matrix = symmetric(np.arange(8.0))
    space = lanczos(matrix.mv, matrix[0])
    found = hutchinson(matrix.mv, matrix[0], basis=space.basis(8), basis_trace=space.trace(8))
    assert found.value == pytest.approx(28)
    assert found.high - found.low < 1e-10
