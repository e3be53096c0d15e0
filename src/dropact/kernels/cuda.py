"""The Triton backend: kernels/reference.py for CUDA tensors, equal to it bit by bit.

Every function writes into ``out``; all tensors of a call are dense and share one shape and one storage order. Seed and
probability are read on the device, so that nothing waits for it and a replayed CUDA graph takes the seed of the replay.
"""

from __future__ import annotations

import struct
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropact._activations import Fused
from dropact.kernels.cuda_activations import slope, value

_BLOCK = tl.constexpr(4096)  # elements per program; divides a page, so that the keys are one pair per program
_WARPS = 8


# The bits: the lines of _random.py.


@triton.jit
def _mix(x):
    x = (x ^ (x >> 16)) * 0x21F0AAAD
    x = (x ^ (x >> 15)) * 0x735A2D97
    return x ^ (x >> 15)


@triton.jit
def _keys(seed_at, page):
    seed = tl.load(seed_at)
    low = (seed & 0xFFFFFFFF).to(tl.uint32)
    high = ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    key1 = _mix(_mix(_mix(low ^ 0x243F6A88) ^ high) + page)
    key2 = _mix(_mix(_mix(high ^ 0x13198A2E) ^ low) ^ page)
    return key1, key2


@triton.jit
def _first_keys(seed_at, out_at):
    key1, key2 = _keys(seed_at, tl.zeros((), tl.uint32))
    tl.store(out_at, key1.to(tl.int32, bitcast=True))
    tl.store(out_at + 1, key2.to(tl.int32, bitcast=True))


@triton.jit
def _part(count):
    """What this program works on: where it begins, the places from there on, and which of them there are.

    Places are 32 bits wide, as 64-bit numbers cost two instructions for each of theirs. A hash is most of what an
    element costs.
    """
    begin = tl.program_id(0).to(tl.int64) * _BLOCK
    place = tl.arange(0, _BLOCK)
    return begin, place, place < tl.minimum(count - begin, _BLOCK).to(tl.int32)


@triton.jit
def _word(seed_at, begin, place):
    key1, key2 = _keys(seed_at, (begin >> 32).to(tl.uint32))
    # begin and place have no bit in common: their sum is their exclusive or
    h = place.to(tl.uint32) ^ (key1 ^ (begin & 0xFFFFFFFF).to(tl.uint32))
    h = (h ^ (h >> 16)) * 0x21F0AAAD
    h = (h ^ (h >> 15) ^ key2) * 0x735A2D97
    return (h ^ (h >> 15)) * 0x31848BAB


@triton.jit
def _last_below(prob_at):
    """The last word below the threshold, which 32 bits would not always hold, and whether any word is."""
    prob = tl.load(prob_at).to(tl.float64)
    prob = tl.where(prob > 0, tl.where(prob < 1, prob, 1.0), 0.0)  # NaN counts as 0
    # rint by hand, to nearest and ties to even as torch.round: adding and taking away 2**52 leaves no fraction
    scaled = prob * 4294967296.0
    threshold = ((scaled + 4503599627370496.0) - 4503599627370496.0).to(tl.int64) - 2147483648
    return tl.maximum(threshold - 1, -2147483648).to(tl.int32), threshold > -2147483648


@triton.jit
def _chosen(word, prob_at):
    last, some = _last_below(prob_at)
    return (word.to(tl.int32, bitcast=True) <= last) & some


@triton.jit
def _slope(word, lower, width, dtype: tl.constexpr):
    unit = (word >> 8).to(tl.int32).to(dtype) * 5.9604644775390625e-08  # 2**-24
    lower = lower.to(tl.int64).to(tl.float64, bitcast=True)
    width = width.to(tl.int64).to(tl.float64, bitcast=True)
    return unit * width.to(dtype) + lower.to(dtype)


@triton.jit
def _wide(x):
    # What is compared: exact, and never bfloat16, which the interpreter compares as if it were an integer.
    return x.to(tl.float64 if x.dtype == tl.float64 else tl.float32)


@triton.jit
def _narrow(x, dtype: tl.constexpr):
    # bfloat16 by hand, to nearest and ties to even, as a GPU converts: the interpreter's own conversion truncates.
    if dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        rounded = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded)  # NaN stays NaN
        return rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(dtype)


@triton.jit
def _drop_relu(x_at, seed_at, prob_at, out_at, count):
    begin, place, inside = _part(count)
    x = tl.load(x_at + begin + place, mask=inside)
    # One bound to compare with takes fewer instructions than a condition put together of three.
    last, some = _last_below(prob_at)
    dropped = _word(seed_at, begin, place).to(tl.int32, bitcast=True) <= last
    bound = tl.where(dropped, tl.where(some, float("-inf"), 0.0), 0.0)
    value = _wide(x)
    zero = (value == 0) | (value < bound)
    tl.store(out_at + begin + place, tl.where(zero, 0.0, x), mask=inside)


@triton.jit
def _drop_relu_backward(grad_at, y_at, out_at, count):
    begin, place, inside = _part(count)
    y = tl.load(y_at + begin + place, mask=inside)
    grad = tl.load(grad_at + begin + place, mask=inside)
    tl.store(out_at + begin + place, tl.where(_wide(y) == 0, 0.0, grad), mask=inside)


@triton.jit(do_not_specialize=["lower", "width"])
def _randomized_relu(x_at, seed_at, lower, width, out_at, count, dtype: tl.constexpr):
    begin, place, inside = _part(count)
    x = tl.load(x_at + begin + place, mask=inside)
    slope = _slope(_word(seed_at, begin, place), lower, width, dtype)
    sloped = _narrow(x.to(dtype) * slope, x.dtype)
    tl.store(out_at + begin + place, tl.where(_wide(x) <= 0, sloped, x), mask=inside)


@triton.jit(do_not_specialize=["lower", "width"])
def _randomized_relu_backward(grad_at, y_at, seed_at, lower, width, out_at, count, dtype: tl.constexpr):
    begin, place, inside = _part(count)
    y = tl.load(y_at + begin + place, mask=inside)
    grad = tl.load(grad_at + begin + place, mask=inside)
    slope = _slope(_word(seed_at, begin, place), lower, width, dtype)
    sloped = _narrow(grad.to(dtype) * slope, grad.dtype)
    tl.store(out_at + begin + place, tl.where(_wide(y) <= 0, sloped, grad), mask=inside)


@triton.jit
def _choose(a_at, b_at, seed_at, prob_at, out_at, count):
    begin, place, inside = _part(count)
    a = tl.load(a_at + begin + place, mask=inside)
    b = tl.load(b_at + begin + place, mask=inside)
    tl.store(out_at + begin + place, tl.where(_chosen(_word(seed_at, begin, place), prob_at), a, b), mask=inside)


@triton.jit
def _one_of(name: tl.constexpr, x, a, b, c, dtype: tl.constexpr, of_slope: tl.constexpr):
    first, second, third = tl.full((), a, dtype), tl.full((), b, dtype), tl.full((), c, dtype)
    if of_slope:
        return slope(name, x, first, second, third).to(dtype)
    return value(name, x, first, second, third).to(dtype)


@triton.jit
def _pair(
    grad_at,
    x_at,
    seed_at,
    prob_at,
    out_at,
    count,
    f: tl.constexpr,
    f0: tl.constexpr,
    f1: tl.constexpr,
    f2: tl.constexpr,
    g: tl.constexpr,
    g0: tl.constexpr,
    g1: tl.constexpr,
    g2: tl.constexpr,
    mean: tl.constexpr,
    backward: tl.constexpr,
    dtype: tl.constexpr,
):
    begin, place, inside = _part(count)
    x = tl.load(x_at + begin + place, mask=inside)
    wide = x.to(dtype)
    of_f = _one_of(f, wide, f0, f1, f2, dtype, backward)
    of_g = _one_of(g, wide, g0, g1, g2, dtype, backward)
    if mean:
        # at 0 and 1 one alone, as 0 times infinity is no number
        prob = tl.load(prob_at).to(tl.float64)
        y = of_f * (1 - prob).to(dtype) + of_g * prob.to(dtype)
        y = tl.where(prob == 0, of_f, tl.where(prob == 1, of_g, y))
    else:
        y = tl.where(_chosen(_word(seed_at, begin, place), prob_at), of_g, of_f)
    if backward:
        grad = tl.load(grad_at + begin + place, mask=inside)
        y = y * grad.to(dtype)
    tl.store(out_at + begin + place, _narrow(y, x.dtype), mask=inside)


@triton.jit
def _choose_backward(grad_at, seed_at, prob_at, to_a_at, to_b_at, count):
    begin, place, inside = _part(count)
    grad = tl.load(grad_at + begin + place, mask=inside)
    chosen = _chosen(_word(seed_at, begin, place), prob_at)
    tl.store(to_a_at + begin + place, tl.where(chosen, grad, 0.0), mask=inside)
    tl.store(to_b_at + begin + place, tl.where(chosen, 0.0, grad), mask=inside)


@triton.jit
def _accelerated_backward(
    grad_at,
    x_at,
    out_at,
    count,
    kind: tl.constexpr,
    a: tl.constexpr,
    b: tl.constexpr,
    cap: tl.constexpr,
    dtype: tl.constexpr,
):
    begin, place, inside = _part(count)
    x = tl.load(x_at + begin + place, mask=inside).to(dtype)
    grad = tl.load(grad_at + begin + place, mask=inside)
    # A constant of Triton's is float32 unless it is told otherwise.
    first, second, most = tl.full((), a, dtype), tl.full((), b, dtype), tl.full((), cap, dtype)
    if kind == 0:  # relu
        z = first * (x - second)
        t = tl.exp(-tl.abs(z))
        slope = tl.where(x > 0, 1.0, 0.0).to(dtype) + tl.where(z > 0, 1.0, t).to(dtype) / (1 + t)
    else:
        t = tl.exp(-tl.abs(x) * (2 if kind == 1 else 1))  # tanh, sigmoid
        u = x / first
        slope = t / ((1 + t) * (1 + t)) * (4 if kind == 1 else 1) + second * tl.exp(-(u * u))
    slope = tl.where(slope > most, most, slope)
    tl.store(out_at + begin + place, _narrow(grad.to(dtype) * slope, grad.dtype), mask=inside)


def _launch(kernel: Any, count: int, *arguments: Any, **constants: Any) -> None:
    if count:
        # No fusing of a product into a sum: values equal the torch definition's bit by bit.
        with torch.cuda.device_of(arguments[0]):
            kernel[(triton.cdiv(count, _BLOCK.value),)](
                *arguments, count, num_warps=_WARPS, enable_fp_fusion=False, **constants
            )


def _bits(value: float) -> int:
    """A float64 as an integer argument: Triton rounds a float to float32."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return bits


def _computed_in(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def keys(seed: Tensor) -> Tensor:
    """The two keys of the first page, for the operator ``dropact::keys`` in compiled code."""
    out = torch.empty(2, dtype=torch.int32, device=seed.device)
    with torch.cuda.device_of(seed):
        _first_keys[(1,)](seed, out, num_warps=1)
    return out


def drop_relu(x: Tensor, seed: Tensor, drop_prob: Tensor, out: Tensor) -> None:
    _launch(_drop_relu, x.numel(), x, seed, drop_prob, out)


def drop_relu_backward(grad: Tensor, y: Tensor, out: Tensor) -> None:
    _launch(_drop_relu_backward, grad.numel(), grad, y, out)


def randomized_relu(x: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    bounds = _bits(lower), _bits(upper - lower)
    _launch(_randomized_relu, x.numel(), x, seed, *bounds, out, dtype=_computed_in(x))


def randomized_relu_backward(grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    bounds = _bits(lower), _bits(upper - lower)
    _launch(_randomized_relu_backward, grad.numel(), grad, y, seed, *bounds, out, dtype=_computed_in(y))


def choose(a: Tensor, b: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _launch(_choose, a.numel(), a, b, seed, prob, out)


def pair(x: Tensor, seed: Tensor | None, prob: Tensor, f: Fused, g: Fused, mean: bool, out: Tensor) -> None:
    _launch_pair(x, x, seed, prob, f, g, mean, out, backward=False)


def pair_backward(
    grad: Tensor, x: Tensor, seed: Tensor | None, prob: Tensor, f: Fused, g: Fused, mean: bool, out: Tensor
) -> None:
    _launch_pair(grad, x, seed, prob, f, g, mean, out, backward=True)


def _launch_pair(
    grad: Tensor,
    x: Tensor,
    seed: Tensor | None,
    prob: Tensor,
    f: Fused,
    g: Fused,
    mean: bool,
    out: Tensor,
    backward: bool,
) -> None:
    settings = {f"{which}{i}": number for which, of in (("f", f), ("g", g)) for i, number in enumerate(_three(of))}
    arguments = grad, x, prob.to(torch.int64) if seed is None else seed, prob, out  # a mean reads no seed
    constants = {"f": f.name, "g": g.name, **settings, "mean": mean, "backward": backward, "dtype": _computed_in(x)}
    _launch(_pair, x.numel(), *arguments, **constants)


def _three(of: Fused) -> tuple[float, ...]:
    return (*of.settings, 0.0, 0.0, 0.0)[:3]


def choose_backward(grad: Tensor, seed: Tensor, prob: Tensor, out_a: Tensor, out_b: Tensor) -> None:
    _launch(_choose_backward, grad.numel(), grad, seed, prob, out_a, out_b)


def accelerated_backward(grad: Tensor, x: Tensor, activation: str, a: float, b: float, cap: float, out: Tensor) -> None:
    kind = ("relu", "tanh", "sigmoid").index(activation)
    _launch(_accelerated_backward, x.numel(), grad, x, out, kind=kind, a=a, b=b, cap=cap, dtype=_computed_in(x))
