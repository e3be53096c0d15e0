"""A grid spread over processes: every run once, whatever dies, with the bits of one trained here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from makers import config, make_run, snapshot

import dropact.experiments.launchers.grid as launching
import dropact.experiments.launchers.local as local_module
from dropact.cli import main
from dropact.experiments.checkpoint import CheckpointWarning
from dropact.experiments.errors import RecordError, TrainingError
from dropact.experiments.launchers.grid import Done, Job, LostError, launch_grid
from dropact.experiments.launchers.local import local
from dropact.experiments.lock import held
from dropact.experiments.watch import Watcher

CONFIGS = [config(seed=seed) for seed in range(6)]


class Dying:
    """A task that dies over some seeds, so many times, and notes in a folder whenever it begins."""

    def __init__(self, folder, deaths):
        self.folder, self.deaths = folder, deaths

    def __call__(self, made):
        begun = len(list(self.folder.glob(f"{made.seed}-*")))
        (self.folder / f"{made.seed}-{begun}").touch()
        if begun < self.deaths.get(made.seed, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return made.seed, os.getpid()


def wrong(made):
    raise ZeroDivisionError(made.seed)


def test_a_process_that_dies_is_replaced_and_a_run_over_which_all_die_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("dropact.experiments.launchers.local.ATTEMPTS", 2)
    found = dict(local(2)(Dying(tmp_path, {1: 1, 4: 99}), CONFIGS))
    assert [found[made][0] for made in CONFIGS if made.seed != 4] == [0, 1, 2, 3, 5]
    assert isinstance(found[CONFIGS[4]], LostError)
    assert all(words in str(found[CONFIGS[4]]) for words in (CONFIGS[4].key, "processes died", "-9"))
    begun = [sum(path.name.startswith(f"{seed}-") for path in tmp_path.iterdir()) for seed in range(6)]
    assert begun == [1, 2, 1, 1, 2, 1]


class Held(Dying):
    """Seed 0 holds its process until seed 1 has begun again."""

    def __call__(self, made):
        last = time.monotonic() + 120
        while made.seed == 0 and len(list(self.folder.glob("1-*"))) < 2 and time.monotonic() < last:
            time.sleep(0.01)
        return super().__call__(made)


def test_a_process_that_takes_the_place_of_another_gets_its_gpu(tmp_path, monkeypatch):
    turns = []

    def start(task, turn):
        turns.append(turn)
        return started(task, None)  # there is no GPU here

    started = local_module._start
    monkeypatch.setattr(local_module, "_start", start)
    dict(local(2, "cuda")(Held(tmp_path, {1: 1}), CONFIGS[:2]))
    assert turns == [0, 1, 1]


def done(made):
    return made.seed


def test_more_processes_than_runs_are_not_asked_for():
    """A set of that many numbers is more than any memory holds."""
    assert dict(local(10**12)(done, CONFIGS[:1])) == {CONFIGS[0]: CONFIGS[0].seed}


def test_an_error_of_ours_is_raised_with_its_trace():
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: 0"):
        list(local(1)(wrong, CONFIGS[:1]))


class Note(Watcher):
    def __init__(self):
        self.told = []

    def skipped(self, made):
        self.told.append(("skipped", made.seed))

    def finished(self, made, result):
        self.told.append(("finished", made.seed, result["test_error"]))


def here(task, configs):
    for made in configs:
        yield made, task(made)


def test_what_is_finished_is_skipped_and_a_failure_stops_no_other(tmp_path):
    make_run(tmp_path, seed=1)
    given = []

    def job(made):
        given.append(made.seed)
        return TrainingError("seed 0 diverged") if made.seed == 0 else Done({"test_error": 3.0}, ["a reservation"])

    note = Note()
    with (
        pytest.raises(TrainingError, match="1 of 2 runs could not be trained; the first: seed 0 diverged"),
        pytest.warns(CheckpointWarning, match="a reservation"),
    ):
        launch_grid([config(seed=seed) for seed in range(3)], tmp_path, job, here, note)
    assert given == [0, 2]
    assert note.told == [("skipped", 1), ("finished", 2, 3.0)]


def test_a_run_that_diverges_elsewhere_has_its_tensorboard_closed(tmp_path, monkeypatch):
    told = []

    class Board(Watcher):
        def __init__(self, folder):
            pass

        def failed(self, made, error):
            told.append((made.seed, str(error)))

    def diverges(made, *arguments, **more):
        raise TrainingError("no longer finite")

    monkeypatch.setattr(launching, "TensorBoard", Board)
    monkeypatch.setattr(launching, "train_run", diverges)
    job = Job(tmp_path, None, "", "cpu", 300.0, torch.get_num_threads(), tensorboard=True)
    assert str(job(config(seed=4))) == "no longer finite"
    assert told == [(4, "no longer finite")]


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path):
    with (
        held(tmp_path / ".driver", "the grid"),
        pytest.raises(RecordError, match=f"the grid in .* is in the hands of process {os.getpid()} on"),
    ):
        launch_grid(CONFIGS, tmp_path, None, here, Watcher())


WORDS = ["compare", "--methods", "baseline,drop-activation", "--seeds", "2", "--epochs", "2"]


def assert_same_runs(one, two):
    one, two = snapshot(one / "runs"), snapshot(two / "runs")
    assert one.keys() == two.keys()
    assert {path.name for path in one if one[path] != two[path]} <= {"timing.json", "environment.json"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


def test_two_processes_leave_the_files_of_one(tmp_path, undisturbed, capfd):
    assert main([*WORDS, "--on", "local:2", "--out", str(tmp_path)]) == 0
    assert "[4/4]" in capfd.readouterr().err
    assert_same_runs(tmp_path, undisturbed)
    assert not (tmp_path / ".driver").exists()


def test_a_ray_cluster_leaves_the_files_of_one_process(tmp_path, undisturbed):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "dropact", *WORDS, "--on", "ray:local", "--out", str(tmp_path)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "[4/4]" in done.stderr
    assert_same_runs(tmp_path, undisturbed)


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks into /proc")
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_goes_takes_its_processes_with_it(tmp_path, how):
    words = ["compare", "--methods", "baseline", "--seeds", "4", "--epochs", "5000", "--on", "local:2"]
    command = [sys.executable, "-m", "dropact", *words, "--out", str(tmp_path / "out")]

    def hears():  # what a shell puts into the background ignores Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)

    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears)
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("out/runs/*/metrics.jsonl"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    workers = children(driver.pid)
    assert len(workers) >= 2
    driver.send_signal(how)
    _, complaints = driver.communicate(timeout=60)
    end = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    if how == signal.SIGINT:
        assert driver.returncode == 130
        assert complaints.splitlines()[-1] == "dropact: stopped; the same command goes on from there"
        assert "Traceback" not in complaints


@pytest.mark.parametrize("words", [["local"], ["local:0"], ["local:x"], ["here"], ["local:2", "--gpus-per-run", "1"]])
def test_places_that_are_none_are_refused(tmp_path, capsys, words):
    assert main(["compare", "--out", str(tmp_path / "out"), "--on", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "accepted" in line or "belongs to" in line
    assert not (tmp_path / "out").exists()
