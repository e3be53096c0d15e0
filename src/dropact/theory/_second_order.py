"""What small noise at many units adds to the mean loss, to second order: Property 5.1 for any network and any loss.

To the outputs h_i of a network's activations comes noise ``a_g u_i``: ``u`` is the effect of the unit's random choice
(for Drop-Activation v - f(v)), ``a_g`` has mean 0 and a given variance and is drawn once for each group g of units, a
single unit where the mask is drawn per element. With y the network's output and H the Hessian of the loss in y::

    E loss - loss(no noise)  ~  1/2 sum_g Var a_g  c_g^T H c_g,        c_g = sum_{i in g} (dy / dh_i) u_i

This is the Gauss-Newton part of the second-order expansion; docs/theory.md derives it, states what it leaves out, and
shows where it fails and by how much.

Nothing larger than the activations is formed: for every direction z in the space of outputs, two vector-Jacobian
products give all the (dy/dh_i)^T z and (dy/dh_i)^T H z at once, and the sum over an orthonormal set of z (or the mean
over random signs, E z z^T = 1: Hutchinson's estimator) of their product is the quadratic form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.func import grad, vjp

from dropact._arguments import check_choice

GRANULARITIES = ("element", "channel", "sample", "layer")


class UnitNoise(NamedTuple):
    """The noise at one activation: ``effect`` u ``(N, ...)``, the variance of its factor a, and what shares one a."""

    effect: Tensor
    variance: float
    granularity: str = "element"


def second_order_excess(
    network: Callable[[Sequence[Tensor]], Tensor],
    noise: Sequence[UnitNoise],
    loss: Callable[[Tensor], Tensor],
    directions: int | None = None,
) -> Tensor:
    """Mean loss with the noise minus the loss without it, for each sample, to second order.

    >>> w2, effect = torch.tensor([[2.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    >>> def network(offsets):                              # the output as a function of what is added to the units
    ...     return (torch.ones(1, 2) + offsets[0]) @ w2.T
    >>> second_order_excess(network, [UnitNoise(effect, 0.1 * 0.9)], lambda y: y.square().sum(1))
    tensor([0.3600])

    Exact where the loss is quadratic and the output linear in the offsets, as here: ``0.09 * 2**2 * 1``.

    Args:
        network: from one offset per activation, of the shape of its effect, to outputs ``(N, K)``; no sample may act on
            another (BatchNorm in evaluation mode).
        noise: effect, variance and granularity for each activation.
        loss: from outputs ``(N, K)`` to the loss of each sample ``(N,)``, twice differentiable.
        directions: ``None`` for all K directions, the exact form; or a number of random ones, drawn from torch's
            default generator, where K is large: the result is then unbiased and noisy.

    Returns:
        Tensor ``(N,)`` in the units of the loss.

    Raises:
        ValueError: outputs that are not ``(N, K)``, a loss that is not ``(N,)``, an unknown granularity, or no
            directions.
    """
    for unit in noise:
        check_choice(unit.granularity, "granularity", GRANULARITIES)

    def outputs(*offsets: Tensor) -> Tensor:
        return network(offsets)

    y, pull_back = cast(Any, vjp)(outputs, *(torch.zeros_like(unit.effect) for unit in noise))
    if y.dim() != 2:
        raise ValueError(f"network must return outputs of shape (N, K), got {tuple(y.shape)}")
    if loss(y).shape != y.shape[:1]:
        raise ValueError(f"loss must return one number for each of {len(y)} samples, got {tuple(loss(y).shape)}")
    # Backward over backward: importing what a forward-mode product needs warns of torch's own deprecations.
    _, hessian = cast(Any, vjp)(grad(lambda out: loss(out).sum()), y)
    total = torch.zeros_like(y[:, 0])
    for z in _directions(y, directions):
        (hz,) = hessian(z)
        for unit, along_z, along_hz in zip(noise, pull_back(z), pull_back(hz), strict=True):
            product = _grouped(unit, along_z) * _grouped(unit, along_hz)
            total = total + unit.variance / 2 * product.reshape(len(y), -1).sum(1)
    return total if directions is None else total / directions


def _directions(y: Tensor, number: int | None) -> Iterator[Tensor]:
    if number is None:
        for k in range(y.shape[1]):
            yield torch.zeros_like(y).index_fill(1, torch.tensor(k, device=y.device), 1.0)
        return
    if number < 1:
        raise ValueError(f"directions must be None or a whole number of at least 1, got {number}")
    for _ in range(number):
        yield torch.randint(0, 2, y.shape, device=y.device).to(y.dtype) * 2 - 1


def _grouped(unit: UnitNoise, along: Tensor) -> Tensor:
    """c_g of every group, along one direction. What samples share does not matter to the mean of each."""
    terms = unit.effect * along
    kept = {"element": terms.dim(), "channel": 2, "sample": 1, "layer": 1}[unit.granularity]
    return terms.flatten(kept).sum(kept) if terms.dim() > kept else terms
