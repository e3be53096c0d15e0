"""What the second-order form leaves out, for a network with two hidden layers of Drop-Activation with ReLU.

With q = drop_prob, v1 and v2 the inputs of the two layers of activations in evaluation, a(v) = max(v, q v), the noise
of the first layer reaches the second as e_j, of variance s_j^2 = q (1 - q) sum_i W2[j, i]^2 min(v1_i, 0)^2. The
second-order form takes a(v2 + e) to be linear in e. In the squared loss it leaves out, exactly,

    bent     E |W3 d|^2 + 2 E (W3 D e)^T W3 d,    d = a(v2 + e) - a(v2) - D e,  D = a'(v2)
    drawn    q (1 - q) sum_j |W3[:, j]|^2 (E min(v2_j + e_j, 0)^2 - min(v2_j, 0)^2)
    shifted  2 (y - t)^T W3 E d

Below, e is taken to be normal, which the central limit theorem makes it in a wide layer in which many units are dropped
at once, and products of different d_j to cancel in |W3 d|^2, as they do where the signs of W3 are mixed.
docs/theory.md has the derivation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dropact._arguments import check_number


class Remainder(NamedTuple):
    """The terms ``(N,)`` to be added to the second-order form, each in the units of the loss."""

    bent: Tensor
    drawn: Tensor
    shifted: Tensor


def two_layer_remainder(w1: Tensor, w2: Tensor, w3: Tensor, x: Tensor, target: Tensor, drop_prob: float) -> Remainder:
    """Mean training loss minus test-time loss minus the second-order form, for wide layers, in the squared loss.

    >>> _ = torch.manual_seed(0)
    >>> w1, w2, w3, x = torch.randn(64, 4), torch.randn(64, 64) / 8, torch.randn(2, 64) / 8, torch.randn(5, 4)
    >>> remainder = two_layer_remainder(w1, w2, w3, x, torch.zeros(5, 2), 0.01)
    >>> remainder.drawn.shape, bool((remainder.drawn >= 0).all())
    (torch.Size([5]), True)

    Args:
        w1, w2, w3: weights ``(d, m)``, ``(e, d)`` and ``(o, e)`` of the network without biases.
        x: inputs ``(N, m)``.
        target: targets ``(N, o)``.
        drop_prob: probability, strictly between 0 and 1, that a nonlinearity is dropped.

    Raises:
        TypeError: ``drop_prob`` is not a number.
        ValueError: it does not lie strictly between 0 and 1.
    """
    q = check_number(drop_prob, "drop_prob", low=0.0, high=1.0)
    if q in (0.0, 1.0):
        raise ValueError(f"drop_prob must lie strictly between 0 and 1, got {q:g}: there is no noise to expand in")
    v1 = F.linear(x, w1)
    v2 = F.linear(F.leaky_relu(v1, q), w2)
    gap = v1.clamp(max=0)
    variance = (q * (1 - q) * gap.square() @ w2.square().T).clamp(min=torch.finfo(v2.dtype).tiny)
    s = variance.sqrt()
    distance = v2.abs() / s
    beyond = torch.special.ndtr(-distance)  # the probability that the noise carries the unit over its kink
    density = torch.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)

    mean_d = (1 - q) * s * (density - distance * beyond)
    shifted = 2 * ((F.linear(F.leaky_relu(v2, q), w3) - target) * F.linear(mean_d, w3)).sum(1)

    weight = w3.square().sum(0)
    square_d = (1 - q) ** 2 * variance * ((1 + distance**2) * beyond - distance * density)
    slope = torch.where(v2 > 0, 1.0, q)
    change = -(1 - q) * v2.sign() * beyond  # of the mean slope, by Stein's identity E e d = Cov(e) E d'
    noise = math.sqrt(q * (1 - q)) * gap.unsqueeze(1) * w2  # (N, e, d): Cov(e) = noise noise^T
    linear, bending = (torch.einsum("kj,nj,nji->nki", w3, factor, noise) for factor in (slope, change))
    bent = square_d @ weight + 2 * (linear * bending).sum((1, 2))

    below = (v2.square() + variance) * torch.special.ndtr(-v2 / s) - v2 * s * density
    drawn = q * (1 - q) * ((below - v2.clamp(max=0).square()) @ weight)
    return Remainder(bent, drawn, shifted)
