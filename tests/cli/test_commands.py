import argparse
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from makers import make_run, snapshot

import dropact
from dropact.cli import main
from dropact.cli.options import (
    DATASET_HELP,
    METHOD_HELP,
    METHOD_OPTIONS,
    NETWORK_HELP,
    add_training_options,
    setting_options,
)
from dropact.cli.parser import seeds
from dropact.cli.progress import Bars
from dropact.experiments.config import RunConfig
from dropact.experiments.data.registry import DATASETS
from dropact.experiments.methods import METHODS
from dropact.experiments.models import NETWORKS
from dropact.experiments.records import RunFiles

QUICK = ["--epochs", "1", "--methods", "baseline,drop-activation", "--seeds", "2"]


def compare(folder, *more):
    return main(["compare", "--out", str(folder), *QUICK, *more])


def test_compare_trains_reports_and_says_where(tmp_path, capsys):
    assert compare(tmp_path / "out") == 0
    shown = capsys.readouterr()
    for words in ("ReLU (baseline)", "Drop-Activation (drop_prob 0.05)", "report.html", "seeds 0-1"):
        assert words in shown.out
    assert "[4/4] drop-activation, seed 1" in shown.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"comparison.json", "runs", "table.md", "table.csv", "report.html", "comparison.svg"}
    for run in (tmp_path / "out" / "runs").iterdir():
        assert {path.name for path in run.iterdir()} == {
            "config.json",
            "environment.json",
            "metrics.jsonl",
            "timing.json",
            "weights.pt",
            "result.json",
        }


def test_the_same_command_again_trains_nothing_and_more_seeds_and_methods_join(tmp_path, capsys):
    compare(tmp_path)
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert compare(tmp_path) == 0
    assert "[" not in capsys.readouterr().err
    assert snapshot(tmp_path) == before
    assert main(["compare", "--out", str(tmp_path), "--epochs", "1", "--methods", "dropout", "--seeds", "1-2"]) == 0
    shown = capsys.readouterr()
    assert "do not have the same seeds" in shown.out
    assert "4 of 9 runs" not in shown.out
    assert "3 of 9 runs of this comparison are not finished" in shown.out
    after = snapshot(tmp_path / "runs")
    assert all(after[path] == content for path, content in snapshot(tmp_path / "runs").items())
    assert len({path.parts[0] for path in after}) == 6


def test_train_makes_one_run_that_report_shows(tmp_path, capsys):
    words = ["train", "--out", str(tmp_path), "--epochs", "2", "--seed", "7", "--drop-prob", "0.1", "--lr", "0.05"]
    words += ["--schedule", "step", "--milestones", "1", "--lr-factor", "0.5", "--nesterov", "--batch-size", "64"]
    assert main(words) == 0
    assert "Test error" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    assert config["options"] == {"drop_prob": 0.1}
    assert (config["seed"], config["milestones"], config["lr"], config["nesterov"]) == (7, [1], 0.05, True)
    assert json.loads((run / "environment.json").read_text())["command"].startswith("dropact train --out")
    assert main(["report", str(tmp_path)]) == 0
    assert "drop_prob 0.1" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()


def test_combinations_take_the_options_of_their_parts(tmp_path):
    methods = ["--methods", "drop-activation+cutout,rrelu", "--cutout-size", "4", "--drop-prob", "0.2"]
    assert main(["compare", "--out", str(tmp_path), "--epochs", "1", "--seeds", "1", *methods]) == 0
    configs = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/config.json"))]
    assert [(config["method"], config["options"]) for config in configs] == [
        ("cutout+drop-activation", {"size": 4, "drop_prob": 0.2}),
        ("rrelu", {"lower": 0.125, "upper": 1 / 3}),
    ]
    assert "Cutout + Drop-Activation (size 4, drop_prob 0.2)" in (tmp_path / "table.md").read_text()


def test_every_option_of_a_method_has_an_argument():
    known = {(name, option) for name, method in METHODS.items() for option in method.options}
    assert {(name, option) for name, option, _, _ in METHOD_OPTIONS.values()} == known


def test_every_field_of_a_setting_has_an_argument(tmp_path):
    words = "--train-on train+validation --augmentation crop+flip --label-smoothing 0.1 --clip-norm 2 --ema-decay 0.9 "
    words += "--precision bfloat16 --memory-format channels_last --no-compiled --momentum 0.8 --weight-decay 0"
    assert main(["train", "--out", str(tmp_path), "--epochs", "1", *words.split()]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    expected = {"train_on": "train+validation", "augmentation": "crop+flip", "label_smoothing": 0.1, "clip_norm": 2.0}
    expected |= {"ema_decay": 0.9, "precision": "bfloat16", "memory_format": "channels_last", "compiled": False}
    assert expected.items() <= config.items()
    parser = argparse.ArgumentParser()
    add_training_options(parser, "runs")
    said = {*setting_options(parser.parse_args([])), "dataset", "network", "milestones"} | {
        "normalisation",
        "full_epochs",
        "dropout",
        "recorded",
        "fused",
    }  # recipes set these, records alone have the last
    assert said == RunConfig.from_dict(config).setting.keys()
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"


def test_a_folder_is_extended_at_the_pace_it_was_begun_with(tmp_path, capsys):
    words = ["compare", "--methods", "baseline", "--epochs", "1", "--out", str(tmp_path)]
    assert main([*words, "--seeds", "1", "--precision", "bfloat16", "--memory-format", "channels_last"]) == 0
    assert main([*words, "--seeds", "2"]) == 0  # on digits this machine would choose float32 itself
    settings = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/config.json")]
    assert [(made["precision"], made["memory_format"]) for made in settings] == [("bfloat16", "channels_last")] * 2
    capsys.readouterr()
    assert main([*words, "--precision", "float32"]) == 2
    assert "another comparison (precision 'bfloat16', asked for 'float32')" in capsys.readouterr().err


def test_tensorboard_shows_what_the_records_say(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["train", "--out", str(tmp_path), "--epochs", "2", "--tensorboard"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    events = accumulator.EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "histograms": 0}).Reload()
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in ("train_loss", "train_error", "validation_error", "test_error"):
            shown = {event.step: event.value for event in events.Scalars(name)}
            assert shown[record["epoch"]] == pytest.approx(record[name])
            assert shown.keys() == {1, 2}
    tag = "weights/classifier.bias"
    weights = torch.load(run / "weights.pt", weights_only=True)["classifier.bias"].double()
    first, last = events.Histograms(tag)
    assert (first.step, last.step) == (1, 2)
    value = last.histogram_value
    assert value.num == len(weights)
    assert value.sum == pytest.approx(float(weights.sum()), abs=1e-6)
    assert (value.min, value.max) == pytest.approx((float(weights.min()), float(weights.max())))


def test_a_stopped_run_is_gone_on_with_and_its_damage_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    """Stopped in its third epoch of ten steps; the newest of its two checkpoints is cut short."""

    def stop(self, config, seen):
        if seen > 700:
            raise KeyboardInterrupt

    words = ["train", "--out", str(tmp_path), "--epochs", "4", "--checkpoint-seconds", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(Bars, "stepped", stop)
        assert main(words) == 130
    (run,) = (tmp_path / "runs").iterdir()
    newest = max(run.glob("*.checkpoint"))
    newest.write_bytes(newest.read_bytes()[:-1])
    capsys.readouterr()
    assert main(words) == 0
    damaged, resumed, *_ = capsys.readouterr().err.splitlines()
    assert damaged == f"dropact: {newest}: damaged, its checksum is not that of its content; not used"
    assert resumed == "drop-activation, seed 0: goes on from a checkpoint in epoch 3"


def test_report_shows_what_stands_there_without_training(tmp_path, capsys):
    make_run(tmp_path, errors=(9.0, 3.25))
    assert main(["report", str(tmp_path)]) == 0
    assert "3.25" in capsys.readouterr().out


def test_the_default_uses_one_thread_on_the_digits(tmp_path):
    torch.set_num_threads(2)
    compare(tmp_path)
    for path in (tmp_path / "runs").glob("*/environment.json"):
        assert json.loads(path.read_text())["threads"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10", list(range(10))), ("0,1,2", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7-7", [7]), ("5, 8-9", [5, 8, 9])],
)
def test_seeds(text, expected):
    assert seeds(text) == expected


@pytest.mark.parametrize(
    "words",
    [["--help"], *([verb, "-h"] for verb in ("compare", "train", "report", "reproduce", "plan", "watch", "bench"))],
)
def test_help(words, capsys):
    assert main(words) == 0
    assert "usage: dropact" in capsys.readouterr().out


def test_help_needs_none_of_the_heavy_packages():
    """In a fresh interpreter, as this one has loaded them all."""
    code = (
        "import sys; from dropact.cli import main; main(['compare', '--help']); "
        "heavy = {'torchvision', 'scipy', 'matplotlib', 'sklearn', 'rich', 'dropact.experiments'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("text", "names"), [(DATASET_HELP, DATASETS), (NETWORK_HELP, NETWORKS), (METHOD_HELP, METHODS)]
)
def test_the_help_names_all_there_is(text, names):
    """A word that begins with a hyphen goes on from the stem of the word before it."""
    said, stem = [], ""
    for word in re.split(r"[ ,]+", text):
        said.append(stem + word if word.startswith("-") else word)
        stem = stem if word.startswith("-") else word.partition("-")[0]
    assert set(names) <= set(said)
    assert {word for word in said if word.startswith(("resnet-", "emnist-", "wrn-", "mlp-"))} <= set(names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: dropact"),
        (["--version"], f"dropact {dropact.__version__}"),
    ],
)
def test_the_command_alone_says_what_it_is(capsys, words, said):
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["comapre"], "compare"),
        (["compare", "--epoch", "3"], "--epochs"),
        (["compare", "--methods", "droput"], "dropout"),
        (["compare", "--network", "resnet20"], "resnet-20"),
        (["compare", "--dataset", "cifar-10"], "cifar10"),
        (["reproduce", "tabel1"], "table1"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(capsys, monkeypatch, tmp_path, words, meant):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert f"did you mean {meant!r}?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on", [[], ["--on", "local:2"]])
@pytest.mark.parametrize("packed", [False, True])
def test_with_nothing_left_to_train_every_run_is_read_once(tmp_path, monkeypatch, on, packed):
    out = tmp_path / "out"
    words = ["compare", "--methods", "baseline", "--seeds", "2", "--epochs", "1", "--out"]
    assert main([*words, str(out)]) == 0
    if packed:
        assert main(["pack", str(out), str(out := tmp_path / "packed")]) == 0
    read, plain = Counter(), RunFiles.text

    def text(run, name, *marked):
        read[run.key, name] += 1
        return plain(run, name, *marked)

    monkeypatch.setattr(RunFiles, "text", text)
    assert main([*words, str(out), *on]) == 0
    assert len(read) == 2 * 4  # config, metrics, result and environment
    assert set(read.values()) == {1}
