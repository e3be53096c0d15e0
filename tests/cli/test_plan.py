"""`dropact plan` on a table whose steps take a thousandth of a second."""

import json

import pytest
from makers import digits_recipe

from dropact.cli import main
from dropact.experiments.recipes import RECIPES


@pytest.fixture(autouse=True)
def _digits_table(monkeypatch):
    monkeypatch.setitem(RECIPES, "digits-table", digits_recipe)


def test_every_row_and_method_has_its_cost_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "digits-table", "--seeds", "3", "--seconds", "0.05", "--json", "plan.json"]) == 0
    shown = capsys.readouterr().out
    for words in ("digits-table", "s/step", "images/s", "Hours", "Memory", "in all", "mlp-800-800", "RReLU"):
        assert words in shown
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    values = json.loads((tmp_path / "plan.json").read_text())
    assert [(line["row"], line["method"]) for line in values["lines"]] == [
        ("simple-small", "baseline"),
        ("simple-small", "rrelu"),
        ("simple-small", "drop-activation"),
        ("mlp-800-800", "baseline"),
        ("mlp-800-800", "drop-activation"),
    ]
    assert values["environment"]["command"].startswith("dropact plan digits-table --seeds 3")
    assert values["environment"]["threads"] == 1  # as `reproduce` would take on digits
    for line in values["lines"]:
        assert line["runs"] == 3
        assert line["hours"] == pytest.approx(3 * line["hours_per_run"])
        assert line["images_per_second"] == pytest.approx(32 / line["step_seconds"])
        # 600 images a step of 32 at a time, 20 epochs, and evaluation beside it
        assert line["hours_per_run"] > 20 * 600 / 32 * line["step_seconds"] / 3600
    assert values["hours"] == pytest.approx(sum(line["hours"] for line in values["lines"]))


def test_a_shortened_schedule_costs_less_and_is_marked(capsys, tmp_path):
    path = tmp_path / "plan.json"
    words = ["plan", "digits-table", "--row", "simple-small", "--methods", "baseline", "--seconds", "0.05"]
    assert main([*words, "--epochs", "4", "--json", str(path)]) == 0
    assert "shortened: 4 of 20 epochs" in capsys.readouterr().out
    (line,) = json.loads(path.read_text())["lines"]
    assert (line["epochs"], line["full_epochs"]) == (4, 20)
    step, image = line["step_seconds"], 1 / line["evaluated_images_per_second"]
    assert line["hours_per_run"] * 3600 == pytest.approx(4 * (600 / 32 * step + 1197 * image) + 600 * image)


@pytest.mark.parametrize(("others", "noisy"), [(0.0, False), (1.5, True), (None, False)])
def test_a_busy_machine_is_said(tmp_path, capsys, monkeypatch, others, noisy):
    monkeypatch.setattr("dropact.bench.machine.Watch.__exit__", lambda self, *_: setattr(self, "others", others))
    words = [
        "--row",
        "simple-small",
        "--methods",
        "baseline",
        "--seconds",
        "0.05",
        "--json",
        str(tmp_path / "plan.json"),
    ]
    assert main(["plan", "digits-table", *words]) == 0
    assert ("other processes used 1.50 cores" in capsys.readouterr().out) == noisy
    assert bool(json.loads((tmp_path / "plan.json").read_text())["noise"]) == noisy


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_seconds_that_are_none_are_refused(capsys, seconds):
    assert main(["plan", "digits-table", f"--seconds={seconds}"]) == 2
    line = capsys.readouterr().err
    assert "--seconds" in line
    assert line.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_line_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dropact.experiments.planning.plan.measure", None)
    assert main(["plan", "digits-table", "--json", str(tmp_path / "not" / "there.json")]) == 2
    line = capsys.readouterr().err
    assert str(tmp_path / "not") in line
    assert line.count("\n") == 1


def test_a_file_of_something_else_is_left_as_it_is(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text('{"format": "dropact bench 1"}')
    assert main(["plan", "digits-table", "--json", str(path)]) == 2
    assert "other than a record of `dropact plan`" in capsys.readouterr().err
    assert path.read_text() == '{"format": "dropact bench 1"}'


def test_many_devices_share_the_runs(tmp_path, capsys):
    path = tmp_path / "plan.json"
    words = ["plan", "digits-table", "--seeds", "3", "--seconds", "0.05", "--json", str(path)]
    assert main([*words, "--gpus", "2", "--gpus-per-run", "0.5"]) == 0
    values = json.loads(path.read_text())
    fleet = values["fleet"]
    assert fleet["seconds"] * 4 * fleet["busy"] == pytest.approx(3600 * values["hours"])  # 4 at once
    assert fleet["longest"] == pytest.approx(3600 * max(line["hours_per_run"] for line in values["lines"]))
    assert "On 2 devices like this one, 0.5 for each run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--gpus", "0"], ["--gpus", "1", "--gpus-per-run", "2"], ["--gpus-per-run", "0", "--gpus", "1"]]
)
def test_devices_that_are_too_few_are_refused(capsys, words):
    assert main(["plan", "digits-table", *words]) == 2
    line = capsys.readouterr().err
    assert "accepted" in line
    assert line.count("\n") == 1


def test_a_share_of_no_devices_is_refused(capsys):
    assert main(["plan", "digits-table", "--gpus-per-run", "0.5"]) == 2
    assert capsys.readouterr().err == "dropact: --gpus-per-run: given without --gpus, which it belongs to\n"
