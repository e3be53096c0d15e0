"""One of two activations at random, element by element, in one pass; or their mean.

    y_i = g(x_i) where the bit of i says so, else f(x_i)        y_i = (1 - prob) f(x_i) + prob g(x_i)

Drop-Activation is (f, identity), AID (ReLU, negative part), StochA (ReLU, SiLU below zero). Backward keeps ``x`` and
draws the bits again; for AID it keeps the output, which is zero where the slope is. (Drop-Activation of ReLU has an
operation of its own: :mod:`dropact.kernels.drop_relu`.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact._activations import IDENTITY, Fused
from dropact._random import is_chosen
from dropact._sharding import bits_of_part, is_sharded, of_parts
from dropact.kernels import reference
from dropact.kernels._dispatch import (
    backend_for,
    backend_of_backward,
    compute_below_autograd,
    has_activations,
    in_place_serves,
    laid_out,
    library,
    on_device,
    plain,
    transformed,
)
from dropact.kernels.drop_relu import backward_op as signed_backward

# Pairs whose slope is 0 where the output is, and else 1.
_SIGNED = ((Fused("relu"), Fused("negative_part")),)
_SETTINGS = "str f, float[] of_f, str g, float[] of_g, bool mean"


def pair(
    x: Tensor,
    seed: Tensor | None,
    prob: float | Tensor,
    f: Fused,
    g: Fused = IDENTITY,
    *,
    inplace: bool = False,
    mean: bool = False,
) -> Tensor:
    """``g(x)`` with probability ``prob``, else ``f(x)``, or their mean, which takes no seed; see
    :func:`dropact.kernels.reference.pair`. ``inplace`` saves nothing where backward needs ``x``."""
    if is_sharded(x):
        y = _of_parts(x, seed, prob, f, g, mean)
    elif transformed() or torch.compiler.is_compiling():
        y = reference.pair(x, seed, prob, f, g, mean)
    elif not plain(x):
        seed = torch.zeros((), dtype=torch.int64, device=x.device) if seed is None else seed
        y = torch.ops.dropact.pair.default(x, seed, on_device(prob, x), f.name, f.settings, g.name, g.settings, mean)
    else:
        if not x.is_cpu:  # whose kernels take a number
            prob = on_device(prob, x)
        if inplace and not mean and (f, g) in _SIGNED and in_place_serves(x):
            Pair.apply(x, seed, prob, f, g, mean, True)
            return x  # which comes back as another object where no gradient is recorded
        if torch.is_grad_enabled():
            y = Pair.apply(x.clone() if inplace else x, seed, prob, f, g, mean, False)  # backward needs its input
        else:
            y = _compute(x, seed, prob, f, g, mean)
    return x.copy_(y) if inplace else y


def _of_parts(x: Tensor, seed: Tensor | None, prob: float | Tensor, f: Fused, g: Fused, mean: bool) -> Tensor:
    """Of a tensor of which each rank has a part."""

    def of_part(part: Tensor) -> Tensor:
        if mean:
            return pair(part, None, prob, f, g, mean=True)
        assert seed is not None
        chosen = is_chosen(bits_of_part(seed, x), prob)
        return torch.where(chosen, pair(part, seed, 1.0, f, g), pair(part, seed, 0.0, f, g))

    return of_parts(x, of_part)


def _compute(
    x: Tensor, seed: Tensor | None, prob: float | Tensor, f: Fused, g: Fused, mean: bool, out: Tensor | None = None
) -> Tensor:
    served = backend_for(x)
    if served is None or not has_activations(served, x):
        return reference.pair(x, seed, prob, f, g, mean)
    out = torch.empty_like(x) if out is None else out
    served.pair(laid_out(x, out.stride()), seed, prob, f, g, mean, out)
    return out


def _backward(
    grad: Tensor, x: Tensor, seed: Tensor | None, prob: float | Tensor, f: Fused, g: Fused, mean: bool
) -> Tensor:
    """In the layout of the output, which is that of ``x`` or, where that one has gaps, of its copy."""
    served = backend_of_backward(grad, x)
    if served is None:
        return reference.pair_backward(grad, x, seed, prob, f, g, mean)
    out = torch.empty_like(x)
    served.pair_backward(laid_out(grad, out.stride()), laid_out(x, out.stride()), seed, prob, f, g, mean, out)
    return out


class Pair(Function):
    """Its gradient is differentiated again by the definition's."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        seed: Tensor | None,
        prob: float | Tensor,
        f: Fused,
        g: Fused,
        mean: bool,
        inplace: bool,
    ) -> Tensor:
        if plain(x):
            y = _compute(x, seed, prob, f, g, mean, x if inplace else None)
        else:
            arguments = x, seed, prob, f.name, f.settings, g.name, g.settings, mean
            y = compute_below_autograd(torch.ops.dropact.pair.default, *arguments)
        if inplace:
            ctx.mark_dirty(x)
        ctx.signed = not mean and (f, g) in _SIGNED
        ctx.rest = f, g, mean
        if ctx.signed:
            ctx.save_for_backward(y)
        elif isinstance(prob, Tensor):
            # A copy: a schedule writes into the layer's tensor, and backward must draw the mask of this forward.
            ctx.save_for_backward(x, seed, prob.clone())
        else:
            ctx.save_for_backward(x, seed)
            ctx.rest = prob, f, g, mean
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.signed:
            to_x = signed_backward(grad, *ctx.saved_tensors)
        else:
            to_x = _backward(grad, *ctx.saved_tensors, *ctx.rest)
        return to_x, None, None, None, None, None, None


def _operator(
    x: Tensor, seed: Tensor, prob: Tensor, f: str, of_f: list[float], g: str, of_g: list[float], mean: bool
) -> Tensor:
    return _compute(x, seed, prob, Fused(f, tuple(of_f)), Fused(g, tuple(of_g)), mean)


def _differentiable(
    x: Tensor, seed: Tensor, prob: Tensor, f: str, of_f: list[float], g: str, of_g: list[float], mean: bool
) -> Tensor:
    return Pair.apply(x, seed, prob, Fused(f, tuple(of_f)), Fused(g, tuple(of_g)), mean, False)


library.define(f"pair(Tensor x, Tensor seed, Tensor prob, {_SETTINGS}) -> Tensor")
library.impl("pair", _operator, "CompositeExplicitAutograd")
library.impl("pair", _differentiable, "Autograd")
torch.library.register_fake("dropact::pair", lambda x, *_: torch.empty_like(x), lib=library)
