"""Means over seeds, and differences between runs that share their seeds: the paired t interval (Student 1908)."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Spread(NamedTuple):
    """A mean over seeds and the sample standard deviation; the deviation is None for a single seed."""

    mean: float
    deviation: float | None


class Difference(NamedTuple):
    """A mean of differences and its 95 % confidence interval; the interval is None for a single seed."""

    mean: float
    low: float | None
    high: float | None

    @property
    def beyond_noise(self) -> bool:
        """Whether the confidence interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation of values, at least one."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Returns the difference to the baseline's values with the same seeds; common effects of a seed cancel."""
    differences = [value - other for value, other in zip(values, baseline, strict=True)]
    mean, deviation = spread(differences)
    if deviation is None:
        return Difference(mean, None, None)
    half = t_quantile(len(differences) - 1) * deviation / math.sqrt(len(differences))
    return Difference(mean, mean - half, mean + half)


def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """Returns the t within which a share of Student's distribution lies, by bisection."""
    low, high = 0.0, 1.0
    while share_within(high, freedom) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share_within(middle, freedom) < confidence else (low, middle)
    return high


def share_within(t: float, freedom: int) -> float:
    """Returns P(|T| < t), by the finite sums of Abramowitz and Stegun 26.7.3 (odd) and 26.7.4 (even)."""
    angle, odd = math.atan(t / math.sqrt(freedom)), freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
