from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from dropact.cli import main
from dropact.experiments.recipes import figure3
from dropact.experiments.recipes.figure3 import Regression
from dropact.report.figure3 import grid, markdown, picture, read_study, write_figure3

RESULTS = Path(__file__).parents[2] / "results" / "figure3"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure3")
    figure3.run(
        folder, range(4), "dropact reproduce figure3", study=Regression(widths=(16, 8), steps=(1, 20), tested=11)
    )
    return read_study(folder)


def test_the_table_has_every_function_and_length_of_training_and_the_paired_test(small):
    rows = {(row[0], row[1]): row for row in grid(small).rows}
    assert list(rows) == [("x sin x", "1"), ("x sin x", "20"), ("steps", "1"), ("steps", "20")]
    ours, baseline = (
        [small.record["seeds"][str(s)]["steps"][method]["20"]["test"] for s in range(4)]
        for method in ("drop-activation", "baseline")
    )
    found = stats.ttest_rel(ours, baseline)
    low, high = found.confidence_interval()
    mean = sum(ours) / 4 - sum(baseline) / 4
    shown = rows["steps", "20"][6].replace("−", "-")
    assert shown == f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]".replace("+0.00", "0.00").replace("-0.00", "0.00")
    assert rows["steps", "20"][4].startswith(f"{sum(baseline) / 4:.2f} ± ")


def test_sentences_count_seeds_and_name_the_best_length(small):
    ours, baseline = (
        [small.record["seeds"][str(s)]["steps"][method][step]["test"] for s in range(4)]
        for method, step in (("drop-activation", "20"), ("baseline", "20"))
    )
    lower = sum(a < b for a, b in zip(ours, baseline, strict=True))
    assert f"smaller in {lower} of 4 seeds" in small.sentences()[1]
    means = {
        step: sum(small.record["seeds"][str(s)]["steps"]["baseline"][step]["test"] for s in range(4)) / 4
        for step in ("1", "20")
    }
    best = min(means, key=means.get)
    assert f"ReLU has {means[best]:.2f} (at {best} steps)" in small.sentences()[1]


def test_the_picture_is_whole_and_says_what_it_shows(small, tmp_path):
    root = ElementTree.fromstring(picture(small))
    text = "".join(root.itertext())
    for words in ("True function", "ReLU (baseline)", "Drop-Activation", "Training points", "(a) x sin x, seed 0"):
        assert words in text
    written = {path.name: path.read_text(encoding="utf-8") for path in write_figure3(small, tmp_path)}
    assert written.keys() == {"table.md", "table.csv", "figure3.svg", "report.html"}
    assert written["report.html"].count("<svg") == 3
    assert len(written["table.csv"].splitlines()) == 1 + 2 * 2 * 2 * 4  # functions, steps, methods, seeds


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    figure3.run(tmp_path, [7], "dropact reproduce figure3", study=Regression(widths=(4,), steps=(1,), tested=2))
    study = read_study(tmp_path)
    assert "one seed: no interval" in study.sentences()[0]
    assert picture(study)


def test_the_command_takes_only_what_it_can_use(tmp_path, capsys):
    for words, message in (
        (["--epochs", "3"], "--epochs: figure3 is a regression of its own and does not take it"),
        (["--precision", "bfloat16"], "--precision: figure3"),
        (["--epochs", "0"], "--epochs: figure3"),
        (["--cpus-per-run", "2"], "--cpus-per-run: figure3"),
        (["--gpus-per-run", "0"], "--gpus-per-run: figure3"),
        (["--data", "data"], "--data: figure3"),
        (["--checkpoint-seconds", "300"], "--checkpoint-seconds: figure3"),
        (["--device", "cuda"], "--device: got 'cuda', accepted for figure3: cpu"),
        (["--threads", "0"], "--threads: got '0', accepted: a whole number from 1 to 4,096"),
    ):
        assert main(["reproduce", "figure3", "--out", str(tmp_path / "out"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_trains_and_writes(tmp_path, capsys, monkeypatch):
    small = Regression(widths=(8,), steps=(1, 2), tested=11)
    run = figure3.run
    monkeypatch.setattr(figure3, "run", lambda out, seeds, command: run(out, seeds, command, study=small))
    assert main(["reproduce", "figure3", "--out", str(tmp_path), "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "x sin x: Drop-Activation's distance to the truth" in shown
    written = {"table.md", "table.csv", "figure3.svg", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == {"figure3.json", *written}
    for name in written:
        (tmp_path / name).unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert written < {path.name for path in tmp_path.iterdir()}
    assert read_study(tmp_path).record["environments"][0]["command"].startswith("dropact reproduce figure3 --out")


@pytest.mark.skipif(not RESULTS.exists(), reason="not recorded yet")
def test_the_committed_table_is_what_the_record_says():
    study = read_study(RESULTS)
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == markdown(study)
    assert len(study.seeds) >= 20
    assert study.record["study"] == figure3._json(Regression())
