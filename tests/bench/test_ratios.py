import numpy as np
import pytest
from scipy import stats

from dropact.bench.race import compare, interval_of_median, spread


@pytest.mark.parametrize("rounds", [1, 2, 5, 6, 7, 20, 51])
def test_medians_and_ratios_are_numpys(rounds):
    rng = np.random.default_rng(rounds)
    baseline = rng.lognormal(-7, 0.3, rounds)
    own = baseline * rng.lognormal(0.2, 0.1, rounds)
    figure = compare(own.tolist(), baseline.tolist())
    assert figure.microseconds == pytest.approx(1e6 * np.median(own), rel=1e-12)
    assert figure.ratio == pytest.approx(np.median(own / baseline), rel=1e-12)
    assert figure.low <= figure.ratio <= figure.high


def test_a_machine_that_slows_down_does_not_change_a_ratio():
    slowing = np.linspace(1, 9, 31)
    figure = compare((1.25 * slowing).tolist(), slowing.tolist())
    assert (figure.ratio, figure.low, figure.high) == (1.25, 1.25, 1.25)


@pytest.mark.parametrize("rounds", [6, 7, 8, 9, 17, 18, 30, 50, 200])
def test_the_interval_is_the_exact_one(rounds):
    """scipy's interval for a quantile, from the same binomial argument, one tail of 2.5 % at a time."""
    values = np.random.default_rng(rounds).normal(size=rounds)
    exact = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert interval_of_median(values.tolist()) == (exact.low, exact.high)


def test_few_rounds_show_their_whole_range():
    assert interval_of_median([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert interval_of_median([3.0]) == (3.0, 3.0)


def test_spread_is_the_distance_of_the_quartiles():
    values = np.random.default_rng(0).lognormal(size=41)
    low, middle, high = np.percentile(values, [25, 50, 75])
    assert spread(values.tolist()) == pytest.approx((high - low) / middle, rel=1e-12)
    assert spread([1.0]) == 0.0
