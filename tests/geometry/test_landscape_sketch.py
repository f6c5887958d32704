"""A landscape can be watched while it is measured: coarse first, then finer, true wherever it was measured."""

import numpy as np
import pytest
import torch

from flatlab.figures.landscape import caption
from flatlab.geometry import landscape
from flatlab.geometry.grid import Grid


def bowl(grid, x, y):
    return (grid.xs[x] - 0.1) ** 2 + 2 * grid.ys[y]


@pytest.mark.parametrize(("points", "levels"), [(7, [1]), (13, [2, 1]), (25, [4, 2, 1]), (51, [16, 8, 4, 2, 1])])
def test_levels_are_nested_and_a_guess_is_linear_between_their_points(points, levels):
    axis = (np.arange(points) - points // 2) / (points // 2)
    grid, seen = Grid(axis, axis), []
    for spots in grid.schedule(None, np.random.default_rng(0)):
        if grid.level and grid.level not in seen:
            seen.append(grid.level)
            shown = grid.sketch()["loss"]
            assert np.isfinite(shown).all()
            knots = grid._knots(axis, grid.level)
            rows, columns = np.interp(np.arange(points), knots, axis[knots]), shown[points // 2]
            bend = np.interp(np.arange(points), knots, (axis[knots] - 0.1) ** 2)
            assert columns == pytest.approx(bend) and shown[:, 0] - shown[0, 0] == pytest.approx(2 * (rows - rows[0]))
        for y, x in spots:
            value = bowl(grid, x, y)
            grid.put((y, x), {"loss": value, "accuracy": 0.5, "loss_error": 0, "rise_error": 0})
    assert [*seen, grid.level] == levels or seen == levels
    assert (grid.sketch()["loss"] == grid.scores["loss"]).all()


def test_each_finer_picture_is_shown_once_of_all_models():
    torch.manual_seed(0)
    data = (torch.randn(32, 4), torch.randint(0, 3, (32,)))
    models = {name: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)) for name in "ab"}
    shown = []
    whole = landscape(models, data, points=25, watch=shown.append)
    assert [int(one.surfaces["measured"].sum()) // 2 >= least for one, least in zip(shown, (49, 169), strict=True)]
    assert not any(one.about["complete"] for one in shown) and whole.about["complete"]
    for coarse in shown:
        measured = coarse.surfaces["measured"].to_numpy(bool)
        assert (coarse.surfaces["loss"][measured] == whole.surfaces["loss"][measured]).all()
        assert np.isfinite(coarse.surfaces["loss"]).all()
    again = landscape(models, data, points=25)
    assert again.frame.equals(whole.frame)


def test_a_first_look_is_the_same_plane_on_some_of_the_samples_and_says_so():
    torch.manual_seed(0)
    images, labels = torch.randn(200, 4), torch.randint(0, 3, (200,))
    models = {name: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)) for name in "ab"}
    shown = []
    whole = landscape(models, (images, labels), points=25, watch=shown.append)
    first, *later = shown
    assert "17 samples" in caption(first.about) and "first look with 17 of 200 samples" in caption(first.about)
    assert not any("first look" in caption(one.about) for one in [*later, whole]) and len(later) == 2
    few = landscape(models, (images[::12], labels[::12]), points=25).surfaces.set_index(["panel", "x", "y"])["loss"]
    assert len(first.surfaces) == 2 * 25 and first.about["range"] == whole.about["range"]
    for row in first.surfaces.itertuples():
        assert row.loss == pytest.approx(few[row.panel, row.x, row.y], rel=1e-6)
    assert landscape(models, (images, labels), points=25).frame.equals(whole.frame)
