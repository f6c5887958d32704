"""Intervals and paired differences against scipy's own tests and a table of Student's t."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from flatlab.statistics import Interval, difference, interval, verdict

DRAWS = np.random.default_rng(0).normal(3.0, 2.0, (5, 7))


@pytest.mark.parametrize("values", list(DRAWS))
def test_an_interval_is_students(values):
    found = interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.mean, found.n, found.left_out) == (pytest.approx(values.mean()), 7, 0)


def test_the_quantile_of_three_seeds_is_that_of_the_printed_tables():
    found = interval([1.0, 2.0, 3.0])  # t(.975, 2) = 4.3027, s = 1
    assert found.half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


@pytest.mark.parametrize(("left", "right"), list(pairwise(DRAWS)))
def test_a_difference_is_the_paired_one(left, right):
    found = difference(dict(enumerate(left)), dict(enumerate(right)))
    reference = stats.ttest_rel(left, right).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-10)


def test_pairing_goes_by_seed_and_not_by_place():
    left, right = {0: 1.0, 1: 5.0, 2: 9.0}, {2: 8.0, 1: 4.0, 0: 0.0, 7: 100.0}
    found = difference(left, right)
    assert found == Interval(1.0, 0.0, 3, left_out=1)


def test_values_that_are_no_numbers_are_left_out_and_counted():
    found = interval([1.0, math.nan, 3.0, math.inf])
    assert (found.mean, found.n, found.left_out) == (2.0, 2, 2)
    assert math.isnan(interval([]).mean) and interval([math.nan]).n == 0


def test_one_seed_has_no_interval_and_proves_nothing():
    found = interval([5.0])
    assert found.mean == 5.0 and math.isnan(found.half)
    assert verdict(found, "+") == "undecided"


def test_ratios_are_differences_of_logarithms():
    left, right = {0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 2: -1.0}
    found = difference(left, right, log=True)
    assert math.exp(found.mean) == pytest.approx(2.0) and (found.n, found.left_out) == (2, 1)


@pytest.mark.parametrize(
    ("mean", "half", "expect", "margin", "said"),
    [
        (2.0, 1.0, "+", 0, "holds"),
        (2.0, 1.0, "-", 0, "does not hold"),
        (-2.0, 1.0, "-", 0, "holds"),
        (9.0, 9.5, "+", 0, "undecided"),  # whatever the mean
        (1.0, 1.0, "+", 0, "undecided"),  # 0 is in it
        (0.1, 0.2, "=", 0.5, "holds"),
        (0.1, 0.6, "=", 0.5, "undecided"),
        (2.0, 0.6, "=", 0.5, "does not hold"),
        (2.0, 0.6, ">=", 0.5, "holds"),
        (0.1, 0.6, ">=", 0.5, "holds"),
        (0.1, 0.7, ">=", 0.5, "undecided"),
        (-2.0, 0.6, ">=", 0.5, "does not hold"),
    ],
)
def test_a_verdict_comes_from_the_interval_alone(mean, half, expect, margin, said):
    assert verdict(Interval(mean, half, 3), expect, margin) == said


def test_a_strange_expectation_is_refused():
    with pytest.raises(ValueError, match="'higher'"):
        verdict(Interval(1, 1, 3), "higher")
