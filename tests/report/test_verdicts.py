"""The overview: each comparison in the column of what it shows, and no sweep longer than its ends."""

import pytest
from makers import make_run

from dropact.report import collect
from dropact.report.page import page
from dropact.report.verdicts import BETTER, INCONCLUSIVE, WORSE, comparisons, overview, sentence

SPREAD = (-0.1, 0.0, 0.1)
NONE = (0.0, 0.0, 0.0)
BASE = (20.0, 20.5, 21.0)

BESIDE = "(+5.00 [+4.75, +5.25] against every branch kept)"


def run(folder, difference, spread=SPREAD, **fields):
    for seed, (base, noise) in enumerate(zip(BASE, spread, strict=True)):
        make_run(folder, errors=(90.0, base + difference + noise), seed=seed, **fields)


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, 0.0, NONE)
    return tmp_path


def drop(folder, difference, rate):
    run(folder, difference, method="drop-activation", options={"drop_prob": rate})


def test_each_method_stands_under_what_its_difference_shows(folder):
    # the paired standard error is 0.1 / sqrt(3): t is 52, 35 and 0.9, whose p by Holm are 0.0011, 0.0016 and 0.48
    drop(folder, 3.0, 0.3)
    drop(folder, -2.0, 0.1)
    run(folder, 0.05, method="rrelu")
    tables = collect(folder).tables
    found = {one.label: one.verdict for one in comparisons(tables[0])}
    assert found == {
        "Drop-Activation (drop_prob 0.3)": WORSE,
        "Drop-Activation (drop_prob 0.1)": BETTER,
        "RReLU (lower 0.125, upper 0.333)": INCONCLUSIVE,
    }
    (line,) = overview({"here": tables}).rows
    assert line == [
        "here: digits, simple-small, 2 epochs",
        "3",
        "20.50 ± 1.24",
        "Drop-Activation (drop_prob 0.1) −2.00 [−2.25, −1.75]",
        "Drop-Activation (drop_prob 0.3) +3.00 [+2.75, +3.25]",
        "RReLU (lower 0.125, upper 0.333) +0.05 [−0.20, +0.30]",
    ]


def test_of_a_sweep_the_ends_are_given_and_their_number(folder):
    for rate in (0.1, 0.2, 0.3, 0.4):
        drop(folder, 10 * rate, rate)
    cell = overview({"here": collect(folder).tables}).rows[0][4]
    first = "Drop-Activation (drop_prob 0.1) +1.00 [+0.75, +1.25]"
    assert cell == f"{first} to Drop-Activation (drop_prob 0.4) +4.00 [+3.75, +4.25] (4 values)"


def test_one_seed_shows_nothing(tmp_path):
    for error, method in ((20.0, "baseline"), (5.0, "rrelu")):
        make_run(tmp_path, errors=(90.0, error), method=method)
    report = collect(tmp_path)
    assert [one.verdict for one in comparisons(report.tables[0])] == [INCONCLUSIVE]
    assert (
        sentence(report.tables) == "Verdict: of 1 comparison 0 better, 0 worse, 1 inconclusive, after Holm correction."
    )
    assert f"<strong>{sentence(report.tables)}</strong>" in page(report)


def test_without_a_comparison_there_is_no_verdict(tmp_path):
    make_run(tmp_path)
    report = collect(tmp_path)
    assert sentence(report.tables) == ""
    assert "Verdict" not in page(report)


def test_profiles_of_survival_rates_are_compared_with_uniform_ones(folder):
    fields = {"network": "resnet-20"}
    run(folder, 9.0, NONE, method="depth-uniform", options={"uniform_budget": 0.5}, **fields)
    run(folder, 5.0, method="depth-sensitivity", options={"sensitive_budget": 0.5}, **fields)
    run(folder, 0.0, NONE, **fields)
    run(folder, 2.0, method="rrelu", **fields)
    (table,) = (table for table in collect(folder).tables if table.setting["network"] == "resnet-20")
    one, other = comparisons(table)
    assert (one.label, one.verdict) == (
        f"survival rates by sensitivity against uniform, budget 0.5 {BESIDE}",
        BETTER,
    )
    assert (other.kind, other.verdict, other.base.mean) == ("rrelu", WORSE, pytest.approx(20.5))
    assert sentence([table]).endswith(
        "1 better, 1 worse, 0 inconclusive, after Holm correction; survival rates against uniform ones."
    )
    assert (one.base.mean, one.difference.mean) == (pytest.approx(29.5), pytest.approx(-4.0))


def test_a_profile_without_a_uniform_one_is_compared_with_the_baseline(folder):
    fields = {"network": "resnet-20"}
    run(folder, 0.0, NONE, **fields)
    run(folder, 9.0, NONE, method="depth-uniform", options={"uniform_budget": 0.5}, **fields)
    run(folder, 7.0, NONE, method="depth-uniform", options={"uniform_budget": 0.7}, **fields)
    run(folder, 5.0, method="depth-sensitivity", options={"sensitive_budget": 0.5}, **fields)
    run(folder, 3.0, method="depth-linear", options={"linear_budget": 0.8}, **fields)
    (table,) = (table for table in collect(folder).tables if table.setting["network"] == "resnet-20")
    assert [(one.label, round(one.difference.mean, 2)) for one in comparisons(table)] == [
        (
            f"survival rates by sensitivity against uniform, budget 0.5 {BESIDE}",
            -4.0,
        ),
        ("Stochastic depth, uniform (budget 0.7)", 7.0),
        ("Stochastic depth, linear (budget 0.8)", 3.0),
    ]


def test_what_a_comparison_is_with_is_said_with_its_own_number_of_runs(folder):
    run(folder, -1.0, method="dropout", options={"rate": 0.5})
    make_run(folder, errors=(90.0, 20.5), method="dropout", options={"rate": 0.5}, seed=3)
    run(folder, -2.0, NONE, method="dropout+drop-activation", options={"rate": 0.5, "drop_prob": 0.05})
    alone, added = comparisons(collect(folder).tables[0])
    assert alone.compared_with == "20.50 ± 1.24"
    # of four dropout runs three are paired with the combination's
    assert added.difference.n == 3
    assert added.compared_with.endswith(" (n = 4), Dropout (rate 0.5)")
    assert added.base.mean == pytest.approx((18.9 + 19.5 + 20.1 + 20.5) / 4)


def test_a_baseline_of_more_runs_says_so(folder):
    drop(folder, -2.0, 0.1)
    make_run(folder, errors=(90.0, 20.5), seed=3)
    (line,) = overview({"here": collect(folder).tables}).rows
    assert (line[1], line[2][-8:]) == ("3", " (n = 4)")


def test_what_has_no_comparison_has_no_line(folder):
    assert overview({"here": collect(folder).tables}).rows == []
