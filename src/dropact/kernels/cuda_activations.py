"""The formulas of ``dropact._activations`` and their derivatives for Triton, by name, in float32 or float64.

To some units in the last place of float32 of each term, no intermediate overflows, and exact where they are piecewise
linear. GELU's lower tail by the complement, with Mills' ratio as in ``_cpu_activations.h``: there ``1 + erf(x)`` has no
digit left.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0, e, 1.0) / (1 + e)


@triton.jit
def _tanh(x):
    # where it is nearly x, by its series: the sum with 1 would lose the digits of a small exponential
    a = tl.minimum(tl.abs(x), 20.0)
    t = 1 - 2 / (tl.exp(2 * a) + 1)
    w = x * x
    small = x + x * (w * (-0.33333333333 + w * (0.13333333333 + w * (-0.053968253968 + w * 0.021869488536))))
    return tl.where(a < 0.1, small, tl.where(x < 0, -t, tl.where(x > 0, t, x)))


@triton.jit
def _expm1(x):
    # of what is at most 0
    series = x * (
        1 + x * (0.5 + x * (0.16666666667 + x * (0.041666666667 + x * (0.0083333333333 + x * 0.0013888888889))))
    )
    return tl.where(x > -0.25, series, tl.exp(x) - 1)


@triton.jit
def _log1p(e):
    # of what lies between 0 and 1, by the series of the inverse hyperbolic tangent of at most 1/3
    s = e / (2 + e)
    w = s * s
    p = 0.66666666667 + w * (0.4 + w * (0.28571428571 + w * (0.22222222222 + w * (0.18181818182 + w * 0.23))))
    return 2 * s + s * w * p


@triton.jit
def _normal(x):
    """The lower tail of the normal distribution and its density."""
    a = tl.minimum(tl.abs(x), 40.0)
    e = tl.exp(-0.5 * a * a)
    q = (a - 4) / (a + 4)
    p = q * (6.92214351e-04 + q * (-6.15426106e-05 + q * -7.19820746e-05))
    p = q * (1.79402269e-02 + q * (-5.00394683e-03 + q * (-3.03441222e-04 + p)))
    p = q * (-9.67034698e-02 + q * (1.39996009e-02 + q * (2.85999682e-02 + q * (-3.21973488e-02 + p))))
    tail = e * ((0.4720532062 + p) / (a + 1))
    return tl.where(x < 0, tail, 1 - tail), e * 0.3989422804014327


@triton.jit
def _argument_of_gelu(x):
    b = tl.minimum(tl.maximum(x, -16.0), 16.0)
    return b * (1.5957691216057308 + 0.07135481627260025 * b * b), 1.5957691216057308 + 0.21406444881780074 * b * b


@triton.jit
def value(name: tl.constexpr, x, a, b, c):
    if name == "identity":
        y = x
    elif name == "relu":
        y = tl.where(x < 0, 0.0, x)
    elif name == "negative_part":
        y = tl.where(x >= 0, 0.0, x)
    elif name == "leaky_relu":
        y = tl.where(x > 0, x, x * a)
    elif name == "hardtanh":
        y = tl.where(x < a, a, tl.where(x > b, b, x))
    elif name == "elu":
        y = tl.where(x > 0, b * x, a * _expm1(tl.where(x > 0, 0.0, x * c)))
    elif name == "gelu":
        below, _ = _normal(x)
        y = x * below
    elif name == "gelu_tanh":
        z, _ = _argument_of_gelu(x)
        y = x * _sigmoid(z)
    elif name == "silu":
        y = x * _sigmoid(x)
    elif name == "silu_below_zero":
        y = tl.where(x < 0, x * _sigmoid(x), x)
    elif name == "mish":
        e = tl.exp(tl.minimum(x, 20.0))
        n = e * (e + 2)
        y = x * (n / (n + 2))
    elif name == "tanh":
        y = _tanh(x)
    elif name == "sigmoid":
        y = _sigmoid(x)
    elif name == "softplus":
        z = x * a
        y = tl.where(z > b, x, (tl.maximum(z, 0.0) + _log1p(tl.exp(-tl.abs(z)))) / a)
    elif name == "logsigmoid":
        y = tl.minimum(x, 0.0) - _log1p(tl.exp(-tl.abs(x)))
    elif name == "softsign":
        y = x / (1 + tl.abs(x))
    elif name == "hardswish":
        y = x * (tl.minimum(tl.maximum(x + 3, 0.0), 6.0) / 6)
    else:
        tl.static_assert(name == "hardsigmoid")
        y = tl.minimum(tl.maximum(x + 3, 0.0), 6.0) / 6
    # A comparison takes a NaN for the other number.
    return tl.where(x == x, y, x)


@triton.jit
def slope(name: tl.constexpr, x, a, b, c):
    if name == "identity":
        y = tl.where(x == x, 1.0, x)
    elif name == "relu":
        y = tl.where(x <= 0, 0.0, 1.0)
    elif name == "negative_part":
        y = tl.where(x >= 0, 0.0, 1.0)
    elif name == "leaky_relu":
        y = tl.where(x > 0, 1.0, a)
    elif name == "hardtanh":
        y = tl.where((x > a) & (x < b), 1.0, 0.0)
    elif name == "elu":
        y = tl.where(x <= 0, a * c * tl.exp(tl.minimum(x * c, 0.0)), b)
    elif name == "gelu":
        below, density = _normal(x)
        y = below + x * density
    elif name == "gelu_tanh":
        z, dz = _argument_of_gelu(x)
        y = _sigmoid(z) + x * (dz * (_sigmoid(z) * _sigmoid(-z)))
    elif name == "silu":
        y = _sigmoid(x) * (1 + x * _sigmoid(-x))
    elif name == "silu_below_zero":
        y = tl.where(x < 0, _sigmoid(x) * (1 + x * _sigmoid(-x)), 1.0)
    elif name == "mish":
        e = tl.exp(tl.minimum(x, 20.0))
        n = e * (e + 2)
        y = tl.where(x > 20, 1.0, n / (n + 2) + x * (4 * e / (n + 2) * ((e + 1) / (n + 2))))
    elif name == "tanh":
        y = 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)
    elif name == "sigmoid":
        y = _sigmoid(x) * _sigmoid(-x)
    elif name == "softplus":
        y = tl.where(x * a > b, 1.0, _sigmoid(x * a))
    elif name == "logsigmoid":
        y = _sigmoid(-x)
    elif name == "softsign":
        y = 1 / (1 + tl.abs(x))
        y = y * y
    elif name == "hardswish":
        y = tl.where(x <= -3, 0.0, tl.where(x < 3, x / 3 + 0.5, 1.0))
    else:
        tl.static_assert(name == "hardsigmoid")
        y = tl.where((x > -3) & (x < 3), 0.16666666666666666, 0.0)
    return y
