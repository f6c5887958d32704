"""fl.hessian on small networks: eigenvalues, trace and spectrum against the dense Hessian, and against PyHessian."""

import warnings
from types import SimpleNamespace

import numpy as np
import pyhessian
import pytest
import torch
from hessian_nets import dense_hessian, network, noise
from scipy.integrate import trapezoid
from scipy.stats import wasserstein_distance
from torch import nn

from flatlab.declare import SettingError
from flatlab.geometry import (
    ClientHessians,
    Eigenvalues,
    Hessian,
    HessianAlong,
    HessianSettings,
    Spectrum,
    Trace,
    hessian,
)
from flatlab.geometry.hvp import HessianProducts
from flatlab.geometry.inputs import choose_samples
from flatlab.geometry.objective import Target
from flatlab.geometry.pyhessian_adapter import PyHessian
from flatlab.streams import key
from flatlab.tasks import Classification

SCENES = [("batch", "all"), ("group", "all"), ("batch", "body"), ("group", "head")]


@pytest.fixture(scope="module", params=SCENES, ids=lambda scene: " ".join(scene))
def scene(request):
    """A model, its samples, its part, and its dense Hessian."""
    norm, part = request.param
    model = network(norm)
    data = noise(40)
    dense = dense_hessian(Target.of(model, *data, part=part, batch=16, dtype=torch.float64)).numpy()
    return SimpleNamespace(model=model, data=data, part=part, dense=dense, values=np.linalg.eigvalsh(dense)[::-1])


# What holds of each norm and of each kind of part, in two scenes; in all four with the slow tests.
OF_EACH = pytest.mark.parametrize(
    "scene",
    [*SCENES[2:], *(pytest.param(scene, marks=pytest.mark.slow) for scene in SCENES[:2])],
    ids=" ".join,
    indirect=True,
)


@pytest.fixture
def dense_products(scene, monkeypatch):
    """Products by the dense matrix, for what is repeated many times."""
    dense = torch.tensor(scene.dense.copy())
    monkeypatch.setattr(HessianProducts, "__call__", lambda self, vector: dense.to(vector) @ vector)


def of(scene, **options):
    return hessian(scene.model, scene.data, part=scene.part, batch=16, **{"dtype": torch.float64, **options})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_top_and_bottom_eigenvalues_lie_within_their_error_bars(scene, dtype):
    measured = of(scene, dtype=dtype)
    for found, expected in ((measured.top(5), scene.values[:5]), (measured.bottom(1), scene.values[-1:])):
        assert found.frame["converged"].all()
        assert (np.abs(found.frame["eigenvalue"] - expected) <= found.frame["error"]).all()
        assert (found.frame["error"] <= 2e-3 * scene.values[0]).all()


def test_eigenvectors_are_parameter_shaped_and_belong_to_their_eigenvalues(scene):
    found = of(scene, tolerance=1e-6).top(2)
    for value, vector in zip(found.frame["eigenvalue"], found.vectors, strict=True):
        assert all(
            vector[name].shape == weight.shape for name, weight in scene.model.named_parameters() if name in vector
        )
        flat = torch.cat([part.reshape(-1) for part in vector.values()]).numpy()
        assert np.linalg.norm(scene.dense @ flat - value * flat) < 2e-6 * value
        assert np.linalg.norm(flat) == pytest.approx(1)


def test_the_trace_is_in_its_interval_in_at_least_95_of_100_seeds(scene, dense_products):
    truth, inside = np.trace(scene.dense), 0
    for seed in range(100):
        row = of(scene, seed=seed).trace(0.05).frame.iloc[0]
        inside += row["low"] <= truth <= row["high"]
        assert row["converged"]
    assert inside >= 95


def test_the_trace_uses_the_products_of_the_network(scene):
    row = of(scene).trace(0.05).frame.iloc[0]
    assert row["low"] <= np.trace(scene.dense) <= row["high"]


@pytest.mark.parametrize("method", ["pyhessian", "lanczos"])
def test_the_spectrum_is_close_to_the_true_one(scene, method, dense_products):
    found = of(scene).spectrum(steps=25, probes=12, method=method)
    assert found.frame.groupby("probe")["weight"].sum().to_numpy() == pytest.approx(1, abs=1e-5)
    range_ = scene.values[0] - scene.values[-1]
    distance = wasserstein_distance(found.frame["node"], scene.values, found.frame["weight"])
    assert distance < 0.015 * range_
    curve = found.density(width=0.01)
    step = curve["eigenvalue"].diff().iloc[1]
    assert curve["density"].sum() * step == pytest.approx(1, abs=1e-3)
    narrow = found.density(width=0.001, points=1009)
    assert trapezoid(narrow["density"], narrow["eigenvalue"]) == pytest.approx(1, abs=1e-3)
    for settings in ({"width": 0.0002}, {"points": 50}, {"width": 0.001, "points": 1008}):
        with pytest.raises(SettingError, match=r"width = .*needs at least \d+ points"):
            found.density(**settings)


def test_lanczos_begins_from_vectors_of_the_same_parameters_alone(tmp_path):
    data = noise(32)
    whole, head = hessian(network("group"), data), hessian(network("group"), data, part="head")
    known = head.top(1)
    with pytest.raises(ValueError, match=r"start: is of other parameters \(part = 'head'\)"):
        whole.top(1, start=known)
    kept = type(known).load(known.save(tmp_path / "known.parquet"))
    with pytest.raises(ValueError, match="start: has no vectors"):
        head.top(1, start=kept)
    assert head.top(1, start=known).frame["eigenvalue"][0] == pytest.approx(known.frame["eigenvalue"][0], rel=1e-3)


def test_pyhessian_itself_agrees_on_the_same_weights_and_data():
    model, (images, labels) = network("running"), noise(32)
    theirs = pyhessian.hessian(network("running").eval(), nn.CrossEntropyLoss(), data=(images, labels), cuda=False)
    expected, _ = theirs.eigenvalues(maxIter=300, tol=1e-6, top_n=2)
    adapter = hessian(model, (images, labels), method="pyhessian", tolerance=1e-6, budget=300)
    np.testing.assert_allclose(adapter.top(2).frame["eigenvalue"], expected, rtol=1e-4)
    np.testing.assert_allclose(hessian(model, (images, labels)).top(2).frame["eigenvalue"], expected, rtol=1e-4)
    torch.manual_seed(key(0, "pyhessian", "trace", 0) % 2**63)  # ours draws the same from a generator of its own
    samples = theirs.trace(maxIter=5, tol=float("-inf"))
    ours = PyHessian(HessianProducts(Target.of(model, images, labels))).theirs("trace", 0, maxIter=5, tol=float("-inf"))
    np.testing.assert_allclose(ours, samples, rtol=1e-4)


def test_pyhessian_gives_eigenvalues_and_trace_with_honest_errors(scene):
    measured = of(scene, method="pyhessian", tolerance=1e-5, budget=500)
    found = measured.top(3).frame
    assert (np.abs(found["eigenvalue"].to_numpy()[:, None] - scene.values).min(1) <= found["error"]).all()
    np.testing.assert_allclose(found["eigenvalue"][0], scene.values[0], rtol=1e-3)
    row = measured.trace(0.1).frame.iloc[0]
    assert row["low"] <= np.trace(scene.dense) <= row["high"]


@OF_EACH
def test_power_iteration_gives_the_papers_protocol(scene):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = of(scene, method="power").top(5)
    assert found.about["products"] <= 100
    assert (np.diff(found.frame["eigenvalue"]) <= 0).all()
    assert (np.abs(found.frame["eigenvalue"].to_numpy()[:, None] - scene.values).min(1) <= found.frame["error"]).all()
    np.testing.assert_allclose(found.frame["eigenvalue"][0], scene.values[0], rtol=0.05)


@OF_EACH
def test_the_measurement_leaves_model_and_generator_alone(scene):
    before = {name: value.clone() for name, value in scene.model.state_dict().items()}
    state = torch.get_rng_state()
    for method in ("lanczos", "pyhessian"):
        measured = of(scene, method=method, budget=500)
        measured.top(2), measured.trace(0.2), measured.spectrum(10)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in scene.model.state_dict().items())
    assert all(parameter.grad is None for parameter in scene.model.parameters())
    assert pyhessian.hessian.__init__.__globals__["torch"] is torch


@OF_EACH
def test_equal_seeds_give_equal_answers_and_results_say_what_they_are_of(scene, tmp_path):
    for ask, kind in (
        (lambda h: h.top(2), Eigenvalues),
        (lambda h: h.trace(), Trace),
        (lambda h: h.spectrum(9), Spectrum),
    ):
        first, second = ask(of(scene, seed=4)), ask(of(scene, seed=4))
        assert first.frame.equals(second.frame)
        loaded = kind.load(first.save(tmp_path / "result.parquet"))
        assert loaded.frame.equals(first.frame)
        assert loaded.about == first.about
        batch = "fixed batches of 16, in order" if first.about["normalisation"] == "batch statistics" else "free"
        assert first.about["batch"] == batch
        assert first.about["samples"] == 40
        assert first.about["part"] == scene.part
        assert first.about["products"] > 0


def test_impossible_requests_get_clear_errors():
    model, data = network("group"), noise(16)
    size = sum(parameter.numel() for parameter in model.parameters())
    for method in ("lanczos", "pyhessian", "power"):
        with pytest.raises(ValueError, match=f"k = {size + 1}: this Hessian has {size} eigenvalues"):
            hessian(model, data, method=method).top(size + 1)
        with pytest.raises(ValueError, match="k = 0"):
            hessian(model, data, method=method).top(0)
    requests = {
        "method = 'magic'": lambda: hessian(model, data, method="magic"),
        "tolerance = 2": lambda: hessian(model, data, tolerance=2),
        "budget = 3": lambda: hessian(model, data, budget=3).top(5),
        "budget = 4: a trace": lambda: hessian(model, data, budget=4).trace(),
        "tolerance = 0": lambda: hessian(model, data).trace(0),
        "steps = 9999": lambda: hessian(model, data).spectrum(9999),
        "method = 'magic': must be 'pyhessian' or 'lanczos'": lambda: hessian(model, data).spectrum(5, method="magic"),
        "largest size only": lambda: hessian(model, data, method="power").bottom(),
        "has no trace": lambda: hessian(model, data, method="power").trace(),
        "a run is needed": lambda: hessian(model, data).along(),
        "part = 'feet'": lambda: hessian(model, data, part="feet"),
        "'holdout'.*needs a run": lambda: hessian(model),
        "round = 3": lambda: hessian(model, data, round=3),
        "client = 1": lambda: hessian(model, data, client=1),
    }
    for message, ask in requests.items():
        with pytest.raises(ValueError, match=message):
            ask()


def test_a_part_is_any_module_and_its_hessian_a_block_of_the_whole():
    model, data = network("group"), noise(40)
    whole = dense_hessian(Target.of(model, *data, batch=16, dtype=torch.float64))
    inside = torch.cat([torch.full((w.numel(),), n.startswith("body.0.")) for n, w in model.named_parameters()])
    assert 0 < int(inside.sum()) < len(inside)
    values = np.linalg.eigvalsh(whole[inside][:, inside].numpy())[::-1]
    found = hessian(model, data, part="body.0", batch=16, dtype=torch.float64).top(2)
    assert (np.abs(found.frame["eigenvalue"] - values[:2]) <= found.frame["error"]).all()
    with pytest.raises(
        ValueError, match=r"part = 'body\.00'.*or a module by its name: body, body\.0.*did you mean body\.0"
    ):
        hessian(model, data, part="body.00")


def test_data_and_weights_that_cannot_be_measured_get_clear_errors():
    model, (images, labels) = network("group"), noise(16)
    broken = network("group")
    broken.head.bias.data[1] = float("nan")
    apart = network("group")
    apart.head.to("meta")
    samples = {
        "no samples": (model, (images[:0], labels[:0])),
        "all 4 samples are of class 2": (model, (images[2::4], labels[2::4])),
        "parameter head.bias is not finite": (broken, (images, labels)),
        "images.*not finite": (model, (images / 0, labels)),
        "weights are on meta": (network("group").to("meta"), (images, labels)),
        "weights are on cpu and meta": (apart, (images, labels)),
        "labels: shape": (model, (images, labels[:5])),
        "classes 0 to 3": (model, (images, labels + 1)),
        "torch.uint8": (model, (images.byte(), labels)),
        "logits": (model.body[0], (images, labels)),
        "loss: shape": (model, (images, labels)),
    }
    for message, (subject, data) in samples.items():
        loss = {"loss": nn.functional.cross_entropy} if message == "loss: shape" else {}
        with pytest.raises(ValueError, match=message):
            hessian(subject, data, **loss)
    assert hessian(model, (images[2::4], labels[2::4]), one_class=True).top(1).frame["eigenvalue"][0] > 0


@OF_EACH
def test_an_answer_that_has_not_converged_says_so(scene):
    with pytest.warns(UserWarning, match="have not converged after 6 products"):
        found = of(scene, budget=6).top(5)
    assert not found.frame["converged"].all()
    with pytest.warns(UserWarning, match="trace: standard error"):
        assert not of(scene, budget=10).trace(1e-4).frame["converged"][0]


@pytest.fixture(scope="module")
def run(digits):
    """What a run offers to measurements, on real digits; the two rounds are two networks."""

    class FakeRun:
        data, round, checkpoints, kept = digits, 2, [0, 1, 2], ()
        experiment = SimpleNamespace(task=Classification())

        def model(self, round=None, which="auto", client=None):
            return _digits_net(2 if round is None else round)

        def clients(self, round):
            return {3: _digits_net(10 + round), 5: _digits_net(20 + round)}

    return FakeRun()


def _digits_net(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


@pytest.mark.filterwarnings("ignore:.*standard error")  # untrained nets: the trace is a small difference
def test_along_a_run_equals_each_checkpoint_measured_alone(run):
    found = hessian(run, limit=60, budget=40).along(k=2, trace=True)
    assert isinstance(found, HessianAlong)
    assert list(found.frame["round"].unique()) == [0, 1, 2]
    for round, rows in found.frame.groupby("round"):
        alone = hessian(run, round=round, limit=60, budget=40)
        rows = rows.set_index("quantity")
        top = alone.top(2).frame
        for rank in (1, 2):
            row = rows.loc[f"lambda_{rank}"]
            assert abs(row["value"] - top["eigenvalue"][rank - 1]) <= row["error"] + top["error"][rank - 1]
        assert rows.loc["trace", "value"] == pytest.approx(alone.trace().frame["trace"][0], rel=1e-5)
    assert list(hessian(run, limit=50).along(every=2).frame["round"]) == [0, 2]
    with pytest.raises(ValueError, match="every = 0"):
        hessian(run, limit=50).along(every=0)


@pytest.mark.filterwarnings("ignore:lambda_1 is the largest eigenvalue with sign")  # untrained nets
def test_per_client_measures_each_on_its_own_samples(run):
    found = hessian(run, limit=200).per_client(round=1)
    assert isinstance(found, ClientHessians)
    assert list(found.frame["client"]) == [3, 5]
    for row in found.frame.itertuples():
        own = run.data.samples("train", client=row.client, limit=200, seed=0)
        own_target = Target.of(run.clients(1)[row.client], *own, one_class=True)
        alone = Hessian(own_target, HessianSettings(tolerance=1e-4)).top(1)
        assert row.samples == len(own[1])
        assert abs(row.value - alone.frame["eigenvalue"][0]) <= row.error + alone.frame["error"][0]
    everyone = hessian(run, limit=50).per_client(models="global", data="test")
    assert list(everyone.frame["client"]) == list(range(run.data.clients))
    with pytest.raises(ValueError, match="models = 'all'"):
        hessian(run, limit=50).per_client(models="all")


def test_progress_stops_with_what_is_measured(run):
    heard = []
    whole = hessian(run, limit=50).along(progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)] and whole.about["complete"]
    part = hessian(run, limit=50).along(progress=lambda done, total: done < 2)
    assert not part.about["complete"] and part.frame.equals(whole.frame.iloc[:2])
    one = hessian(run, limit=50).per_client(round=1, progress=lambda done, total: False)
    assert list(one.frame["client"]) == [3] and not one.about["complete"]
    assert one.about["samples"] == one.frame["samples"].sum() > 0


def test_an_interrupt_keeps_the_rows_measured_so_far(run):
    def pressed(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Hessian along the run interrupted"):
        part = hessian(run, limit=50).along(progress=pressed)
    assert list(part.frame["round"]) == [0, 1] and not part.about["complete"]


def test_named_samples_are_the_same_for_every_model_and_shuffled(run):
    first, second = (hessian(run, "train", round=round, client=3, limit=None).target for round in (0, 1))
    assert torch.equal(first.images, second.images)
    labels = run.data.samples("train", client=3)[1]
    assert not torch.equal(first.labels, labels)
    assert torch.equal(first.labels.sort().values, labels.sort().values)
    assert len(hessian(run, "holdout", limit=30).target.labels) == 30
    indexed = hessian(run, run.data.holdout[:40]).target
    torch.testing.assert_close(indexed.labels, run.data.labels[run.data.holdout[:40]])


def test_samples_may_be_given_by_position_from_the_end_or_by_a_mask(digits):
    wanted = digits.prepared(torch.tensor([3, len(digits.labels) - 1]))
    mask = torch.zeros(len(digits.labels), dtype=torch.bool)
    mask[[3, -1]] = True
    for given in (torch.tensor([3, -1]), mask):
        images, labels, _ = choose_samples(given, digits)
        assert torch.equal(images, wanted) and torch.equal(labels, digits.labels[[3, -1]])
