"""`dropact verify`: the same bits, or an honest word about why not."""

import json

import pytest
import torch
from makers import snapshot

from dropact.cli import main
from dropact.experiments import grid
from dropact.experiments.errors import DivergedError
from dropact.experiments.records import _digest, read_run
from dropact.experiments.verification import chosen, tolerance

WORDS = ["compare", "--methods", "baseline,drop-activation", "--seeds", "2", "--epochs", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copied(recorded, tmp_path):
    import shutil

    return shutil.copytree(recorded, tmp_path / "copy")


def alter(folder, **changes):
    """Rewrites the second run's record as if it had come out otherwise."""
    directory = sorted((folder / "runs").iterdir())[1]
    metrics, result = directory / "metrics.jsonl", directory / "result.json"
    record = json.loads(metrics.read_text())
    record["test_error"] = min(100.0, record["test_error"] + changes.pop("moved", 0.0))
    metrics.write_text(json.dumps(record) + "\n")
    values = json.loads(result.read_text())
    values |= {"test_error": record["test_error"], "best_test_error": record["test_error"]}
    result.write_text(json.dumps({**values, "metrics_sha256": _digest(metrics.read_text())}))
    environment = json.loads((directory / "environment.json").read_text())
    (directory / "environment.json").write_text(json.dumps(environment | changes))
    return directory.name


def test_the_same_bits(recorded, capsys):
    before, threads = snapshot(recorded), torch.get_num_threads()
    assert main(["verify", str(recorded), "--runs", "4"]) == 0
    out = capsys.readouterr().out
    assert out.count("the same bits in all metrics") == 4
    assert "4 of 4 runs hold" in out
    assert snapshot(recorded) == before
    torch.set_num_threads(threads)


def test_other_bits_in_the_same_environment_fail(copied, capsys):
    name = alter(copied, moved=0.25)
    assert main(["verify", str(copied), "--runs", "4"]) == 1
    out = capsys.readouterr().out
    assert f"{name}: OTHER BITS in the same environment" in out
    assert "3 of 4 runs hold" in out


def test_another_version_is_named_and_the_error_held_to_the_spread_of_the_seeds(copied, capsys):
    versions = json.loads(next((copied / "runs").iterdir()).joinpath("environment.json").read_text())["packages"]
    name = alter(copied, moved=0.01, packages={**versions, "torch": "1.0"})
    assert main(["verify", str(copied), "--runs", "4"]) == 0
    out = capsys.readouterr().out
    assert f"{name}: other bits (torch 1.0 → {torch.__version__.partition('+')[0]}" in out
    assert "within ±" in out


def test_a_part_made_elsewhere_is_another_environment(copied, capsys):
    (environment,) = {path.read_text() for path in copied.glob("runs/*/environment.json")}
    made = json.loads(environment)
    name = alter(copied, moved=0.01, before=[{**made, "git_revision": "x", "command": "y"}])
    assert main(["verify", str(copied), "--runs", "4"]) == 1
    assert f"{name}: OTHER BITS in the same environment" in capsys.readouterr().out
    alter(copied, before=[{**made, "processor": "an abacus"}])
    assert main(["verify", str(copied), "--runs", "4"]) == 0
    out = capsys.readouterr().out
    assert f"{name}: other bits (processor of a part an abacus → {made['processor']}), test error" in out
    assert "within ±" in out


def test_the_tolerance_is_that_of_two_results_with_the_spread_of_the_seeds(recorded):
    runs = chosen(recorded, 4)
    values = [run.result["test_error"] for run in runs if run.config.method == "baseline"]
    sd = abs(values[0] - values[1]) / 2**0.5
    # the 0.9995 quantile of t with 1 degree of freedom, which is Cauchy's: tan(0.4995 pi) = 636.6
    assert tolerance(runs[0], runs) == pytest.approx(636.6 * 2**0.5 * sd, rel=1e-3)
    assert tolerance(runs[0], runs[:1]) is None
    assert tolerance(runs[0], [runs[0]] * 3) is None  # alike by chance, which is no tolerance of 0


def test_the_new_runs_are_kept_where_asked(recorded, tmp_path):
    assert main(["verify", str(recorded), "--runs", "1", "--out", str(tmp_path / "again")]) == 0
    (directory,) = (tmp_path / "again" / "runs").iterdir()
    assert read_run(directory).result == read_run(recorded / "runs" / directory.name).result


def test_a_run_that_diverges_now_does_not_hold_and_the_others_are_tried(recorded, capsys, monkeypatch):
    plain = grid.train

    def train(config, *arguments, **more):
        if config.method == "baseline" and config.seed == 0:
            raise DivergedError("the loss of step 3 is not finite", 3, 1)
        return plain(config, *arguments, **more)

    monkeypatch.setattr(grid, "train", train)
    assert main(["verify", str(recorded), "--runs", "4"]) == 1
    out = capsys.readouterr().out
    assert (
        out.count("DIVERGED in the same environment")
        == out.count(" recorded, now the loss of step 3 is not finite")
        == 1
    )
    assert out.count("the same bits in all metrics") == 3
    assert "3 of 4 runs hold" in out


def test_the_folder_of_a_study_is_no_place_for_what_is_trained_again(recorded, copied, capsys):
    before = snapshot(copied)
    assert main(["verify", str(recorded), "--out", str(copied)]) == 2
    assert "holds a comparison" in capsys.readouterr().err
    assert snapshot(copied) == before


@pytest.mark.parametrize("made", [{"git_revision": "f" * 40}, {"threads": 99}])
def test_what_lies_where_asked_was_trained_by_this_code_or_is_refused(recorded, tmp_path, capsys, made):
    again = tmp_path / "again"
    words = ["verify", str(recorded), "--runs", "1", "--out", str(again)]
    assert main(words) == main(words) == 0
    (path,) = again.glob("runs/*/environment.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | made))
    capsys.readouterr()
    assert main(words) == 2
    ((name, value),) = made.items()
    assert f"trained earlier, with {name} {value}, which is not what is here now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--runs", "0"], "runs: got 0, accepted: at least 1"),
        (["--runs", "5"], "4 finished runs"),
        (["--out", "{}"], "--out: got"),
    ],
)
def test_what_cannot_be_is_one_line(recorded, words, expected, capsys):
    assert main(["verify", str(recorded), *(word.format(recorded) for word in words)]) == 2
    assert expected in capsys.readouterr().err


def test_other_data_are_refused(copied, capsys):
    alter(copied, data_sha256="0" * 64)
    assert main(["verify", str(copied), "--runs", "4"]) == 2
    assert "trained on digits of checksum 000000000000, that here has" in capsys.readouterr().err
