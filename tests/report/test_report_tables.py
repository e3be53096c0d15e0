import csv
import io

import pytest
from makers import ENVIRONMENT, config, make_diverged, make_run
from rich.console import Console
from scipy import stats

from dropact.experiments.comparison import Comparison, claim_folder
from dropact.experiments.errors import RecordError
from dropact.experiments.statistics import summarise
from dropact.report import collect, show
from dropact.report.captions import mean_and_interval, setting_sentence, signed
from dropact.report.tables import seed_ranges
from dropact.report.text import comma_separated, markdown

ERRORS = {"baseline": [4.0, 5.0, 3.5], "dropout": [3.0, 4.5, 3.25], "drop-activation": [4.5, 4.75, 3.0]}


def fill(folder, **fields):
    for method, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            make_run(folder, errors=(9.0, error), method=method, seed=seed, **fields)


def test_rows_hold_the_numbers_of_the_runs(tmp_path):
    fill(tmp_path)
    (table,) = collect(tmp_path).tables
    assert [row.method for row in table.rows] == list(ERRORS)
    for row in table.rows:
        assert row.test.mean == pytest.approx(sum(ERRORS[row.method]) / 3)
        assert row.best.mean == row.test.mean
        assert row.train.mean == 0.25
    dropout = table.rows[1].difference
    expected = stats.ttest_rel(ERRORS["dropout"], ERRORS["baseline"])
    assert dropout.p_value == pytest.approx(expected.pvalue)
    assert dropout.low == pytest.approx(expected.confidence_interval().low)
    assert table.rows[0].difference is None


def test_the_last_epoch_counts_not_the_best(tmp_path):
    for seed in range(2):
        make_run(tmp_path, errors=(1.0, 6.0 + seed), seed=seed)
    (row,) = collect(tmp_path).tables[0].rows
    assert row.test.mean == 6.5
    assert row.best.mean == 1.0


def test_runs_of_different_settings_are_not_mixed(tmp_path):
    fill(tmp_path)
    make_run(tmp_path, errors=(9.0, 8.0, 1.0), seed=0)
    make_run(tmp_path, errors=(9.0, 8.0), seed=0, lr=0.2)
    report = collect(tmp_path)
    assert sorted(sum(row.test.n for row in table.rows) for table in report.tables) == [1, 1, 9]
    assert any("3 settings" in note and "epochs, lr" in note for note in report.notes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["batch 8, learning rate"]),
        ({"microbatches": 2}, ["batch 8, in 2 microbatches with masks of its own in each", "statistics over each,"]),
        ({"microbatches": 2, "shared_masks": True}, ["in 2 microbatches with the same masks in all"]),
        ({"microbatches": 2, "sync_batchnorm": True}, ["BatchNorm's statistics over all of them"]),
    ],
)
def test_the_setting_says_how_batches_are_cut(fields, words):
    sentence = setting_sentence(config(**fields).setting, [0])
    assert all(word in sentence for word in words), sentence


def test_a_method_with_two_options_has_two_rows(tmp_path):
    make_run(tmp_path, method="dropout", options={"rate": 0.2})
    make_run(tmp_path, method="dropout", options={"rate": 0.5})
    (table,) = collect(tmp_path).tables
    assert [row.label for row in table.rows] == ["Dropout (rate 0.2)", "Dropout (rate 0.5)"]


def test_unequal_seeds_are_said_and_differences_use_the_common_ones(tmp_path):
    for seed, error in enumerate([4.0, 5.0, 3.5, 9.0]):
        make_run(tmp_path, errors=(9.0, error), seed=seed)
    for seed, error in zip([1, 2, 7], [4.0, 3.25, 0.0], strict=True):
        make_run(tmp_path, errors=(9.0, error), seed=seed, method="dropout")
    (table,) = collect(tmp_path).tables
    assert table.rows[1].difference.n == 2
    assert table.rows[1].difference.mean == pytest.approx(-0.625)
    assert any("0-3" in note and "1-2,7" in note for note in table.notes)
    assert "(n = 2)" in markdown(collect(tmp_path))


def test_one_seed_says_that_there_is_no_interval(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, method="rrelu")
    text = markdown(collect(tmp_path))
    assert text.count("one seed: no interval") == 3
    assert "±" not in text.split("Mean over n seeds")[0]


def test_without_a_baseline_there_is_no_difference(tmp_path):
    make_run(tmp_path, method="rrelu")
    (table,) = collect(tmp_path).tables
    assert table.rows[0].difference is None
    assert any("no baseline" in note for note in table.notes)


def test_unfinished_runs_and_mixed_environments_are_said(tmp_path):
    comparison = Comparison.of(config().setting, {"baseline": {}, "dropout": {}}, [0, 1])
    claim_folder(tmp_path, comparison)
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, environment={**ENVIRONMENT, "threads": 2, "command": "another"})
    notes = collect(tmp_path).notes
    assert any("2 of 4 runs" in note for note in notes)
    assert any("differ in threads" in note for note in notes)


def test_runs_begun_without_a_plan_and_left_are_said(tmp_path):
    make_run(tmp_path, seed=0)
    assert collect(tmp_path).gaps == ""
    directory = make_run(tmp_path, seed=1)
    (directory / "result.json").unlink()
    (tmp_path / "runs" / ".DS_Store").write_bytes(b"")
    report = collect(tmp_path)
    assert report.gaps == "1 of 2 runs not finished"
    assert "1 of 2 runs begun here are not finished; p is corrected without them." in report.notes


def test_a_field_that_only_one_environment_has_is_said_whichever_comes_first(tmp_path):
    for seed, more in enumerate(({"ranks": 2}, {"before": [ENVIRONMENT]})):
        make_run(tmp_path, seed=seed, environment={**ENVIRONMENT, **more})
    (note,) = (note for note in collect(tmp_path).notes if "same environment" in note)
    assert "ranks" in note
    assert "environment of an earlier part" in note


def test_runs_that_diverged_are_named_beside_the_means_without_them(tmp_path):
    comparison = Comparison.of(config().setting, {"baseline": {}, "dropout": {}}, [0, 1, 2])
    claim_folder(tmp_path, comparison)
    for seed in range(2):
        make_diverged(tmp_path, seed=seed)
    with pytest.raises(RecordError, match=r"no finished run in .*, 2 diverged"):
        collect(tmp_path)
    make_run(tmp_path, seed=2)
    make_diverged(tmp_path, method="dropout", seed=1)
    notes = collect(tmp_path).notes
    (note,) = (note for note in notes if "diverged" in note)
    assert note.startswith("3 of 4 runs diverged")
    assert "no result: ReLU (baseline), seeds 0-1; Dropout (rate 0.5), seed 1. Means" in note
    assert "2 of 6 runs of this comparison are not finished; p is corrected without them." in notes
    assert note in markdown(collect(tmp_path))
    make_diverged(tmp_path, lr=0.2, seed=1)
    assert any("ReLU (baseline), lr 0.2, seed 1" in note for note in collect(tmp_path).notes)


def test_what_must_be_said_of_the_data_is_said_once(tmp_path):
    for seed in range(2):
        make_run(tmp_path, seed=seed, environment={**ENVIRONMENT, "data_note": "20 images are approximations"})
    assert markdown(collect(tmp_path)).count("Note: Data: 20 images are approximations.") == 1


def test_a_note_from_a_record_is_neither_markup_nor_a_terminals_command(tmp_path):
    make_run(tmp_path, environment={**ENVIRONMENT, "data_note": "a<b>c\x1b[31m"})
    text = markdown(collect(tmp_path))
    assert "<b>" not in text
    assert "\x1b" not in text
    assert "Data: a&lt;b>c[31m." in text


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, word in ((tmp_path, "no finished run"), (tmp_path / "file", "a file"), (tmp_path / "x", "not there")):
        with pytest.raises(RecordError, match=word):
            collect(folder)


def test_csv_has_full_precision_and_markdown_the_rounded_numbers(tmp_path):
    fill(tmp_path)
    report = collect(tmp_path)
    records = list(csv.DictReader(io.StringIO(comma_separated(report))))
    assert [record["method"] for record in records] == list(ERRORS)
    assert records[1]["options"] == "rate=0.5"
    assert records[1]["seeds"] == "0-2"
    expected = stats.ttest_rel(ERRORS["dropout"], ERRORS["baseline"])
    assert float(records[1]["p_value"]) == pytest.approx(expected.pvalue, rel=1e-12)
    assert records[0]["difference_mean"] == ""
    assert float(records[2]["test_error_mean"]) == sum(ERRORS["drop-activation"]) / 3
    setting = {"lr": "0.1", "batch_size": "8", "lr_schedule": "one-cycle", "schedule": "full", "milestones": ""}
    assert records[0].items() >= setting.items()
    assert {*config().setting} - {"schedule"} <= records[0].keys()
    low, high = expected.confidence_interval()
    line = next(line for line in markdown(report).splitlines() if "Dropout" in line)
    assert f"| −0.58 [{signed(low)}, {signed(high)}] |" in line


def test_the_terminal_shows_every_row_and_labels_the_best_epoch(tmp_path):
    fill(tmp_path)
    console = Console(width=160, record=True, file=io.StringIO())
    show(collect(tmp_path), console)
    text = console.export_text()
    for words in ("ReLU (baseline)", "Dropout (rate 0.5)", "−0.58", "Best epoch,", "not used", "seeds 0-2"):
        assert words in text


def test_numbers_read_as_numbers():
    assert signed(-0.004) == "0.00"
    assert signed(0.25) == "+0.25"
    assert signed(-0.25) == "−0.25"
    assert mean_and_interval(summarise([2.0])) == "2.00"
    assert seed_ranges([5]) == "5"
    assert seed_ranges([3, 0, 1, 2, 9]) == "0-3,9"
