"""Every committed record says what made it: command, revision, versions, hardware, and for runs the data."""

import json
import re
from pathlib import Path

import pytest

from dropact.experiments.comparison import VERBS

RESULTS = Path(__file__).parents[1] / "results"
CLAIMS = tuple(VERBS)  # what a folder of runs is for; its runs say what made them
RUNS = sorted(RESULTS.glob("*/runs/*/environment.json"))
RECORDS = sorted(path for path in RESULTS.glob("*/*.json") if path.name not in CLAIMS)


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
    assert len(RUNS) >= 300
    assert len(RECORDS) >= 10


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_a_record_says_what_made_it(path):
    for environment in environments(json.loads(path.read_text(encoding="utf-8"))):
        assert missing(environment) == []


def test_the_simulations_say_which_digits_they_trained_on():
    made = environments(json.loads((RESULTS / "theory" / "simulation.json").read_text(encoding="utf-8")))
    runs = [path for path in RUNS if path.is_relative_to(RESULTS / "digits")]
    trained_on = {json.loads(path.read_text(encoding="utf-8"))["data_sha256"] for path in runs}
    assert {one["data_sha256"] for one in made} == trained_on


def test_a_run_says_what_made_it_and_on_which_data():
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in RUNS}
    assert {path: wrong for path, environment in found.items() if (wrong := missing(environment))} == {}
    without = [path for path, made in found.items() if not re.fullmatch("[0-9a-f]{64}", made["data_sha256"])]
    assert without == []


def test_what_was_measured_of_runs_says_that_it_was_on_their_data():
    argument = json.loads((RESULTS / "gaaf-mnist" / "argument.json").read_text(encoding="utf-8"))
    runs = [path for path in RUNS if path.is_relative_to(RESULTS / "gaaf-mnist")]
    assert {json.loads(path.read_text(encoding="utf-8"))["data_sha256"] for path in runs} == {argument["data_sha256"]}


def test_a_benchmark_on_images_says_which():
    named = [json.loads(path.read_text(encoding="utf-8")) for path in RECORDS]
    said = {record["data_sha256"] for record in named if record.get("data") == "cifar10"}
    runs = [json.loads(path.read_text(encoding="utf-8"))["data_sha256"] for path in RUNS if "cifar10-" in str(path)]
    assert len(said) == 1
    assert said <= set(runs)


def test_all_runs_on_one_data_set_had_the_same_data():
    checksums = {}
    for path in RUNS:
        dataset = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["dataset"]
        checksums.setdefault(dataset, set()).add(json.loads(path.read_text(encoding="utf-8"))["data_sha256"])
    assert {dataset: len(found) for dataset, found in checksums.items() if len(found) > 1} == {}
