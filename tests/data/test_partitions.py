"""Partitions: nothing lost or doubled, nothing hangs, and the derived tables of the two papers come out."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flatlab.data.dirichlet import Dirichlet, DirichletClasses, log_gamma
from flatlab.data.partitions import IID, Labels, Partition, apportion, fill
from flatlab.data.pathological import Classes, Shards
from flatlab.declare import SettingError
from flatlab.streams import stream


def balanced(classes: int, train: int, test: int, shuffled: bool = False) -> Labels:
    """`train` and `test` images of each class."""
    parts = [np.repeat(np.arange(classes), each) for each in (train, test)]
    if shuffled:
        parts = [np.random.default_rng(each).permutation(part) for each, part in enumerate(parts)]
    return Labels(parts[0], parts[1], classes)


CIFAR10, CIFAR100 = balanced(10, 5000, 1000), balanced(100, 500, 100)


def table(labels: np.ndarray, parts: list[np.ndarray], classes: int) -> np.ndarray:
    """Images of each class that each client holds, counted one by one."""
    counts = np.zeros((len(parts), classes), int)
    for client, part in enumerate(parts):
        for index in part:
            counts[client, labels[index]] += 1
    return counts


def check(partition: Partition, labels: Labels, clients: int, seed: int, whole: bool = True) -> np.ndarray:
    """What every partition promises; returns its table."""
    train, test = partition.assign(labels, clients, seed)
    assert len(train) == len(test) == clients
    held = np.concatenate(train)
    assert all(part.dtype == np.int64 and len(part) for part in train)
    assert len(np.unique(held)) == len(held), "an image is held twice"
    assert held.min() >= 0
    assert held.max() < len(labels.train)
    assert not whole or len(held) == len(labels.train), "an image is lost"
    counts = table(labels.train, train, labels.classes)
    for client, part in enumerate(test):
        assert len(np.unique(part)) == len(part)
        assert set(labels.test[part]) <= set(np.flatnonzero(counts[client])), "tested on a class it does not hold"
    return counts


# Hypothesis draws settings whose skew cannot be had; that this is told has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*differ from the whole:UserWarning")

ALPHAS = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-300, 1e-6, 0.01, 0.3, 1.0, 10.0, 1e6, 1e12, 1e300]),
    st.floats(0, 1.7e308, allow_nan=False),
)
LABELS = st.integers(1, 6).flatmap(
    lambda classes: st.builds(
        lambda train, test: Labels(np.array(train), np.array(test), classes),
        st.lists(st.integers(0, classes - 1), min_size=1, max_size=150),
        st.lists(st.integers(0, classes - 1), min_size=1, max_size=40),
    )
)
SIZES = st.sampled_from([{"sizes": "equal"}, {"sizes": "lognormal"}, {"sizes": "lognormal", "sigma": 10.0}])


@given(LABELS, st.data(), st.integers(0, 99), ALPHAS, SIZES, st.integers(1, 12))
@settings(max_examples=150)
def test_fixed_size_partitions_always_succeed_and_have_the_sizes_asked_for(labels, data, seed, alpha, sizes, test_size):
    clients = data.draw(st.integers(1, len(labels.train)))
    for partition in (IID(test_size=test_size, **sizes), Dirichlet(alpha=alpha, **sizes)):
        counts = check(partition, labels, clients, seed)
        if sizes["sizes"] == "equal":
            assert np.ptp(counts.sum(1)) <= 1


@given(LABELS, st.data(), st.integers(0, 99), ALPHAS)
@settings(max_examples=150)
def test_class_wise_dirichlet_always_reaches_the_minimum_size(labels, data, seed, alpha):
    clients = data.draw(st.integers(1, len(labels.train)))
    least = data.draw(st.integers(1, len(labels.train) // clients))
    counts = check(DirichletClasses(alpha=alpha, min_size=least), labels, clients, seed)
    assert counts.sum(1).min() >= least


@given(LABELS, st.data(), st.integers(0, 99))
@settings(max_examples=150)
def test_every_client_has_exactly_s_classes_and_all_classes_are_used(labels, data, seed):
    clients = data.draw(st.integers(1, len(labels.train)))
    supply = np.bincount(labels.train, minlength=labels.classes)
    most = np.minimum(supply, clients).sum() // clients
    least = math.ceil((supply > 0).sum() / clients)
    s = data.draw(st.integers(1, labels.classes))
    if not least <= s <= most:
        with pytest.raises(SettingError, match=rf"per_client = {s}"):
            Classes(per_client=s).assign(labels, clients, seed)
        return
    counts = check(Classes(per_client=s), labels, clients, seed)
    assert ((counts > 0).sum(1) == s).all()


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 9))
@settings(max_examples=100)
def test_shards_partition_train_and_test_by_one_table(classes, per_client, factor, extra, seed):
    clients = classes * factor
    each = per_client * factor
    rng = np.random.default_rng(seed)
    train = rng.permutation(np.repeat(np.arange(classes), each + extra))
    test = rng.permutation(np.repeat(np.arange(classes), 3 * each))
    labels = Labels(train, test, classes)
    counts = check(Shards(per_client=per_client), labels, clients, seed)
    _, tests = Shards(per_client=per_client).assign(labels, clients, seed)
    assert sorted(np.concatenate(tests)) == list(range(len(test)))
    shards = table(test, tests, classes) / 3  # every shard of the test set has 3 images
    assert (shards.sum(1) == per_client).all()
    assert ((shards > 0) == (counts > 0)).all()
    small, large = (each + extra) // each, -(-(each + extra) // each)
    assert (counts >= shards * small).all()
    assert (counts <= shards * large).all()


@pytest.mark.parametrize("partition", [IID(), Dirichlet(alpha=0.3), DirichletClasses(alpha=0.3), Shards(), Classes()])
def test_a_partition_depends_on_its_seed_and_on_nothing_else(partition):
    labels = balanced(10, 60, 20, shuffled=True)
    first, again, other = (partition.assign(labels, 20, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first[0], other[0], strict=True))


def seen(alpha: float, labels: Labels, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over seeds of classes per client, top-class share and TV to uniform, for 100 clients."""
    rows = []
    for seed in range(seeds):
        parts = Dirichlet(alpha=alpha).deal(labels.train, labels.classes, 100, stream(seed, "partition"))
        counts = np.stack([np.bincount(labels.train[part], minlength=labels.classes) for part in parts])
        share = counts / counts.sum(1, keepdims=True)
        distance = np.abs(share - 1 / labels.classes).sum(1) / 2
        rows.append([(counts > 0).sum(1).mean(), share.max(1).mean(), distance.mean(), (counts[-1] > 0).sum()])
    return np.mean(rows, 0), np.std(rows, 0, ddof=1)


@pytest.mark.parametrize(
    ("alpha", "official"),
    [
        (0.05, (1.32, 0.951, 0.876)),
        (0.1, (1.54, 0.936, 0.872)),
        (0.2, (2.19, 0.872, 0.844)),
        (0.5, (3.57, 0.746, 0.781)),
        (1, (4.78, 0.685, 0.719)),
        (10, (9.28, 0.304, 0.381)),
        (100, (9.90, 0.157, 0.128)),
    ],
)
def test_dirichlet_gives_the_class_counts_of_the_fedsam_splits_of_cifar10(alpha, official):
    mean, spread = seen(alpha, CIFAR10, 20)
    assert (np.abs(mean[:3] - official) < 3.2 * spread[:3]).all()  # the reference's own sampler is within 3


def test_dirichlet_agrees_with_the_simulated_sampler_of_the_fedsam_splits():
    mean, _ = seen(100, CIFAR10, 12)
    assert abs(mean[0] - 9.87) < 2 * 0.04
    assert abs(mean[2] - 0.129) < 2 * 0.003
    mean, _ = seen(1000, CIFAR100, 6)
    assert abs(mean[0] - 98.6) < 2 * 0.2
    assert abs(mean[2] - 0.134) < 2 * 0.001
    assert abs(mean[3] - 40) < 8  # the last client finds most classes exhausted
    mean, _ = seen(0.5, CIFAR100, 6)
    assert (
        abs(mean[0] - 3.90) < 2 * 0.13
    )  # the simulation's value; the official split (5.13) is not matched by it either


@pytest.mark.parametrize(("labels", "holders", "distance"), [(CIFAR10, 10, 0.9), (CIFAR100, 1, 0.99)])
def test_dirichlet_at_alpha_0_gives_each_client_one_class(labels, holders, distance):
    counts = check(Dirichlet(alpha=0), labels, 100, 0)
    assert ((counts > 0).sum(1) == 1).all()
    assert ((counts > 0).sum(0) == holders).all()
    share = counts / counts.sum(1, keepdims=True)
    assert np.allclose(np.abs(share - 1 / labels.classes).sum(1) / 2, distance)


def test_alpha_0_mixes_only_what_no_class_can_fill():
    counts = check(Dirichlet(alpha=0), balanced(10, 145, 20), 20, 1)  # sizes 73 and 72: two clients a class, nearly
    assert ((counts > 0).sum(1) == 1).sum() >= 15
    assert (counts.max(1) >= 70).sum() >= 19


@pytest.mark.parametrize("alpha", [0.5, 2.0, 20.0])
def test_alpha_of_dirichlet_is_the_total_concentration(alpha):
    # The first client meets full classes, so its shares are the draw itself: Var q = p (1 - p) / (alpha + 1).
    labels = Labels(np.repeat([0, 1, 2, 3], [4000, 2000, 1000, 1000]), np.array([0]), 4)
    sizes = (500, 1)
    shares = []
    for seed in range(600):
        part = Dirichlet(alpha=alpha, sizes=sizes).deal(labels.train, 4, 2, stream(seed, "partition"))[0]
        shares.append(np.bincount(labels.train[part], minlength=4) / 500)
    prior = np.array([4, 2, 1, 1]) / 8
    expected = prior * (1 - prior) / (alpha + 1)
    assert np.allclose(np.mean(shares, 0), prior, atol=4 * np.sqrt(expected / 600).max())
    assert np.allclose(np.var(shares, 0), expected, rtol=0.25)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_alpha_of_class_wise_dirichlet_is_per_client(alpha):
    labels = balanced(300, 400, 1)
    counts = check(DirichletClasses(alpha=alpha, min_size=1), labels, 8, 0)
    share = counts / 400
    expected = (1 / 8) * (7 / 8) / (8 * alpha + 1)
    assert np.isclose(share.var(), expected, rtol=0.1)


def test_class_wise_dirichlet_at_alpha_0_spreads_whole_classes_evenly():
    counts = check(DirichletClasses(alpha=0), balanced(10, 50, 10), 4, 0)
    assert sorted((counts > 0).sum(0)) == [1] * 10
    assert sorted((counts > 0).sum(1)) == [2, 2, 3, 3]
    counts = check(DirichletClasses(alpha=0, min_size=30), balanced(10, 500, 10), 40, 0)
    assert np.sort(counts.sum(1))[:30].tolist() == [30] * 30


EXTREMES = (0.0, 1e-300, 1e-6, 1e-3, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e3, 1e6, 1e15, 1e300)


@pytest.mark.filterwarnings("always:.*differ from the whole:UserWarning")
@pytest.mark.parametrize("make", [lambda a: Dirichlet(alpha=a), lambda a: DirichletClasses(alpha=a)])
@pytest.mark.parametrize("clients", [2, 10, 30, 100])
def test_skew_is_monotone_in_alpha_to_both_ends_or_the_partition_says_that_it_is_not(make, clients):
    labels = balanced(10, 144, 36)
    for seed in range(2):
        quiet = []
        for alpha in EXTREMES:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                counts = table(labels.train, make(alpha).assign(labels, clients, seed)[0], 10)
            share = counts / counts.sum(1, keepdims=True)
            distance = np.abs(share - 0.1).sum(1).mean() / 2
            if told:
                assert f"alpha = {alpha:g}" in str(told[0].message)
                assert f"by {distance:.2f} on average" in str(told[0].message)
            else:
                quiet.append(distance)
        assert len(quiet) >= 2
        for before, after in itertools.pairwise(quiet):
            assert after <= before + 0.08  # one draw is noisy


def test_what_skew_is_told_is_what_was_drawn():
    # One class a client was drawn; two clients that hold all of ten equal classes differ by half at most.
    with pytest.warns(UserWarning, match=r"Dirichlet.alpha = 0: 2 clients of 720 to 720 .* by 0.50 .* where 0.90 was"):
        Dirichlet(alpha=0).assign(balanced(10, 144, 36), 2, 0)
    # Every client is to have all classes alike; 14 or 15 images of ten classes cannot.
    with pytest.warns(UserWarning, match=r"Dirichlet.alpha = 1e\+300: .* where 0.00 was drawn"):
        Dirichlet(alpha=1e300).assign(balanced(10, 144, 36), 100, 0)
    with pytest.warns(UserWarning, match=r"alpha = 0, min_size = 10: .* where 0.90 was drawn.* smaller min_size"):
        DirichletClasses(alpha=0).assign(balanced(10, 144, 36), 100, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DirichletClasses(alpha=0, min_size=1).assign(balanced(10, 144, 36), 100, 0)


def test_what_still_follows_alpha_is_not_told():
    """Four clients of 360 of ten equal classes differ by .675 at most; a total alpha of 1 draws .73, and deals .61."""
    labels, skew, told = balanced(10, 144, 36), [], []
    for alpha in (0.0, 1.0, 2.0, 5.0, 10.0):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            parts = [Dirichlet(alpha=alpha).assign(labels, 4, seed)[0] for seed in range(8)]
        shares = [table(labels.train, part, 10) / [[len(mine)] for mine in part] for part in parts]
        skew.append(np.abs(np.array(shares) - 0.1).sum(2).mean() / 2)
        told.append(len(said))
    assert skew == sorted(skew, reverse=True) and min(np.subtract(skew[:-1], skew[1:])) > 0.03
    assert told[0] == 8 and told[1] <= 1 and not any(told[2:])  # a draw may reach the end by chance


def test_huge_numbers_are_cut_or_refused():
    check(IID(test_size=2**62), balanced(4, 10, 5), 3, 0)
    for wrong in (Shards(per_client=2**62), Classes(per_client=2**62), DirichletClasses(alpha=1, min_size=2**62)):
        with pytest.raises(SettingError):
            wrong.assign(balanced(4, 10, 5), 4, 0)


def test_log_gamma_is_a_gamma_variate():
    for shape in (0.05, 0.7, 5.0):
        drawn = np.exp(log_gamma(np.full(4000, shape), stream(0, "gamma")))
        assert stats.kstest(drawn, stats.gamma(shape).cdf).pvalue > 1e-3


FEDBABU = [
    # C, s, images per shard train and test, expected classes per client, range over 20 seeds
    (100, 100, 5, 1, 63.58, (54, 74)),
    (100, 50, 10, 2, 39.65, (32, 47)),
    (100, 10, 50, 10, 9.60, (7, 10)),
    (10, 10, 50, 10, 6.53, (4, 10)),
    (10, 5, 100, 20, 4.11, (2, 5)),
    (10, 2, 250, 50, 1.90, (1, 2)),
]


@pytest.mark.parametrize(("classes", "s", "train_shard", "test_shard", "expected", "extremes"), FEDBABU)
def test_shards_reproduce_fedbabus_table(classes, s, train_shard, test_shard, expected, extremes):
    labels = CIFAR10 if classes == 10 else CIFAR100
    each = s * 100 // classes
    formula = classes * (1 - math.comb(100 * s - each, s) / math.comb(100 * s, s))
    assert round(formula, 2) == expected
    found = []
    for seed in range(3):
        train, test = Shards(per_client=s).assign(labels, 100, seed)
        assert {len(part) for part in train} == {500}
        assert {len(part) for part in test} == {100}
        assert sorted(np.concatenate(train)) == list(range(50000))
        assert sorted(np.concatenate(test)) == list(range(10000))
        counts = np.stack([np.bincount(labels.train[part], minlength=classes) for part in train])
        tests = np.stack([np.bincount(labels.test[part], minlength=classes) for part in test])
        assert (counts % train_shard == 0).all()
        assert (counts // train_shard == tests // test_shard).all()
        found.append((counts > 0).sum(1))
    assert np.min(found) >= extremes[0] - 1
    assert np.max(found) <= extremes[1] + 1
    assert abs(np.mean(found) - formula) < 5 * np.std(found) / math.sqrt(300) + 1e-9


def test_shards_are_runs_of_a_class_in_data_set_order_picked_at_random():
    labels, starts = balanced(5, 40, 10, shuffled=True), []
    train, _ = Shards(per_client=2).assign(labels, 10, 0)
    for part in train:
        for label in set(labels.train[part]):
            rank = np.flatnonzero(labels.train == label).tolist()
            places = [rank.index(index) for index in part if labels.train[index] == label]
            for start in range(0, len(places), 10):
                run = places[start : start + 10]
                assert run == list(range(run[0], run[0] + 10))
                assert run[0] % 10 == 0
                starts.append((label, run[0]))
    assert len(set(starts)) == 20
    assert sorted(starts, key=lambda found: found[0]) != sorted(starts)


def test_exactly_s_classes_gives_equal_sizes_and_many_different_class_sets():
    counts = check(Classes(per_client=2), CIFAR10, 100, 0)
    assert np.ptp(counts.sum(1)) <= 2
    assert len({tuple(np.flatnonzero(row)) for row in counts}) > 25  # of 45 pairs
    uneven = Labels(np.repeat([0, 1, 2, 3], [300, 100, 100, 100]), np.arange(40) % 4, 4)
    counts = check(Classes(per_client=2), uneven, 6, 0)
    assert np.ptp(counts.sum(1)) <= 6  # holders in proportion to the class: 6, 2, 2, 2


def test_classes_have_holders_in_proportion_to_their_images():
    for seed in range(40):
        counts = check(Classes(per_client=3), balanced(5, 20, 5), 7, seed)
        assert sorted((counts > 0).sum(0)) == [4, 4, 4, 4, 5]  # 21 places for 5 classes
        counts = check(Classes(per_client=2), Labels(np.repeat([0, 1, 2], [12, 6, 6]), np.arange(9) % 3, 3), 6, seed)
        assert (counts > 0).sum(0).tolist() == [6, 3, 3]


def test_sizes_given_are_the_sizes_got_and_log_normal_sizes_have_their_spread():
    labels = balanced(4, 25, 10)
    for partition in (IID(sizes=(50, 3, 40)), Dirichlet(alpha=0.5, sizes=(50, 3, 40))):
        assert check(partition, labels, 3, 0, whole=False).sum(1).tolist() == [50, 3, 40]
    sizes = IID(sizes="lognormal", sigma=0.8).client_sizes(1_000_000, 2000, stream(0, "sizes"))
    assert sizes.sum() == 1_000_000
    assert abs(np.log(sizes).std() - 0.8) < 0.05


def test_test_sets_follow_the_clients_train_classes():
    labels = balanced(10, 500, 300, shuffled=True)
    for partition in (IID(), Dirichlet(alpha=1), DirichletClasses(alpha=0.5), Classes(per_client=3)):
        train, test = partition.assign(labels, 20, 0)
        for mine, theirs in zip(train, test, strict=True):
            assert len(theirs) == 150
            share = np.bincount(labels.train[mine], minlength=10) / len(mine)
            assert np.abs(np.bincount(labels.test[theirs], minlength=10) - 150 * share).max() < 1


def test_a_test_set_is_smaller_where_its_classes_have_no_more():
    labels = Labels(np.repeat([0, 1], 50), np.repeat([0, 1], [3, 97]), 2)
    train, test = Dirichlet(alpha=0, test_size=20).assign(labels, 2, 0)
    for mine, theirs in zip(train, test, strict=True):
        assert len(theirs) == (3 if labels.train[mine[0]] == 0 else 20)


@given(
    st.integers(0, 1000),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(lambda weights: sum(weights) > 1e-6),
)
def test_apportioned_numbers_add_up_and_are_off_by_less_than_one(total, weights):
    weights = np.array(weights)
    whole = apportion(total, weights)
    assert whole.sum() == total
    assert (np.abs(whole - total * weights / weights.sum()) < 1 + 1e-9).all()
    assert (whole[weights == 0] == 0).all()


@given(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 20), st.floats(-1e300, 700)), min_size=1, max_size=8))
def test_filling_takes_all_it_can(size, classes):
    supply, weights = np.array([n for n, _ in classes]), np.array([w for _, w in classes])
    taken = fill(size, supply, weights)
    assert taken.sum() == min(size, supply.sum())
    assert (taken <= supply).all()


@pytest.mark.parametrize(
    ("partition", "clients", "said"),
    [
        (IID(), None, r"DataSpec.clients = None: needs 1 to 40"),
        (IID(), 0, r"DataSpec.clients = 0: needs 1 to 40"),
        (Dirichlet(alpha=1), 41, r"DataSpec.clients = 41: needs 1 to 40"),
        (IID(sizes=(1, 2)), 3, r"IID.sizes: 2 sizes with sum 3; needs 3 sizes"),
        (Dirichlet(alpha=1, sizes=(30, 11)), 2, r"Dirichlet.sizes: 2 sizes with sum 41; .* sum at most 40"),
        (DirichletClasses(alpha=1), 5, r"DirichletClasses.min_size = 10: 5 clients share 40 .* allowed up to 8"),
        (Shards(per_client=3), 5, r"Shards.per_client = 3: 5 clients hold 15 shards of 4 .* multiple of 4"),
        (Shards(per_client=11), 4, r"Shards.per_client = 11: .* at most 10 shards of a class"),
        (Classes(per_client=5), 8, r"Classes.per_client = 5: .* allowed are 1 to 4"),
        (Classes(per_client=1), 3, r"Classes.per_client = 1: 3 clients hold 3 classes in all; allowed are 2 to 4"),
    ],
)
def test_what_cannot_be_satisfied_is_refused_with_field_value_and_what_is_allowed(partition, clients, said):
    with pytest.raises(SettingError, match=said):
        partition.assign(balanced(4, 10, 5), clients, 0)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (Dirichlet, {"alpha": -0.1}, r"Dirichlet.alpha = -0.1: .*≥ 0"),
        (Dirichlet, {"alpha": float("nan")}, r"Dirichlet.alpha = nan: .*finite"),
        (Dirichlet, {}, r"Dirichlet.alpha: .*required"),
        (DirichletClasses, {"alpha": 1, "min_size": 0}, r"min_size = 0"),
        (IID, {"sizes": (3, 0)}, r"sizes = \(3, 0\)"),
        (IID, {"alpha": 1}, r"IID.alpha.*no such setting"),
        (Shards, {"per_client": 0}, r"per_client = 0"),
        (Shards, {"test_size": 5}, r"no such setting"),
    ],
)
def test_impossible_settings_are_refused_when_stated(kind, values, said):
    with pytest.raises(SettingError, match=said):
        kind(**values)


@pytest.mark.parametrize(
    "partition",
    [IID(sizes=(3, 4)), Dirichlet(alpha=0.05, sizes="lognormal"), DirichletClasses(alpha=0), Shards(), Classes()],
)
def test_partitions_survive_json(partition):
    assert Partition.from_json(partition.to_json()) == partition


@pytest.mark.parametrize(("size", "alpha"), [(40, 1.0), (100, 1.0), (300, 0.3)])
def test_a_test_set_has_its_train_proportions_also_where_it_asks_for_more_than_there_is(size, alpha):
    labels = balanced(10, 140, 36, shuffled=True)
    train, test = Dirichlet(alpha=alpha, test_size=size).assign(labels, 10, 0)
    smaller = 0
    for mine, theirs in zip(train, test, strict=True):
        share = np.bincount(labels.train[mine], minlength=10) / len(mine)
        found = np.bincount(labels.test[theirs], minlength=10) / len(theirs)
        assert np.abs(share - found).sum() / 2 < 0.05 + 5 / len(theirs)  # rounding of ten classes
        smaller += len(theirs) < size
    assert smaller > 0 or size == 40
