"""Accelerated slopes: every backend against closed forms in float64, layouts, what is kept, who is asked.

These are not equal bit by bit: an exponential is rounded as its implementation likes. Allowed to one in float32: twice
half a unit for the argument ``t`` of 2**t, of which |t| <= 126 (so 126 * 2**-23 * ln 2 = 1.1e-5 of the shape), six
units for the rest, and the flat end at 2**-126; the product is then rounded to the dtype.
"""

import pytest
import torch
from extension import instruction_sets, watched
from inputs import DTYPES, FORMATS, SIZES, awkward

from dropact import GAAF
from dropact.functional import gaaf
from dropact.kernels import accelerated, cpu, reference

EPS = 2.0**-23
CONSTANTS = {"relu": [(5.0, -0.5), (1.0, 0.0)], "tanh": [(2.0, 1.0), (3**0.5, 0.3)], "sigmoid": [(4.0, 0.25)]}
CASES = [(name, a, b, cap) for name, pairs in CONSTANTS.items() for a, b in pairs for cap in (float("inf"), 0.7)]


def closed_form(x, name, a, b):
    """Slope of the activation, and the shape, in float64."""
    x = x.double()
    if name == "relu":
        return (x > 0).double(), 1 / (1 + torch.exp(-a * (x - b)))
    return 1 / torch.cosh(x if name == "tanh" else x / 2) ** 2 / (1 if name == "tanh" else 4), b * torch.exp(
        -((x / a) ** 2)
    )


def assert_is_the_closed_form(got, grad, x, name, a, b, cap):
    slope, shape = closed_form(x, name, a, b)
    exact = (slope + shape).clamp(max=cap)
    finite = x.isfinite()
    error = (got.double() - grad.double() * exact).abs()[finite]
    of_slope = 1.1e-5 * (shape + slope.where(torch.tensor(name != "relu"), 0)) + 6 * EPS * exact + 2.0**-126
    rounding = torch.finfo(x.dtype).eps / 2 * (grad.double() * exact).abs()
    half_subnormal = torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps / 2
    allowed = grad.double().abs() * of_slope + rounding + half_subnormal
    assert (error <= allowed[finite]).all(), (name, (error - allowed[finite]).max())
    assert torch.equal(got.isnan() & finite, torch.zeros_like(finite))


@pytest.fixture(params=[*instruction_sets(), "triton", "reference"])
def backend(request):
    if request.param == "triton":
        yield pytest.importorskip("dropact.kernels.cuda")
    elif request.param == "reference":

        class Reference:
            @staticmethod
            def accelerated_backward(grad, x, name, a, b, cap, out):
                out.copy_(reference.accelerated_backward(grad, x, name, a, b, cap))

        yield Reference
    else:
        cpu.extension.use_instructions(request.param)
        yield cpu
        cpu.extension.use_instructions("best")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "a", "b", "cap"), CASES)
def test_every_backend_is_the_closed_form(backend, dtype, name, a, b, cap):
    if backend is cpu and dtype == torch.float64:  # C has its exponential in float32 alone
        x = torch.ones(3, dtype=dtype)
        with pytest.raises(ValueError, match="no pair"):
            backend.accelerated_backward(x, x, name, a, b, cap, x.clone())
        return
    for size in SIZES if backend is cpu else (1, 4097):
        x, grad = awkward(size, dtype) * 4, torch.randn(size).to(dtype)
        out = torch.full_like(x, 7)
        backend.accelerated_backward(grad, x, name, a, b, cap, out)
        assert_is_the_closed_form(out, grad, x, name, a, b, cap)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
@pytest.mark.parametrize("name", CONSTANTS)
def test_infinity_saturates_and_nan_stays(backend, name):
    x = torch.tensor([float("inf"), -float("inf"), float("nan"), 3e38, -3e38])
    out, (a, b) = torch.empty_like(x), CONSTANTS[name][0]
    backend.accelerated_backward(torch.ones(5), x, name, a, b, float("inf"), out)
    ends = [2.0, 0.0] if name == "relu" else [0.0, 0.0]
    torch.testing.assert_close(out, torch.tensor([*ends, float("nan"), *ends]), rtol=0, atol=1e-30, equal_nan=True)


@pytest.mark.parametrize("forward", FORMATS)
@pytest.mark.parametrize("backward", FORMATS)
def test_the_gradient_leaves_in_the_layout_of_the_input(forward, backward):
    x, grad = FORMATS[forward](torch.randn(6, 5, 4, 3)), FORMATS[backward](torch.randn(6, 5, 4, 3))
    got = accelerated.accelerated_backward(grad, x, "relu", 5.0, -0.5, float("inf"))
    assert got.stride() == torch.empty_like(x).stride()
    torch.testing.assert_close(got, reference.accelerated_backward(grad, x, "relu", 5.0, -0.5, float("inf")))


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_input_is_kept_and_nothing_else(name, dtype):
    x, kept = torch.randn(64, 64).to(dtype).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()), lambda t: t):
        GAAF(name)(x)
    assert kept == [x.data_ptr()]


def test_eager_backward_is_one_call_of_the_c_extension(monkeypatch):
    calls = watched(monkeypatch)
    for name in ("relu", "tanh", "sigmoid"):
        calls.clear()
        gaaf(torch.randn(8, requires_grad=True), name).sum().backward()
        assert calls == ["pair"]


def test_backward_with_a_graph_has_the_same_values():
    x = torch.randn(1000, requires_grad=True)
    for name in CONSTANTS:
        plain, again = (torch.autograd.grad(gaaf(x, name).sum(), x, create_graph=g)[0] for g in (False, True))
        torch.testing.assert_close(plain, again, rtol=2e-5, atol=4e-7)
        assert again.requires_grad
        assert not plain.requires_grad
