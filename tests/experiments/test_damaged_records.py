"""Every field of every record, gone or in turn something else: whoever reads it has a report, or one line about it."""

import copy
import hashlib
import json

import pytest
from makers import config, make_diverged, make_run

from dropact.experiments.comparison import Comparison, claim_folder
from dropact.experiments.errors import UserError
from dropact.experiments.packed import PACKED, STUDY, pack, runs_in
from dropact.experiments.progress import progress_of, seconds_left
from dropact.experiments.recipes import figure3
from dropact.report import figure3 as of_figure3
from dropact.report.collect import collect
from dropact.report.progress import grid, sentence
from dropact.report.text import comma_separated, markdown

OTHERS = [None, True, -1, 0, 3, 1.5, 1e300, 10**400, float("nan"), "x", "", "\ud800", [], {}, [1], {"a": 1}, [[]]]


def places(value, place=()):
    yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield from places(value[index], (*place, index))


def damaged(value):
    yield from OTHERS
    for *above, last in list(places(value))[1:]:
        for other in (..., *OTHERS):
            made = copy.deepcopy(value)
            at = made
            for name in above:
                at = at[name]
            if other is ...:
                del at[last]
            else:
                at[last] = other
            yield made


def report(folder):
    found = collect(folder)
    markdown(found)
    comma_separated(found)


def watch(folder):
    found = progress_of(folder)
    grid(found)
    sentence(found)
    seconds_left(found)


def regression(folder):
    found = of_figure3.read_study(folder)
    found.sentences()
    of_figure3.markdown(found)
    of_figure3.comma_separated(found)


def hold(path, readers, folder, seal=None):
    """Damages the first line of a file of JSON lines, or a whole file of JSON; every reader copes or says so in a line.

    Returns how often one did."""
    first, *rest = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    said = []
    for value in damaged(json.loads(first)):
        path.write_text("\n".join([json.dumps(value), *rest]) + "\n")
        if seal:
            seal()
        for read in readers:
            try:
                read(folder)
            except UserError as error:
                said.append(str(error))
    assert not any("\n" in line for line in said)
    "".join(said).encode()  # fails on half of a character
    return len(said)


@pytest.fixture
def folder(tmp_path):
    made = config(recorded=["stage2"])
    claim_folder(tmp_path, Comparison.of(made.setting, {"baseline": {}, "dropout": {}}, [0, 1]))
    readings = [{"step": 0, "site": "stage2", "variance_shift": 1.0}]
    for method in ("baseline", "dropout"):
        for seed in (0, 1):
            make_run(tmp_path, method=method, seed=seed, recorded=["stage2"], readings=readings)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["environment.json", "config.json", "result.json", "timing.json"])
def test_documents_of_a_run(folder, name):
    refused = hold(folder / "runs" / config(recorded=["stage2"]).key / name, [report, watch], folder)
    assert (refused == 0) == (name == "timing.json")  # a time that is none is left out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics", "readings"])
def test_lines_of_a_run_under_the_right_checksum(folder, name):
    path = folder / "runs" / config(recorded=["stage2"]).key / f"{name}.jsonl"
    result = json.loads((path.parent / "result.json").read_text())

    def seal():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "result.json").write_text(json.dumps({**result, f"{name}_sha256": digest}))

    assert hold(path, [report, watch], folder, seal)


@pytest.mark.slow
def test_a_comparison(folder):
    assert hold(folder / "comparison.json", [report, watch], folder)


@pytest.mark.slow
def test_a_run_that_diverged(folder):
    assert hold(folder / "runs" / make_diverged(folder, seed=7).key / "diverged.json", [report, watch], folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", [STUDY, PACKED])
def test_packed_runs(folder, name):
    claim = {"comparison": json.loads((folder / "comparison.json").read_text())}
    pack(runs_in(folder), claim, folder / "packed")
    assert hold(folder / "packed" / name, [report, watch], folder / "packed")


@pytest.mark.slow
def test_figure_3(tmp_path):
    figure3.run(tmp_path, [0, 1], "x", study=figure3.Regression(widths=(4,), steps=(1, 2), tested=5))
    assert hold(tmp_path / "figure3.json", [regression], tmp_path)
