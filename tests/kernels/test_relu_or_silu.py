"""StochA's operation: every backend against closed forms in float64, what is kept, who is asked.

Not equal bit by bit: an exponential is rounded as its implementation likes. Allowed to one in float32: half a unit for
each of log2(e) and its product with x, together 2**-23 * |x| of the exponential; twelve units for the polynomial, the
sums, the quotient and the products; zero from exp(-87) on. The result is then rounded to the dtype. The terms of the
derivative have opposite signs: their errors are of each, not of the sum.
"""

import pytest
import torch
from extension import instruction_sets, watched
from inputs import DTYPES, FORMATS, PROBABILITIES, SIZES, awkward, same_bits

import dropact
from dropact._random import is_chosen, random_bits_like
from dropact.functional import stocha
from dropact.kernels import cpu, reference

pytestmark = [  # numpy's, in Triton's interpreter: minus infinity times zero
    pytest.mark.filterwarnings(f"ignore:{what}:RuntimeWarning") for what in ("overflow encountered", "invalid value")
]
EPS = 2.0**-23
KEY = torch.tensor(-(2**62) - 12345)


@pytest.fixture(params=[*instruction_sets(), "triton", "reference"])
def backend(request):
    if request.param == "triton":
        yield pytest.importorskip("dropact.kernels.cuda")
    elif request.param == "reference":

        class Reference:
            @staticmethod
            def relu_or_silu(x, seed, prob, out):
                out.copy_(reference.relu_or_silu(x, seed, prob))

            @staticmethod
            def relu_or_silu_backward(grad, x, seed, prob, out):
                out.copy_(reference.relu_or_silu_backward(grad, x, seed, prob))

        yield Reference
    else:
        cpu.extension.use_instructions(request.param)
        yield cpu
        cpu.extension.use_instructions("best")


def assert_close(got, exact, scale, x):
    """``exact`` in float64, ``scale`` what the relative error of the exponential's is of."""
    finite = x.isfinite()
    info = torch.finfo(x.dtype)
    of_value = ((12 + x.double().abs().clamp(max=87)) * EPS * scale) + 90 * 2.0**-125
    allowed = of_value + info.eps / 2 * (exact.abs() + of_value) + info.smallest_normal * info.eps / 2
    error = (got.double() - exact).abs()
    assert (error <= allowed)[finite].all(), (error - allowed)[finite].max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_backend_is_the_closed_form(backend, dtype):
    if backend is cpu and dtype == torch.float64:  # C has its exponential in float32 alone
        x, half = torch.ones(3, dtype=dtype), torch.tensor(0.5, dtype=torch.float64)
        with pytest.raises(ValueError, match="no operation"):
            backend.relu_or_silu(x, KEY, half, x.clone())
        return
    for size in SIZES if backend is cpu else (1, 4097):
        for prob in (0.3, *PROBABILITIES):
            x, p = awkward(size, dtype), torch.tensor(prob, dtype=torch.float64)
            grad = torch.randn(size).to(dtype)
            chosen, wide, below = is_chosen(random_bits_like(KEY, x), p), x.double(), x < 0
            s = torch.sigmoid(wide)

            out = torch.full_like(x, 7)
            backend.relu_or_silu(x, KEY, p, out)
            exact = torch.where(below, torch.where(chosen, wide * s, 0.0), wide)
            assert_close(out, exact, torch.where(below & chosen, exact.abs(), 0.0), x)
            assert same_bits(out[~below] + 0, x[~below] + 0)
            assert (out[below & ~chosen] == 0).all()

            to_x = torch.full_like(x, 7)
            backend.relu_or_silu_backward(grad, x, KEY, p, to_x)
            slope, terms = s * (1 + wide * (1 - s)), s * (1 + wide.abs() * (1 - s))
            slope = torch.where(below, slope, 1.0).where(chosen, (~(x <= 0)).double())
            assert_close(
                to_x, grad.double() * slope, torch.where(below & chosen, (grad.double() * terms).abs(), 0.0), x
            )
            kept = ~below & (chosen | (x != 0))
            assert same_bits(to_x[kept], grad[kept])
            assert (to_x[(x <= 0) & ~chosen] == 0).all()


def test_large_numbers_are_zero_below_and_pass_above_and_nan_stays(backend):
    x = torch.tensor([float("inf"), 3e38, -3e38, -1e4, float("nan")])
    one, out, to_x = torch.tensor(1.0, dtype=torch.float64), torch.empty(5), torch.empty(5)
    backend.relu_or_silu(x, KEY, one, out)
    torch.testing.assert_close(out, torch.tensor([float("inf"), 3e38, 0, 0, float("nan")]), equal_nan=True)
    backend.relu_or_silu_backward(torch.ones(5), x, KEY, one, to_x)
    assert to_x.tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("layout", FORMATS)
def test_forward_and_backward_are_one_call_each_and_keep_the_input_and_the_seed(layout, monkeypatch):
    calls, kept = watched(monkeypatch), []
    x = FORMATS[layout](torch.randn(6, 5, 4, 3)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        stocha(x, 0.4).sum().backward()
    assert calls == [11, 12]
    assert kept == [x.numel(), 1, 1]


def test_a_gradient_with_a_graph_has_the_same_values_and_is_differentiated_again():
    x = torch.randn(1000, requires_grad=True)
    plain, again = (torch.autograd.grad(stocha(x, 0.4, seed=3).sum(), x, create_graph=g)[0] for g in (False, True))
    torch.testing.assert_close(plain, again, rtol=2e-5, atol=4e-7)
    wide = x.detach().double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda t: stocha(t, 0.4, seed=3), wide)


def test_a_schedule_between_forward_and_backward_does_not_move_the_mask():
    layer = dropact.StochA(0.3)
    x = torch.randn(1000, requires_grad=True)
    torch.manual_seed(0)
    y = layer(x)
    layer.drop_prob = 0.9
    y.sum().backward()
    assert torch.equal((x.grad != 0) & (x < 0), (y != 0) & (x < 0))
