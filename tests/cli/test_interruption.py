"""Stopped by Ctrl-C or killed outright, the same command goes on and ends where one never stopped would have."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from makers import snapshot

from dropact.cli import main

WORDS = ["compare", "--methods", "baseline,drop-activation", "--seeds", "2", "--epochs", "15", "--out", "out"]
COMMAND = [sys.executable, "-m", "dropact", *WORDS]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def start(folder):
    # A shell that puts the tests into the background has them ignore Ctrl-C, and their children with them.
    hears = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    pipe = subprocess.PIPE
    return subprocess.Popen(COMMAND, cwd=folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=hears)


def finished(out):
    return {path.parent.name for path in out.glob("runs/*/result.json")}


def wait_for_half_a_run(process, out, more_than):
    """Until more than so many runs are finished and the next has begun to write metrics."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        done = finished(out)
        begun = {path.parent.name for path in out.glob("runs/*/metrics.jsonl") if path.stat().st_size}
        if len(done) > more_than and begun - done:
            return
        time.sleep(0.005)
    pytest.fail(f"the process ended or hung before it was stopped: {process.poll()}")


def of_runs(out, names):
    return {path: content for path, content in snapshot(out / "runs").items() if path.parts[0] in names}


@pytest.mark.parametrize(
    ("words", "interrupted", "goes_on"),
    [
        (["compare"], "dropact.cli.compare.run", True),
        (["train"], "dropact.cli.train.run", True),
        (["reproduce", "table1"], "dropact.cli.reproduce.run", True),
        (["verify", ".", "--out", "new"], "dropact.experiments.verification.chosen", True),
        (["verify", "."], "dropact.experiments.verification.chosen", False),
        (["plan", "table1"], "dropact.cli.plan.run", False),
        (["inspect", "simple-small"], "dropact.cli.inspect.run", False),
        (["bench"], "dropact.cli.bench.run", False),
        (["report", "."], "dropact.cli.report.run", False),
    ],
)
def test_only_what_can_go_on_says_so(capsys, monkeypatch, words, interrupted, goes_on):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, interrupt)
    assert main(words) == 130
    assert capsys.readouterr().err == f"dropact: stopped{'; the same command goes on from there' * goes_on}\n"


def test_the_same_command_goes_on(tmp_path, undisturbed):
    out = tmp_path / "out"
    process = start(tmp_path)
    wait_for_half_a_run(process, out, more_than=0)
    process.send_signal(signal.SIGINT)
    shown, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == ""
    assert "Traceback" not in complaints
    assert complaints.splitlines()[-1] == "dropact: stopped; the same command goes on from there"
    assert sum("stopped" in line for line in complaints.splitlines()) == 1
    before_stop = finished(out)
    kept = of_runs(out, before_stop)

    process = start(tmp_path)
    wait_for_half_a_run(process, out, more_than=len(before_stop))
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    before_kill = finished(out)
    assert before_stop < before_kill
    assert len(before_kill) < 4
    assert of_runs(out, before_stop) == kept  # what was finished was not trained again
    kept = of_runs(out, before_kill)

    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert of_runs(out, before_kill) == kept
    one, two = snapshot(out), snapshot(undisturbed)
    assert one.keys() == two.keys()
    assert {path.name for path in one if one[path] != two[path]} <= {"timing.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_while_torch_is_imported_it_ends_without_a_word(tmp_path):
    process = start(tmp_path)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []
