"""The pages on theory say what the record says, and the record agrees with the formulas."""

import json
from pathlib import Path

import pytest
import update_theory

from dropact.theory import variance_shift

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "results" / "theory" / "simulation.json").read_text(encoding="utf-8"))["parts"]


def test_tables_are_what_the_record_says():
    assert update_theory.main(ROOT, ["--check"]) == 0
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in update_theory.PAGES)
    assert all(f"<!-- {name}:begin -->" in pages for name in RECORD)


def test_the_simulation_stands_by_the_corrected_formula_and_not_by_the_printed_one():
    for row in RECORD["property-5.1"]:
        mean, error = row["simulated"]
        assert abs(mean - row["formula"]) < 5 * error
        assert (abs(mean - row["printed"]) > 20 * error) == (row["granularity"] == "element")


def test_recorded_formulas_are_today_s():
    for row in RECORD["property-5.2"]:
        assert row["formula"] == pytest.approx(variance_shift(row["activation"], 0.05), rel=1e-9)
        assert abs(row["simulated"][0] - row["formula"]) < 5 * row["simulated"][1]


def test_the_tolerance_holds_where_it_is_stated_to():
    for row in RECORD["two-layers"]:
        mean, error = row["simulated"]
        if row["width"] * row["drop_prob"] >= 2.5:
            assert abs(row["form"] - mean) < sum(map(abs, row["remainder"])) + 5 * error
