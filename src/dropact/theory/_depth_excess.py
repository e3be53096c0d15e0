"""What stochastic depth adds to the loss: to second order, and exactly.

A network y_l = y_{l-1} + b_l s f_l(y_{l-1}), b_l ~ Bernoulli(p_l), evaluated with b_l = p_l; G_l is the evaluated
network from y_l to the output, loss(p) the loss of the evaluated network.

To second order, with zeta_l the derivative of y_L with respect to y_l along f_l(y_{l-1}), and the loss as a function of
y_L, whatever lies between y_L and the output included::

    E loss(b) - loss(p)  =  s^2 / 2  sum_l p_l (1 - p_l) g_l,     g_l = zeta_l^T (Hessian of the loss) zeta_l

This is the explicit regulariser of Soufiane Hayou, Fadhel Ayed (arXiv:2106.03091, s = 1 / sqrt(L)), reconstructed from
its description: g_l is the "information discrepancy" between keeping and removing branch l. It is for small s, as it
leaves out the curvature of the branches above, of the order of s: it does not become exact for deep networks with
s = 1 / sqrt(L), nor for p -> 1.

Exactly, for any network and the squared loss, with y the random state below branch l, u = y + s f_l(y)::

    E loss(b) - loss(p)  =  sum_l E [ p_l (1 - p_l) | G_l(u) - G_l(y) |^2 ]                                "variance"
                          + sum_l E [ loss(p_l G_l(u) + (1 - p_l) G_l(y)) - loss(G_l(y + p_l s f_l(y))) ]  "curvature"

which replaces the branches' means by their draws, one after the other from below. Derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from dropact.theory._active_depth import survival_rates

Function = Callable[[Tensor], Tensor]
MOST_EXACT = 12  # branches, of which all draws are gone through


@dataclass(frozen=True)
class DepthExcess:
    """The terms of the exact identity, per branch and averaged over the batch: float tensors ``(L,)``."""

    variance: Tensor
    curvature: Tensor

    @property
    def total(self) -> float:
        """E loss(b) - loss(p)."""
        return float(self.variance.sum() + self.curvature.sum())


def second_order_depth_excess(
    branches: Sequence[Function],
    x: Tensor,
    loss: Function,
    survival: Sequence[float],
    residual_scale: float = 1.0,
) -> Tensor:
    """The regulariser term of each branch, for each sample: s^2 / 2 p_l (1 - p_l) g_l.

    >>> branches = [lambda y: 2 * y, lambda y: y * 0 + 1]
    >>> second_order_depth_excess(branches, torch.ones(1, 1), lambda y: y.square().sum(1), [0.5, 0.5], 0.1)
    tensor([[0.0100],
            [0.0025]])

    Args:
        branches: the f_l, functions of ``(N, d)`` that keep samples apart.
        x: y_0, ``(N, d)``.
        loss: from y_L ``(N, d)`` to the loss of each sample ``(N,)``, twice differentiable.
        survival: p_l of each branch, in [0, 1].
        residual_scale: s.

    Returns:
        Tensor ``(L, N)``; its sum over branches is E loss(b) - loss(p) to second order.

    Raises:
        TypeError, ValueError: rates that are no numbers, out of range, or not one for each branch.
    """
    rates = _rates(branches, survival)
    y, zetas = _derivatives(branches, rates, x, residual_scale)
    terms = []
    for p, zeta in zip(rates, zetas, strict=True):
        second = _along(partial(_along, loss, zeta), zeta, y)
        terms.append(residual_scale**2 / 2 * p * (1 - p) * second)
    return torch.stack(terms)


def _along(function: Function, direction: Tensor, y: Tensor) -> Tensor:
    """The derivative of a function at ``y``."""
    found: Tensor = torch.func.jvp(function, (y,), (direction,))[1]
    return found


def _derivatives(
    branches: Sequence[Function], rates: Sequence[float], x: Tensor, scale: float
) -> tuple[Tensor, list[Tensor]]:
    """y_L of the evaluated network, and of every branch the derivative of y_L with respect to y_l along it."""
    y, found = x, []
    for number, (f, p) in enumerate(zip(branches, rates, strict=True)):
        step = f(y)
        y = y + p * scale * step
        found.append(_along(_above(branches, rates, number + 1, scale), step, y))
    return y, found


def depth_excess(
    branches: Sequence[Function],
    x: Tensor,
    target: Tensor,
    survival: Sequence[float],
    residual_scale: float = 1.0,
    head: Function = lambda y: y,
    samples: int | None = None,
    seed: int = 0,
) -> DepthExcess:
    """The terms of the exact identity for the squared loss |output - target|^2.

    >>> branches, x = [lambda y: 2 * y, lambda y: y * y], torch.ones(1, 1, dtype=torch.float64)
    >>> excess = depth_excess(branches, x, torch.zeros(1, 1, dtype=torch.float64), [0.5, 0.5])
    >>> round(excess.total, 9)   # (1 + 2^2 + 3^2 + 12^2) / 4 - (2 + 2^2 / 2)^2
    23.5

    Args:
        branches, x, survival, residual_scale: as in :func:`second_order_depth_excess`.
        target: like the output, ``(N, o)``.
        head: from y_L to the output.
        samples: how many draws of the branches below stand for the mean over them; ``None`` goes through all of them,
            for at most 12 branches.
        seed: of these draws.

    Raises:
        TypeError, ValueError: as there; more than 12 branches without ``samples``, fewer than 1 of them, or a target of
            another shape than the output.
    """
    rates = _rates(branches, survival)
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be at least 1, or None for all draws, got {samples!r}")
    if samples is None and len(rates) > MOST_EXACT:
        raise ValueError(f"without samples there may be at most {MOST_EXACT} branches, got {len(rates)}")
    generator = torch.Generator().manual_seed(seed)

    def loss(output: Tensor) -> Tensor:
        if output.shape != target.shape:  # they might broadcast
            raise ValueError(f"target must be like the output, {tuple(output.shape)}, got {tuple(target.shape)}")
        return (output - target).square().flatten(1).sum(1).mean()

    variance, curvature = [], []
    for number, (f, p) in enumerate(zip(branches, rates, strict=True)):
        above = _above(branches, rates, number + 1, residual_scale, head)
        first = second = torch.zeros((), dtype=x.dtype)
        for draws, weight in _draws(rates[:number], samples, generator):
            y = x
            for b, below in zip(draws, branches, strict=False):
                y = y + residual_scale * below(y) if b else y
            step = residual_scale * f(y)
            kept, removed = above(y + step), above(y)
            gap = (kept - removed).square().flatten(1).sum(1).mean()
            first = first + weight * p * (1 - p) * gap
            second = second + weight * (loss(p * kept + (1 - p) * removed) - loss(above(y + p * step)))
        variance.append(first)
        curvature.append(second)
    return DepthExcess(torch.stack(variance), torch.stack(curvature))


def _rates(branches: Sequence[Function], survival: Sequence[float]) -> list[float]:
    if len(survival) != len(branches):
        raise ValueError(f"survival must have one rate for each of the {len(branches)} branches, got {len(survival)}")
    return survival_rates(survival)


def _above(
    branches: Sequence[Function], rates: Sequence[float], first: int, scale: float, head: Function = lambda y: y
) -> Function:
    """G: the evaluated network from the output of a branch on."""

    def above(y: Tensor) -> Tensor:
        for f, p in zip(branches[first:], rates[first:], strict=True):
            y = y + p * scale * f(y)
        return head(y)

    return above


def _draws(
    rates: Sequence[float], samples: int | None, generator: torch.Generator
) -> list[tuple[Sequence[bool], float]]:
    """Draws of the branches with these rates, each with its probability, or its share of the samples."""
    if samples is not None:
        drawn = torch.rand(samples, len(rates), generator=generator) < torch.tensor(rates)
        return [(row, 1 / samples) for row in drawn.tolist()]
    draws = product((False, True), repeat=len(rates))
    return [(draw, math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True))) for draw in draws]


def depth_noise_covariance(branches: Sequence[Function], x: Tensor, survival: Sequence[float]) -> Tensor:
    """Covariance of the noise of y_L in a deep stable network: (1 / L) sum_l p_l (1 - p_l) z_l z_l^T.

    >>> branches = [lambda y: y * 0 + torch.tensor([1.0, 0.0]), lambda y: y * 0 + torch.tensor([0.0, 2.0])]
    >>> depth_noise_covariance(branches, torch.zeros(1, 2), [0.5, 0.5])
    tensor([[[0.1250, 0.0000],
             [0.0000, 0.5000]]])

    With s = 1 / sqrt(L), y_L(b) - y_L(p) is to first order (1 / sqrt(L)) sum_l (b_l - p_l) z_l, z_l the derivative of
    the evaluated network from y_l on along f_l(y_{l-1}), and for L -> infinity normal with mean 0 and this covariance.
    Hayou & Ayed, arXiv:2106.03091, reconstructed.

    Args:
        branches, x, survival: as in :func:`second_order_depth_excess`.

    Returns:
        Tensor ``(N, d, d)``, one matrix for each sample.

    Raises:
        TypeError, ValueError: as there.
    """
    rates = _rates(branches, survival)
    _, zetas = _derivatives(branches, rates, x, len(rates) ** -0.5)
    terms = [p * (1 - p) / len(rates) * z.unsqueeze(2) * z.unsqueeze(1) for p, z in zip(rates, zetas, strict=True)]
    return torch.stack(terms).sum(0)
