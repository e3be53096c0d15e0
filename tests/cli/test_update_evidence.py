import json

import pytest
from generated import marks
from makers import ENVIRONMENT, config, make_diverged, make_run
from update_evidence import main

from dropact.experiments.comparison import Comparison, claim_folder
from dropact.report import collect, write_report

BEGIN, END = marks("results")
README = ("where", "results", "speed")
PAGE = ("overview", "comparisons", "times", "runs")


@pytest.fixture
def root(tmp_path):
    for seed in range(2):
        make_run(tmp_path / "results" / "digits", errors=(9.0, 4.0 + seed), seed=seed)
        make_run(tmp_path / "results" / "digits", errors=(9.0, 3.0 + seed * 1.001), seed=seed, method="drop-activation")
    write_report(collect(tmp_path / "results" / "digits"), tmp_path / "results" / "digits")
    readme = "\nold\n".join(mark for name in README for mark in marks(name))
    (tmp_path / "README.md").write_text(f"# Title\n\n{readme}\n\nEnd\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "evidence.md").write_text("\n".join(mark for name in PAGE for mark in marks(name)))
    return tmp_path


def evidence_page(root):
    return (root / "docs" / "evidence.md").read_text()


def test_the_blocks_are_filled_and_then_found_up_to_date(root):
    assert main(root, ["--check"]) == 1
    assert main(root, []) == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nEnd\n")
    for name in README:  # of what it is about nothing is recorded
        assert "None recorded yet.".join(f"{mark}" for mark in (f"{marks(name)[0]}\n", f"\n{marks(name)[1]}")) in text
    text = evidence_page(root)
    # differences −1 and −0.999: t(1) = 12.706, so the interval is 12.706 * 0.0005 on either side
    study = "| [digits](../results/digits/table.md): digits, simple-small, 2 epochs | 2 | 4.50 ± 6.35 |"
    assert f"{study} Drop-Activation (drop_prob 0.05) −1.00 [−1.01, −0.99] | – | – |" in text
    assert "](../results/digits/comparison.svg)" in text
    line = "| Drop-Activation (drop_prob 0.05) | 2 | 4.50 ± 6.35 | −1.00 [−1.01, −0.99] | < 0.001 | "
    for words in (line, " | better |", "](../results/digits/table.md): 2 epochs of SGD", "`dropact compare`"):
        assert words in evidence_page(root)
    assert main(root, ["--check"]) == 0


def test_of_every_study_the_runs_their_hours_and_revisions_are_listed(root):
    folder = root / "results" / "begun"
    planned = Comparison.of(config().setting, {"baseline": {}, "drop-activation": {}}, [0, 1])
    claim_folder(folder, planned)
    finished = [("a" * 40, 900), ("a" * 40, 1800), ("b" * 40, 5400)]
    for run, (revision, seconds) in zip(planned.configs(), finished, strict=False):
        environment = ENVIRONMENT | {"git_revision": revision, "threads": 2}
        directory = make_run(folder, environment=environment, method=run.method, seed=run.seed, options=run.options)
        (directory / "timing.json").write_text(json.dumps({"total_seconds": seconds, "epoch_seconds": [seconds]}))
    write_report(collect(folder), folder)
    assert main(root, []) == 0
    counted = f"{'a' * 12}: 2, {'b' * 12}: 1"
    text = evidence_page(root)
    # with what is missing wherever its means stand
    assert "| [begun](../results/begun/table.md) (1 of 4 runs not finished): " in text
    assert "| [begun](../results/begun/table.md) (1 of 4 runs not finished), digits" in text
    assert "* [begun](../results/begun/table.md) (1 of 4 runs not finished): " in text
    assert f"](../results/begun/table.md) | 3 of 4 | 4.5 | 1 | {counted} |\n" in text
    assert "](../results/digits/table.md) | 4 | 0.00022 | – | not recorded: 4 |\n" in text  # 4 × 2 × 0.1 s


def test_a_study_less_than_half_run_is_not_in_the_overview(root):
    folder = root / "results" / "begun"
    planned = Comparison.of(config().setting, {"baseline": {}, "drop-activation": {}}, [0, 1, 2])
    claim_folder(folder, planned)
    for run in planned.configs()[:2]:
        make_run(folder, method=run.method, seed=run.seed, options=run.options)
    write_report(collect(folder), folder)
    assert main(root, []) == 0
    overview = evidence_page(root).partition(marks("overview")[1])[0]
    assert "digits" in overview
    assert "begun" not in overview
    assert "[begun](../results/begun/table.md) (4 of 6 runs not finished)" in evidence_page(root)


def test_runs_that_diverged_are_missed_and_not_waited_for(root):
    folder = root / "results" / "lost"
    claim_folder(folder, Comparison.of(config().setting, {"baseline": {}, "drop-activation": {}}, [0, 1]))
    for seed in range(2):
        make_run(folder, seed=seed)
    make_run(folder, method="drop-activation", options={"drop_prob": 0.05})
    make_diverged(folder, method="drop-activation", options={"drop_prob": 0.05}, seed=1)
    write_report(collect(folder), folder)
    assert main(root, []) == 0
    assert "[lost](../results/lost/table.md) (1 of 4 runs diverged): " in evidence_page(root)
    assert "](../results/lost/table.md) | 3 of 4 | 0.00017 | – |" in evidence_page(root)  # 3 × 2 × 0.1 s


def test_the_variance_shift_of_a_study_that_recorded_one_is_there(root):
    folder = root / "results" / "shifts"
    for seed, first in enumerate((3.0, 2.0)):
        readings = [
            {"step": step, "site": "stage2", "variance_shift": value} for step, value in ((100, first), (200, 1.25))
        ]
        make_run(folder, readings=readings, seed=seed, network="resnet-20", recorded=("stage2",))
    write_report(collect(folder), folder)
    assert main(root, []) == 0
    text = evidence_page(root)
    assert (
        "Variance shift while training, [shifts](../results/shifts/table.md):\n\n* ReLU (baseline), Var(test)" in text
    )
    assert "after stage2: 2.500 [−3.853, 8.853] at step 100, 1.250 at step 200.\n" in text  # 0.5 * 12.706


def test_commands_that_differ_in_their_seeds_alone_are_one(root):
    folder = root / "results" / "parts"
    for seed, words in enumerate(
        ["--seeds 2 --row a", "--row a", "--seeds 2-2,4 --row a", "--seeds 3 --row b", "--row a"]
    ):
        make_run(folder, environment=ENVIRONMENT | {"command": f"dropact reproduce x {words}"}, seed=seed)
    write_report(collect(folder), folder)
    main(root, [])
    made = ("--row a", "--seeds 0-2,4 --row a", "--seeds 3 --row b")
    assert f"Made by {', '.join(f'`dropact reproduce x {words}`' for words in made)}.\n" in evidence_page(root)


def test_a_number_changed_by_hand_is_found(root, capsys):
    for place, number in (("README.md", "None recorded"), ("docs/evidence.md", "4.50")):
        main(root, [])
        page = root / place
        page.write_text(page.read_text().replace(number, "4.40"))
        assert main(root, ["--check"]) == 1
        assert capsys.readouterr().err.startswith(f"{place}: ")
    table = root / "results" / "digits" / "table.md"
    table.write_text(table.read_text().replace("4.50", "4.40"))
    assert main(root, []) == 1
    assert "results/digits/table.md" in capsys.readouterr().err


def test_what_a_gpu_has_measured_is_there_under_its_name(root):
    environment = {"command": "python x", "accelerator": "NVIDIA H200", "device": "cuda", "packages": {"torch": "2.11"}}
    ratio = {"ratio": 5.0, "low": 4.5, "high": 5.5}
    rows = [{"name": "ours, CUDA graphs", "images_per_second": 12345.6, "to_usual": ratio}]
    rates = {"format": "dropact throughput 1", "network": "ResNet-164", "batch": 128, "rows": rows}
    row = {"label": "F.relu", "figures": {"host": ratio | {"ratio": 9.0}, "both": ratio}}
    about = {"what": "operation", "mode": "eager", "dtype": "bfloat16", "shape": [1024, 64], "layout": "contiguous"}
    tables = {"format": "dropact bench 1", "tables": [about | {"rows": [row]}]}
    (root / "results" / "gpu").mkdir()
    for name, record in (("rates", rates), ("tables", tables), ("other", {"format": "dropact many runs 1"})):
        text = json.dumps(record | {"environment": environment})
        (root / "results" / "gpu" / f"{name}.json").write_text(text)
    assert main(root, []) == 0
    text = evidence_page(root)
    assert "| ResNet-164, batch 128 |" in text
    assert "| ours, CUDA graphs | 12346 | 5.00 [4.50, 5.50] | – |" in text
    assert "| operation, eager, bfloat16, [1024, 64] | 5.00 [4.50, 5.50] |" in text  # not the host's time
    assert text.count("Made by `python x` on NVIDIA H200, torch 2.11.\n") == 2


def test_the_front_page_has_a_line_per_claim_and_one_per_kind_of_measurement(root):
    for seed in range(2):
        for method, error in (("baseline", 4.0), ("drop-activation", 3.0 + seed * 0.001)):
            make_run(root / "results" / "figure2", errors=(9.0, error + seed), seed=seed, method=method)
    write_report(collect(root / "results" / "figure2"), root / "results" / "figure2")
    environment = {"command": "python x", "accelerator": "NVIDIA H200", "device": "cuda", "packages": {}, "noise": []}
    about = {"what": "operation", "mode": "eager", "dtype": "bfloat16", "layout": "contiguous"}
    tables = []
    for shape, ratio in (([1024], 1.25), ([8], 7.0)):
        both = {"ratio": ratio, "low": ratio, "high": ratio}
        rows = [{"label": name, "figures": {"both": both}} for name in ("F.relu", "drop_activation")]
        tables.append(about | {"shape": shape, "rows": rows})
    (root / "results" / "gpu").mkdir()
    record = {
        "format": "dropact bench 1",
        "tables": tables,
        "environment": environment | {"packages": {"torch": "2.11"}},
    }
    (root / "results" / "gpu" / "tables.json").write_text(json.dumps(record))
    assert main(root, []) == 0
    text = (root / "README.md").read_text()
    assert "| digits, simple-small, 2 epochs | 2 | 1 better (−1.0) | [table](results/figure2/table.md) |" in text
    assert "| operation, eager, bfloat16, cuda | 1.25 | – | – | – |" in text  # the first shape alone
    assert "\n\nOn NVIDIA H200.\n" in text
    assert "7.00" not in text


def test_what_a_benchmark_doubts_of_itself_is_said_beside_its_figures(root):
    environment = {"command": "python x", "accelerator": None, "processor": "an abacus", "threads": 1, "device": "cpu"}
    environment |= {"packages": {"torch": "2.11"}, "noise": ["load average 3.00 at the start"]}
    ratio = {"ratio": 5.0, "low": 4.5, "high": 5.5}
    about = {"what": "operation", "mode": "eager", "dtype": "bfloat16", "shape": [8], "layout": "contiguous"}
    quiet = about | {"rows": [{"label": "F.relu", "figures": {"both": ratio}}], "noise": []}
    wild = quiet | {"dtype": "float32", "noise": ["F.relu's own time varies by 29 %"]}
    (root / "results" / "bench").mkdir()
    record = {"format": "dropact bench 1", "complete": False, "environment": environment, "tables": [quiet, wild]}
    (root / "results" / "bench" / "tables.json").write_text(json.dumps(record))
    rates = {"format": "dropact throughput 1", "network": "ResNet-164", "batch": 128, "noise": ["others used 1 core"]}
    (root / "results" / "bench" / "rates.json").write_text(json.dumps(rates | {"environment": environment, "rows": []}))
    assert main(root, []) == 0
    text = evidence_page(root)
    first = "Made by `python x` on an abacus, 1 thread, torch 2.11. Noisy: load average 3.00 at the start; "
    wild = "F.relu's own time varies by 29 % in operation, eager, float32, [8], contiguous.\n"
    assert f"{first}stopped before all was measured; {wild}" in text
    assert f"{first}others used 1 core.\n" in text


@pytest.mark.parametrize("text", ["no marks", "{end}{begin}", "{begin}", "{begin}{end}{begin}{end}"])
def test_marks_that_are_missing_or_double_are_refused(root, capsys, text):
    page = root / "README.md"
    page.write_text(page.read_text().replace(f"{BEGIN}\nold\n{END}", text.format(begin=BEGIN, end=END)))
    assert main(root, []) == 1
    assert "results:begin" in capsys.readouterr().err
