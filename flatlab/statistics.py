"""Means over seeds with their t intervals, and differences of methods paired by seed.

    interval([1.2, 1.4, 0.9])                  # mean, half width at 95 %, how many
    difference({0: 91.0, 1: 88.0}, {0: 65.0, 1: 67.0})

The interval of n values with mean m and standard deviation s (ddof 1) is m ± t(n - 1) s / sqrt(n). One value has no
interval: its half width is NaN, and nothing follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .declare import SettingError
from .later import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean over seeds."""

    mean: float
    half: float  # half the width of the interval; NaN for fewer than two values
    n: int  # values that it is made of
    left_out: int = 0  # values that were missing or not finite

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half


def interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and t interval of independent values; those that are no finite numbers are left out and counted.

    Args:
        values: one a seed.
        confidence: of the interval, between 0 and 1.
    """
    given = np.asarray(list(values), dtype=np.float64)
    finite = given[np.isfinite(given)]
    count, left_out = len(finite), len(given) - len(finite)
    if count == 0:
        return Interval(math.nan, math.nan, 0, left_out)
    mean = float(finite.mean())
    if count == 1:
        return Interval(mean, math.nan, 1, left_out)
    quantile = float(special.stdtrit(count - 1, (1 + confidence) / 2))
    return Interval(mean, quantile * float(finite.std(ddof=1)) / math.sqrt(count), count, left_out)


def difference(
    left: Mapping[int, float], right: Mapping[int, float], confidence: float = CONFIDENCE, log: bool = False
) -> Interval:
    """The mean of left - right over the seeds that both have, with its interval; seeds of one side alone are left out.

    Args:
        left: values by seed.
        right: values by seed.
        confidence: of the interval.
        log: the difference of natural logarithms, for quantities that are compared by their ratio; values that are not
            positive have none and are left out.
    """
    both = sorted(left.keys() & right.keys())
    alone = len(left.keys() ^ right.keys())

    def seen(value: float) -> float:
        if not log:
            return value
        return math.log(value) if value > 0 else math.nan

    paired = interval([seen(left[seed]) - seen(right[seed]) for seed in both], confidence)
    return paired._replace(left_out=paired.left_out + alone)


def verdict(gap: Interval, expect: str, margin: float = 0.0) -> str:
    """What an interval of a difference says of a claim: "holds", "does not hold" or "undecided".

    Args:
        gap: of the difference.
        expect: "+" or "-", the sign that is claimed; "=" claims that the difference lies within the margin, ">=" that
            it is not below it.
        margin: with "=" and ">=", how far from 0 still counts as equal.

    Raises:
        SettingError: if `expect` is none of these.
    """
    if expect not in ("+", "-", "=", ">="):
        raise SettingError("expect", expect, "must be '+', '-', '=' or '>='")
    above, below = gap.low > 0, gap.high < 0
    if expect == "=":  # ends that are NaN compare as nothing: undecided
        holds, fails = -margin <= gap.low and gap.high <= margin, gap.low > margin or gap.high < -margin
    elif expect == ">=":
        holds, fails = gap.low >= -margin, gap.high < -margin
    else:
        holds, fails = (above, below) if expect == "+" else (below, above)
    return "holds" if holds else "does not hold" if fails else "undecided"
