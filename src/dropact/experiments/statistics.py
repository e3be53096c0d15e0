"""Means, intervals and paired differences over seeds, by Student's t; several of them in one table, by Holm.

The spread is that of training (weights, order, masks) on one fixed split; it says nothing about other test images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

CONFIDENCE = 0.95
ALPHA = 0.05
ROUNDING = 1e-12  # relative; a difference of two doubles is wrong by some 1e-16 of them
POWER = 0.8


@dataclass(frozen=True)
class Summary:
    """A mean over n values; what cannot be known is None, and `note` says why.

    Attributes:
        n: number of values, at least 1.
        mean: their mean.
        sd: sample standard deviation (n − 1 in the denominator), None for n = 1.
        low, high: ends of the 95 % t-interval of the mean, None without spread.
        p_value: two-sided, for a mean of 0; None where it was not asked for or has no meaning.
        detectable: of a paired difference, what `smallest_detectable` says of its n and sd; None like `p_value`.
        note: why there is no interval, or "".
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_value: float | None = None
    detectable: float | None = None
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
    """Mean of value − baseline over the seeds both have, with its t-interval, p-value and what it could have shown.

    >>> difference = paired_difference({0: 1.0, 1: 2.0, 2: 2.5}, {0: 2.0, 1: 2.5, 2: 3.5, 9: 0.0})
    >>> difference.n, round(difference.mean, 3), round(difference.p_value, 3)
    (3, -0.833, 0.038)
    >>> round(difference.detectable, 2)    # with three seeds, and this spread, nothing much smaller
    0.94

    Differences that are equal but for the rounding of the values, as those of whole numbers of test images are, have no
    spread, and nothing is tested with it:

    >>> paired_difference({0: 0.3, 1: 0.7}, {0: 0.2, 1: 0.6}).note
    'all 2 values are equal: no interval'

    Returns:
        None when no seed is common.
    """
    from scipy import stats

    common = sorted(values.keys() & baseline.keys())
    if not common:
        return None
    differences = [values[seed] - baseline[seed] for seed in common]
    largest = max(abs(side[seed]) for side in (values, baseline) for seed in common)
    if max(differences) - min(differences) <= ROUNDING * largest:
        differences = differences[:1] * len(differences)
    summary = summarise(differences)
    if summary.low is None or summary.sd is None:
        return summary
    t = summary.mean / (summary.sd / math.sqrt(summary.n))
    p_value = 2 * float(stats.t.sf(abs(t), summary.n - 1))
    return replace(summary, p_value=p_value, detectable=smallest_detectable(summary.sd, summary.n))


def smallest_detectable(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The true mean difference that a two-sided paired t-test on n pairs would have called one with chance `power`.

    With T noncentral t of n − 1 degrees of freedom and noncentrality ν, and c the 1 − alpha/2 quantile of the central
    one, the ν with P(|T| > c) = power gives sd · ν / √n.

    >>> round(smallest_detectable(sd=0.2, n=5), 2), round(smallest_detectable(sd=0.2, n=20), 2)
    (0.34, 0.13)

    Args:
        sd: standard deviation of the differences, at least 0; the result is in its unit.
        n: number of pairs, at least 2.
        alpha: chance of a false alarm, between 0 and 1.
        power: chance of seeing the difference, between alpha and 1.

    Raises:
        ValueError: an argument outside its range.
    """
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd: got {sd!r}, accepted: a finite number of at least 0")
    if n < 2:
        raise ValueError(f"n: got {n!r}, accepted: at least 2 pairs")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha, power: got {alpha!r}, {power!r}, accepted: 0 < alpha < power < 1")
    return sd * _noncentrality(n - 1, alpha, power) / math.sqrt(n)


@cache
def _noncentrality(freedom: int, alpha: float, power: float) -> float:
    from scipy import optimize, stats

    critical = float(stats.t.isf(alpha / 2, freedom))

    def missing(noncentrality: float) -> float:
        found = float(stats.nct.sf(critical, freedom, noncentrality))
        wrong_side = float(stats.nct.cdf(-critical, freedom, noncentrality))
        # Below Φ(−noncentrality); scipy gives NaN for it where that is under 1e-15.
        return found + (0.0 if math.isnan(wrong_side) else wrong_side) - power

    # T ≈ (Z + ν) / χ with χ near 1: ν = c + z suffices for many degrees of freedom, a multiple of c for few.
    upper = critical + float(stats.norm.isf(1 - power)) + 1
    while missing(upper) < 0:
        upper *= 2
    return float(optimize.brentq(missing, 0.0, upper, xtol=1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values: below alpha only with a chance of at most alpha that any of these is a false alarm.

    The k-th smallest of m is multiplied by m − k + 1, none comes out smaller than one before it, and none above 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p_values: got {list(p_values)!r}, accepted: numbers from 0 to 1")
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected
