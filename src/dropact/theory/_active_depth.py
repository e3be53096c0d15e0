"""How many branches of a network with stochastic depth are active: N = sum of Bernoulli(p_l), l = 1, ..., L.

mean        sum p_l                the budget; (3 L - 1) / 4 for the linear rule of Huang et al. with p_L = 1/2
variance    v = sum p_l (1 - p_l)
P(N = k)    the Poisson-binomial distribution, by convolution
tail        P(|N - mean| >= t) <= 2 exp(-v h(t / v)),  h(u) = (1 + u) log(1 + u) - u       (Bennett)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dropact._arguments import check_number


@dataclass(frozen=True)
class ActiveDepth:
    """The distribution of the number of active branches.

    Attributes:
        mean: its mean, the budget.
        variance: its variance.
        probabilities: P(N = 0), ..., P(N = L), a float64 tensor ``(L + 1,)``.
    """

    mean: float
    variance: float
    probabilities: Tensor

    def tail(self, distance: float) -> float:
        """P(\\|N - mean\\| >= distance), exactly.

        >>> active_depth([0.5, 0.5]).tail(1.0)
        0.5
        """
        count = torch.arange(len(self.probabilities), dtype=torch.float64)
        outside = (count - self.mean).abs() >= _reached(distance)
        return float(self.probabilities[outside].sum())

    def bennett(self, distance: float) -> float:
        """Bennett's bound on the same, at most 1: 2 exp(-v h(distance / v)).

        >>> depth = active_depth([0.5] * 100)
        >>> round(depth.tail(15), 4), round(depth.bennett(15), 4)
        (0.0035, 0.0447)
        """
        distance = _reached(distance)
        if distance == 0 or self.variance == 0:
            return float(distance == 0)
        u = distance / self.variance
        return min(1.0, 2 * math.exp(-self.variance * ((1 + u) * math.log1p(u) - u)))


def _reached(distance: float) -> float:
    """From where on a distance counts: the mean is rounded, and a count as far from it as asked must not be missed."""
    return max(check_number(distance, "distance", low=0.0) - 1e-12, 0.0)


def survival_rates(survival: Sequence[float]) -> list[float]:
    """The rates, checked.

    Raises:
        TypeError, ValueError: no numbers, out of [0, 1], or none at all.
    """
    rates = [check_number(rate, "survival", low=0.0, high=1.0) for rate in survival]
    if not rates:
        raise ValueError("survival must hold at least one rate, got none")
    return rates


def active_depth(survival: Sequence[float]) -> ActiveDepth:
    """The distribution of the number of active branches.

    >>> from dropact.schedules import linear_survival
    >>> depth = active_depth(linear_survival(54, last=0.5))
    >>> round(depth.mean, 6), round(depth.variance, 3)
    (40.25, 9.124)
    >>> active_depth([0.5, 0.5]).probabilities
    tensor([0.2500, 0.5000, 0.2500], dtype=torch.float64)

    Args:
        survival: the survival rate of each branch, in [0, 1].

    Raises:
        TypeError, ValueError: no numbers, out of range, or none at all.
    """
    rates = survival_rates(survival)
    probabilities = torch.ones(1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    for rate in rates:
        probabilities = torch.cat([probabilities * (1 - rate), zero]) + torch.cat([zero, probabilities * rate])
    return ActiveDepth(math.fsum(rates), math.fsum(p * (1 - p) for p in rates), probabilities)
