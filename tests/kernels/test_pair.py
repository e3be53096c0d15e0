"""The activations of the table: every backend against closed forms in float64, over the whole range.

C in float32 is held to two units in the last place of the value, and of the larger term of a derivative, whose terms
may cancel. (Three for the derivative of GELU, whose terms are rounded one after the other, and for an ELU of several
settings, by each of which it is multiplied.) The definition and Triton are held by results in 16 bits: these are the
rounded ones, or their neighbours where the exact one lies next to the middle. Below 2**-118 factors are subnormal and
have fewer digits: 2**-141 is allowed.
"""

import math

import pytest
import torch
from extension import instruction_sets, watched
from inputs import DTYPES, FORMATS, PROBABILITIES, ROWS, SIZES, awkward
from torch.nn import functional as F

import dropact
from dropact._activations import BY_NAME, FORMULAS, IDENTITY, STOCK_MODULES, Fused, fused
from dropact._random import is_chosen, random_bits_like
from dropact.functional import drop_activation, stocha
from dropact.kernels import cpu, reference

pytestmark = [  # numpy's, in Triton's interpreter: minus infinity times zero
    pytest.mark.filterwarnings(f"ignore:{what}:RuntimeWarning")
    for what in ("overflow encountered", "invalid value", "divide by zero")
]
KEY = torch.tensor(-(2**62) - 12345)
PIECEWISE_LINEAR = ("identity", "relu", "negative_part", "leaky_relu", "hardtanh")
S = torch.sigmoid


def phi(x):
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def below(x):
    return torch.erfc(-x / math.sqrt(2)) / 2


def of_gelu(x):
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3), math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x**2)


def of_mish(x):
    e = torch.exp(x.clamp(max=40))
    return e, e * (e + 2)


def times(x, vanishing):
    """A product whose second factor vanishes faster than any power of x."""
    return torch.where(vanishing == 0, 0.0, x * vanishing)


# In float64, without the cancellations that torch's own formulas have there: the value; the derivative's two terms.
EXACT = {
    "identity": (lambda x: x, lambda x: (x * 0 + 1, x * 0)),
    "relu": (lambda x: x.clamp(min=0), lambda x: ((x > 0).double(), x * 0)),
    "negative_part": (lambda x: x.clamp(max=0), lambda x: ((x < 0).double(), x * 0)),
    "leaky_relu": (lambda x: torch.where(x > 0, x, x / 4), lambda x: (torch.where(x > 0, 1.0, 0.25), x * 0)),
    "hardtanh": (lambda x: x.clamp(-0.5, 2), lambda x: (((x > -0.5) & (x < 2)).double(), x * 0)),
    "elu": (
        lambda x: torch.where(x > 0, 1.25 * x, 1.5 * torch.expm1(0.75 * x)),
        lambda x: (torch.where(x > 0, 1.25, 1.125 * torch.exp(0.75 * x)), x * 0),
    ),
    "gelu": (lambda x: x * below(x), lambda x: (below(x), times(x, phi(x)))),
    "gelu_tanh": (
        lambda x: x * S(of_gelu(x)[0]),
        lambda x: (S(of_gelu(x)[0]), times(x * of_gelu(x)[1], S(of_gelu(x)[0]) * S(-of_gelu(x)[0]))),
    ),
    "silu": (lambda x: x * S(x), lambda x: (S(x), times(x, S(x) * S(-x)))),
    "silu_below_zero": (
        lambda x: torch.where(x < 0, x * S(x), x),
        lambda x: (torch.where(x < 0, S(x), 1.0), torch.where(x < 0, times(x, S(x) * S(-x)), 0.0)),
    ),
    "mish": (
        lambda x: x * (of_mish(x)[1] / (of_mish(x)[1] + 2)),
        lambda x: (
            of_mish(x)[1] / (of_mish(x)[1] + 2),
            times(x, torch.where(x > 38, 0.0, 4 * of_mish(x)[0] * (of_mish(x)[0] + 1) / (of_mish(x)[1] + 2) ** 2)),
        ),
    ),
    "tanh": (torch.tanh, lambda x: (4 * S(2 * x) * S(-2 * x), x * 0)),
    "sigmoid": (S, lambda x: (S(x) * S(-x), x * 0)),
    "softplus": (
        lambda x: torch.where(2 * x > 20, x, torch.log1p(torch.exp(-(2 * x).abs())) / 2 + x.clamp(min=0)),
        lambda x: (torch.where(2 * x > 20, 1.0, S(2 * x)), x * 0),
    ),
    "logsigmoid": (lambda x: x.clamp(max=0) - torch.log1p(torch.exp(-x.abs())), lambda x: (S(-x), x * 0)),
    "softsign": (lambda x: x / (1 + x.abs()), lambda x: ((1 + x.abs()) ** -2, x * 0)),
    "hardswish": (
        lambda x: x * ((x + 3).clamp(0, 6) / 6),
        lambda x: (torch.where(x.abs() < 3, 0.5, (x > 0).double()), torch.where(x.abs() < 3, x / 3, 0.0)),
    ),
    "hardsigmoid": (lambda x: (x + 3).clamp(0, 6) / 6, lambda x: ((x.abs() < 3).double() / 6, x * 0)),
}


class Reference:
    @staticmethod
    def pair(x, seed, prob, f, g, mean, out):
        out.copy_(reference.pair(x, seed, prob, f, g, mean))

    @staticmethod
    def pair_backward(grad, x, seed, prob, f, g, mean, out):
        with torch.no_grad():
            out.copy_(reference.pair_backward(grad, x, seed, prob, f, g, mean))


@pytest.fixture(params=[*instruction_sets(), "triton", "reference"])
def backend(request):
    if request.param == "triton":
        yield pytest.importorskip("dropact.kernels.cuda")
    elif request.param == "reference":
        yield Reference
    else:
        cpu.extension.use_instructions(request.param)
        yield cpu
        cpu.extension.use_instructions("best")


def ulp(t):
    """One unit in the last place of float32 at each magnitude."""
    _, exponent = torch.frexp(t.abs().clamp(min=2.0**-126, max=2.0**127))
    return torch.ldexp(torch.ones_like(t), exponent - 24)


def numbers(count):
    """Any float32 there is, those about the bends, and a grid over all that is not flat."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**31), 2**31, (count,), generator=generator).to(torch.int32).view(torch.float32)
    near = 3 * torch.randn(count, generator=generator)
    x = torch.cat([words, near, torch.linspace(-110, 95, count)])
    return x[x.isfinite() & (x.abs() < 1e38)].contiguous()


def value_and_slope(backend, x, f):
    """Of f alone: at probability 0 nothing else is taken."""
    out, slope, none = torch.empty_like(x), torch.empty_like(x), torch.tensor(0.0, dtype=torch.float64)
    backend.pair(x, KEY, none, f, IDENTITY, False, out)
    backend.pair_backward(torch.ones_like(x), x, KEY, none, f, IDENTITY, False, slope)
    return out, slope


def within_two_units(x, f, out, slope):
    value, terms = (function(x.double()) for function in EXACT[f.name])
    tiny, allowed = 2.0**-141, 3.0 if f.name in ("gelu", "elu") else 2.0
    assert ((out.double() - value).abs() <= allowed * ulp(value) + tiny).all(), f
    exact = terms[0] + terms[1]
    scale = torch.maximum(exact.abs(), terms[0].abs())
    assert ((slope.double() - exact).abs() <= allowed * ulp(scale) + tiny).all(), f
    if f.name in PIECEWISE_LINEAR:
        assert torch.equal(out, value.float()), f


@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
@pytest.mark.parametrize("instructions", instruction_sets())
def test_c_is_exact_to_two_units_in_the_last_place(instructions, f):
    cpu.extension.use_instructions(instructions)
    x = numbers(300_000 if instructions != "baseline" else 30_000)
    out, slope = value_and_slope(cpu, x, f)
    cpu.extension.use_instructions("best")
    within_two_units(x, f, out, slope)


@pytest.mark.slow
@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
def test_c_is_exact_to_two_units_at_a_hundred_million_numbers(f):
    for start in range(-(2**31), 2**31, 2**28):
        words = torch.arange(start, start + 2**28, 41, dtype=torch.int64).to(torch.int32).view(torch.float32)
        x = words[words.isfinite() & (words.abs() < 1e38)].contiguous()
        within_two_units(x, f, *value_and_slope(cpu, x, f))


def neighbours(got, exact, x):
    """The exact value rounded to the dtype; or its neighbour, where it lies next to the middle, or is very small."""
    info = torch.finfo(x.dtype)
    allowed = info.eps / 2 * (1 + 0.02) * exact.abs() + info.smallest_normal * info.eps
    small = exact.abs() < 2.0**-100
    allowed = torch.where(small, allowed + 2.0**-100, allowed + 2e-5 * exact.abs())
    return ((got.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_number_of_sixteen_bits(backend, dtype, f):
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    if backend is not cpu and backend is not Reference:
        x = x[::7]
    x = x[x.isfinite()].contiguous()
    out, slope = value_and_slope(backend, x, f)
    value, terms = (function(x.double()) for function in EXACT[f.name])
    most = torch.finfo(dtype).max
    inside = value.abs() < most
    if backend is not Reference:  # torch's own: its GELU has no digits left in the tail
        assert neighbours(out[inside], value[inside], x)
        exact, scale = terms[0] + terms[1], terms[0].abs() + terms[1].abs()
        allowed = torch.finfo(dtype).eps / 2 * exact.abs() + 3e-5 * scale + 2.0**-24
        assert ((slope.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
def test_special_numbers_are_as_in_torch(backend, f):
    inf = float("inf")
    x = torch.tensor([inf, -inf, float("nan"), 0.0, -0.0, 1e-45, -1e-45, 1e-40, -1e-40])
    out, _ = value_and_slope(backend, x, f)
    expected = f.of(x)
    if f.name == "gelu":  # whose tail in torch is of 1 + erf: infinity times 0 below, and NaN above as well
        expected[0] = inf
        out[0] = inf if out[0].isnan() else out[0]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-44, equal_nan=True)
    if backend is cpu:
        zero = (x == 0) & (expected == 0)
        assert torch.equal(out[zero].signbit(), expected[zero].signbit())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("names", [("relu", "negative_part"), ("relu", "silu_below_zero"), ("gelu", "identity")])
def test_one_of_the_two_by_the_bits_of_the_definition(backend, dtype, names):
    f, g = map(Fused, names)
    if backend is cpu and dtype == torch.float64:  # C computes them in float32 alone
        x = torch.ones(3, dtype=dtype)
        with pytest.raises(ValueError, match="no pair"):
            backend.pair(x, KEY, 0.5, f, g, False, x.clone())
        return
    for size in SIZES if backend is cpu else (1, 4097):
        for prob in (0.3, *PROBABILITIES):
            x, p = awkward(size, dtype), torch.tensor(prob, dtype=torch.float64)
            grad = torch.randn(size).to(dtype)
            chosen = is_chosen(random_bits_like(KEY, x), p)
            (of_f, slope_f), (of_g, slope_g) = value_and_slope(backend, x, f), value_and_slope(backend, x, g)
            out, to_x = torch.full_like(x, 7), torch.full_like(x, 7)
            backend.pair(x, KEY, p, f, g, False, out)
            torch.testing.assert_close(out, torch.where(chosen, of_g, of_f), rtol=0, atol=0, equal_nan=True)
            backend.pair_backward(grad, x, KEY, p, f, g, False, to_x)
            fine = x.isfinite()
            slope = torch.where(chosen, slope_g, slope_f)[fine].double()
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(
                to_x[fine].double(), slope * grad[fine], rtol=2 * eps, atol=torch.finfo(dtype).smallest_normal * eps
            )


@pytest.mark.parametrize("prob", PROBABILITIES)
def test_the_mean(backend, prob):
    x, p = awkward(4097, torch.float32), torch.tensor(prob, dtype=torch.float64)
    grad, f, g = torch.randn(4097), Fused("silu"), IDENTITY
    (of_f, slope_f), (of_g, slope_g) = value_and_slope(backend, x, f), value_and_slope(backend, x, g)
    out, to_x = torch.empty_like(x), torch.empty_like(x)
    backend.pair(x, None, p, f, g, True, out)
    backend.pair_backward(grad, x, None, p, f, g, True, to_x)
    one = {0.0: (of_f, slope_f), 1.0: (of_g, slope_g)}.get(prob)
    fine = x.isfinite()
    value = one[0] if one else (1 - prob) * of_f + prob * of_g
    slope = one[1] if one else (1 - prob) * slope_f + prob * slope_g
    torch.testing.assert_close(out, value, rtol=1e-6, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(to_x[fine], (grad * slope)[fine], rtol=1e-6, atol=1e-6)


def test_rows_are_torchs_functions_and_modules():
    """A row's formula with a module's settings is the module; the codes are those of the C source."""
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    for name, module in STOCK_MODULES.items():
        assert torch.equal(fused(name).of(x), BY_NAME[name](x)), name
        torch.testing.assert_close(fused(module()).of(x), module()(x), rtol=1e-15, atol=0)
    for module in (torch.nn.ELU(0.3), torch.nn.CELU(0.4), torch.nn.LeakyReLU(0.2), torch.nn.GELU("tanh")):
        torch.testing.assert_close(fused(module).of(x), module(x), rtol=1e-14, atol=1e-16)
    for module in (torch.nn.Softplus(3.0, 5.0), torch.nn.Hardtanh(-2.0, 3.0)):
        torch.testing.assert_close(fused(module).of(x), module(x), rtol=1e-15, atol=0)
    assert list(cpu.CODES)[: len(FORMULAS)] == list(FORMULAS)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("call", [lambda x: stocha(x, 0.4), lambda x: drop_activation(x, 0.4, F.gelu)])
def test_forward_and_backward_are_one_call_each_and_keep_the_input(layout, call, monkeypatch):
    calls, kept = watched(monkeypatch), []
    x = FORMATS[layout](torch.randn(6, 5, 4, 3)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        call(x).sum().backward()
    assert calls == ["pair", "pair"]
    assert [n for n in kept if n > 1] == [x.numel()]


@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
def test_a_gradient_with_a_graph_has_the_same_values_and_is_differentiated_again(f):
    from dropact.kernels import pair

    x = torch.randn(1000, requires_grad=True)

    def call(t):
        return pair(t, KEY, 0.4, f)

    plain, again = (torch.autograd.grad(call(x).sum(), x, create_graph=g)[0] for g in (False, True))
    torch.testing.assert_close(plain, again, rtol=2e-5, atol=4e-7)
    if f.name not in PIECEWISE_LINEAR:
        wide = x.detach().double()[:50].requires_grad_()
        assert torch.autograd.gradcheck(call, wide)
        if f.name != "hardsigmoid":
            assert torch.autograd.gradgradcheck(call, wide)


def test_a_schedule_between_forward_and_backward_does_not_move_the_mask():
    layer = dropact.StochA(0.3)
    x = torch.randn(1000, requires_grad=True)
    torch.manual_seed(0)
    y = layer(x)
    layer.drop_prob = 0.9
    y.sum().backward()
    assert torch.equal((x.grad != 0) & (x < 0), (y != 0) & (x < 0))
