"""Medians and ratios of interleaved timings."""

import math
import statistics
from collections.abc import Sequence

from dropact.bench.record import Figure

# Tensors that have to be read or written, forward and backward: a copy's two and two; two and three where backward
# reads something that forward has left.
_TENSORS_OF_COPY, _TENSORS = 4, 5


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, from the order of the values alone; all of them if fewer than 6.

    >>> interval_of_median(range(10))
    (1, 8)

    The k-th smallest and k-th largest, for the largest k with 2 P(Binomial(n, 1/2) < k) <= 0.05: no assumption on how
    timings are distributed, and no random draws.
    """
    ranked = sorted(values)
    n = len(ranked)
    k, outside = 0, 2 / 2**n  # outside: 2 P(Binomial(n, 1/2) < k + 1)
    while outside <= 0.05:
        k += 1
        outside += 2 * math.comb(n, k) / 2**n
    cut = max(k - 1, 0)
    return ranked[cut], ranked[n - 1 - cut]


def compare(seconds: Sequence[float], baseline: Sequence[float]) -> Figure:
    """Median time, and the median of the ratios to the baseline's time in the same round.

    >>> compare([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    Figure(microseconds=4000000.0, ratio=2.0, low=2.0, high=3.0)

    Round by round, because a machine that slows down then slows both.
    """
    ratios = [own / other for own, other in zip(seconds, baseline, strict=True)]
    low, high = interval_of_median(ratios)
    return Figure(statistics.median(seconds) * 1e6, statistics.median(ratios), low, high)


def spread(seconds: Sequence[float]) -> float:
    """Distance of the quartiles over the median: how far one's own rounds lie apart.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    0.6666666666666666
    """
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle


def share_of_copy(seconds: Sequence[float], copy: Sequence[float]) -> float:
    """The bandwidth of forward and backward as a share of the copy's.

    >>> share_of_copy([5.0], [4.0])
    1.0
    """
    return compare(copy, seconds).ratio * _TENSORS / _TENSORS_OF_COPY


def bandwidth_of_copy(seconds: Sequence[float], bytes_of_tensor: int) -> float:
    """Bytes per second, from the times of its forward and backward."""
    return _TENSORS_OF_COPY * bytes_of_tensor / statistics.median(seconds)
