"""Profiles of survival rates at equal budgets: paired with the uniform ones, corrected together, in words."""

from xml.etree import ElementTree

import numpy as np
import pytest
from makers import make_run
from scipy import stats

from dropact.report import budgets, collect
from dropact.report.page import page
from dropact.report.text import markdown

# test errors of seeds 0 to 3, made up
ERRORS = {
    ("depth-uniform", 0.3): [40.0, 41.0, 42.0, 41.5],
    ("depth-sensitivity", 0.3): [38.0, 38.75, 39.5, 39.75],
    ("depth-uniform", 0.6): [30.0, 31.0, 30.5, 31.25],
    ("depth-linear", 0.6): [30.5, 30.75, 30.0, 31.5],
    ("depth-sensitivity", 0.6): [30.0, 30.5, 30.75, 31.5],
    ("depth-uniform", 0.9): [25.0, 25.5, 26.0, 25.75],
    ("depth-linear", 0.9): [26.0, 26.75, 27.0, 26.5],
}


@pytest.fixture
def table(tmp_path):
    for (method, budget), errors in ERRORS.items():
        for seed, error in enumerate(errors):
            options = {budgets.PROFILES[method][0]: budget}
            fields = {"network": "resnet-20", "method": method, "options": options, "seed": seed}
            make_run(tmp_path, errors=(90.0, error), **fields)
    for seed in range(4):
        make_run(tmp_path, errors=(90.0, 22.0 + seed), network="resnet-20", seed=seed)
    return tmp_path


def test_each_profile_is_paired_with_the_uniform_one_at_its_budget(table):
    found = {(pair.profile, pair.budget): pair for pair in budgets.against_uniform(collect(table).tables[0])}
    assert set(found) == {key for key in ERRORS if key[0] != "depth-uniform"}
    expected = {}
    for (method, budget), pair in found.items():
        ours, uniform = np.array(ERRORS[method, budget]), np.array(ERRORS["depth-uniform", budget])
        test = stats.ttest_rel(ours, uniform)
        expected[method, budget] = test.pvalue
        low, high = test.confidence_interval(0.95)
        difference = pair.difference
        assert (difference.mean, difference.low, difference.high) == pytest.approx((np.mean(ours - uniform), low, high))
        assert difference.p_value == pytest.approx(test.pvalue)
    # Holm's by hand, over these alone: the comparisons with the baseline are another question
    largest = 0.0
    for place, key in enumerate(sorted(expected, key=expected.get)):
        largest = max(largest, min(1.0, (len(expected) - place) * expected[key]))
        assert found[key].corrected == pytest.approx(largest)


def test_it_stands_in_the_text_and_on_the_page_in_words(table):
    report = collect(table)
    for text in (markdown(report), page(report)):
        assert "By sensitivity (%)" in text
        assert "at equal budgets" in text
    (one,) = report.tables
    said = " ".join(budgets.sentences(one))
    assert "Budget 0.3, by sensitivity − uniform: −2.12 [" in said
    assert "points, better than uniform." in said
    assert "Budget 0.9, linear − uniform: +1.00 [" in said
    assert "Budget 0.6, linear − uniform: 0.00 [" in said
    assert "inconclusive against uniform: not significant (minimum detectable effect" in said
    drawn = "".join(ElementTree.fromstring(budgets.picture(one, "b")).itertext())
    assert "every branch" in drawn
    assert "Budget 0.3, by sensitivity" in drawn


def test_what_one_comparison_would_show_and_all_do_not_is_called_so(tmp_path):
    # the mean of 1, 2, 3.5 and 2 over its standard error is 4.1: p is 0.026 by t(3), twice that among two
    for budget, differences in ((0.3, (1.0, 2.0, 3.5, 2.0)), (0.6, (0.5, -0.5, 0.25, -0.25))):
        for seed, more in enumerate(differences):
            for method, error in (("depth-uniform", 20.0), ("depth-sensitivity", 20.0 + more)):
                options = {budgets.PROFILES[method][0]: budget}
                fields = {"network": "resnet-20", "method": method, "options": options, "seed": seed}
                make_run(tmp_path, errors=(90.0, error), **fields)
    (one,) = collect(tmp_path).tables
    (pair, _) = sorted(budgets.against_uniform(one), key=lambda pair: pair.budget)
    assert pair.difference.p_value < 0.05 <= pair.corrected
    said, _ = budgets.sentences(one)
    assert "inconclusive against uniform: not significant after Holm correction (minimum detectable effect " in said


def test_fewer_pairs_than_uniform_runs_are_said(table):
    for seed in (4, 5):
        fields = {"network": "resnet-20", "method": "depth-uniform", "options": {"uniform_budget": 0.9}, "seed": seed}
        make_run(table, errors=(90.0, 25.0), **fields)
    (one,) = collect(table).tables
    lines = {line[0]: line for line in budgets.grid(one).rows}
    assert lines["0.9"][1] == "6"
    assert lines["0.9"][4].startswith("+1.00 [")
    assert lines["0.9"][4].endswith("] (n = 4)")
    said = budgets.sentences(one)
    assert [("(n = 4) points" in sentence) for sentence in said] == ["Budget 0.9" in sentence for sentence in said]
    assert "(n =" not in "".join(lines["0.6"])


def test_a_table_without_profiles_says_nothing_of_them(tmp_path):
    make_run(tmp_path)
    (one,) = collect(tmp_path).tables
    assert budgets.grid(one) is None
    assert budgets.picture(one, "b") is None
    assert budgets.sentences(one) == []
