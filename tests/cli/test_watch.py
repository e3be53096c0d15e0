"""`dropact watch` reads what others write: whole lines of unfinished runs, the lock's process, the plan."""

import json
import os
import socket
import subprocess
import sys

import pytest
from makers import config, make_diverged, make_run, snapshot

from dropact.cli import main
from dropact.experiments.comparison import Comparison, claim_folder
from dropact.experiments.progress import progress_of, seconds_left
from dropact.experiments.records import RunWriter
from dropact.report.progress import grid, sentence


def begin(folder, epochs_done, holder=None, **fields):
    """An unfinished run, with a line of which only a part is written yet."""
    made = config(epochs=4, **fields)
    directory = folder / "runs" / made.key
    with RunWriter(directory, made, {}) as writer:
        for epoch in range(1, epochs_done + 1):
            errors = {"train_error": 1.0, "validation_error": None, "test_error": 10.0 - epoch}
            writer.epoch({"epoch": epoch, "train_loss": 0.1, **errors})
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "test_')
    if holder is not None:
        (directory / "lock").write_text(json.dumps(holder))
    return made


@pytest.fixture
def folder(tmp_path):
    setting = config(epochs=4).setting
    claim_folder(tmp_path, Comparison.of(setting, {"baseline": {}, "dropout": {}}, [0, 1, 2]))
    for seed in (0, 1):
        make_run(tmp_path, errors=(9.0, 8.0, 7.0, 4.0 + seed), seed=seed)
    begin(tmp_path, 2, {"pid": os.getpid(), "host": socket.gethostname()}, method="dropout", seed=0)
    return tmp_path


def test_the_grid_says_what_is_finished_at_hand_and_left(folder):
    found = progress_of(folder)
    assert [run.state for run in found] == ["finished", "running", "finished", "waiting", "waiting", "waiting"]
    rows = grid(found).rows
    assert [row[0] for row in rows] == ["ReLU (baseline)", "Dropout (rate 0.5)"]
    assert rows[0][2:] == ("2 of 3", "4.50 ± 6.35", "")
    assert rows[1][2:] == ("0 of 3", "–", "seed 0: epoch 2 of 4, 8.00 %")
    assert sentence(found) == "2 of 6 runs finished, 1 running"  # no dropout is finished: no telling how long it takes


def test_the_time_left_counts_what_is_done_and_how_many_run_at_once(folder):
    make_run(folder, errors=(9.0, 8.0, 7.0, 4.0), seed=1, method="dropout")  # 0.4 s, as all that make_run makes
    assert seconds_left(progress_of(folder)) == pytest.approx(0.4 * (0.5 + 1 + 1))
    begin(folder, 0, {"pid": os.getpid(), "host": "elsewhere"}, seed=2)
    assert seconds_left(progress_of(folder)) == pytest.approx(0.4 * (0.5 + 1 + 1) / 2)


def test_runs_of_other_settings_have_lines_of_their_own_and_times_of_their_own(folder):
    for lr, error in ((0.1, 4.0), (0.2, 8.0)):
        make_run(folder, errors=(9.0, error), epochs=2, lr=lr)
    begin(folder, 1, {"pid": os.getpid(), "host": "elsewhere"}, lr=0.3)
    rows = {row[1]: row[2:4] for row in grid(progress_of(folder)).rows if row[0] == "ReLU (baseline)"}
    assert rows == {
        "simple-small, epochs 4, lr 0.1": ("2 of 3", "4.50 ± 6.35"),
        "simple-small, epochs 2, lr 0.1": ("1 of 1", "4.00"),
        "simple-small, epochs 2, lr 0.2": ("1 of 1", "8.00"),
        "simple-small, epochs 4, lr 0.3": ("0 of 1", "–"),
    }
    make_run(folder, errors=(9.0, 8.0, 7.0, 4.0), method="dropout", seed=1)
    assert seconds_left(progress_of(folder)) is None  # none is finished at a rate of 0.3


def test_a_run_whose_process_is_gone_is_called_stopped(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    made = begin(folder, 1, {"pid": gone.pid, "host": socket.gethostname()}, seed=2)
    (run,) = (run for run in progress_of(folder) if run.config == made)
    assert run.state == "stopped"
    assert grid(progress_of(folder)).rows[0][4] == "seed 2: epoch 1 of 4, 9.00 %, stopped"


def test_a_run_that_diverged_is_called_so_and_not_waited_for(folder, monkeypatch):
    make_diverged(folder, epochs=4, seed=2)
    found = progress_of(folder)
    assert found[4].state == "diverged"
    assert grid(found).rows[0][4] == "seed 2: begun, diverged"
    assert sentence(found) == "2 of 6 runs finished, 1 running, 1 diverged"
    for seed in (1, 2):
        make_run(folder, errors=(9.0, 8.0, 7.0, 4.0), seed=seed, method="dropout")
    assert seconds_left(progress_of(folder)) == pytest.approx(0.4 * 0.5)
    make_run(folder, errors=(9.0, 8.0, 7.0, 4.0), seed=0, method="dropout")

    def sleep(seconds):
        raise AssertionError

    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setattr("time.sleep", sleep)
    assert main(["watch", str(folder)]) == 0


def test_it_changes_nothing_and_shows_runs_without_a_plan_too(tmp_path, capsys):
    made = begin(tmp_path, 1, {"pid": os.getpid(), "host": socket.gethostname()})
    (tmp_path / "runs" / "begun").mkdir()
    before = snapshot(tmp_path)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 1 runs finished, 1 running" in " ".join(shown.split())
    assert snapshot(tmp_path) == before
    assert progress_of(tmp_path)[0].config == made


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    for path, words in ((tmp_path, "neither a plan nor a run"), (tmp_path / "no", "not there")):
        assert main(["watch", str(path)]) == 2
        assert words in capsys.readouterr().err
