"""Property 5.2: by how much the variance behind an activation changes from training to evaluation.

Senwei Liang, Yuehaw Khoo, Haizhao Yang: arXiv:1811.05850, equations 13 to 15; the shift ratio is that of Xiang Li et
al., arXiv:1801.05134. For independent x_i ~ N(0, 1), any weights w, q = drop_prob, independent m_i ~ Bernoulli(q)::

    X_train = sum_i w_i ((1 - m_i) f(x_i) + m_i x_i)        X_test = sum_i w_i ((1 - q) f(x_i) + q x_i)

    E X_train = E X_test
    Var X_train = |w|^2 T(q),      T(q) = (1 - q) E f^2 + q E x^2 - ((1 - q) E f + q E x)^2
    Var X_test  = |w|^2 (T(q) - q (1 - q) E (x - f)^2)

The ratio is therefore never above 1, is 1 at both ends, and is smallest at ``q = sd f / (sd x + sd f)`` (derived in
docs/theory.md). For ReLU and N(0, 1) it is the paper's equation 15 with p = 1 - q.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dropact._activations import Activation
from dropact._arguments import check_number
from dropact._elementwise import apply, resolve
from dropact.theory._gaussian import expectations


class Moments(NamedTuple):
    """Of one unit behind the activation: the mean, the same in both modes, and the two variances."""

    mean: float
    train_variance: float
    test_variance: float


class WorstShift(NamedTuple):
    """The drop probability at which the variance shift is farthest from 1, and its value there."""

    drop_prob: float
    ratio: float


def variance_shift(activation: Activation, drop_prob: float, *, mean: float = 0.0, std: float = 1.0) -> float:
    """``Var X_test / Var X_train`` behind Drop-Activation of ``activation``: equation 15 for any activation.

    >>> round(variance_shift("relu", 0.05), 4)
    0.9377
    >>> round(variance_shift("gelu", 0.05), 4)
    0.9471

    Args:
        activation: a name ("relu", "gelu", ...) or an elementwise callable that takes float64 tensors; kinks and jumps
            may stand anywhere. ReLU is computed in closed form, all others by quadrature, to about 1e-12.
        drop_prob: probability, in [0, 1], that the nonlinearity is dropped (1 - p of the paper).
        mean, std: of the normal input; the paper's are 0 and 1, as a BatchNorm before the activation makes them.

    Returns:
        A float in (0, 1].

    Raises:
        TypeError: a number is not one, or ``activation`` is neither a name nor callable.
        ValueError: ``drop_prob`` outside [0, 1], ``std`` not positive, an unknown name, an activation that is not
            elementwise, not finite or too wild to integrate, or one whose output does not vary.
    """
    found = moments(activation, drop_prob, mean=mean, std=std)
    if found.train_variance <= 0:
        raise ValueError(f"the output does not vary: drop_prob is {drop_prob:g} and the activation is constant there")
    return found.test_variance / found.train_variance


def moments(activation: Activation, drop_prob: float, *, mean: float = 0.0, std: float = 1.0) -> Moments:
    """Mean and variances of one unit in training and in evaluation, for an input ``x ~ N(mean, std**2)``.

    >>> mean, train_variance, test_variance = moments("relu", 0.05)
    >>> round(mean, 4), round(train_variance, 4), round(test_variance, 4)
    (0.379, 0.3814, 0.3576)

    Arguments and errors are those of :func:`variance_shift`.
    """
    q = check_number(drop_prob, "drop_prob", low=0.0, high=1.0)
    f, f2, gap2 = _activation_moments(activation, mean, std)
    m = (1 - q) * f + q * mean
    train = (1 - q) * f2 + q * (mean**2 + std**2) - m**2
    return Moments(m, train, train - q * (1 - q) * gap2)


def worst_variance_shift(activation: Activation, *, mean: float = 0.0, std: float = 1.0) -> WorstShift:
    """The drop probability of the worst shift, ``sd f / (sd x + sd f)``, and the ratio there.

    >>> worst = worst_variance_shift("relu")
    >>> round(worst.drop_prob, 4), round(worst.ratio, 4)
    (0.3686, 0.8126)

    Arguments and errors are those of :func:`variance_shift`.
    """
    f, f2, _ = _activation_moments(activation, mean, std)
    deviation = math.sqrt(max(f2 - f**2, 0.0))
    drop_prob = deviation / (std + deviation)
    return WorstShift(drop_prob, variance_shift(activation, drop_prob, mean=mean, std=std))


def _activation_moments(activation: Activation, mean: float, std: float) -> tuple[float, float, float]:
    """``E f``, ``E f**2`` and ``E (x - f)**2``."""
    mean, std = check_number(mean, "mean"), check_number(std, "std", low=0.0)
    if std == 0:
        raise ValueError("std must be above 0, got 0")
    if resolve(activation) in (F.relu, torch.relu):
        return _relu_moments(mean, std)

    def functions(x: Tensor) -> Tensor:
        fx = apply(activation, x.clone())
        return torch.stack([fx, fx**2, (x - fx) ** 2])

    f, f2, gap2 = expectations(functions, mean, std).tolist()
    return f, f2, gap2


def _relu_moments(mean: float, std: float) -> tuple[float, float, float]:
    # Each side by its own tail: a difference to 1 has no digits left where the mean is some deviations off.
    below, above = (math.erfc(side * mean / std / math.sqrt(2)) / 2 for side in (1, -1))
    density = std * math.exp(-((mean / std) ** 2) / 2) / math.sqrt(2 * math.pi)
    second = mean**2 + std**2
    return mean * above + density, second * above + mean * density, second * below - mean * density
