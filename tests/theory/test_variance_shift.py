"""Property 5.2: closed form against quadrature, quadrature against other quadratures, both against the layer.

z-tests reject a true formula once in 3 million (|z| > 5); the draws are fixed, so a test that passes keeps passing.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from torch import nn

from dropact import DropActivation
from dropact._activations import BY_NAME
from dropact.theory import moments, variance_shift, worst_variance_shift

MOST_SIGMAS = 5.0


def equation_15(p):
    return ((1 / 2 - 1 / (2 * math.pi)) * p**2 - p + 1) / (1 - p / 2 - p**2 / (2 * math.pi))


def relu_without_its_name(x):
    return x.clamp(min=0)


@pytest.mark.parametrize(
    ("p", "ratio"), [(0.95, 0.9377), (0.9, 0.8931), (0.8, 0.8394), (0.7, 0.8164), (0.65, 0.8128), (0.5, 0.8240)]
)
def test_values_of_equation_15(p, ratio):
    assert round(variance_shift("relu", 1 - p), 4) == ratio


@pytest.mark.parametrize("q", [0.0, 0.001, 0.05, 0.3686, 0.5, 0.9, 1.0])
def test_relu_is_equation_15_and_so_is_the_quadrature(q):
    assert variance_shift("relu", q) == pytest.approx(equation_15(1 - q), rel=1e-13)
    for relu in (relu_without_its_name, nn.ReLU()):
        assert variance_shift(relu, q) == pytest.approx(equation_15(1 - q), rel=1e-12)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.3, 0.7), (-2.0, 0.5), (1.7, 3.0), (-5.0, 1.0), (-9.0, 1.0), (8.0, 1.0)]
)
def test_relu_of_any_normal_input_is_the_quadrature(mean, std):
    closed = moments("relu", 0.05, mean=mean, std=std)
    found = moments(relu_without_its_name, 0.05, mean=mean, std=std)
    assert found == pytest.approx(closed, rel=1e-10, abs=1e-12)
    plain = moments("relu", 0.0, mean=mean, std=std)  # of a few 1e-19 at nine deviations, to as many digits
    assert plain == pytest.approx(moments(relu_without_its_name, 0.0, mean=mean, std=std), rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "silu", "softplus", "mish"])
def test_smooth_activations_agree_with_gauss_hermite(name):
    x, w = special.roots_hermitenorm(400)
    f, w = BY_NAME[name](torch.from_numpy(x)).numpy(), w / math.sqrt(2 * math.pi)
    q, mean = 0.3, (w * f).sum() * 0.7
    train = (w * (0.7 * f**2 + q * x**2)).sum() - mean**2
    test = (w * (0.7 * f + q * x) ** 2).sum() - mean**2
    assert moments(name, q) == pytest.approx((mean, train, test), abs=1e-10)


@pytest.mark.parametrize(
    ("activation", "kinks"),
    [
        ("hardswish", (-3, 3)),
        ("relu6", (0, 6)),
        ("elu", (0,)),
        (nn.Softshrink(0.3), (-0.3, 0.3)),
        (nn.Threshold(0.1234, -1.0), (0.1234,)),
    ],
)
def test_kinks_and_jumps_wherever_they_stand_agree_with_scipy(activation, kinks):
    f = BY_NAME.get(activation, activation) if isinstance(activation, str) else activation

    def mean_of(function):
        ends = [-12.0, *kinks, 12.0]

        def integrand(x):
            return function(x, f(torch.tensor(x, dtype=torch.float64)).item()) * stats.norm.pdf(x)

        return sum(integrate.quad(integrand, a, b, epsabs=1e-13)[0] for a, b in itertools.pairwise(ends))

    q, mean = 0.2, 0.8 * mean_of(lambda x, fx: fx)
    train = mean_of(lambda x, fx: 0.8 * fx**2 + q * x**2) - mean**2
    test = mean_of(lambda x, fx: (0.8 * fx + q * x) ** 2) - mean**2
    assert moments(activation, q) == pytest.approx((mean, train, test), abs=1e-10)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_ratio_is_1_at_both_ends_never_above_and_worst_where_it_is_said_to_be(name):
    assert variance_shift(name, 0.0) == pytest.approx(1, abs=1e-12)
    assert variance_shift(name, 1.0) == pytest.approx(1, abs=1e-12)
    worst = worst_variance_shift(name)
    assert all(worst.ratio - 1e-12 <= variance_shift(name, q) <= 1 + 1e-12 for q in np.linspace(0, 1, 101))
    found = optimize.minimize_scalar(lambda q: variance_shift(name, float(q)), bounds=(0, 1), method="bounded")
    assert worst.drop_prob == pytest.approx(found.x, abs=1e-4)


def test_the_paper_s_interval_holds_for_every_p():
    ratios = [variance_shift("relu", 1 - p) for p in np.linspace(0.001, 1, 1000)]
    assert 0.8 <= min(ratios) <= max(ratios) <= 1 + 1e-12
    worst = worst_variance_shift("relu")
    assert worst.drop_prob == pytest.approx(math.sqrt(0.5 - 0.5 / math.pi) / (1 + math.sqrt(0.5 - 0.5 / math.pi)))
    assert worst.ratio == pytest.approx(min(ratios), abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "sigmoid", "hardswish"])
@pytest.mark.parametrize("drop_prob", [0.05, 0.37])
def test_monte_carlo_through_the_layer(activation, drop_prob):
    layer, x = DropActivation(drop_prob, activation), torch.randn(2_000_000)
    train, test = layer.train()(x).double(), layer.eval()(x).double()
    expected = moments(activation, drop_prob)
    n = len(x)
    for sample, variance in ((train, expected.train_variance), (test, expected.test_variance)):
        centred = sample - expected.mean
        assert abs(centred.mean()) < MOST_SIGMAS * centred.std() / n**0.5
        square = centred**2
        assert abs(square.mean() - variance) < MOST_SIGMAS * square.std() / n**0.5
    # The ratio from the same inputs: its error is that of the mean of this difference, by the delta method.
    difference = (test - expected.mean) ** 2 - variance_shift(activation, drop_prob) * (train - expected.mean) ** 2
    assert abs(difference.mean()) < MOST_SIGMAS * difference.std() / n**0.5


def test_weighted_sum_of_independent_units_has_the_ratio_of_one_unit():
    """Equations 13 and 14: the weights cancel."""
    layer, w = DropActivation(0.3), torch.randn(8, dtype=torch.float64)
    x = torch.randn(1_000_000, 8, dtype=torch.float64)
    train, test = layer.train()(x) @ w, layer.eval()(x) @ w
    mean = moments("relu", 0.3).mean * w.sum()
    difference = (test - mean) ** 2 - variance_shift("relu", 0.3) * (train - mean) ** 2
    assert abs(difference.mean()) < MOST_SIGMAS * difference.std() / len(x) ** 0.5


def test_an_activation_in_float32_is_integrated_as_well_as_it_can_be():
    found = variance_shift(lambda x: torch.tanh(x.float()).double(), 0.05)
    assert found == pytest.approx(variance_shift("tanh", 0.05), abs=1e-6)


def test_errors_name_the_value_and_what_is_accepted():
    with pytest.raises(ValueError, match=r"drop_prob must lie in \[0, 1\], got -0.1"):
        variance_shift("relu", -0.1)
    with pytest.raises(ValueError, match="unknown activation 'rleu': choose from relu"):
        variance_shift("rleu", 0.1)
    with pytest.raises(ValueError, match="std must be above 0, got 0"):
        moments("gelu", 0.1, std=0.0)
    with pytest.raises(ValueError, match="must be elementwise"):
        variance_shift(torch.sum, 0.1)
    with pytest.raises(ValueError, match="not finite on inputs of mean 0 and standard deviation 1"):
        variance_shift(torch.log, 0.1)
    with pytest.raises(ValueError, match="does not converge"):
        variance_shift(torch.rand_like, 0.1)
    with pytest.raises(ValueError, match="does not vary"):
        variance_shift(torch.zeros_like, 0.0)
