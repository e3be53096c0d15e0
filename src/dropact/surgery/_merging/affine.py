"""Linear layers as one kind of value, their product and their sum: the algebra behind `merge_`.

A convolution of any number of dimensions is y[o, t] = b[o] + sum_i sum_u w[o, i, u] x[i, s t + d u - p] at the output
position t: stride s, dilation d, padding p. A fully connected layer has no dimensions, a BatchNorm in evaluation and
the identity are convolutions of one pixel with as many groups as channels. Products and sums of these are such layers
again; `CannotMerge` says where they are not, mostly at the border: where the second convolution pads with zeros, the
product would see what the first makes of the border, or its bias.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CannotMerge(ValueError):
    """Two layers are not one, and why."""


@dataclass(frozen=True)
class Affine:
    """A linear layer.

    Attributes:
        weight: (out, in / groups, *kernel); a fully connected layer has no kernel.
        bias: (out,), or None.
        stride, padding, dilation: one number a dimension.
        groups: as of a convolution; 1 for a fully connected layer.
        padding_mode: as of a convolution.
        every: of a BatchNorm, for which `weight` has no kernel yet: it takes that of the layer beside it.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"
    every: bool = False

    @classmethod
    def of(cls, layer: nn.Module) -> Affine | None:
        """That of a stock layer in evaluation; None for a layer that is not linear, or not of these kinds.

        Raises:
            CannotMerge: it is, but not in the state it is in.
        """
        if type(layer) is nn.Linear:
            return cls(layer.weight, layer.bias)
        if type(layer) in CONVOLUTIONS:
            return _of_convolution(layer)
        if type(layer) in NORMS:
            return _of_norm(layer)
        return None

    @classmethod
    def identity(cls, like: Affine) -> Affine:
        """The identity on the inputs of a layer that has as many outputs."""
        channels = like.outputs
        if channels != like.inputs:
            raise CannotMerge(f"the identity beside {like.inputs} inputs and {channels} outputs")
        return cls(like.weight.new_ones(channels, 1), None, groups=channels, every=True).spread(like.dimensions)

    def spread(self, dimensions: int) -> Affine:
        """A BatchNorm as a layer of so many dimensions; any other as it is."""
        if not self.every:
            return self
        if dimensions == 0:
            return Affine(torch.diag(self.weight[:, 0]), self.bias)
        ones = (1,) * dimensions
        weight = self.weight.reshape(*self.weight.shape, *ones)
        return Affine(weight, self.bias, ones, (0,) * dimensions, ones, self.groups)

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def dimensions(self) -> int:
        return len(self.stride)

    @property
    def is_pointwise(self) -> bool:
        """Whether an output depends on one position of the input alone, and every position is one of an output."""
        return all(size == 1 for size in self.kernel) and not any(self.padding)

    def layer(self) -> nn.Module:
        """As a stock layer in float precision of the weights; parameters are new ones."""
        made: nn.Module
        with torch.device("meta"):
            if not self.dimensions:
                made = nn.Linear(self.inputs, self.outputs, self.bias is not None)
            else:
                kind: Any = CONVOLUTIONS[self.dimensions - 1]
                shape = self.kernel, self.stride, self.padding, self.dilation, self.groups
                made = kind(self.inputs, self.outputs, *shape, self.bias is not None, self.padding_mode)
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            if value is not None:
                setattr(made, name, nn.Parameter(value.detach().contiguous()))
        return made

    def cast(self, dtype: torch.dtype) -> Affine:
        return replace(self, weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))


def _of_convolution(layer: Any) -> Affine:
    padding = layer.padding
    if padding == "valid":
        padding = (0,) * len(layer.stride)
    elif padding == "same":
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(r % 2 for r in reach):
            raise CannotMerge("padding 'same' that is not the same on both sides")
        padding = tuple(r // 2 for r in reach)
    mode = layer.padding_mode if any(padding) else "zeros"
    return Affine(layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups, mode)


def _of_norm(layer: Any) -> Affine:
    if layer.training or layer.running_mean is None or layer.running_var is None:
        raise CannotMerge("a BatchNorm that takes its statistics from the batch: call eval() first")
    scale = torch.rsqrt(layer.running_var.double() + layer.eps)
    if layer.weight is not None:
        scale = scale * layer.weight.double()
    shift = -layer.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double()
    return Affine(scale[:, None], shift, groups=len(scale), every=True)


def _alike(one: Affine, other: Affine) -> tuple[Affine, Affine]:
    """Both with the same number of dimensions, in double precision."""
    one, other = one.spread(other.dimensions), other.spread(one.dimensions)
    if one.every or other.every:
        one, other = one.spread(1), other.spread(1)
    if one.dimensions != other.dimensions:
        raise CannotMerge(f"layers of {one.dimensions} and {other.dimensions} dimensions")
    return one.cast(torch.float64), other.cast(torch.float64)


def _in_groups(layer: Affine, groups: int) -> Tensor:
    """The weight (groups, out / groups, in / groups, *kernel) of a layer whose own groups are a multiple of these."""
    share = layer.groups // groups
    own = layer.weight.reshape(groups, share, layer.outputs // layer.groups, *layer.weight.shape[1:])
    full = own.new_zeros(groups, share, own.shape[2], share, *own.shape[3:])
    for place in range(share):
        full[:, place, :, place] = own[:, place]
    return full.reshape(groups, layer.outputs // groups, layer.inputs // groups, *layer.kernel)


def _spaced(weight: Tensor, offsets: list[set[int]]) -> tuple[Tensor, tuple[int, ...]]:
    """A kernel with dilation 1 and its taps at `offsets`, written with the largest dilation that it has."""
    dilation = tuple(math.gcd(*taps, size - 1) or 1 for taps, size in zip(offsets, weight.shape[2:], strict=True))
    return weight[(slice(None), slice(None), *(slice(None, None, step) for step in dilation))], dilation


def product(first: Affine, second: Affine) -> Affine:
    """`second` after `first` as one layer, exact at every position of the output.

    >>> one = product(Affine.of(nn.Linear(3, 50)), Affine.of(nn.Linear(50, 2)))
    >>> one.weight.shape
    torch.Size([2, 3])

    Raises:
        CannotMerge: it is no such layer, or not at the border.
    """
    a, b = _alike(first, second)
    if a.outputs != b.inputs:
        raise CannotMerge(f"{a.outputs} outputs before {b.inputs} inputs")
    padding, mode = _padding(a, b)
    groups = math.gcd(a.groups, b.groups)
    left, right = _in_groups(b, groups), _in_groups(a, groups)
    steps = [s * d for s, d in zip(a.stride, b.dilation, strict=True)]
    reach = [
        d * (k - 1) + step * (n - 1) + 1 for d, k, step, n in zip(a.dilation, a.kernel, steps, b.kernel, strict=True)
    ]
    weight = left.new_zeros(groups, left.shape[1], right.shape[2], *reach)
    for tap in itertools.product(*map(range, b.kernel)):
        places = tuple(
            slice(v * step, v * step + d * (k - 1) + 1, d)
            for v, step, d, k in zip(tap, steps, a.dilation, a.kernel, strict=True)
        )
        at = (slice(None),) * 3 + tap
        weight[(slice(None),) * 3 + places] += torch.einsum("gom,gmi...->goi...", left[at], right)
    bias = b.bias
    if a.bias is not None:
        through = left.flatten(3).sum(3) if b.dimensions else left
        moved = torch.einsum("gom,gm->go", through, a.bias.reshape(groups, -1)).flatten()
        bias = moved if bias is None else bias + moved
    taps = [
        {d * u + step * v for u in range(k) for v in range(n)}
        for d, k, step, n in zip(a.dilation, a.kernel, steps, b.kernel, strict=True)
    ]
    flat, dilation = _spaced(weight.flatten(0, 1), taps)
    stride = tuple(x * y for x, y in zip(a.stride, b.stride, strict=True))
    return Affine(flat, bias, stride, padding, dilation, groups, mode).cast(_dtype(first, second))


def _padding(a: Affine, b: Affine) -> tuple[tuple[int, ...], str]:
    """That of the product."""
    if not any(b.padding):
        return a.padding, a.padding_mode
    moved = tuple(s * p for s, p in zip(a.stride, b.padding, strict=True))
    if not a.is_pointwise:
        raise CannotMerge("at the border: the second layer pads what the first has made of a larger part of it")
    if b.padding_mode != "zeros":
        if any(s > 1 for s in a.stride):
            raise CannotMerge(f"a stride before padding of mode {b.padding_mode!r}")
        return moved, b.padding_mode
    if a.bias is not None and bool(a.bias.any()):
        raise CannotMerge("at the border: the second layer pads with zeros, where the first would put its bias")
    return moved, "zeros"


def with_padding_moved(first: Affine, second: Affine) -> tuple[Affine, Affine]:
    """The padding of the second layer done before the first instead: another function near the border, with a product.

    Raises:
        CannotMerge: one of them does not pad with zeros.
    """
    first, second = first.spread(second.dimensions), second.spread(first.dimensions)
    if {first.padding_mode, second.padding_mode} != {"zeros"}:
        raise CannotMerge(f"padding of mode {second.padding_mode!r} behind one of mode {first.padding_mode!r}")
    padding = tuple(p + s * q for p, s, q in zip(first.padding, first.stride, second.padding, strict=True))
    return replace(first, padding=padding), replace(second, padding=(0,) * second.dimensions)


def total(one: Affine, other: Affine) -> Affine:
    """The sum of two layers of one input as one layer; the identity is `Affine.identity`.

    Raises:
        CannotMerge: their outputs have other shapes, or their borders are padded in different ways.
    """
    a, b = _alike(one, other)
    if (a.outputs, a.inputs, a.stride) != (b.outputs, b.inputs, b.stride):
        raise CannotMerge("a sum of layers of other shapes or strides")
    modes = {layer.padding_mode for layer in (a, b) if any(layer.padding)} or {"zeros"}
    margins = [
        tuple(2 * p - d * (k - 1) for p, d, k in zip(x.padding, x.dilation, x.kernel, strict=True)) for x in (a, b)
    ]
    if len(modes) > 1 or margins[0] != margins[1]:
        raise CannotMerge("a sum of layers that pad differently")
    groups = math.gcd(a.groups, b.groups)
    padding = tuple(map(max, a.padding, b.padding))
    sizes = [2 * p - margin + 1 for p, margin in zip(padding, margins[0], strict=True)]
    weight = a.weight.new_zeros(a.outputs, a.inputs // groups, *sizes)
    taps: list[set[int]] = [set() for _ in sizes]
    for layer in (a, b):
        starts = [p - q for p, q in zip(padding, layer.padding, strict=True)]
        places = [
            range(start, start + d * (k - 1) + 1, d)
            for start, d, k in zip(starts, layer.dilation, layer.kernel, strict=True)
        ]
        at = tuple(slice(place.start, place.stop, place.step) for place in places)
        weight[(slice(None), slice(None), *at)] += _in_groups(layer, groups).flatten(0, 1)
        taps = [seen | set(place) for seen, place in zip(taps, places, strict=True)]
    biases = [layer.bias for layer in (a, b) if layer.bias is not None]
    flat, dilation = _spaced(weight, taps)
    made = Affine(
        flat, sum(biases[1:], biases[0]) if biases else None, a.stride, padding, dilation, groups, next(iter(modes))
    )
    return made.cast(_dtype(one, other))


def _dtype(*layers: Affine) -> torch.dtype:
    """That of the parameters; a BatchNorm is computed in double precision, whatever its own."""
    own = [layer.weight.dtype for layer in layers if not layer.every]
    return own[0] if own else torch.float64
