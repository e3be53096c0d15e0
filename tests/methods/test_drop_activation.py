import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dropact import DropActivation
from dropact.functional import drop_activation


def test_equation_4_with_a_given_mask():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    mask = torch.tensor([True, False, True, True, False])
    assert drop_activation(x, mask=mask).tolist() == [-2.0, 0.0, 0.0, 1.0, 2.0]


def test_equation_3_with_a_given_mask_for_any_activation():
    x = torch.randn(100, dtype=torch.float64)
    mask = torch.rand(100) < 0.5
    for name, f in (
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
        (torch.sin, torch.sin),
        (nn.ELU(0.5), nn.ELU(0.5)),
    ):
        assert torch.equal(drop_activation(x, activation=name, mask=mask), torch.where(mask, x, f(x)))


def test_ends_of_drop_prob_are_the_activation_and_the_identity():
    x = torch.randn(1000)
    for name, f in (("relu", F.relu), ("gelu", F.gelu)):
        torch.testing.assert_close(drop_activation(x, 0.0, name), f(x), rtol=2e-6, atol=1e-6)
        assert torch.equal(drop_activation(x, 1.0, name), x)
        torch.testing.assert_close(drop_activation(x, 0.0, name, training=False), f(x), rtol=2e-6, atol=1e-6)
        assert torch.equal(drop_activation(x, 1, name, training=False), x)


@pytest.mark.parametrize(
    ("granularity", "shared"), [("element", None), ("channel", (2, 3)), ("sample", (1, 2, 3)), ("layer", (0, 1, 2, 3))]
)
def test_granularity_shares_one_draw(granularity, shared):
    x = -torch.ones(64, 32, 3, 2)
    dropped = drop_activation(x, 0.3, granularity=granularity, seed=1) != 0
    if shared:
        assert torch.equal(dropped.amin(shared), dropped.amax(shared))
    units = dropped.float() if shared is None else dropped.float().mean(shared)
    n = units.numel()
    if n == 1:
        return
    assert abs(units.mean().item() - 0.3) < 5.5 * (0.3 * 0.7 / n) ** 0.5
    for dim in range(units.dim()):  # chi-squared over the means of slices, which scatter as independent draws do
        slices = units.double().transpose(0, dim).flatten(1).mean(1) if units.dim() > 1 else units.double()
        k, each = len(slices), n // len(slices)
        chi2 = ((slices - 0.3).square() * each / (0.3 * 0.7)).sum().item()
        # variance of a squared standardised mean of Bernoulli draws: 2 + (excess kurtosis of one draw) / draws
        assert abs(chi2 - k) < 5.5 * (k * (2 + (1 / (0.3 * 0.7) - 6) / each)) ** 0.5


@pytest.mark.parametrize("granularity", ["channel", "sample", "layer"])
def test_coarse_masks_are_differentiated_compiled_and_computed_again(granularity):
    layer = DropActivation(0.3, granularity=granularity)
    x = torch.randn(6, 5, 3, 2, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        y = layer(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        # it is piecewise linear: its slope times its input is its output
        assert torch.equal(slope * x, y)
        torch.manual_seed(5)
        again = checkpoint(layer, x, use_reentrant=False)
        assert torch.equal(torch.autograd.grad(again.sum(), x)[0], slope)
        torch._dynamo.reset()
        torch.manual_seed(5)
        compiled = torch.compile(layer, fullgraph=True)(x)
        assert torch.equal(compiled, y)
        assert torch.equal(torch.autograd.grad(compiled.sum(), x)[0], slope)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_coarse_mask_of_a_rate_in_a_tensor_is_that_of_its_number(dtype):
    x = -torch.ones(64, 32, 3)
    rate = torch.tensor(0.25, dtype=dtype)  # the same number in both
    for granularity in ("element", "channel", "sample"):
        expected = drop_activation(x, 0.25, granularity=granularity, seed=1)
        assert torch.equal(drop_activation(x, rate, granularity=granularity, seed=1), expected)


@pytest.mark.parametrize("name", ["relu", "elu"])
def test_infinite_inputs_meet_no_zero_where_the_rate_is_a_tensor(name):
    x = torch.tensor([-torch.inf, -1.0, torch.inf])
    f = {"relu": F.relu, "elu": F.elu}[name](x)
    torch._dynamo.reset()
    layer = DropActivation(0.0, name).eval()
    compiled = torch.compile(layer, fullgraph=True)
    for rate, expected in ((0.0, f), (1.0, x)):
        layer.drop_prob = rate
        for y in (compiled(x), drop_activation(x, torch.tensor(rate), name, training=False)):
            torch.testing.assert_close(y, expected, equal_nan=True)


@pytest.mark.parametrize("granularity", ["channel", "sample", "layer"])
@pytest.mark.parametrize("shape", [(), (5,), (5, 4), (2, 3, 4), (0, 3)])
def test_coarse_granularity_takes_any_shape(granularity, shape):
    x = -torch.ones(shape)
    assert drop_activation(x, 1.0, granularity=granularity).tolist() == x.tolist()


def test_layer_granularity_has_the_right_rate():
    x = -torch.ones(1)
    rate = sum(drop_activation(x, 0.3, granularity="layer", seed=s).item() != 0 for s in range(4000)) / 4000
    assert abs(rate - 0.3) < 5.5 * (0.3 * 0.7 / 4000) ** 0.5


def test_nan_and_infinity_travel_as_in_relu():
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, -1e-45])
    kept = drop_activation(x, mask=torch.zeros(6, dtype=torch.bool))
    torch.testing.assert_close(kept, F.relu(x), rtol=0, atol=0, equal_nan=True)
    passed = drop_activation(x, mask=torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(passed, x, rtol=0, atol=0, equal_nan=True)


def test_gradient_is_that_of_relu_or_of_the_identity_and_zero_at_zero():
    x = torch.tensor([-1.0, -1.0, 0.0, 0.0, 2.0], requires_grad=True)
    drop_activation(x, mask=torch.tensor([True, False, True, False, False])).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_inplace_activation_module_leaves_the_dropped_values_alone():
    x = torch.tensor([-2.0, -2.0])
    y = drop_activation(x, activation=nn.SiLU(inplace=True), mask=torch.tensor([True, False]))
    assert y.tolist() == [-2.0, F.silu(torch.tensor(-2.0)).item()]
    assert x.tolist() == [-2.0, -2.0]


def test_rate_buffer_follows_the_property_and_survives_casts():
    layer = DropActivation(0.05)
    layer.drop_prob = 0.25
    assert layer._rate.item() == 0.25
    assert layer.bfloat16()._rate.dtype == torch.float64
    layer.drop_prob = torch.tensor(0.125)
    assert layer.drop_prob == 0.125
    with pytest.raises(ValueError, match="drop_prob"):
        layer.drop_prob = 2.0
    assert layer.drop_prob == layer._rate.item() == 0.125


def test_a_schedule_of_drop_prob_does_not_recompile():
    torch._dynamo.reset()
    layer = DropActivation(0.1)
    compiled = torch.compile(layer, fullgraph=True)
    x = -torch.rand(5000)
    torch._dynamo.utils.counters.clear()
    for drop_prob in (0.0, 0.1, 0.5, 1.0):
        layer.drop_prob = drop_prob
        torch.manual_seed(0)
        expected = layer(x)
        torch.manual_seed(0)
        assert torch.equal(compiled(x), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_parametric_activation_learns_and_keeps_its_state_dict():
    plain = nn.PReLU(3)
    layer = DropActivation(0.3, nn.PReLU(3))
    assert list(layer.state_dict()) == ["weight"]
    plain.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    layer.load_state_dict(plain.state_dict())
    plain.load_state_dict(layer.state_dict())
    assert plain.weight.tolist() == [1.0, 2.0, 3.0]
    layer(-torch.ones(4, 3)).sum().backward()
    assert layer.activation.weight.grad.abs().sum() > 0


def test_repr_says_what_matters():
    assert repr(DropActivation(0.05, "gelu", "channel", True)) == (
        "DropActivation(drop_prob=0.05, activation=gelu, granularity=channel, inplace=True)"
    )


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_drop_prob_outside_its_range_is_named(bad):
    for make in (lambda p: DropActivation(p), lambda p: drop_activation(torch.ones(1), p)):
        with pytest.raises(ValueError, match=r"drop_prob must lie in \[0, 1\], got"):
            make(bad)


@pytest.mark.parametrize("bad", ["0.05", None, True, torch.tensor([0.1]), torch.tensor(1)])
def test_drop_prob_of_another_type_is_named(bad):
    with pytest.raises(TypeError, match="drop_prob must be"):
        drop_activation(torch.ones(1), bad)


def test_other_bad_arguments_are_named():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="unknown activation 'rellu': choose from relu,"):
        DropActivation(activation="rellu")
    with pytest.raises(TypeError, match="activation must be a name or an elementwise callable"):
        DropActivation(activation=3)
    with pytest.raises(ValueError, match="granularity must be one of 'element', 'channel', 'sample', 'layer'"):
        drop_activation(x, granularity="batch")
    with pytest.raises(ValueError, match="seed and mask both given"):
        drop_activation(x, seed=1, mask=x > 0)
    with pytest.raises(TypeError, match="mask must be a boolean tensor"):
        drop_activation(x, mask=x)
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) does not broadcast"):
        drop_activation(x, mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask of shape \(4, 2, 3\) does not broadcast"):
        drop_activation(x, mask=torch.ones(4, 2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be elementwise"):
        drop_activation(x, activation=torch.sum)
    with pytest.raises(TypeError, match="needs a tensor, got list"):
        drop_activation([1.0])


def test_a_parametric_activation_under_autocast_keeps_the_dtype_of_its_input():
    layer, x = DropActivation(0.1, nn.PReLU()), torch.randn(64, 8)  # PReLU takes bfloat16 there
    for training in (True, False):
        layer.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.float32
        torch.manual_seed(0)
        torch.testing.assert_close(y[x > 0], x[x > 0], rtol=2**-7, atol=0)  # rounded once to bfloat16


def test_a_number_in_no_dimension_keeps_its_dtype_whatever_the_rate_is():
    x, rate = torch.tensor(-2.0), torch.tensor(0.25, dtype=torch.float64)
    for activation, evaluated in (("relu", -0.5), ("tanh", 0.25 * -2 + 0.75 * math.tanh(-2))):
        y = drop_activation(x, rate, activation, training=False)
        assert y.dtype == torch.float32
        assert y.item() == pytest.approx(evaluated, rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_compiled_code_for_any_size_draws_the_masks_of_eager_mode(activation):
    """The order of memory of channels_last is asked of sizes and strides that the compiler does not know."""
    torch._dynamo.reset()
    layer = DropActivation(0.3, activation)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for size in ((8, 3, 16, 16), (5, 3, 8, 12)):
        x = torch.randn(size).to(memory_format=torch.channels_last).requires_grad_()
        results = []
        for forward in (layer, compiled):
            torch.manual_seed(1)
            y = forward(x)
            results.append((y.detach(), *torch.autograd.grad(y.square().sum(), x)))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
