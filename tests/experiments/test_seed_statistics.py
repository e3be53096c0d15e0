"""Against scipy's own tests and against closed forms, neither of which the code under test uses."""

import math

import pytest
from scipy import stats

from dropact.experiments.statistics import paired_difference, summarise

VALUES = [2.1, 3.4, 2.2, 5.0, 3.3, 2.75]
BASELINE = [2.9, 3.3, 3.0, 5.6, 3.9, 2.5]


def test_interval_is_that_of_scipy():
    summary = summarise(VALUES)
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert summary.half_width == pytest.approx((expected.high - expected.low) / 2)
    assert summary.n == 6


def test_interval_of_two_and_three_values_in_closed_form():
    """One degree of freedom: t = tan(0.475 π). Two: t = 0.95 / sqrt(2 · 0.975 · 0.025)."""
    two = summarise([1.0, 2.0])
    assert two.half_width == pytest.approx(0.5 * math.tan(0.475 * math.pi), rel=1e-9)
    three = summarise([1.0, 2.0, 3.0])
    assert three.half_width == pytest.approx(0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3), rel=1e-9)
    assert three.sd == pytest.approx(1.0)


def test_paired_difference_is_scipys_paired_test_on_the_common_seeds():
    values = dict(enumerate(VALUES)) | {77: 100.0}
    baseline = dict(reversed(list(enumerate(BASELINE)))) | {99: -100.0}
    found = paired_difference(values, baseline)
    expected = stats.ttest_rel(VALUES, BASELINE)
    assert found.n == 6
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert found.mean == pytest.approx(sum(VALUES) / 6 - sum(BASELINE) / 6)


def test_p_value_of_two_pairs_in_closed_form():
    """One degree of freedom: p = 1 − (2/π) arctan t."""
    found = paired_difference({0: 1.0, 1: 3.0}, {0: 0.0, 1: 0.0})
    assert found.p_value == pytest.approx(1 - 2 / math.pi * math.atan(2.0), rel=1e-9)


def test_sign_is_method_minus_baseline():
    assert paired_difference({0: 1.0, 1: 2.5}, {0: 2.0, 1: 3.0}).mean == pytest.approx(-0.75)


def test_one_seed_has_no_interval_and_says_so():
    summary = summarise([3.5])
    assert (summary.mean, summary.sd, summary.low, summary.high) == (3.5, None, None, None)
    assert "one seed" in summary.note
    found = paired_difference({0: 3.5}, {0: 4.0})
    assert found.mean == -0.5
    assert found.p_value is None
    assert "one seed" in found.note


@pytest.mark.parametrize("value", [0.1, 2.673350041771094, 0.0])
def test_without_spread_there_is_no_interval_and_no_test(value):
    summary = summarise([value] * 7)
    assert (summary.mean, summary.low) == (value, None)
    assert "all 7 values are equal" in summary.note
    found = paired_difference(dict.fromkeys(range(7), value), dict.fromkeys(range(7), value))
    assert (found.mean, found.low, found.p_value) == (0, None, None)


@pytest.mark.parametrize(("images", "wrong"), [(297, (4, 7)), (10_000, (4, 5)), (26_032, (4, 8))])
def test_as_many_images_fewer_in_every_seed_are_equal_differences_whatever_they_are_rounded_to(images, wrong):
    """In percent, 3 images fewer are not the same double under every number of wrong ones."""
    baseline = {seed: 100 * count / images for seed, count in enumerate(wrong)}
    values = {seed: 100 * (count - 3) / images for seed, count in enumerate(wrong)}
    assert len({values[seed] - baseline[seed] for seed in values}) == 2
    found = paired_difference(values, baseline)
    assert (found.note, found.low, found.p_value) == ("all 2 values are equal: no interval", None, None)
    assert found.mean == pytest.approx(-300 / images)


def test_no_common_seed_is_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_sample_is_refused(values):
    with pytest.raises(ValueError, match="values"):
        summarise(values)
