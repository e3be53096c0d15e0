"""Every committed record says what made it, and shows the numbers that it showed when it was made."""

import csv
import hashlib
import io
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from dropact.experiments.grid import finished_runs
from dropact.experiments.packed import PACKED, STUDY
from dropact.report import collect
from dropact.report.figure3 import comma_separated as figure3_values
from dropact.report.figure3 import read_study
from dropact.report.text import comma_separated

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob(f"*/{PACKED}"))
RECORDS = sorted(path for path in RESULTS.glob("*/*.json") if path.name != STUDY)
# Of every number in table.csv, method to epochs to converge, as revision e114d16 wrote it from directories of runs.
NUMBERS = {
    "cifar10-resnet-20": "60a123e838c1b52c",
    "cifar10-simple": "a23055e9ca478bac",
    "depth-budget-small": "b8f05399589e8f78",
    "digits": "aadd7e6f56355afc",
    "figure2-augmented": "a0b78084fd8dd1c2",
    "figure2": "809d37d4d5f09669",
    "figure6-small": "60095e87f3be7a48",
    "gaaf-mnist": "11f7ec579ede97fb",
    "methods-cifar10": "4a7019307d45f8b3",
    "methods-cifar100": "3da7ce05d199063b",
}
FIGURE3 = "2875abddbf18b197"


@cache
def runs(study):
    return finished_runs(RESULTS / study)


def all_runs():
    return [run for study in STUDIES for run in runs(study)]


def checksums(study):
    return {run.environment["data_sha256"] for run in runs(study)}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("study", NUMBERS)
def test_a_study_shows_the_numbers_that_it_showed_to_the_last_digit(study):
    rows = list(csv.DictReader(io.StringIO(comma_separated(collect(RESULTS / study)))))
    columns = list(rows[0])
    shown = columns[columns.index("method") : columns.index("batch_size")]
    assert digest(json.dumps([[row[name] for name in shown] for row in rows])) == NUMBERS[study]


def test_figure_3_shows_the_numbers_that_it_showed():
    assert digest(figure3_values(read_study(RESULTS / "figure3"))) == FIGURE3


def test_a_study_is_a_few_files_and_no_page_is_kept():
    tracked = subprocess.run(
        ["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("no git checkout")
    for study in STUDIES:
        assert len([name for name in tracked if name.startswith(f"results/{study}/")]) <= 5
    assert [name for name in tracked if name.endswith((".html", ".csv", ".pt"))] == []


def environments(record):
    """Those a record was made in: itself where it names no other."""
    several = record.get("environments")
    if isinstance(several, dict):
        assert several.keys() == record["parts"].keys()
        return list(several.values())
    return several or [record.get("environment", record)]


def missing(environment):
    """The fields without a usable value."""
    fields = {
        "command": r"(python|dropact) .+",
        "git_revision": "[0-9a-f]{40}",  # of a clean tree: no "+changes"
        "python": r"3\.\d+.*",
        "system": r"\w+ \w+",
        "processor": r".*\w.*",
        "threads": r"[1-9]\d*",
    }
    values = {**environment, "torch": environment.get("packages", {}).get("torch")}
    patterns = {**fields, "torch": r"\d+\.\d+.*"}
    return [field for field, pattern in patterns.items() if not re.fullmatch(pattern, str(values.get(field, "")))]


def test_there_are_records():
    assert len(all_runs()) >= 466
    assert len(RECORDS) >= 10


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_a_record_says_what_made_it(path):
    for environment in environments(read(path)):
        assert missing(environment) == []


def test_the_simulations_say_which_digits_they_trained_on():
    made = environments(read(RESULTS / "theory" / "simulation.json"))
    assert {one["data_sha256"] for one in made} == checksums("digits")


@pytest.mark.parametrize("study", STUDIES)
def test_a_run_says_what_made_it_and_on_which_data(study):
    found = {run.config.key: run.environment for run in runs(study)}
    assert {key: wrong for key, environment in found.items() if (wrong := missing(environment))} == {}
    assert [key for key, made in found.items() if not re.fullmatch("[0-9a-f]{64}", made["data_sha256"])] == []


def test_what_was_measured_of_runs_says_that_it_was_on_their_data():
    assert {read(RESULTS / "gaaf-argument" / "argument.json")["data_sha256"]} == checksums("gaaf-mnist")


def test_a_benchmark_on_images_says_which():
    said = {record["data_sha256"] for record in map(read, RECORDS) if record.get("data") == "cifar10"}
    assert len(said) == 1
    assert said <= {run.environment["data_sha256"] for run in all_runs() if run.config.dataset == "cifar10"}


def test_all_runs_on_one_data_set_had_the_same_data():
    found = {}
    for run in all_runs():
        found.setdefault(run.config.dataset, set()).add(run.environment["data_sha256"])
    assert {dataset: len(of) for dataset, of in found.items() if len(of) > 1} == {}
