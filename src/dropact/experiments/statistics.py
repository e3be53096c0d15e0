"""Means, intervals and paired differences over seeds, by Student's t.

The spread is that of training (weights, order, masks) on one fixed split; it says nothing about other test images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A mean over n values; what cannot be known is None, and `note` says why.

    Attributes:
        n: number of values, at least 1.
        mean: their mean.
        sd: sample standard deviation (n − 1 in the denominator), None for n = 1.
        low, high: ends of the 95 % t-interval of the mean, None without spread.
        p_value: two-sided, for a mean of 0; None where it was not asked for or has no meaning.
        note: why there is no interval, or "".
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_value: float | None = None
    note: str = ""

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def summarise(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and 95 % t-interval.

    >>> summary = summarise([1.0, 2.0, 3.0])
    >>> round(summary.mean, 3), round(summary.low, 3), round(summary.high, 3)
    (2.0, -0.484, 4.484)
    >>> summarise([1.0]).note
    'one seed: no interval'

    Raises:
        ValueError: no values, or one that is not finite.
    """
    from scipy import stats

    n = len(values)
    if n == 0 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"values: got {list(values)!r}, accepted: at least one finite number")
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(n, mean, None, None, None, note="one seed: no interval")
    if min(values) == max(values):  # compared exactly: rounding of the mean must not look like spread
        return Summary(n, values[0], 0.0, None, None, note=f"all {n} values are equal: no interval")
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Summary | None:
    """Mean of value − baseline over the seeds both have, with its t-interval and two-sided p-value.

    >>> difference = paired_difference({0: 1.0, 1: 2.0, 2: 2.5}, {0: 2.0, 1: 2.5, 2: 3.5, 9: 0.0})
    >>> difference.n, round(difference.mean, 3), round(difference.p_value, 3)
    (3, -0.833, 0.038)

    Returns:
        None when no seed is common.
    """
    from scipy import stats

    common = sorted(values.keys() & baseline.keys())
    if not common:
        return None
    summary = summarise([values[seed] - baseline[seed] for seed in common])
    if summary.low is None or summary.sd is None:
        return summary
    t = summary.mean / (summary.sd / math.sqrt(summary.n))
    p_value = 2 * float(stats.t.sf(abs(t), summary.n - 1))
    return Summary(summary.n, summary.mean, summary.sd, summary.low, summary.high, p_value)
