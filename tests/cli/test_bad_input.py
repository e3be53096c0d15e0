"""Everything a user can get wrong: one line on stderr, exit status 2, no traceback, nothing changed on disk."""

import errno
import json
import sys
from pathlib import Path

import pytest
import torch
from makers import ENVIRONMENT, config, make_run, snapshot, tiny_data
from refusals import refused

from dropact.cli import main
from dropact.experiments import grid
from dropact.experiments.errors import DivergedError, TrainingError
from dropact.experiments.watch import Watcher


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["--methods", "baseline,droput"], ["droput", "baseline, dropout, rrelu, drop-activation"]),
        (["--methods", ""], ["--methods", "names separated by commas"]),
        (["--methods", "rrelu,rrelu"], ["--methods", "each once"]),
        (["--network", "vgg"], ["network", "'vgg'", "simple-small", "resnet-110"]),
        (["--dataset", "imagenet"], ["dataset", "'imagenet'", "digits", "fashion-mnist"]),
        (["--drop-prob", "1.5"], ["drop_prob", "1.5", "0 to 1"]),
        (["--drop-prob", "-0.1"], ["drop_prob", "-0.1"]),
        (["--drop-prob", "nan"], ["drop_prob", "nan"]),
        (["--drop-prob", "much"], ["--drop-prob", "'much'"]),
        (["--drop-prob", "0.1", "--methods", "baseline"], ["--drop-prob", "drop-activation"]),
        (["--rrelu-lower", "0.9"], ["lower", "0.9", "upper"]),
        (["--seeds", "0"], ["--seeds", "no seeds"]),
        (["--seeds", ""], ["--seeds", "accepted"]),
        (["--seeds", "5-3"], ["--seeds", "no seeds"]),
        (["--seeds", "0,9-5"], ["--seeds", "no seeds in '9-5'"]),
        (["--seeds", "1,1"], ["--seeds", "twice"]),
        (["--seeds", "0-3,2"], ["--seeds", "twice"]),
        (["--seeds", "a"], ["--seeds", "'a'"]),
        (["--seeds=-1"], ["--seeds", "'-1'"]),
        (["--seeds", "1.5"], ["--seeds", "'1.5'"]),
        (["--epochs", "0"], ["epochs", "0", "at least 1"]),
        (["--epochs", "-3"], ["epochs", "-3"]),
        (["--epochs", "many"], ["--epochs", "'many'"]),
        (["--batch-size", "0"], ["batch_size", "at least 1"]),
        (["--lr", "inf"], ["lr", "inf"]),
        (["--milestones", "one"], ["--milestones", "'one'"]),
        (["--milestones", "1"], ["milestones", "one-cycle"]),
        (["--lr-factor", "0.2"], ["lr_factor: got 0.2 with schedule 'one-cycle'", "'step'"]),
        (["--seed", "7"], ["unrecognized arguments: --seed 7"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--threads", "99999999999"], ["--threads", "'99999999999'", "from 1 to 4,096"]),
        (["--seeds", "99999999999"], ["--seeds", "100,000"]),
        (["--seeds", "0-" + "9" * 400], ["--seeds", "100,000"]),
        (["--epochs", "9" * 400], ["epochs", "999...", "at least 1"]),
        (["--network", ""], ["network: got ''", "simple-small"]),
        (["--out", "a\udcff"], ["'a\\udcff'", "bytes that are no text"]),
        (["--dataset", "cifar10", "--data", "nowhere", "--network", "torchvision:nope"], ["torchvision:nope"]),
        (["--nonsense"], ["--nonsense"]),
        (["--device", "gpu"], ["device", "'gpu'", "cpu, cuda"]),
        (["--checkpoint-seconds", "-1"], ["--checkpoint-seconds", "-1", "from 0 to"]),
        (["--methods", "rrelu+drop-activation"], ["method", "both replace ReLU"]),
        (["--methods", "cutout+rrelu"], ["size", "'digits'"]),
        (["--cutout-size", "4", "--methods", "rrelu"], ["--cutout-size", "cutout"]),
        (["--cutout-size", "1.5"], ["--cutout-size", "'1.5'"]),
        (["--augmentation", "blur"], ["augmentation", "'blur'", "crop+flip"]),
        (["--precision", "half"], ["precision", "'half'", "bfloat16"]),
        (["--ema-decay", "1"], ["ema_decay", "1.0"]),
        (["--dataset", "cifar10", "--data", "FILE"], ["FILE", "a file"]),
    ],
)
def test_arguments(tmp_path, capsys, monkeypatch, words, needles):
    (tmp_path / "FILE").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    line = refused(capsys, "compare", "--out", "out", *words)
    assert all(needle in line for needle in needles), line
    assert snapshot(tmp_path) == before
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", [["compare"], ["compare", "--on", "local:2"], ["train"]])
@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["--network", "torchvision:resnet51"], "torchvision:resnet51"),
        (["--network", "mlp-800-800", "--recalibrated"], "no BatchNorm"),
        (["--microbatches", "7", "--batch-size", "7"], "at most 6, the smallest batch"),
        (["--microbatches", "2", "--sync-batchnorm"], "a rank on a CUDA device"),
        (["--method", "stochastic-depth"], "drops residual branches"),
        (["--method", "hidden-dropout", "--network", "resnet-20"], "fully connected layers after the first"),
    ],
)
def test_what_only_the_network_or_the_machine_shows_is_refused_before_anything_is_written(
    tmp_path, capsys, monkeypatch, verb, words, needle
):
    if verb[0] == "compare" and words[0] == "--method":  # the runs in front of it would be trained first
        words = ["--methods", f"baseline,{words[1]}", *words[2:]]
    out = tmp_path / "out"
    assert needle in refused(capsys, *verb, "--epochs", "1", "--out", out, *words)
    assert not out.exists()


def test_runs_on_other_images_are_not_joined(tmp_path, capsys):
    assert main(["compare", "--out", str(tmp_path / "a"), *QUICK]) == 0
    assert main(["train", "--out", str(tmp_path / "b"), "--epochs", "1"]) == 0
    capsys.readouterr()
    for path in tmp_path.glob("*/runs/*/environment.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data_sha256": "f" * 64}))
    before = snapshot(tmp_path)
    line = refused(capsys, "compare", "--out", tmp_path / "a", *QUICK, "--methods", "rrelu")
    assert "trained on digits of checksum ffffffffffff" in line
    assert "checksum ffffffffffff" in refused(capsys, "train", "--out", tmp_path / "b", "--epochs", "1", "--seed", "1")
    assert snapshot(tmp_path) == before


def test_figure_3_does_not_write_over_the_tables_of_others(tmp_path, capsys):
    assert main(["compare", "--out", str(tmp_path), *QUICK]) == 0
    capsys.readouterr()
    before = snapshot(tmp_path)
    assert "and no figure3.json" in refused(capsys, "reproduce", "figure3", "--seeds", "1", "--out", tmp_path)
    assert snapshot(tmp_path) == before


def test_what_a_file_manager_leaves_is_no_run(tmp_path, capsys):
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert main(["compare", "--out", str(tmp_path), *QUICK]) == 0
    (tmp_path / "runs" / ".DS_Store").write_bytes(b"")
    for words in (["compare", "--out", tmp_path, *QUICK], ["report", tmp_path], ["watch", tmp_path]):
        assert main(list(map(str, words))) == 0


def test_a_run_that_diverges_leaves_a_report_that_names_it(tmp_path, capsys, monkeypatch):
    plain = grid.train

    def train(config, *arguments, **more):
        if config.method == "rrelu":
            raise DivergedError("the loss of step 3 is not finite", 3, 1)
        return plain(config, *arguments, **more)

    monkeypatch.setattr(grid, "train", train)
    assert main(["compare", "--out", str(tmp_path), *QUICK, "--methods", "baseline,rrelu"]) == 2
    assert "the loss of step 3 is not finite" in capsys.readouterr().err
    assert "1 of 2 runs diverged" in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(grid, "train", plain)
    assert main(["compare", "--out", str(tmp_path), *QUICK, "--methods", "baseline,rrelu"]) == 0
    assert "diverged" not in (tmp_path / "table.md").read_text()


def test_too_little_memory_is_one_line(tmp_path, capsys, monkeypatch):
    plain = grid.train

    def train(config, *arguments, **more):
        if config.seed == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB")
        return plain(config, *arguments, **more)

    monkeypatch.setattr(grid, "train", train)
    words = ["compare", "--out", str(tmp_path), *QUICK]
    line = refused(capsys, *words)
    assert ": CUDA out of memory; the same command goes on from its last checkpoint when there is more" in line
    assert main([*words, "--seeds", "2"]) == 2  # the other seed is trained, and reported
    assert "1 of 2 runs of this comparison are not finished" in (tmp_path / "table.md").read_text()


def test_the_error_of_a_run_does_not_hold_on_to_its_network(tmp_path, monkeypatch):
    def train(*arguments, **more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(grid, "train", train)
    with pytest.raises(TrainingError) as caught:
        grid.train_run(config(), tmp_path, tiny_data(), Watcher(), ENVIRONMENT, "cpu", 300.0)
    assert caught.value.__context__ is caught.value.__cause__ is None


def test_single_runs_are_held_only_against_those_they_are_averaged_with(tmp_path, capsys):
    make_run(tmp_path, seed=5)
    other = make_run(tmp_path, seed=6, network="resnet-20")
    (other / "result.json").write_text("{ nonsense")
    make_run(tmp_path, seed=7, lr=0.5, environment=ENVIRONMENT | {"data_sha256": "f" * 64})
    assert main(["train", "--out", str(tmp_path), "--epochs", "1"]) == 0


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["trian"], "trian"),
        (["train", "--method", "x"], "'x'"),
        (["train", "--seed", "-1"], "seed"),
        (["train", "--method", "baseline", "--drop-prob", "0.1"], "--drop-prob"),
        (["train", "--drop-prob", "nan"], "nan"),
        (["report"], "DIR"),
        (["report", "not-there"], "not there"),
        (["report", "FILE"], "a file"),
        (["report", "."], "no finished run"),
        (["verify", "nowhere"], "nowhere: not there, accepted: a folder of runs"),
        (["inspect", "torchvision:nope", "--data", "none"], "network: got 'torchvision:nope'"),
        (["inspect", "simple-small", "--images", "9" * 30], "--images"),
        (["bench", "--batch", "9" * 20], "--batch"),
        (["bench", "--threads", "9" * 11], "--threads"),
    ],
)
def test_verbs(tmp_path, capsys, monkeypatch, words, needle):
    (tmp_path / "FILE").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert needle in refused(capsys, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


QUICK = ["--epochs", "1", "--methods", "baseline", "--seeds", "1"]


@pytest.mark.parametrize("verb", [["compare", *QUICK], ["train", "--epochs", "1"]])
@pytest.mark.parametrize(
    ("out", "needle"),
    [
        ("FILE", "a file"),
        ("FILE/below", "a file"),
        ("mine", "thesis.tex"),
        pytest.param(
            "/proc/dropact", "/proc/dropact", marks=pytest.mark.skipif(sys.platform != "linux", reason="/proc")
        ),
    ],
)
def test_folders_that_are_not_ours(tmp_path, capsys, monkeypatch, verb, out, needle):
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    assert needle in refused(capsys, *verb, "--out", out)
    assert snapshot(tmp_path) == before


def test_a_folder_of_another_comparison(tmp_path, capsys):
    assert main(["compare", "--out", str(tmp_path), *QUICK]) == 0
    capsys.readouterr()
    before = snapshot(tmp_path)
    line = refused(capsys, "compare", "--out", tmp_path, *QUICK, "--epochs", "2")
    assert "another comparison (epochs 1, asked for 2)" in line
    assert "holds a comparison" in refused(capsys, "train", "--out", tmp_path, "--epochs", "1")
    assert snapshot(tmp_path) == before


def test_single_runs_are_not_taken_for_a_comparison(tmp_path, capsys):
    make_run(tmp_path)
    before = snapshot(tmp_path)
    assert "'runs' and no comparison.json" in refused(capsys, "compare", "--out", tmp_path, *QUICK)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", ["compare", "report"])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json", "environment.json"])
def test_a_damaged_run_is_named_and_nothing_is_overwritten(tmp_path, capsys, verb, name):
    assert main(["compare", "--out", str(tmp_path), *QUICK]) == 0
    capsys.readouterr()
    (run,) = (tmp_path / "runs").iterdir()
    (run / name).write_text("{ nonsense")
    before = snapshot(tmp_path)
    words = ["report", tmp_path] if verb == "report" else ["compare", "--out", tmp_path, *QUICK, "--seeds", "3"]
    assert str(run / name) in refused(capsys, *words)
    assert snapshot(tmp_path) == before


def test_a_damaged_comparison_is_named(tmp_path, capsys):
    assert main(["compare", "--out", str(tmp_path), *QUICK]) == 0
    capsys.readouterr()
    whole = (tmp_path / "comparison.json").read_text()
    for text in ("nonsense", json.dumps({**json.loads(whole), "setting": "x"})):
        (tmp_path / "comparison.json").write_text(text)
        before = snapshot(tmp_path)
        assert "comparison.json: damaged" in refused(capsys, "compare", "--out", tmp_path, *QUICK)
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", [["compare", *QUICK], ["train", "--epochs", "1"]])
def test_what_a_kill_leaves_of_a_file_is_not_something_else(tmp_path, verb):
    (tmp_path / "comparison.json.4242.part").write_text("{")
    assert main([*verb, "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("package", ["matplotlib", "rich", "scipy", "sklearn", "numpy"])
def test_a_missing_extra_says_how_to_get_it_before_anything_is_trained(tmp_path, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(capsys, "compare", "--out", tmp_path / "out", *QUICK)
    assert package in line
    assert "pip install 'dropact[experiments]'" in line
    assert not (tmp_path / "out").exists()


def test_torchvision_is_needed_for_a_download_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    words = ["compare", "--out", tmp_path / "out", *QUICK]
    assert "torchvision" in refused(capsys, *words, "--dataset", "mnist", "--data", tmp_path / "data")
    assert not (tmp_path / "out").exists()
    assert main([str(word) for word in words]) == 0


def test_a_loss_that_is_not_finite_is_one_line(tmp_path, capsys):
    words = ["train", "--out", str(tmp_path), "--epochs", "3", "--lr", "1e30", "--schedule", "constant"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "not finite" in shown.err
    assert "lr=1e+30" in shown.err


def test_a_mistake_of_ours_is_not_taken_for_one_of_the_user(tmp_path, monkeypatch):
    """A ValueError or a missing module of our own keeps its traceback."""

    def broken(*arguments):
        raise ValueError("ours")

    monkeypatch.setattr("dropact.report.collect", broken)
    with pytest.raises(ValueError, match="ours"):
        main(["report", str(tmp_path)])


def test_a_failing_folder_of_data_leaves_no_folder(tmp_path, capsys, monkeypatch):
    def refuse(*arguments, **more):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", refuse)
    words = ["train", "--dataset", "cifar10", "--data", tmp_path / "a" / "b", "--out", tmp_path / "out"]
    assert "cifar10" in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    assert "cifar10" in refused(capsys, *words)
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_a_json_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a read-only file system, which root cannot write to
    assert "cannot be written" in refused(capsys, "bench", "--quick", "--json", tmp_path / "bench.json")


def test_a_full_disk_names_the_file(tmp_path, capsys, monkeypatch):
    def full(handle, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dropact.experiments.lock.os.write", full)
    line = refused(capsys, "train", "--out", tmp_path / "out", "--epochs", "1")
    assert line.endswith("/lock: No space left on device\n")
