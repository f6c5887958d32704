"""Landscapes: points lie where they claim, models stay as they are, interruptions lose nothing, splines keep faith."""

import copy

import numpy as np
import pytest
import torch
from scenes import FakeRun, flat, moved, network, own_loss, samples, smooth
from torch import nn

import flatlab as fl
from flatlab.geometry import Landscape, landscape
from flatlab.geometry.directions import random_plane
from flatlab.geometry.evaluate_points import Points
from flatlab.geometry.grid import Grid
from flatlab.geometry.objective import Target
from flatlab.geometry.plane import Plane

DATA = samples()


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_centre_is_the_models_own_loss(norm, dimensions):
    model = network(norm)
    found = landscape(model, DATA, dimensions=dimensions, points=5, span=0.3)
    xs, ys, losses = found.surface()
    centre = losses[len(ys) // 2, len(xs) // 2]
    assert xs[len(xs) // 2] == 0
    assert centre == pytest.approx(own_loss(model, *DATA), rel=1e-5)
    assert found.summary()["loss"].item() == centre
    hits = torch.cat([model(images).argmax(1) for images in DATA[0].split(64)]) == DATA[1]
    accuracies = found.surface(value="accuracy")[2]
    assert accuracies[len(ys) // 2, len(xs) // 2] == pytest.approx(hits.float().mean().item())


def test_every_point_lies_where_it_claims():
    model = network()
    target = Target.of(model, *DATA)
    plane = random_plane(target, seed=5)
    xs, ys, losses = landscape(model, DATA, points=5, seed=5, span=0.8).surface()
    for row, column in ((0, 0), (0, 4), (3, 1), (4, 2)):
        there = moved(model, (xs[column], plane.x), (ys[row], plane.y))
        assert losses[row, column] == pytest.approx(own_loss(there, *DATA), rel=1e-4)


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt])
def test_the_model_is_untouched_also_after_an_interrupt(stop):
    model = network().train()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before, grad = copy.deepcopy(model.state_dict()), model.head.weight.grad.clone()

    def progress(done, total):
        if stop and done == 7:
            raise stop

    if stop:
        with pytest.warns(UserWarning, match="interrupted"):
            found = landscape(model, DATA, points=5, progress=progress)
        assert found.frame["measured"].sum() == 7
    else:
        landscape(model, DATA, points=5, progress=progress)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.head.weight.grad, grad)


def test_an_interrupted_landscape_goes_on_where_it_stopped_and_ends_the_same(tmp_path):
    model, markers = network(), {"tuned": network(seed=1)}
    whole = landscape(model, DATA, points=7, markers=markers)
    file = tmp_path / "landscape.parquet"
    partial = landscape(model, DATA, points=7, markers=markers, store=file, progress=lambda done, total: done < 20)
    assert not partial.about["complete"]
    assert partial.surface()[2][3, 3] == whole.surface()[2][3, 3]
    assert np.isnan(partial.surface()[2]).sum() == 49 - 19
    counts = []
    rest = landscape(
        model, DATA, points=7, markers=markers, store=file, progress=lambda done, total: counts.append(done)
    )
    assert counts[:2] == [20, 21]  # what was kept, and one more
    assert counts[-1] == 50
    assert rest.frame.equals(whole.frame)
    assert rest.about == whole.about
    again = landscape(
        model, DATA, points=7, markers=markers, store=file, progress=lambda *_: pytest.fail("measured again")
    )
    assert again.frame.equals(whole.frame)


def test_a_landscape_goes_on_in_the_memory_format_it_began_with(tmp_path, monkeypatch):
    file, model = tmp_path / "landscape.parquet", network()
    for given in (torch.contiguous_format, torch.channels_last):  # an earlier version took the faster one of that day
        monkeypatch.setattr(Target, "layout", given)
        found = landscape(model, DATA, points=5, store=file, progress=lambda done, _: done < 4)
        assert found.about["memory format"] == "contiguous_format"


class Attending(nn.Module):
    """A network of one's own: convolution, running statistics, attention."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.look, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        """[batch, 10]."""
        tokens = torch.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)[:, ::8]
        return self.last(self.look(tokens, tokens, tokens)[0].mean(1))


@pytest.mark.parametrize("name", ["lenet", "cnn4", "mobilenet", "resnet20", "own"])
def test_values_have_the_same_bits_however_many_threads_and_points_at_a_time(name, tmp_path):
    torch.manual_seed(0)
    spec = fl.ModelSpec(name=name, width=0.25) if name != "own" else None
    model = Attending().eval() if spec is None else fl.models.build(spec, (1, 16, 16), 10)
    data = torch.randn(70, 1, 16, 16), torch.arange(70) % 10
    asked = {"points": 3, "dimensions": 1 if name in ("mobilenet", "resnet20") else 2}  # those take the longest
    before, losses = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            file = tmp_path / f"{threads}.parquet"
            landscape(model, data, store=file, progress=lambda done, _, t=threads: done <= t, **asked)
            sittings = landscape(model, data, store=file, **asked)
            points = Points(target := Target.of(model, *data))
            vectors = [target.flat(target.weights) * factor for factor in (1.0, 1.01, 0.97)]
            together, backwards = points.measure(vectors).losses, points.measure(vectors[::-1]).losses.flip(0)
            apart = torch.cat([Points(target).measure([vector]).losses for vector in vectors])
            assert torch.equal(together, backwards) and torch.equal(together, apart)
            losses.append([*sittings.frame["loss"], *landscape(model, data, **asked).frame["loss"], *together.sum(1)])
            points_ = len(sittings.frame)
    finally:
        torch.set_num_threads(before)
    assert losses[0] == losses[1] and losses[0][:points_] == losses[0][points_ : 2 * points_]


def test_an_interrupted_refinement_ends_the_same(tmp_path):
    file, model = tmp_path / "landscape.parquet", smooth()
    whole = landscape(model, DATA, points=21, refine=True, tolerance=1e-4)
    for stop in (30, 60, 130):
        landscape(
            model, DATA, points=21, refine=True, tolerance=1e-4, store=file, progress=lambda done, _, s=stop: done < s
        )
    rest = landscape(model, DATA, points=21, refine=True, tolerance=1e-4, store=file)
    assert rest.frame.equals(whole.frame)
    assert rest.about == whole.about


def test_a_file_of_another_landscape_is_refused(tmp_path):
    file = tmp_path / "landscape.parquet"
    landscape(network(), DATA, points=3, store=file)
    with pytest.raises(ValueError, match="other models, samples or settings"):
        landscape(network(seed=1), DATA, points=3, store=file)
    with pytest.raises(ValueError, match="other models, samples or settings"):
        landscape(network(), DATA, points=3, seed=1, store=file)


def test_a_runs_landscapes_are_stored_with_it(tmp_path):
    run = FakeRun([network()])
    run.directory = tmp_path
    first = landscape(run, points=3)
    assert landscape(run, points=3, progress=lambda *_: pytest.fail("measured again")).frame.equals(first.frame)
    assert len(list(tmp_path.glob("geometry/*.parquet"))) == 1


def test_saving_and_loading_changes_nothing(tmp_path):
    found = landscape(network(), DATA, points=3)
    back = Landscape.load(found.save(tmp_path / "one.parquet"))
    assert back.frame.equals(found.frame)
    assert back.about == found.about


def test_compared_models_share_samples_range_and_draws_and_each_is_as_it_is_alone():
    models = {"a": network(seed=0), "b": network(seed=1)}
    data = samples(120)
    both = landscape(models, data, points=5)
    for name, model in models.items():
        alone = landscape({name: model}, data, points=5)
        for one, other in zip(both.surface(name), alone.surface(name), strict=True):
            np.testing.assert_array_equal(one, other)
    assert both.about["samples"] == 120


def test_eigenvectors_of_the_first_serve_all_or_each_has_its_own():
    models = {"a": smooth(0), "b": smooth(1)}
    own = landscape(models, DATA, dimensions=1, directions="own-eigen", points=5, span=0.02)
    shared = landscape(models, DATA, dimensions=1, directions="eigen", points=5, span=0.02)
    np.testing.assert_array_equal(own.surface("a")[2], shared.surface("a")[2])
    assert list(shared.about["eigenvalues"]) == ["a"]
    assert shared.surface("b")[2][0, 2] == pytest.approx(own_loss(models["b"], *DATA), rel=1e-5)
    assert not np.allclose(shared.surface("b")[2], own.surface("b")[2], rtol=1e-6)
    for name in models:
        xs, _, losses = own.surface(name)
        curvature = (losses[0, 0] - 2 * losses[0, 2] + losses[0, 4]) / xs[4] ** 2
        assert curvature == pytest.approx(own.about["eigenvalues"][name][0], rel=0.05)


def test_points_of_the_plane_through_three_models_reproduce_their_losses():
    models = {name: network(seed=seed) for seed, name in enumerate(("global", "SWA", "client"))}
    found = landscape(models, DATA, directions="plane", points=7)
    for mark in found.marks().itertuples():
        assert mark.loss == pytest.approx(own_loss(models[mark.name], *DATA), rel=1e-5)
        assert mark.residual < 1e-5
    marks = found.marks().set_index("name")
    u = flat(models["SWA"]) - flat(models["global"])
    u /= u.norm()
    v = flat(models["client"]) - flat(models["global"])
    v -= (u @ v) * u
    v /= v.norm()
    for name in models:
        there = moved(models["global"], (marks.loc[name, "x"], u), (marks.loc[name, "y"], v))
        assert own_loss(there, *DATA) == pytest.approx(marks.loc[name, "loss"], rel=1e-4)
    xs, ys, losses = found.surface()
    zero = np.flatnonzero(ys == 0)[0], np.flatnonzero(xs == 0)[0]
    assert losses[zero] == pytest.approx(own_loss(models["global"], *DATA), rel=1e-5)


def test_a_marker_on_a_joined_plane_is_everybodys_and_shown_once():
    models = {name: network(seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))}
    found = landscape(models, DATA, directions="plane", points=3, markers={"global": network(seed=4)})
    assert found.marks()["name"].tolist() == ["a", "b", "c", "global"]


def test_a_runs_way_carries_its_true_losses_and_its_distance_off_the_plane():
    models = [network("group", steps=steps) for steps in (0, 5, 10, 20, 30)]
    run = FakeRun(models, clients={3: network("group", seed=4)})
    markers = {"tuned": network("group", seed=5), "the run": run}
    found = landscape(run, directions="pca", points=5, clients=1, markers=markers, limit=None)
    marks = found.marks().set_index("name")
    for round, model in enumerate(models):
        assert marks.loc[f"round {round}", "loss"] == pytest.approx(own_loss(model, *samples(400)), rel=1e-5)
    offset = flat(models[0]) - flat(models[-1])
    place, residual = marks.loc["round 0", ["x", "y"]].to_numpy(float), marks.loc["round 0", "residual"]
    assert (place**2).sum() + residual**2 == pytest.approx(offset.square().sum().item(), rel=1e-4)
    assert marks.loc["client 3, round 1", "loss"] == pytest.approx(
        own_loss(network("group", seed=4), *samples(400)), rel=1e-5
    )
    assert marks.loc["client 3, round 1", "residual"] > 0.1
    assert marks.loc["tuned", "series"] == "markers"
    assert marks.loc["the run", "loss"] == pytest.approx(own_loss(models[-1], *samples(400)), rel=1e-5)
    assert sum(found.about["explained"]) <= 1


def test_a_given_plane_is_used_as_it_is():
    model = network()
    target = Target.of(model, *DATA)
    drawn = random_plane(target)
    plane = Plane(origin=drawn.origin + 0.01, x=drawn.x, y=drawn.y)
    found = landscape(model, DATA, directions=plane, points=3, span=0.5)
    assert found.surface()[2][1, 1] == pytest.approx(own_loss(moved(model, (1.0, 0.01)), *DATA), rel=1e-4)


def test_only_the_chosen_part_moves():
    model = network()
    found = landscape(model, DATA, part="head", points=3, span=2.0)
    plane = random_plane(Target.of(model, *DATA, part="head"))
    there = copy.deepcopy(model)
    with torch.no_grad():
        there.head.weight += 2 * plane.x[: there.head.weight.numel()].view_as(there.head.weight)
    assert found.surface()[2][1, 2] == pytest.approx(own_loss(there, *DATA), rel=1e-4)


def test_standard_errors_are_those_of_the_samples():
    model = network("group")
    xs, ys, errors = landscape(model, DATA, points=3, span=0.5).surface(value="loss_error")
    rises = landscape(model, DATA, points=3, span=0.5).surface(value="rise_error")[2]
    plane = random_plane(Target.of(model, *DATA))
    there = moved(model, (xs[2], plane.x), (ys[0], plane.y))
    with torch.no_grad():
        at_centre, at_corner = (
            nn.functional.cross_entropy(m(DATA[0]), DATA[1], reduction="none") for m in (model, there)
        )
    root = len(DATA[1]) ** 0.5
    assert errors[0, 2] == pytest.approx(at_corner.numpy().std(ddof=1) / root, rel=1e-3)
    assert rises[0, 2] == pytest.approx((at_corner - at_centre).numpy().std(ddof=1) / root, rel=1e-3)
    assert rises[1, 1] == 0


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_many_points_in_one_batch_score_as_one_after_another(norm, device):
    model, data = network(norm).to(device), tuple(part.to(device) for part in DATA)
    target = Target.of(model, *data)
    plane = random_plane(target)
    vectors = [plane.at(a, b) for a, b in ((0, 0), (0.3, -0.2), (1, 1), (-0.5, 0.1), (0.2, 0.2))]
    stacked, alone = Points(target, stack=3), Points(target, stack=1)
    before = target.loss()
    torch.testing.assert_close(stacked.measure(vectors).losses, alone.measure(vectors).losses, rtol=1e-4, atol=1e-4)
    assert stacked.measure(vectors).accuracies == alone.measure(vectors).accuracies
    assert target.loss() == before


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_points_side_by_side_are_bit_equal_to_one_after_another(norm):
    target = Target.of(network(norm), *DATA)
    plane = random_plane(target)
    vectors = [plane.at(a, b) for a, b in ((0, 0), (0.3, -0.2), (1, 1), (-0.5, 0.1), (0.2, 0.2))]
    alone = Points(target).measure(vectors)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        points = Points(target, layout="channels_last")
        together = points.measure(vectors)
        assert points.at_once == len(points.copies) == torch.get_num_threads() == 3
        origin = together.losses[0]
        rows = points.table(vectors, origin)
        assert rows == [points.table([vector], origin)[0] for vector in vectors]  # also means and deviations
    finally:
        torch.set_num_threads(before)
    layout = Points(target, layout="channels_last").measure(vectors)
    assert torch.equal(together.losses, layout.losses) and together.accuracies == layout.accuracies
    torch.testing.assert_close(together.losses, alone.losses, rtol=1e-4, atol=1e-5)  # whichever layout was faster


def test_a_point_costs_one_forward_pass_over_the_samples():
    points = Points(Target.of(network(steps=0), *samples(512)))
    plane = random_plane(points.target)
    seen = []
    handle = points.model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    points.measure([plane.at(0.1, 0.2)])
    handle.remove()
    assert sum(seen) == 512


def test_refinement_measures_fewer_points_and_keeps_its_stated_error():
    model = smooth()
    full = landscape(model, DATA, points=21).surface()[2]
    found = landscape(model, DATA, points=21, refine=True, tolerance=0.002)
    error = found.about["spline_error"]["model 1"]
    worst = np.abs(found.surface()[2] - full).max() / np.ptp(full)
    assert error["loss"] <= 0.002
    assert worst <= 1.5 * 0.002
    assert found.frame["measured"].sum() <= 441 / 3
    measured = found.surface(value="measured")[2]
    assert measured[10, 10]
    np.testing.assert_array_equal(found.surface()[2][measured], full[measured])


def test_refinement_measures_everything_where_no_spline_fits():
    grid = Grid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
    random = np.random.default_rng(0)
    noise = random.normal(size=(21, 21))
    for spots in grid.schedule(0.002, random):
        for spot in spots:
            grid.put(spot, {"loss": noise[spot], "accuracy": noise[spot], "loss_error": 0, "rise_error": 0})
    assert grid.measured.all()
    np.testing.assert_array_equal(grid.scores["loss"], noise)


def test_refinement_goes_where_the_surface_bends():
    xs = np.linspace(-1, 1, 21)
    bump = xs[None, :] ** 2 + xs[:, None] + 3 * np.exp(-((xs[None, :] - 0.5) ** 2 + (xs[:, None] - 0.5) ** 2) / 0.08)
    grid = Grid(xs, xs)
    for spots in grid.schedule(0.002, np.random.default_rng(0)):
        for spot in spots:
            grid.put(spot, {"loss": bump[spot], "accuracy": 0, "loss_error": 0, "rise_error": 0})
    assert np.abs(grid.scores["loss"] - bump).max() <= 1.5 * 0.002 * np.ptp(bump)
    near = (xs[:, None] > 0) & (xs[None, :] > 0)
    assert grid.measured[near].mean() > 1.5 * grid.measured[~near].mean()
    assert not grid.measured.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 20}, "odd number"),
        ({"dimensions": 3}, "must be 1 or 2"),
        ({"directions": "up"}, "must be 'random'"),
        ({"span": -1.0}, "span = -1.0: must be a number > 0"),
        ({"tolerance": 0.0}, "tolerance = 0.0"),
        ({"repeats": 3}, "random lines"),
        ({"refine": True, "points": 11}, "at least 21"),
        ({"directions": "plane"}, "exactly 3"),
        ({"directions": "plane", "dimensions": 1}, r"path\(a, b\)"),
        ({"directions": "pca"}, "a run is needed"),
        ({"clients": 3}, "a run is needed"),
        ({"part": "tail"}, "part"),
    ],
)
def test_impossible_requests_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        landscape(network(steps=0), DATA, **change)


def test_wrong_models_and_data_are_refused():
    model, (images, labels) = network(steps=0), DATA
    broken = copy.deepcopy(model)
    broken.head.bias.data[0] = float("nan")
    for models, data, message in (
        ([], DATA, "at least one"),
        (broken, DATA, "head.bias is not finite"),
        (model, (images[:0], labels[:0]), "no samples"),
        (model, (images, torch.zeros_like(labels)), "of class 0"),
        (model, "holdout", "a name needs a run"),
    ):
        with pytest.raises(ValueError, match=message):
            landscape(models, data, points=3)
    with pytest.raises(ValueError, match="limit = 0"):
        landscape(FakeRun([model]), limit=0)
    with pytest.raises(ValueError, match="at least 3 of a run; fake has 2"):
        landscape(FakeRun([model, model]), directions="pca", points=3)
    with pytest.raises(ValueError, match="differ in name or shape"):
        landscape(model, DATA, points=3, markers={"wide": network(steps=0, width=0.25)})
    with pytest.raises(ValueError, match="tuned: weights are not finite"):
        landscape(model, DATA, points=3, markers={"tuned": broken})
    with pytest.raises(ValueError, match="whole models"):
        landscape({"a": model, "b": network(seed=1), "c": network(seed=2)}, DATA, directions="plane", part="head")
