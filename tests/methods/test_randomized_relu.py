import copy

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from dropact import RandomizedReLU
from dropact.functional import randomized_relu


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slopes_are_uniform(dtype):
    """Kolmogorov-Smirnov against U(1/8, 1/3), false-alarm rate 1e-6."""
    slopes = -randomized_relu(torch.full((200_000,), -1.0, dtype=dtype), seed=5).double().numpy()
    assert stats.kstest(slopes, stats.uniform(1 / 8, 1 / 3 - 1 / 8).cdf).pvalue > 1e-6


def test_given_slopes_are_used():
    x = torch.tensor([-8.0, -8.0, 3.0])
    assert randomized_relu(x, mask=torch.tensor([0.25, 0.125, 0.5])).tolist() == [-2.0, -1.0, 3.0]


def test_equal_bounds_are_leaky_relu():
    x = torch.randn(1000)
    assert torch.equal(randomized_relu(x, 0.25, 0.25), F.leaky_relu(x, 0.25))


def test_bounds_of_zero_are_relu():
    """Also where 0 times infinity is no number."""
    x = torch.tensor([-torch.inf, -1.0, 0.0, 2.0, torch.inf, torch.nan])
    for inplace in (False, True):
        layer = RandomizedReLU(0.0, 0.0, inplace)
        for forward in (layer.train(), copy.deepcopy(layer).eval(), layer.folded()):
            y = forward(x.clone())
            torch.testing.assert_close(y, F.relu(x), rtol=0, atol=0, equal_nan=True)


def test_evaluation_is_that_of_torch():
    x = torch.randn(1000)
    assert torch.equal(RandomizedReLU().eval()(x), torch.nn.RReLU().eval()(x))


def test_gradient_is_the_slope():
    x = (-0.1 - torch.rand(1000)).requires_grad_()
    y = randomized_relu(x, seed=3)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / x.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (0.5, 0.1, "lower must not exceed upper"),
        (-0.1, 0.1, "lower must lie in"),
        (0.1, float("nan"), "upper must lie in"),
        (0.1, float("inf"), "upper must lie in"),
    ],
)
def test_bad_bounds_are_named(lower, upper, message):
    for make in (RandomizedReLU, lambda a, b: randomized_relu(torch.ones(1), a, b)):
        with pytest.raises(ValueError, match=message):
            make(lower, upper)


def test_other_bad_arguments_are_named():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="seed and mask both given"):
        randomized_relu(x, seed=1, mask=x)
    with pytest.raises(TypeError, match="mask of randomized_relu needs a floating-point tensor"):
        randomized_relu(x, mask=x > 0)
    with pytest.raises(ValueError, match="does not broadcast"):
        randomized_relu(x, mask=torch.ones(2))
