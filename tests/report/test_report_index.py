"""A folder of folders: each reported on, and one page that says what all show."""

import json
import re

import pytest
from makers import make_run

from dropact.cli import main
from dropact.report.index import other_records, studies_in


@pytest.fixture
def results(tmp_path):
    for name, errors in (("first", (5.0, 4.0)), ("second", (7.0, 6.5))):
        for seed in range(3):
            make_run(tmp_path / name, errors=(*errors[:-1], errors[-1] + seed / 10), seed=seed)
            make_run(tmp_path / name, errors=(3.0, 2.0 + seed**2 / 10), seed=seed, method="drop-activation")
    bench = tmp_path / "bench"
    bench.mkdir()
    environment = {"command": "dropact bench <x>", "git_revision": "a" * 40, "processor": "Some CPU"}
    (bench / "one.json").write_text(json.dumps({"environment": {**environment, "packages": {"torch": "9.9"}}}))
    (bench / "two.json").write_text("{")
    return tmp_path


def test_every_folder_is_reported_on_and_the_index_says_what_they_show(results, capsys):
    assert [path.name for path in studies_in(results)] == ["first", "second"]
    assert main(["report", str(results)]) == 0
    page = (results / "index.html").read_text()
    for name in ("first", "second"):
        assert (results / name / "report.html").is_file()
        assert f'<a href="./{name}/report.html">' in page
    assert page.index("At a glance") < page.index("better than")
    assert "<span>Drop-Activation (drop_prob 0.05) −1.93 [" in page
    # −2, −2, −1.8 and −4.5, −4.5, −4.3
    assert "better than ReLU (baseline) (−1.93 [" in page
    assert "(−4.43 [" in page
    assert "dropact bench &lt;x&gt;" in page
    assert "aaaaaaaaaaaa</span>" in page
    assert "damaged, not JSON" in page
    assert "index.html" in capsys.readouterr().out


def test_a_folder_named_like_an_address_is_a_folder(tmp_path):
    for name in ("javascript:alert(1)", "a?b#c"):
        make_run(tmp_path / name)
    assert main(["report", str(tmp_path)]) == 0
    links = re.findall('href="([^"]*)"', (tmp_path / "index.html").read_text())
    assert links == ["./a%3Fb%23c/report.html", "./javascript%3Aalert%281%29/report.html"]


def test_records_beside_runs_are_the_studys_own(results):
    (results / "first" / "argument.json").write_text("{}")
    assert [row[0] for row in other_records(results).rows] == ["bench/one.json", "bench/two.json"]
    assert other_records(results / "first") is None


def test_a_folder_whose_first_run_is_not_finished_keeps_no_other_from_being_shown(results, capsys):
    (results / "begun" / "runs" / "a-run").mkdir(parents=True)
    assert main(["report", str(results)]) == 0
    assert f"{results / 'begun'}: no finished run yet" in capsys.readouterr().out
    page = (results / "index.html").read_text()
    assert "<h2>begun</h2>\n<p>No finished run yet</p>" in page
    assert '<a href="./second/report.html">' in page
    assert main(["report", str(results / "begun")]) == 2


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"environment": "node 20"},
        {"environments": 3},
        {"environments": ["node 20"]},
        {"environment": {"packages": "many", "git_revision": 7}},
    ],
)
def test_a_record_of_something_else_is_shown_as_far_as_it_says_anything(tmp_path, record):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "one.json").write_text(json.dumps(record))
    ((name, command, _, on),) = other_records(tmp_path).rows
    assert (name, command, on) == ("bench/one.json", "not recorded", "not recorded")


def test_a_damaged_run_in_one_folder_is_named_and_nothing_is_said_of_all(results, capsys):
    next((results / "second" / "runs").iterdir()).joinpath("metrics.jsonl").write_text("")
    assert main(["report", str(results)]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err
    assert not (results / "index.html").exists()
