"""The report of a reproduction: the paper's numbers in their places, its order, its family of comparisons."""

import csv
import io
from dataclasses import asdict
from xml.etree import ElementTree

import pytest
from makers import make_run
from scipy import stats

from dropact.experiments import recipe
from dropact.experiments.comparison import claim_folder
from dropact.experiments.errors import RecordError
from dropact.experiments.reproduction import Reproduction
from dropact.experiments.statistics import holm, smallest_detectable
from dropact.report import collect, figure2, figures
from dropact.report.captions import reading
from dropact.report.grids import of_methods, of_paper
from dropact.report.page import page
from dropact.report.text import comma_separated, markdown

# Test errors of seeds 0 to 2, made up.
ERRORS = {
    ("resnet-164", "baseline"): [25.0, 25.5, 26.0],
    ("resnet-164", "rrelu"): [24.5, 24.75, 25.75],
    ("resnet-164", "drop-activation"): [24.0, 24.4, 25.1],
    ("resnext-29-8x64d", "baseline"): [18.0, 18.5, 17.0],
    ("resnext-29-8x64d", "drop-activation"): [17.0, 18.75, 17.5],
}


def fill(folder, name, errors, epochs=8, seeds=range(3)):
    """A folder that holds finished runs of a recipe, whose last error is the one given."""
    rows = list(dict.fromkeys(row for row, _ in errors))
    asked = Reproduction.of(recipe(name), list(seeds), rows, epochs=epochs)
    claim_folder(folder, asked)
    for row, comparison in asked.rows.items():
        for config in comparison.configs():
            if (row, config.method) in errors:
                last = errors[row, config.method][config.seed]
                make_run(folder, errors=(90.0,) * (epochs - 1) + (last,), **asdict(config))
    return folder


@pytest.fixture
def table1(tmp_path):
    return fill(tmp_path, "table1", ERRORS)


def test_the_papers_table_with_ours_beside_it(table1):
    grid = of_paper(collect(table1))
    assert grid.headings[:4] == ["Network", "n", "ReLU (baseline), paper (%)", "ReLU (baseline), here (%)"]
    assert [row[0] for row in grid.rows] == [
        "ResNet-164 (shortened: 8 of 164 epochs)",
        "ResNeXt-29-8×64d (shortened: 8 of 300 epochs)",
    ]
    assert grid.rows[0][1:3] == ["3", "25.16"]
    assert grid.rows[0][3].startswith("25.50 ± ")
    assert grid.rows[1][4:6] == ["–", "–"]
    assert grid.rows[1][6] == "17.68"


def test_tables_stand_in_the_papers_order(tmp_path):
    """Not in that of the settings, in which DenseNet with its batch of 32 comes first."""
    errors = {(row.name, "baseline"): [20.0, 21.0, 20.0] for row in recipe("table1").rows}
    report = collect(fill(tmp_path, "table1", errors))
    assert [table.setting["network"] for table in report.tables] == [row.name for row in recipe("table1").rows]
    assert any("27 of 45 runs of this reproduction are not finished" in note for note in report.notes)


def test_p_values_are_corrected_for_all_comparisons_of_the_papers_table(table1):
    rows = [row for table in collect(table1).tables for row in table.rows if row.difference]
    pairs = [
        (ERRORS[network, method], ERRORS[network, "baseline"]) for network, method in ERRORS if method != "baseline"
    ]
    expected = [float(stats.ttest_rel(one, other).pvalue) for one, other in pairs]
    assert [row.difference.p_value for row in rows] == pytest.approx(expected)
    assert [row.corrected for row in rows] == pytest.approx(holm(expected))
    assert rows[1].corrected == pytest.approx(3 * min(expected))


def test_settings_of_a_comparison_are_families_of_their_own(tmp_path):
    for lr in (0.1, 0.2):
        for seed in range(3):
            make_run(tmp_path, errors=(4.0 + seed,), seed=seed, lr=lr)
            make_run(tmp_path, errors=(3.5 + 1.2 * seed,), seed=seed, lr=lr, method="dropout")
    for table in collect(tmp_path).tables:
        assert table.rows[1].corrected == table.rows[1].difference.p_value


def test_what_the_seeds_could_have_shown_stands_beside_each_difference(table1):
    (table, _) = collect(table1).tables
    row = table.rows[2]
    spread = stats.tstd([a - b for a, b in zip(ERRORS["resnet-164", row.method], [25.0, 25.5, 26.0], strict=True)])
    grid = of_methods(table)
    assert (
        grid.rows[2][grid.headings.index("Minimum detectable effect (points)")]
        == f"{smallest_detectable(spread, 3):.2f}"
    )
    assert grid.rows[0][grid.headings.index("Minimum detectable effect (points)")] == "–"


def test_sentences_say_what_the_paper_found_and_heed_the_correction(table1):
    sentences = reading(collect(table1).tables[0])
    assert len(sentences) == 2
    assert "; the paper: −1.28)." in sentences[1]
    # p = 0.0027 alone, 0.0082 among three
    assert sentences[1].startswith("Drop-Activation (drop_prob 0.05): better than ReLU (baseline) (−1.00 [")
    assert "inconclusive against ReLU (baseline): not significant (" in sentences[0]


def test_a_difference_that_does_not_survive_the_correction_is_not_called_one(tmp_path):
    errors = {**ERRORS, ("resnet-164", "drop-activation"): [24.0, 24.75, 25.7]}
    errors["resnet-164", "baseline"] = [24.7, 25.2, 26.1]
    table = collect(fill(tmp_path, "table1", errors)).tables[0]
    row, sentence = table.rows[2], reading(table)[1]
    assert row.difference.p_value < 0.05 < row.corrected
    assert "inconclusive against ReLU (baseline): not significant after Holm correction" in sentence


def test_a_combination_is_compared_with_itself_without_its_last_part(tmp_path):
    errors = {
        ("resnet-18", "baseline"): [22.0, 22.5, 22.75],
        ("resnet-18", "cutout"): [21.0, 21.5, 22.5],
        ("resnet-18", "cutout+drop-activation"): [20.5, 21.25, 22.0],
    }
    report = collect(fill(tmp_path, "table5", errors))
    (table,) = report.tables
    added = table.rows[2].difference
    assert added.mean == pytest.approx((20.5 + 21.25 + 22.0 - 21.0 - 21.5 - 22.5) / 3)
    assert [row.reference for row in table.rows] == [None, "ReLU (baseline)", "Cutout (size 8)"]
    grid = of_methods(table)
    cells = [row[grid.headings.index("Difference (points)")] for row in grid.rows]
    assert cells[1].endswith("] to ReLU (baseline)")
    assert cells[2].endswith("] to Cutout (size 8)")
    assert "; the paper: −0.97)." in reading(table)[1]
    text = markdown(report)
    assert "| 22.46 ± 0.13 |" in text
    assert "minus what it is added to" in page(report)


@pytest.mark.parametrize("there", [{}, {"method": "dropout", "options": {"rate": 0.2}}])
def test_without_that_run_it_is_compared_with_the_baseline(tmp_path, there):
    make_run(tmp_path, errors=(4.0,))
    make_run(tmp_path, errors=(3.0,), method="dropout+drop-activation", options={"rate": 0.5})
    if there:
        make_run(tmp_path, errors=(2.0,), **there)
    row = collect(tmp_path).tables[0].rows[-1]
    assert (row.method, row.reference) == ("dropout+drop-activation", "ReLU (baseline)")
    assert row.difference.mean == -1.0


def test_points_of_a_figure_share_a_table_and_bear_the_papers_p(tmp_path):
    errors = {("1.00", "baseline"): [16.5, 16.0, 17.0], ("0.95", "drop-activation"): [16.0, 15.5, 16.75]}
    errors["0.60", "drop-activation"] = [20.0, 21.0, 22.0]
    errors["0.85", "drop-activation"] = [17.0, 17.5, 17.75]
    errors["0.90", "drop-activation"] = [16.5, 16.5, 17.25]
    report = collect(fill(tmp_path, "figure2", errors))
    (table,) = report.tables
    assert [row.label for row in table.rows] == [
        "p (keep) = 1.00: ReLU (baseline)",
        "p (keep) = 0.95: Drop-Activation (drop_prob 0.05)",
        "p (keep) = 0.90: Drop-Activation (drop_prob 0.1)",
        "p (keep) = 0.85: Drop-Activation (drop_prob 0.15)",
        "p (keep) = 0.60: Drop-Activation (drop_prob 0.4)",
    ]
    assert of_paper(report) is None
    assert markdown(report).startswith("**Figure 2: test error (%) on CIFAR-10 against p (keep)**")
    assert "Paper (%)" not in of_methods(table).headings
    assert "Difference to baseline (points)" in of_methods(table).headings
    assert {row.reference for row in table.rows[1:]} == {"p (keep) = 1.00: ReLU (baseline)"}
    assert table.rows[1].difference.mean < 0
    found = figure2.rows_by_keep(table)
    assert list(found) == pytest.approx([0.6, 0.85, 0.9, 0.95, 1.0])
    assert found[1.0].test.mean == 16.5
    drawn = "".join(ElementTree.fromstring(figure2.picture(table, "keep")).itertext())
    assert "smallest mean at 0.95 (diamond)" in drawn
    assert "train 0.25 %" in drawn
    # the made-up runs are 0.5, 0.75 and 1 point better with BatchNorm recomputed: t(2) = 4.303, 4.303 * 0.25 / sqrt(3)
    column = of_methods(table).headings.index("BatchNorm recomputed (%)")
    assert of_methods(table).rows[0][column].startswith("15.75 ± ")
    assert of_methods(table).rows[0][column].endswith("(−0.75 [−1.37, −0.13])")
    assert any("activations of evaluation" in note for note in table.notes)
    record = next(csv.DictReader(io.StringIO(comma_separated(report))))
    assert (record["recalibrated_test_error_mean"], record["recalibrated_difference_mean"]) == ("15.75", "-0.75")


def test_methods_of_one_point_are_told_apart_in_pictures(tmp_path):
    errors = {
        ("0.5", "depth-uniform"): [20.0, 21.0, 22.0],
        ("0.5", "depth-linear"): [20.5, 21.25, 22.0],
        ("0.9", "depth-uniform"): [18.0, 18.5, 19.0],
    }
    (table,) = collect(fill(tmp_path, "depth-budget-small", errors)).tables
    shorts = [figures.short_label(row, table) for row in table.rows]
    assert len(set(shorts)) == 3
    assert sum("uniform" in short for short in shorts) == 1  # the one of budget 0.9 is all there is of that line


def test_the_csv_names_row_schedule_and_the_papers_number(table1):
    records = list(csv.DictReader(io.StringIO(comma_separated(collect(table1)))))
    assert [(record["row"], record["method"], record["paper_test_error"]) for record in records] == [
        ("ResNet-164", "baseline", "25.16"),
        ("ResNet-164", "rrelu", "24.15"),
        ("ResNet-164", "drop-activation", "23.88"),
        ("ResNeXt-29-8×64d", "baseline", "17.77"),
        ("ResNeXt-29-8×64d", "drop-activation", "17.68"),
    ]
    assert {record["schedule"] for record in records} == {"shortened: 8 of 164 epochs", "shortened: 8 of 300 epochs"}
    assert [record["p_corrected"] == "" for record in records] == [True, False, False, True, False]
    assert all((record["detectable_difference"] == "") == (record["p_value"] == "") for record in records)


def test_runs_that_are_none_of_the_papers_stand_apart_and_last(table1):
    make_run(table1, errors=(1.0,))
    report = collect(table1)
    assert [table.label for table in report.tables] == ["ResNet-164", "ResNeXt-29-8×64d", ""]
    assert of_paper(report).rows[-1][0].startswith("ResNeXt")


def test_a_recipe_that_is_not_known_here_is_named(table1):
    path = table1 / "reproduction.json"
    path.write_text(path.read_text().replace("table1", "table11"))
    with pytest.raises(RecordError, match=r"reproduction.json: recipe: got 'table11'"):
        collect(table1)


def test_epochs_to_converge_are_counted_at_a_constant_rate_only(tmp_path):
    constant = {"network": "mlp-tanh-256-256-256", "schedule": "constant"}
    for seed, turn in enumerate((7, 9, 11)):  # the running mean of 5 is within 0.05 of its end 4 epochs later
        make_run(tmp_path / "constant", errors=(4.0,) * (turn - 1) + (2.0,) * (21 - turn), seed=seed, **constant)
    make_run(tmp_path / "cycle", errors=(4.0,) * 8, network="mlp-tanh-256-256-256")
    report = collect(tmp_path / "constant")
    (row,) = report.tables[0].rows
    assert (row.label, row.converged.mean, row.converged.n) == ("tanh (baseline)", 13.0, 3)
    grid = of_methods(report.tables[0])
    assert dict(zip(grid.headings, grid.rows[0], strict=True))["Epochs to converge"] == "13.0 ± 5.0"
    assert report.tables[0].notes[0].startswith("Epochs to converge, by our rule")
    (other,) = collect(tmp_path / "cycle").tables
    assert other.rows[0].converged is None
    assert not any("converge" in text for text in [*of_methods(other).headings, *other.notes])
