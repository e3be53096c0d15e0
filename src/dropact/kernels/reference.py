"""The fused operations in plain torch: the definition that every other backend reproduces, and what compilers trace.

    drop_relu        x where x > 0, or where x < 0 and its bit says "dropped"; else 0
    randomized_relu  x where x > 0, slope * x elsewhere, slope ~ U(lower, upper)
    choose           a where its bit says "chosen", else b
    pair             g(x) where its bit says "chosen", else f(x); or the mean of the two
    accelerated      the slope of an activation with that of a shape added, at most a cap (no random bits)

Differentiable by autograd to any order, batched by vmap, traced by torch.compile and torch.export. The derivative of
``drop_relu`` at exactly 0 is 0, as ``F.relu`` has it: so its backward needs nothing but the output.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropact._activations import Fused
from dropact._elementwise import mix
from dropact._random import is_chosen, random_bits_like, unit_interval


def masked_relu(x: Tensor, dropped: Tensor) -> Tensor:
    """ReLU where ``dropped`` is False, the identity where it is True. NaN travels as in ``F.relu``."""
    return torch.where((x == 0) | ((x < 0) & ~dropped), 0, x)


def sloped_relu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where it is positive, ``slope * x`` elsewhere, multiplied in the precision of ``slope``."""
    return torch.where(x <= 0, (x * slope).to(x.dtype), x)


def slopes(bits: Tensor, lower: float, upper: float, dtype: torch.dtype) -> Tensor:
    """Slopes ~ U(lower, upper) from 32-bit words: float64 for float64 activations, float32 for all others."""
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return unit_interval(bits, dtype) * (upper - lower) + lower


def drop_relu(x: Tensor, seed: Tensor, drop_prob: float | Tensor) -> Tensor:
    return masked_relu(x, is_chosen(random_bits_like(seed, x), drop_prob))


def randomized_relu(x: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
    return sloped_relu(x, slopes(random_bits_like(seed, x), lower, upper, x.dtype))


def choose(a: Tensor, b: Tensor, seed: Tensor, prob: float | Tensor) -> Tensor:
    """``a`` with probability ``prob``, else ``b``, independently per element, indexed in the storage order of ``a``."""
    return torch.where(is_chosen(random_bits_like(seed, a), prob), a, b)


def pair(x: Tensor, seed: Tensor | None, prob: float | Tensor, f: Fused, g: Fused, mean: bool = False) -> Tensor:
    """``g(x)`` with probability ``prob``, else ``f(x)``, independently per element; or the mean of the two."""
    if mean:
        return mix(f.of(x), g.of(x), prob)
    assert seed is not None
    return choose(g.of(x), f.of(x), seed, prob)


# The backward passes as the kernels compute them. (Autograd of the definitions above needs none of these; tests hold
# the two against each other.)


def drop_relu_backward(grad: Tensor, y: Tensor) -> Tensor:
    return torch.where(y == 0, 0, grad)


def randomized_relu_backward(grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
    slope = slopes(random_bits_like(seed, y), lower, upper, y.dtype)
    return torch.where(y <= 0, (grad * slope).to(grad.dtype), grad)


def pair_backward(
    grad: Tensor, x: Tensor, seed: Tensor | None, prob: float | Tensor, f: Fused, g: Fused, mean: bool = False
) -> Tensor:
    """By autograd of the definition; differentiable again where gradients are recorded."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if again and x.requires_grad else x.detach().requires_grad_()
        (to_x,) = torch.autograd.grad(pair(x, seed, prob, f, g, mean), x, grad, create_graph=again)
    return to_x


def choose_backward(grad: Tensor, seed: Tensor, prob: float | Tensor) -> tuple[Tensor, Tensor]:
    chosen = is_chosen(random_bits_like(seed, grad), prob)
    return torch.where(chosen, grad, 0), torch.where(chosen, 0, grad)


# Slopes. In the numbers' own precision; no intermediate overflows, so that none of large inputs is NaN, of any order.


def slope_of(activation: str, x: Tensor) -> Tensor:
    """The derivative of "relu" (0 at 0, as torch has it), "tanh" or "sigmoid"."""
    if activation == "relu":
        return (x > 0).to(x.dtype)
    t = torch.exp(-x.abs() * (2 if activation == "tanh" else 1))
    slope = t / (1 + t).square()
    return 4 * slope if activation == "tanh" else slope


def logistic(x: Tensor, slope: float, centre: float) -> Tensor:
    return torch.sigmoid(slope * (x - centre))


def gaussian(x: Tensor, width: float, height: float) -> Tensor:
    return height * torch.exp(-(x / width).square())


SHAPES = {"relu": logistic, "tanh": gaussian, "sigmoid": gaussian}  # what is fused with which activation


def accelerated_backward(grad: Tensor, x: Tensor, activation: str, a: float, b: float, cap: float) -> Tensor:
    """``grad`` times ``activation``'s slope plus ``SHAPES[activation](x, a, b)``, at most ``cap``; rounded once."""
    wide = x if x.dtype == torch.float64 else x.float()
    slope = slope_of(activation, wide) + SHAPES[activation](wide, a, b)
    return (slope.clamp(max=cap) * grad).to(grad.dtype)
