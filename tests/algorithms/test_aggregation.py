"""Rules that resist liars, beside definitions written out, closed forms, and points where other programs go wrong."""

import itertools
import json

import numpy as np
import pytest
import torch

import flatlab as fl
from flatlab.algorithms.aggregation import Aggregation, Clipped, Geometric, Krum, Median, Trimmed, Uniform, Weighted


def points(*rows):
    return {"w": torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1)}


def combined(rule, updates, sizes=None):
    value, weights = rule.combine(updates, torch.tensor(sizes or [1.0] * len(updates["w"])))
    return value["w"], weights


def test_krum_takes_the_published_number_of_neighbours():
    value, weights = combined(Krum(share=0.17), points(0.0, 1.0, 2.0, 2.5, 6.0, 50.0))  # f = 1
    assert value.item() == 1.0  # n - f - 1 neighbours would give 2.5, unsquared distances 2
    assert weights.tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("chosen", [1, 3])
def test_krum_beside_its_definition(chosen):
    torch.manual_seed(0)
    updates, n, f = {"w": torch.randn(9, 4).double(), "b": torch.randn(9, 2, 3).double()}, 9, 2
    flat = torch.cat([value.flatten(1) for value in updates.values()], 1)
    scores = []
    for i in range(n):
        far = sorted(float((flat[i] - flat[j]).square().sum()) for j in range(n) if j != i)
        scores.append(sum(far[: n - f - 2]))
    best = np.argsort(scores, kind="stable")[:chosen]
    value, _ = Krum(share=f / n, chosen=chosen).combine(updates, torch.ones(n))
    for name in updates:
        torch.testing.assert_close(value[name], updates[name][torch.tensor(best.copy())].mean(0))


def test_the_median_of_an_even_number_is_between_the_middle_two():
    assert combined(Median(), points(0.0, 1.0, 5.0, 100.0))[0].item() == 3.0
    assert combined(Median(), points(0.0, 1.0, 5.0))[0].item() == 1.0


@pytest.mark.parametrize("rule", [Median(), Trimmed(share=0.3)])
def test_a_minority_of_huge_rows_leaves_every_coordinate_within_the_good_ones(rule):
    torch.manual_seed(0)
    good = torch.randn(7, 20).double()
    value, _ = combined(rule, {"w": torch.cat([good, torch.full((3, 20), 1e30).double()])})
    assert (value >= good.min(0).values).all() and (value <= good.max(0).values).all()


def test_trimmed_beside_numpy():
    rows = np.random.default_rng(0).normal(size=(11, 5))
    wanted = np.sort(rows, axis=0)[2:9].mean(0)
    np.testing.assert_allclose(combined(Trimmed(share=0.2), points(*rows.tolist()))[0].numpy(), wanted)
    np.testing.assert_allclose(combined(Trimmed(share=0.0), points(*rows.tolist()))[0].numpy(), rows.mean(0))


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([(1, 2, 3), (4, 5, 6), (7, 8, 9)], (4, 5, 6)),
        ([(0, 0), (4, 0), (1, 3), (2, -1)], (1.75, 0)),  # convex: where the diagonals cross
        ([(0, 0), (10, 1), (-10, 1)], (0, 0)),  # an angle of more than 120 degrees: that corner
    ],
)
def test_the_geometric_median_in_closed_form(rows, wanted):
    value, weights = combined(Geometric(steps=20_000), points(*rows))
    torch.testing.assert_close(value, torch.tensor(wanted).double(), atol=1e-4, rtol=0)
    assert weights.sum().item() == pytest.approx(1)


def test_the_geometric_median_counts_samples_and_hardly_hears_outliers():
    value, _ = combined(Geometric(steps=2000), points(0.0, 1.0, 10.0), sizes=[1.0, 5.0, 1.0])
    assert value.item() == pytest.approx(1.0, abs=1e-3)  # more than half of all samples
    torch.manual_seed(0)
    _, weights = combined(Geometric(), {"w": torch.cat([torch.randn(8, 50), torch.full((2, 50), 1e3)]).double()})
    assert weights[-2:].max() < 0.002 < weights[:-2].min()


@pytest.mark.parametrize("rule", [Krum(share=0.2), Krum(share=0.2, chosen=3), Geometric(), Clipped(tau=1.0)])
def test_a_scalar_parameter_counts_as_a_vector_of_one_number(rule):
    torch.manual_seed(0)
    matrix, scalar = torch.randn(7, 2, 3).double(), torch.randn(7).double()
    value, weights = rule.combine({"w": matrix, "t": scalar}, torch.ones(7))
    row, same = combined(rule, {"w": torch.cat([matrix.reshape(7, 6), scalar[:, None]], 1)})
    torch.testing.assert_close(torch.cat([value["w"].reshape(6), value["t"].reshape(1)]), row)
    torch.testing.assert_close(weights, same)


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        ((0.0, 1.0, 10.0), (30.0, 20.0, 49.0)),
        ((0.0, 1.0, 10.0, 1.0, -3.0), (20.0, 15.0, 49.0, 5.0, 10.0)),  # an update of two clients
    ],
)
def test_the_geometric_median_that_is_a_client_s_update_needs_no_thousand_steps(rows, sizes):
    """On a line it is the median by samples. The others pull almost as much as it weighs: steps come near it slowly."""
    value, weights = combined(Geometric(), points(*rows), list(sizes))
    repeated = np.repeat(rows, np.int64(sizes))
    assert value.item() == pytest.approx(np.median(repeated), abs=1e-12)
    shared = np.array([size * (row == np.median(repeated)) for row, size in zip(rows, sizes, strict=True)])
    assert weights.tolist() == pytest.approx((shared / shared.sum()).tolist())


def test_clipping_cuts_to_tau():
    value, weights = combined(Clipped(tau=5.0), points((3.0, 4.0), (30.0, 40.0), (0.0, 0.0)))
    assert value.tolist() == pytest.approx([2.0, 8 / 3])
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 30, 1 / 3])
    assert combined(Clipped(tau=1e9), points(1.0, 3.0))[0].item() == 2.0


def test_a_rule_with_defaults_is_written_as_its_name():
    """As files had it before rules had settings, so ids stay."""
    for rule, written in (
        (Weighted(), "weighted"),
        (Uniform(), "uniform"),
        (Median(), "median"),
        (Krum(share=0.1), {"kind": "krum", "share": 0.1, "chosen": 1}),
    ):
        algorithm = fl.FedAvg(aggregation=rule)
        assert json.loads(algorithm.to_json())["aggregation"] == written
        assert fl.FedAvg.from_json(algorithm.to_json()) == algorithm


RULES = ["median", "trimmed", fl.aggregation.Krum(share=0.1), "geometric", fl.aggregation.Clipped(tau=0.5)]


@pytest.fixture(scope="module")
def digits(few_digits):
    """Nothing has to be learned here."""
    return few_digits


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: getattr(rule, "kind", rule))
def test_a_run_takes_the_rule_in_every_engine_and_says_who_was_heard(rule, digits, tmp_path):
    found = {}
    for engine, chunk in itertools.product(("loop", "batch", "graph"), (None, 3)):
        run = fl.train(
            fl.FedAvg(aggregation=rule), digits, fl.ModelSpec(name="lenet", width=0.125), 1,
            store=tmp_path / f"{engine}{chunk}", engine=engine, chunk=chunk, progress=False,
        )  # fmt: skip
        found[engine, chunk] = run
    first = found["loop", None]
    clients, start = first.clients(1), dict(first.model(0).named_parameters())
    updates = {
        name: torch.stack([dict(clients[c].named_parameters())[name].detach() - value.detach() for c in clients])
        for name, value in start.items()
    }
    sizes = torch.tensor([float(len(digits.train[c])) for c in clients])
    wanted, weights = first.experiment.algorithm.aggregation.combine(updates, sizes)
    for name, value in first.model().named_parameters():
        torch.testing.assert_close(value - start[name], wanted[name], rtol=1e-3, atol=1e-6)
    for run in found.values():
        heard = run.history.query("metric == 'weight'")["value"].tolist()
        assert heard == ([] if weights is None else pytest.approx(weights.tolist(), rel=1e-2, abs=1e-4))


def test_rounds_too_small_for_krum_are_refused_before_training(digits, tmp_path):
    with pytest.raises(fl.SettingError, match=r"aggregation\.share = 0\.4.*11 clients.*this has 10"):
        fl.train(fl.FedAvg(aggregation=Krum(share=0.4)), digits, rounds=1, store=tmp_path, progress=False)


def test_a_rule_of_ones_own(digits, tmp_path):
    class Largest(Aggregation):
        """The client with the most samples."""

        kind: str = "largest"

        def combine(self, updates, sizes):
            return {name: value[sizes.argmax()] for name, value in updates.items()}, None

    run = fl.train(
        fl.FedAvg(aggregation=Largest()), digits, fl.ModelSpec(name="lenet", width=0.125), 1,
        store=tmp_path, progress=False,
    )  # fmt: skip
    best = max(range(10), key=lambda c: len(digits.train[c]))
    for name, value in run.clients(1)[best].named_parameters():
        torch.testing.assert_close(dict(run.model().named_parameters())[name], value, rtol=1e-5, atol=1e-7)
