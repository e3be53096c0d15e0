"""`dropact reproduce` on a table that trains in seconds."""

import json
import xml.etree.ElementTree as ET

import pytest
from makers import digits_recipe, snapshot, tiny_data

from dropact.cli import main
from dropact.cli.progress import Bars
from dropact.experiments.errors import DataError
from dropact.experiments.recipes import RECIPES

SHORT = ["--epochs", "3"]
MARK = "shortened: 3 of 20 epochs"


@pytest.fixture(autouse=True)
def _digits_table(monkeypatch):
    monkeypatch.setitem(RECIPES, "digits-table", digits_recipe)


def reproduce(folder, *words):
    return main(["reproduce", "digits-table", "--out", str(folder), *words])


def without_times(folder):
    return {path: content for path, content in snapshot(folder).items() if path.name != "timing.json"}


@pytest.fixture(scope="module")
def shortened(tmp_path_factory):
    """The whole table on a shortened schedule."""
    folder = tmp_path_factory.mktemp("shortened") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "digits-table", digits_recipe)
        assert reproduce(folder, *SHORT) == 0
    return folder


def test_the_papers_numbers_stand_beside_ours_in_every_form(shortened, capsys):
    assert main(["report", str(shortened)]) == 0
    table, page = (shortened / "table.md").read_text(), (shortened / "report.html").read_text()
    page = page.replace("\u00a0", " ")  # an interval is not broken between lines
    for text in (capsys.readouterr().out, table, page):
        for words in ("Table 0: test error (%) on digits", "4.25 ± 0.50", "3.75", "5.25", "Small-3", "MLP-2"):
            assert words in text
        for words in ("A note on all rows.", "A note on Small-3.", "Nobody, Nothing, 1900", "seeds 0-1"):
            assert " ".join(words.split()) in " ".join(text.split())
    head = table.splitlines()[2]
    assert "| ReLU (baseline), paper (%) | ReLU (baseline), here (%) |" in head
    row = next(line for line in table.splitlines() if line.startswith("| MLP-2 ("))
    assert row.split("|")[5:7] == [" – ", " – "]  # it has no RReLU, there or here
    header, *lines = (shortened / "table.csv").read_text().splitlines()
    names = header.split(",")
    assert [line.split(",")[names.index("paper_test_error")] for line in lines] == [
        "4.25",
        "4.5",
        "3.75",
        "5.25",
        "5.0",
    ]
    assert lines[0].split(",")[names.index("paper_spread")] == "0.5"


def test_a_shortened_schedule_is_said_wherever_its_result_stands(shortened, capsys):
    assert main(["report", str(shortened)]) == 0
    assert capsys.readouterr().out.count(MARK) >= 2
    for name in ("table.md", "report.html", "comparison.svg", "comparison-2.svg"):
        assert MARK in (shortened / name).read_text()
    root = ET.parse(shortened / "comparison.svg").getroot()
    drawn = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert f"Schedule {MARK}" in drawn  # to be seen, not only in the title for those who listen
    page = (shortened / "report.html").read_text()
    headings = [part.partition("</h2>")[0] for part in page.split("<h2>")[1:3]]
    assert all(MARK in heading for heading in headings)
    assert page.count("not the paper&#x27;s experiment") == 2
    _, *lines = (shortened / "table.csv").read_text().splitlines()
    assert all(MARK in line for line in lines)
    configs = [json.loads(path.read_text()) for path in shortened.glob("runs/*/config.json")]
    assert len(configs) == 2 * 5
    assert {(config["epochs"], config["full_epochs"]) for config in configs} == {(3, 20)}
    assert {tuple(config["milestones"]) for config in configs} == {(1, 2), ()}


def test_progress_names_network_and_schedule(tmp_path, capsys):
    assert reproduce(tmp_path / "out", *SHORT, "--seeds", "1", "--methods", "baseline") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "test error" in line]
    assert lines[0].startswith("[1/2] simple-small, baseline, seed 0: test error ")
    assert lines[1].startswith("[2/2] mlp-800-800, baseline, seed 0: test error ")
    assert all(MARK in line for line in lines)


def test_a_full_schedule_bears_no_mark(tmp_path, capsys):
    assert reproduce(tmp_path / "out", "--row", "simple-small", "--methods", "baseline", "--seeds", "1") == 0
    shown = capsys.readouterr()
    assert "20 epochs" in shown.out
    for text in (shown.out, shown.err, *(path.read_text() for path in (tmp_path / "out").glob("*.*"))):
        assert "shortened" not in text
        assert "not the paper" not in text
    (config,) = (tmp_path / "out" / "runs").glob("*/config.json")
    assert json.loads(config.read_text())["full_epochs"] is None


def test_rows_methods_and_seeds_join_and_the_whole_is_the_same_as_at_once(tmp_path, shortened, capsys):
    out = tmp_path / "out"
    steps = [
        ["--row", "mlp-800-800", "--seeds", "1"],
        ["--methods", "baseline", "--seeds", "0-1"],
        [],
    ]
    counts = []
    kept = {}
    for words in steps:
        assert reproduce(out, *SHORT, *words) == 0
        runs = without_times(out / "runs")
        assert all(runs[path] == content for path, content in kept.items())  # nothing is trained twice
        kept = runs
        counts.append(len({path.parts[0] for path in runs}))
    assert counts == [2, 2 + 3, 10]
    capsys.readouterr()
    assert json.loads((out / "reproduction.json").read_text())["recipe"] == "digits-table"
    one, two = without_times(out / "runs"), without_times(shortened / "runs")
    assert one.keys() == two.keys()
    assert {path.name for path in one if one[path] != two[path]} <= {"environment.json"}  # which names the command


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipes_runs_are_trained_on_the_data_they_name(tmp_path, monkeypatch, name):
    trained = []

    def note(made, folder, data, watcher, environment, *where):
        assert environment["data_sha256"] == data.sha256
        trained.append((made, data.name))

    monkeypatch.setattr("dropact.experiments.validation.load_dataset", lambda name, root: tiny_data(name=name))
    monkeypatch.setattr("dropact.experiments.grid.train_run", note)
    monkeypatch.setattr("dropact.experiments.validation.check_runnable", lambda *asked: None)  # not on such images
    monkeypatch.setattr("dropact.cli.runs.report_on", lambda folder, known: None)
    assert main(["reproduce", name, "--seeds", "1", "--threads", "1", "--out", str(tmp_path)]) == 0
    assert {made.dataset for made, _ in trained} == {row.setting["dataset"] for row in RECIPES[name]().rows}
    assert all(made.dataset == data for made, data in trained)


def test_data_that_are_missing_are_missed_before_the_folder_is_claimed(tmp_path, monkeypatch, capsys):
    def load(name, root):
        if name == "cifar100":
            raise DataError(f"{name}: not there")
        return tiny_data(name=name)

    monkeypatch.setattr("dropact.experiments.validation.load_dataset", load)
    assert main(["reproduce", "depth-table", "--out", str(tmp_path / "out")]) == 2
    assert "cifar100: not there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stopped_the_same_command_goes_on(tmp_path, shortened, capsys, monkeypatch):
    out, done = tmp_path / "out", []

    def stop(self, config, result):
        done.append(config.key)
        if len(done) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bars, "finished", stop)
        assert reproduce(out, *SHORT) == 130
    assert not (out / "table.md").exists()
    kept = without_times(out / "runs")
    assert reproduce(out, *SHORT) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1 + 10 - 3
    runs = without_times(out / "runs")
    assert all(runs[path] == content for path, content in kept.items() if path.parts[0] in done)
    others = without_times(shortened / "runs")
    assert {path.name for path in others if others[path] != runs[path]} <= {"environment.json"}


def test_dry_run_says_what_there_is_to_do_and_does_nothing(tmp_path, shortened, capsys):
    before = snapshot(shortened)
    assert reproduce(shortened, *SHORT, "--seeds", "3", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "Small-3 (simple-small), 9 runs, 6 finished: ReLU (baseline), RReLU, Drop-Activation" in shown
    assert "times 0.1 at epochs 1, 2" in shown
    assert "A note on Small-3." in shown
    assert f"5 of 15 runs to train, into {shortened}." in shown
    assert snapshot(shortened) == before
    assert reproduce(tmp_path / "new", "--dry-run") == 0
    assert "10 of 10 runs" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_folders_are_named_after_recipe_and_schedule(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, folder in (
        (["table1"], "runs/table1"),
        (["table1", "--epochs", "8"], "runs/table1-8-epochs"),
        (["figure4"], "runs/table1"),  # whose runs it is read from
    ):
        assert main(["reproduce", *words, "--dry-run"]) == 0
        assert f"into {folder}. Nothing" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_the_precision_it_was_begun_with(tmp_path, capsys):
    words = [*SHORT, "--row", "simple-small", "--methods", "baseline", "--seeds", "1"]
    assert reproduce(tmp_path, *words, "--precision", "bfloat16") == 0
    capsys.readouterr()
    assert reproduce(tmp_path, *words, "--dry-run") == 0
    assert "0 of 1 runs to train" in capsys.readouterr().out
    assert reproduce(tmp_path, *words, "--precision", "float32") == 2
    assert "another comparison (precision 'bfloat16', asked for 'float32')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["table7"], ["recipe", "'table7'", "table1", "figure6"]),
        (["table1", "--row", "resnet-110"], ["row", "'resnet-110'", "table1", "resnet-164"]),
        (["table1", "--methods", "dropout"], ["method", "'dropout'", "table1", "baseline, rrelu, drop-activation"]),
        (["table1", "--methods", "rrelu", "--row", "resnext-29-8x64d"], ["rrelu", "resnext-29-8x64d", "baseline"]),
        (["table1", "--epochs", "2"], ["epochs", "2", "at least 3"]),
        (["table1", "--epochs", "0"], ["epochs", "0", "at least 3"]),
        (["figure2", "--epochs", "0"], ["epochs", "0", "at least 1"]),
        (["table1", "--seeds", "0"], ["--seeds", "no seeds"]),
        (["table1", "--precision", "half"], ["precision", "'half'", "bfloat16"]),
        (["table1", "--device", "tpu"], ["device", "'tpu'", "cpu"]),
        ([], ["RECIPE"]),
    ],
)
@pytest.mark.parametrize("verb", ["reproduce", "plan"])
def test_what_cannot_be_asked_for_is_one_line_and_changes_nothing(tmp_path, capsys, monkeypatch, verb, words, needles):
    monkeypatch.chdir(tmp_path)
    assert main([verb, *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert all(needle in shown.err for needle in needles), shown.err
    assert list(tmp_path.iterdir()) == []


def test_folders_of_something_else_are_refused(tmp_path, shortened, capsys, monkeypatch):
    before = snapshot(shortened)
    for words, needle in (
        (["reproduce", "table1", "--out", str(shortened)], "holds digits-table, asked for table1"),
        (["reproduce", "digits-table", "--out", str(shortened)], "another comparison (epochs 3, asked for 20)"),
        (["compare", "--out", str(shortened)], "no comparison.json"),
        (["train", "--out", str(shortened)], "holds a reproduction; extend it with `dropact reproduce`"),
    ):
        assert main(words) == 2
        assert needle in capsys.readouterr().err
    assert snapshot(shortened) == before


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        '{"recipe": 3, "rows": {}}',
        '{"recipe": "digits-table", "rows": []}',
        '{"recipe": "digits-table", "rows": {"simple-small": {}}}',
        '{"recipe": "table9", "rows": {}}',
    ],
)
def test_a_damaged_reproduction_is_named(tmp_path, capsys, text):
    words = [*SHORT, "--row", "simple-small", "--methods", "baseline", "--seeds", "1"]
    assert reproduce(tmp_path, *words) == 0
    capsys.readouterr()
    (tmp_path / "reproduction.json").write_text(text)
    before = snapshot(tmp_path)
    for command in (["reproduce", "digits-table", "--out", str(tmp_path), *words], ["report", str(tmp_path)]):
        status = main(command)
        shown = capsys.readouterr().err
        if command[0] == "report" or "table9" not in text:
            assert "reproduction.json" in shown
        assert (status, shown.count("\n")) == (2, 1)
    assert snapshot(tmp_path) == before
