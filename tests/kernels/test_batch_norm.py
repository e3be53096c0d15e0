"""BatchNorm fused with what follows it, against the separate operators: in float64 for values, exactly for masks.

Allowed to a value is what its own arithmetic may round. With e = 2**-24 the moments, summed in float32 over at most
4,096 terms a lane and in float64 beyond, have relative errors below 4,096 e * (1 + k**2), where k**2 <= 3 bounds the
squared distance of the pivot from the mean, in variances, for the data of these tests.
"""

import copy

import pytest
import torch
from extension import instruction_sets
from torch import nn
from torch.nn import functional as F

from dropact.kernels import cpu, drop_relu
from dropact.kernels.batch_norm import BatchNorm, forward, moments, serves
from dropact.kernels.deferred import Deferred, batch_norm

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SHAPES = ((2, 1, 1, 1), (3, 3, 5, 7), (32, 16, 9, 11), (5, 24, 40, 40), (4, 257, 3, 3), (2, 700, 6, 6), (300, 33))
E = 2.0**-24
MOMENTS = 4096 * E * 4


def dense(shape, dtype=torch.float32, scale=1.0, shift=0.0):
    x = (torch.randn(shape, dtype=torch.float64) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def layer(channels):
    return torch.rand(channels) + 0.5, torch.randn(channels)


def probability(value):
    return torch.tensor(value, dtype=torch.float64)


SEED = torch.tensor(11)


@pytest.fixture(params=instruction_sets())
def instructions(request):
    cpu.extension.use_instructions(request.param)
    yield
    cpu.extension.use_instructions("best")


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_are_those_of_float64(dtype, shape):
    x = dense(shape, dtype, 3.0, 5.0)
    running_mean, running_var = torch.randn(shape[1]), torch.rand(shape[1])
    expected_mean, expected_var = running_mean.double(), running_var.double()
    F.batch_norm(x.double(), expected_mean, expected_var, training=True, momentum=0.3)
    found = moments(x, running_mean, running_var, 0.3, 1e-5)
    wide = x.double().transpose(0, 1).flatten(1)
    var = wide.var(1, correction=0)
    assert ((found.mean - wide.mean(1)).abs() <= MOMENTS * (var.sqrt() + wide.mean(1).abs() * 2**-12)).all()
    torch.testing.assert_close(found.invstd.double(), (var + 1e-5).rsqrt(), rtol=MOMENTS, atol=0)
    torch.testing.assert_close(running_mean.double(), expected_mean, rtol=MOMENTS, atol=MOMENTS)
    torch.testing.assert_close(running_var.double(), expected_var, rtol=2 * MOMENTS, atol=2 * E)


def test_a_mean_far_from_zero_or_a_first_row_far_from_the_mean_does_not_cancel():
    """The plain sum of squares would leave nothing of a variance of 1 beside a squared mean of 1e8."""
    x = dense((64, 16, 16, 16)) + 1e4
    for outlier in (0.0, 1e3):
        x[0, :, 0, 0] += outlier
        wide = x.double().transpose(0, 1).flatten(1)
        found = moments(x, None, None, 0.0, 0.0)
        # x itself is rounded to 2**-11 near 1e4, exactly; 1,024 of 16,384 rows bound k**2 by 16
        torch.testing.assert_close(found.invstd.double(), wide.var(1, correction=0).rsqrt(), rtol=4096 * E * 17, atol=0)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_one_pass_has_the_bits_of_the_operators_one_after_the_other(dtype, shape, affine):
    x, added = dense(shape, dtype), dense(shape, dtype)
    weight, bias = layer(shape[1]) if affine else (None, None)
    found = moments(x, None, None, 0.0, 1e-5)
    normalised = forward(x, weight, bias, None, found, None)
    wide = [None if t is None else t.double() for t in (x, weight, bias)]
    exact = F.batch_norm(wide[0], None, None, *wide[1:], training=True)
    # half a unit of the dtype, and the moments' own error: of x^ relative, of its zero in units of the scale
    size = exact.abs() + (1 if bias is None else bias.abs().max()) + 1
    assert ((normalised.double() - exact).abs() <= size * (torch.finfo(dtype).eps / 2 + 4 * MOMENTS)).all()
    for value in (0.0, 0.3, 1.0):
        drop = SEED, probability(value)
        assert torch.equal(forward(x, weight, bias, None, found, drop), drop_relu(normalised, *drop))
        assert torch.equal(forward(x, weight, bias, added, found, drop), drop_relu(normalised + added, *drop))
    assert torch.equal(forward(x, weight, bias, added, found, None), normalised + added)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("with_added", [True, False])
@pytest.mark.parametrize("activation", [True, False])
def test_gradients_are_those_of_float64(instructions, dtype, shape, with_added, activation):
    x, grad = dense(shape, dtype).requires_grad_(), dense(shape, dtype)
    added = dense(shape, dtype).requires_grad_() if with_added else None
    weight, bias = (t.requires_grad_() for t in layer(shape[1]))
    found = moments(x, None, None, 0.0, 1e-5)
    y = BatchNorm.apply(x, weight, bias, added, found, (SEED, probability(0.3)) if activation else None, None)
    inputs = [t for t in (x, weight, bias, added) if t is not None]
    got = torch.autograd.grad(y, inputs, grad)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    exact = F.batch_norm(wide[0], None, None, wide[1], wide[2], training=True)
    exact = exact + wide[3] if with_added else exact
    passed = (y != 0) if activation else torch.ones_like(y, dtype=torch.bool)
    expected = torch.autograd.grad(exact, wide, grad.double() * passed)
    rows = x.numel() // shape[1]
    invstd = found.invstd.double().max()
    for name, one, other in zip(("x", "weight", "bias", "added"), got, expected, strict=False):
        # the sums' terms are of order 1 and their signs alternate: their rounding grows with the root of their number
        sums = 16 * E * rows**0.5 * 8
        scale = {"x": 8 * invstd, "weight": 8, "bias": 8, "added": 1}[name]
        bound = torch.finfo(one.dtype).eps / 2 * other.abs() + scale * (sums if name in ("weight", "bias") else MOMENTS)
        assert one.dtype == {"x": dtype, "added": dtype}.get(name, torch.float32)
        assert ((one.double() - other).abs() <= bound + 1e-6).all(), name
        if name in ("x", "added"):
            assert one.stride() == x.stride()
    if with_added:
        assert torch.equal(got[3], grad.where(passed, 0))


def test_every_number_of_threads_gives_the_same_bits():
    x, grad, (weight, bias) = (
        dense((40, 24, 40, 40), torch.bfloat16),
        dense((40, 24, 40, 40), torch.bfloat16),
        layer(24),
    )
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
            found = moments(x, None, None, 0.0, 1e-5)
            y = BatchNorm.apply(*inputs, None, found, (SEED, probability(0.05)), None)
            results.append([found.mean, found.invstd, y, *torch.autograd.grad(y, inputs, grad)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_gradient_of_another_layout_comes_out_in_the_inputs():
    x = dense((4, 8, 6, 6)).requires_grad_()
    y = BatchNorm.apply(x, None, None, None, moments(x, None, None, 0.0, 1e-5), None, None)
    grad = torch.randn(4, 8, 6, 6)
    assert not grad.is_contiguous(memory_format=torch.channels_last)
    (got,) = torch.autograd.grad(y, x, grad, retain_graph=True)
    (same,) = torch.autograd.grad(y, x, grad.contiguous(memory_format=torch.channels_last))
    assert torch.equal(got, same)
    assert got.stride() == x.stride()


def test_gradients_come_in_any_form():
    """Zeros that were never written, views that say "negate", and many at once."""
    x = dense((6, 5, 4, 4)).requires_grad_()
    weight, bias = (t.requires_grad_() for t in layer(5))
    y = BatchNorm.apply(x, weight, bias, None, moments(x, None, None, 0.0, 1e-5), (SEED, probability(0.3)), None)
    leaves = (x, weight, bias)
    for zero in torch.autograd.grad(torch.sgn(y).sum(), leaves, retain_graph=True):
        assert torch.equal(zero, torch.zeros_like(zero))
    grads = torch.randn(3, *x.shape)
    one_by_one = [torch.autograd.grad(y, leaves, grad, retain_graph=True) for grad in grads]
    negated = torch.autograd.grad(y, leaves, torch.complex(grads[0], -grads[0]).conj().imag, retain_graph=True)
    together = torch.autograd.grad(y, leaves, grads, is_grads_batched=True)
    for all_of_one, single, turned in zip(together, zip(*one_by_one, strict=True), negated, strict=True):
        torch.testing.assert_close(all_of_one, torch.stack(single), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(turned, single[0], rtol=1e-4, atol=1e-5)


def test_the_second_derivative_is_torchs():
    x = dense((6, 5, 4, 4)).requires_grad_()
    weight, bias = (t.requires_grad_() for t in layer(5))
    found = moments(x, None, None, 0.0, 1e-5)
    y = BatchNorm.apply(x, weight, bias, None, found, (SEED, probability(0.3)), None)
    plain = torch.where(y.detach() == 0, 0, F.batch_norm(x, None, None, weight, bias, training=True))
    second = []
    for output in (y, plain):
        gradients = torch.autograd.grad(output.square().sum(), (x, weight, bias), create_graph=True)
        second.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), (x, weight, bias)))
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_what_it_does_not_serve_is_said():
    x = dense((2, 3, 4, 4))
    assert serves(x, torch.ones(3), None)
    assert not serves(torch.randn(2, 3, 4, 4))  # contiguous: the channels are not innermost
    assert not serves(x.double())
    assert not serves(x, torch.ones(3, dtype=torch.float64))
    assert not serves(dense((1, 3, 1, 1)))  # of one value there is no variance
    assert not serves(torch.empty(0, 3))
    with torch.inference_mode():
        assert not serves(x.clone())
    with pytest.raises(ValueError, match="no fused BatchNorm"):
        cpu.extension.batch_norm_statistics(3, 8, 4, 0, 0, 0, 0, 0, 0.1, 1e-5)
    with pytest.raises(TypeError, match="13 arguments"):
        cpu.extension.batch_norm_forward(1)


# ---- deferred ----


@pytest.fixture
def passes(monkeypatch):
    """What the extension is asked for from here on: "forward" for values alone, "relu" for an activation with them."""
    seen, real = [], cpu.batch_norm

    def spy(x, added, mean, invstd, weight, bias, drop, out):
        seen.append(("added " if added is not None else "") + ("values" if drop is None else "relu"))
        real(x, added, mean, invstd, weight, bias, drop, out)

    monkeypatch.setattr(cpu, "batch_norm", spy)
    return seen


def deferred(x):
    return batch_norm(x, None, None, None, None, 0.0, 1e-5)


def plain(x):
    return F.batch_norm(x, None, None, training=True)


FOLLOWERS = {
    "relu": (lambda y, r: F.relu(y), ["relu"]),
    "relu in place": (lambda y, r: F.relu(y, inplace=True), ["relu"]),
    "torch.relu": (lambda y, r: torch.relu(y), ["relu"]),
    "method relu_": (lambda y, r: y.relu_(), ["relu"]),
    "drop_relu": (lambda y, r: drop_relu(y, SEED, 0.3), ["relu"]),
    "drop_relu in place": (lambda y, r: drop_relu(y, SEED, 0.3, inplace=True), ["relu"]),
    "sum and relu": (lambda y, r: F.relu(y + r), ["added relu"]),
    "sum the other way": (lambda y, r: nn.ReLU()(r + y), ["added relu"]),
    "torch.add": (lambda y, r: F.relu(torch.add(r, y)), ["added relu"]),
    "sum alone": (lambda y, r: (y + r) * 1, ["added values"]),
    "nothing": (lambda y, r: y * 1, ["values"]),
    "gelu": (lambda y, r: F.gelu(y), ["values"]),
    "torch.add by keywords": (lambda y, r: F.relu(torch.add(input=r, other=y)), ["added relu"]),
    "add by a keyword": (lambda y, r: F.relu(y.add(other=r)), ["added relu"]),
    "add_ by a keyword": (lambda y, r: F.relu(y.add_(other=r)), ["added relu"]),
    "a number added": (lambda y, r: F.relu(y + 1), ["values"]),
    "a scaled sum": (lambda y, r: F.relu(y.add(r, alpha=2)), ["values"]),
    "a sum that broadcasts": (lambda y, r: F.relu(y + r[:1]), ["values"]),
    "a sum of another dtype": (lambda y, r: F.relu(y + r.double()), ["values"]),
    "two sums": (lambda y, r: F.relu(y + r + r), ["added values"]),
    "cat": (lambda y, r: torch.cat([y, r], 1), ["values"]),
    "out of place twice": (lambda y, r: F.relu(y) + drop_relu(y, SEED, 0.3), ["relu", "relu"]),
    "conv": (lambda y, r: F.conv2d(y, torch.ones(2, 8, 1, 1)), ["values"]),
}


def iadd(y, r):
    y += r
    return F.relu(y)


def written_without_rebinding(y, r):
    F.relu(y, inplace=True)
    return y * 2


def written_by_what_does_not_join(y, r):
    y.mul_(2)
    return F.relu(y)


def written_by_another_name(y, r):
    y.detach()[:, :2] = 0.5
    return F.relu(y)


def written_behind_autograd(y, r):
    y.data.fill_(1.5)
    return F.relu(y)


def hooked(y, r):
    """Three times the gradient goes on: the activation must leave it to the output of the BatchNorm."""
    y.register_hook(lambda grad: 3 * grad)
    return F.relu(y)


FOLLOWERS |= {
    "written by another name": (written_by_another_name, ["values"]),
    "written behind autograd": (written_behind_autograd, ["values"]),
    "a hook on its gradient": (hooked, ["values"]),
    "a sum with a negated view": (lambda y, r: F.relu(y + torch.complex(r, r).conj().imag), ["values"]),
    "+=": (iadd, ["added relu"]),
    "written, then used": (written_without_rebinding, ["relu"]),
    "written, not joined": (written_by_what_does_not_join, ["values"]),
}


@pytest.mark.parametrize("follow", FOLLOWERS)
def test_whatever_follows_has_the_values_and_gradients_of_torchs_own(follow, passes):
    do, expected_passes = FOLLOWERS[follow]
    x, r = dense((6, 8, 5, 5)).requires_grad_(), dense((6, 8, 5, 5)).requires_grad_()
    weights = torch.randn(1)
    results = []
    for norm in (deferred, plain):
        y = do(norm(x), r)
        results.append((y, *torch.autograd.grad((y * y * weights).sum(), (x, r), allow_unused=True)))
    assert passes == expected_passes
    for one, other in zip(*results, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert type(one) is torch.Tensor
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_sum_into_a_given_tensor_is_there(passes):
    x, r = dense((6, 8, 5, 5)), dense((6, 8, 5, 5))
    out = torch.empty_like(r)
    y = deferred(x)
    assert torch.add(y, r, out=out) is out
    torch.testing.assert_close(out, plain(x) + r, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y * 1, plain(x), rtol=1e-4, atol=1e-5)
    assert passes == ["values"]


def test_it_is_the_output_of_an_ordinary_function_to_autograd(passes):
    """A function of somebody's own, hooks and saved tensors reach it without passing by torch's functions."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    x = dense((6, 8, 5, 5)).requires_grad_()
    y = deferred(x)
    assert isinstance(y, Deferred)
    assert passes == []
    assert y.requires_grad
    assert (y.shape, y.dtype, y.stride()) == (x.shape, x.dtype, x.stride())
    seen = []
    y.register_hook(lambda grad: seen.append(grad.abs().sum()))
    weights = torch.randn(6, 8, 5, 5)
    (got,) = torch.autograd.grad((Double.apply(y) * weights).sum(), x)
    (expected,) = torch.autograd.grad((plain(x) * 2 * weights).sum(), x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert len(seen) == 1
    assert passes == ["values"]


def test_memory_is_read_through_a_copy():
    x = dense((6, 8, 5, 5))
    y, expected = deferred(x), plain(x)
    torch.testing.assert_close(torch.from_numpy(y.numpy()), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.tensor(y.tolist()), expected, rtol=1e-5, atol=1e-5)
    assert "tensor(" in repr(y)
    torch.testing.assert_close(copy.deepcopy(y), expected, rtol=1e-5, atol=1e-5)
    assert y.clone().data_ptr() != 0


@pytest.mark.parametrize("changed", ["x", "r"])
def test_an_input_changed_meanwhile_is_an_error_and_never_another_value(changed):
    x, r = dense((6, 8, 5, 5)), dense((6, 8, 5, 5))
    y = deferred(x) + r
    (x if changed == "x" else r).add_(1)
    for use in (F.relu, torch.tanh):
        with pytest.raises(RuntimeError, match="changed in place before its output was used"):
            use(y)


def test_a_function_that_no_rule_reaches_is_refused_what_was_written_over():
    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y * 1

    y = deferred(dense((6, 8, 5, 5)).requires_grad_())
    F.relu(y, inplace=True)
    with pytest.raises(RuntimeError, match="use what the call returned"):
        Identity.apply(y)
