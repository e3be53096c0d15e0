"""Survival rates over depth: their sums, their bounds, and the libraries whose rules they name."""

import itertools
import math
import re
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropact.schedules import linear_survival, sensitivity_survival, uniform_survival

RULES = ("paper", "timm", "efficientnet")


@pytest.mark.parametrize(("rule", "expected"), [("paper", 40.25), ("timm", 40.5), ("efficientnet", 40.75)])
def test_expected_depth_of_54_blocks(rule, expected):
    assert math.fsum(linear_survival(54, last=0.5, rule=rule)) == pytest.approx(expected, abs=1e-12)


def test_the_papers_rule_is_its_closed_form():
    for depth in (1, 18, 54, 600):
        assert sum(linear_survival(depth, last=0.5)) == pytest.approx((3 * depth - 1) / 4)


def test_timms_rule_is_timms():
    layers = pytest.importorskip("timm.layers")
    theirs = layers.calculate_drop_path_rates(0.3, 12)
    assert linear_survival(12, last=0.7, rule="timm") == pytest.approx([1 - rate for rate in theirs])


@pytest.mark.parametrize(("rule", "build"), [("timm", "convnext_tiny"), ("efficientnet", "efficientnet_b0")])
def test_rules_are_torchvisions(rule, build):
    torchvision = pytest.importorskip("torchvision")
    model = getattr(torchvision.models, build)(stochastic_depth_prob=0.5)
    layers = [m for m in model.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    rates = linear_survival(len(layers), last=0.5, rule=rule)
    assert [1 - layer.p for layer in layers] == pytest.approx(rates)


@given(st.integers(1, 200), st.floats(0, 1), st.sampled_from(RULES))
def test_linear_rates_meet_a_budget(depth, last, rule):
    budget = math.fsum(linear_survival(depth, last=last, rule=rule))
    rates = linear_survival(depth, budget=budget, rule=rule)
    assert abs(math.fsum(rates) - budget) < 1e-9
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates == sorted(rates, reverse=True)


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=1, max_size=60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_sensitive_rates_meet_a_budget(sensitivities, share, floor):
    depth = len(sensitivities)
    budget = depth * (floor + share * (1 - floor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rates = sensitivity_survival(sensitivities, min(budget, depth), floor)
    assert abs(math.fsum(rates) - min(budget, depth)) < 1e-9
    assert all(floor - 1e-12 <= rate <= 1 for rate in rates)
    order = sorted(range(depth), key=sensitivities.__getitem__)
    assert all(rates[a] <= rates[b] + 1e-12 for a, b in itertools.pairwise(order))


def test_between_the_bounds_rates_are_proportional():
    rates = sensitivity_survival(torch.tensor([0.1, 3.0, 0.2, 0.4]), budget=1.7)
    assert rates[1] == 1
    assert rates[2] / rates[0] == pytest.approx(2)
    assert rates[3] / rates[0] == pytest.approx(4)


def test_the_scale_of_sensitivities_does_not_matter():
    plain = sensitivity_survival([1.0, 2.0, 7.0], budget=1.4)
    for scale in (1e-300, 1e-6, 1e250):
        assert sensitivity_survival([scale, 2 * scale, 7 * scale], budget=1.4) == pytest.approx(plain)


def test_without_sensitivities_rates_are_uniform():
    with pytest.warns(UserWarning, match="all sensitivities are 0"):
        assert sensitivity_survival([0.0] * 4, budget=3) == uniform_survival(4, budget=3)


def test_zeros_share_what_the_others_leave():
    with pytest.warns(UserWarning, match="2 of 3 sensitivities are 0"):
        assert sensitivity_survival([0.0, 5.0, 0.0], budget=2) == pytest.approx([0.5, 1, 0.5])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: uniform_survival(0, 0.0), ValueError, "depth must be at least 1, got 0"),
        (lambda: uniform_survival(2.5, 1), TypeError, "depth must be a whole number, got 2.5"),
        (lambda: uniform_survival(4, 4.5), ValueError, "budget must lie in [0, 4], got 4.5"),
        (lambda: linear_survival(4), TypeError, "either last or budget, got last=None and budget=None"),
        (lambda: linear_survival(4, last=0.5, budget=3), TypeError, "got last=0.5 and budget=3"),
        (lambda: linear_survival(4, last=1.5), ValueError, "last must lie in [0, 1], got 1.5"),
        (lambda: linear_survival(4, budget=1), ValueError, "budget must lie in [1.5, 4] for 4 branches"),
        (lambda: linear_survival(1, budget=0.5, rule="timm"), ValueError, "must lie in [1, 1] for 1 branches"),
        (lambda: linear_survival(4, last=0.5, rule="swin"), ValueError, "rule must be one of 'paper', 'timm'"),
        (lambda: sensitivity_survival([], 0), ValueError, "at least one number, got none"),
        (lambda: sensitivity_survival([1.0, -1.0], 1), ValueError, "a sensitivity must lie in [0, inf), got -1.0"),
        (lambda: sensitivity_survival([1.0, math.nan], 1), ValueError, "a sensitivity must lie in [0, inf), got nan"),
        (lambda: sensitivity_survival([1.0, 1.0], 0.5, floor=0.4), ValueError, "budget must lie in [0.8, 2], got 0.5"),
    ],
)
def test_refusals(call, error, says):
    with pytest.raises(error, match=re.escape(says)):
        call()
