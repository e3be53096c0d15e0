"""The theory of stochastic depth against enumeration, scipy, and simulations of the networks themselves."""

import math
import re
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from dropact.schedules import linear_survival
from dropact.theory import (
    active_depth,
    depth_excess,
    depth_noise_covariance,
    gradient_growth,
    second_order_depth_excess,
)

Z = 5.5  # false alarms: 4e-8 each


def test_active_depth_is_binomial_for_equal_rates():
    depth = active_depth([0.3] * 40)
    expected = stats.binom(40, 0.3).pmf(range(41))
    assert depth.probabilities.numpy() == pytest.approx(expected, abs=1e-14)


def test_active_depth_by_enumeration():
    rates = [0.1, 0.5, 0.9, 1.0, 0.0, 0.35, 0.6]
    probabilities = [0.0] * 8
    for draw in product((0, 1), repeat=7):
        probabilities[sum(draw)] += math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True))
    depth = active_depth(rates)
    assert depth.probabilities.tolist() == pytest.approx(probabilities, abs=1e-15)
    count = torch.arange(8, dtype=torch.float64)
    assert float(count @ depth.probabilities) == pytest.approx(depth.mean)
    assert float((count - depth.mean).square() @ depth.probabilities) == pytest.approx(depth.variance)
    for distance in (0.0, 0.45, 1.45, 3.0, 9.0):
        outside = sum(p for k, p in enumerate(probabilities) if abs(k - depth.mean) >= distance - 1e-12)
        assert depth.tail(distance) == pytest.approx(outside)


def test_the_papers_expected_depth():
    assert active_depth(linear_survival(54, last=0.5)).mean == pytest.approx((3 * 54 - 1) / 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 20))
@example([0.0], 5e-324)  # within the tail's allowance for rounding
def test_bennett_bounds_the_tail(rates, distance):
    depth = active_depth(rates)
    assert depth.tail(distance) <= depth.bennett(distance) * (1 + 1e-9) + 1e-12


def _log2_growth(scaling, rates, width, generator):
    """One network with fresh He weights and one draw: log2 of the squared gradient at the input over the output's."""
    depth = len(rates)
    draws = torch.rand(depth, generator=generator, dtype=torch.float64) < torch.tensor(rates, dtype=torch.float64)
    scale = depth**-0.5 if scaling == "stable" else 1.0
    x = torch.randn(1, width, generator=generator, dtype=torch.float64).requires_grad_()
    y = x
    for active in draws:
        if active:
            weights = torch.randn(width, width, generator=generator, dtype=torch.float64) * (2 / width) ** 0.5
            y = y + scale * torch.relu(y) @ weights
    gradient = torch.randn(1, width, generator=generator, dtype=torch.float64)
    (below,) = torch.autograd.grad(y, x, gradient)
    return float(torch.log2(below.square().sum() / gradient.square().sum())), int(draws.sum())


@pytest.mark.parametrize("scaling", ["vanilla", "stable"])
def test_given_the_draws_gradients_grow_with_the_active_depth(scaling):
    """The conditional law: the mean over draws is that of a heavy tail, too noisy to be tested.

    Per active branch of a vanilla network the factor |g + D W g|^2 / |g|^2 has mean 2 and variance 9 / n at width n:
    4 / n from the cross term, 4 / n from the chi-square of the weights, 1 / n from how many units are active. Its
    logarithm then has standard deviation 3 / (2 sqrt(n)) and a bias of half the squared one; a stable one's are less.
    """
    width, rates, networks = 256, linear_survival(20, last=0.5), 12
    generator = torch.Generator().manual_seed(0)
    gaps, variance, bias = [], 0.0, 0.0
    for _ in range(networks):
        grown, active = _log2_growth(scaling, rates, width, generator)
        step = float(torch.log2(gradient_growth([1.0] * 20, scaling)[19]))
        gaps.append(grown - active * step)
        variance += active * (1.5 / width**0.5 / math.log(2)) ** 2
        bias += active * (9 / width / 8) / math.log(2)
    assert abs(sum(gaps)) < Z * variance**0.5 + bias
    assert max(map(abs, gaps)) < Z * (20 * (1.5 / width**0.5 / math.log(2)) ** 2) ** 0.5 + bias / networks


def test_growth_is_the_mean_over_draws_of_the_conditional_law():
    rates = [0.9, 0.4, 0.7]
    for scaling, factor in (("vanilla", 2.0), ("stable", 1 + 1 / 3)):
        mean = sum(
            math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True)) * factor ** sum(draw)
            for draw in product((0, 1), repeat=3)
        )
        assert float(gradient_growth(rates, scaling)[0]) == pytest.approx(mean)
    assert float(gradient_growth([1.0] * 5000, "stable").max()) < math.e


@pytest.fixture(scope="module")
def network():
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(6, 6, generator=generator, dtype=torch.float64) / 2 for _ in range(7)]
    branches = [lambda y, w=w: torch.tanh(y @ w) for w in weights]
    out = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    target = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    rates = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3]
    return branches, (lambda y: torch.sin(y) @ out), x, target, rates


def _excess(branches, head, x, target, rates, scale):
    """E loss(b) - loss(p) for each sample, over all draws."""

    def loss(factors):
        y = x
        for f, factor in zip(branches, factors, strict=True):
            y = y + factor * scale * f(y)
        return (head(y) - target).square().sum(1)

    mean = sum(
        math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True)) * loss(draw)
        for draw in product((0, 1), repeat=len(rates))
    )
    return mean - loss(rates)


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_the_identity_is_exact_at_any_scale(network, scale):
    branches, head, x, target, rates = network
    excess = depth_excess(branches, x, target, rates, scale, head)
    assert excess.total == pytest.approx(float(_excess(branches, head, x, target, rates, scale).mean()), rel=1e-10)
    assert bool((excess.variance >= 0).all())
    assert abs(float(excess.curvature.sum())) > 0.01 * abs(excess.total)  # neither term is the whole


def test_the_identity_against_monte_carlo(network):
    """|z| < 5.5 for the loss over 4,000 draws; the identity's own terms from 400 draws each."""
    branches, head, x, target, rates = network
    generator = torch.Generator().manual_seed(2)
    draws = (torch.rand(4000, 7, generator=generator) < torch.tensor(rates)).double()
    y = x.expand(4000, *x.shape)
    for f, b in zip(branches, draws.T, strict=True):
        y = y + b[:, None, None] * 0.5 * f(y)
    losses = (head(y) - target).square().sum(2).mean(1)
    y = x
    for f, p in zip(branches, rates, strict=True):
        y = y + p * 0.5 * f(y)
    gap = float(losses.mean() - (head(y) - target).square().sum(1).mean())
    error = float(losses.std()) / 4000**0.5
    exact = depth_excess(branches, x, target, rates, 0.5, head).total
    assert abs(gap - exact) < Z * error
    sampled = [depth_excess(branches, x, target, rates, 0.5, head, samples=100, seed=seed).total for seed in range(16)]
    spread = torch.tensor(sampled).std().item() / 4
    assert abs(sum(sampled) / 16 - exact) < Z * 2 * spread  # 16 values: the spread is itself uncertain
    assert len(set(sampled)) == 16


def test_the_second_order_form_at_a_small_scale(network):
    """Within 3 % at s = 0.01; at s = 1 it is another number."""
    branches, head, x, target, rates = network

    def loss(y):
        return (head(y) - target).square().sum(1)

    for scale, close in ((0.01, True), (1.0, False)):
        exact = _excess(branches, head, x, target, rates, scale)
        formula = second_order_depth_excess(branches, x, loss, rates, scale).sum(0)
        error = float((formula.sum() - exact.sum()).abs() / exact.sum().abs())
        assert (error < 0.03) == close, (scale, error)


def test_the_second_order_form_of_another_loss(network):
    branches, head, x, _, rates = network
    labels = torch.tensor([0, 2, 1, 0])

    def loss(y):
        return torch.nn.functional.cross_entropy(head(y), labels, reduction="none")

    def at(factors):
        y = x
        for f, factor in zip(branches, factors, strict=True):
            y = y + factor * 0.01 * f(y)
        return loss(y)

    mean = sum(
        math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True)) * at(draw)
        for draw in product((0, 1), repeat=7)
    )
    formula = second_order_depth_excess(branches, x, loss, rates, 0.01).sum(0)
    torch.testing.assert_close(formula.sum(), (mean - at(rates)).sum(), rtol=0.03, atol=0)


def test_the_noise_of_constant_branches_has_exactly_that_covariance():
    generator = torch.Generator().manual_seed(3)
    constants = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    rates = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    branches = [lambda y, c=c: y * 0 + c for c in constants]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for draw in product((0, 1), repeat=8):
        weight = math.prod(p if b else 1 - p for b, p in zip(draw, rates, strict=True))
        noise = sum((b - p) * c for b, p, c in zip(draw, rates, constants, strict=True)) / 8**0.5
        expected += weight * torch.outer(noise, noise)
    found = depth_noise_covariance(branches, torch.zeros(1, 3, dtype=torch.float64), rates)
    torch.testing.assert_close(found[0], expected)


def test_the_noise_of_a_deep_stable_network_is_nearly_normal():
    """120 linear branches: covariance within 15 %, to which the second order contributes, and Kolmogorov's test."""
    generator = torch.Generator().manual_seed(4)
    depth, draws = 120, 2000
    weights = torch.randn(depth, 4, 4, generator=generator, dtype=torch.float64) / 4
    branches = [lambda y, w=w: y @ w for w in weights]
    rates = linear_survival(depth, last=0.5)
    x = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    drawn = (torch.rand(draws, depth, generator=generator, dtype=torch.float64) < torch.tensor(rates)).double()
    noisy, mean = x.expand(draws, 4), x
    for number, (f, p) in enumerate(zip(branches, rates, strict=True)):
        noisy = noisy + drawn[:, number, None] * depth**-0.5 * f(noisy)
        mean = mean + p * depth**-0.5 * f(mean)
    gap = noisy - mean
    covariance = depth_noise_covariance(branches, x, rates)[0]
    error = torch.linalg.matrix_norm(gap.T @ gap / draws - covariance) / torch.linalg.matrix_norm(covariance)
    assert float(error) < 0.15
    standard = (gap[:, 0] / covariance[0, 0].sqrt()).numpy()
    assert stats.kstest(standard, "norm").statistic < 0.08  # 1.95 / sqrt(2000) = 0.044 would be 0.1 % by chance


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: active_depth([]), "at least one rate, got none"),
        (lambda: active_depth([1.5]), "survival must lie in [0, 1], got 1.5"),
        (lambda: gradient_growth([0.5], "steady"), "scaling must be one of 'vanilla', 'stable', got 'steady'"),
        (
            lambda: depth_excess([abs], torch.ones(1, 1), torch.ones(1, 1), []),
            "one rate for each of the 1 branches, got 0",
        ),
        (
            lambda: depth_excess([abs] * 13, torch.ones(1, 1), torch.ones(1, 1), [0.5] * 13),
            "at most 12 branches, got 13",
        ),
        (
            lambda: depth_excess([abs], torch.ones(1, 1), torch.ones(1, 1), [0.5], samples=0),
            "samples must be at least 1, or None for all draws, got 0",
        ),
        (
            lambda: depth_excess([abs], torch.ones(4, 1), torch.ones(4), [0.5]),
            "target must be like the output, (4, 1), got (4,)",
        ),
        (lambda: depth_noise_covariance([], torch.ones(1, 1), []), "at least one rate, got none"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()
