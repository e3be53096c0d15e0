"""The scripts of `benchmarks/` on what they are asked for; nothing is measured."""

import json

import pytest
import torch
from script import script

from dropact.experiments.data import Dataset


@pytest.mark.parametrize("steps", [0, 5])
def test_steps_that_an_epoch_does_not_have_are_refused(monkeypatch, capsys, steps):
    throughput = script("throughput")
    images, labels = torch.zeros(10 * throughput.BATCH, 1, 1), torch.zeros(10 * throughput.BATCH)
    data = Dataset("cifar10", 10, *[images, labels] * 3)
    monkeypatch.setattr(throughput, "images_of", lambda noise: data)
    with pytest.raises(SystemExit):
        throughput.main(["--steps", str(steps)])
    # 10 batches, less 2 untimed and 4 that the workers have made ahead
    assert f"--steps: got {steps}, accepted: from 1 to 4" in capsys.readouterr().err


@pytest.mark.parametrize("runs", [0, 5, 50])
def test_runs_that_make_no_tenths_are_refused(capsys, runs):
    with pytest.raises(SystemExit):
        script("scheduler").main(["--runs", str(runs)])
    assert f"--runs: got {runs}, accepted: a multiple of 40" in capsys.readouterr().err


def test_the_folder_of_a_record_is_made(monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    conversion = script("conversion")
    for name in ("resnet50", "inception_v3"):
        monkeypatch.setattr(conversion, name, lambda **_: torch.nn.Sequential(torch.nn.ReLU()))
    monkeypatch.setattr(conversion, "timed", lambda title, contestants, effort: ({"title": title}, {}))
    monkeypatch.setattr(conversion, "conversion", lambda build, size: {})
    monkeypatch.setattr(conversion, "step", lambda model: None)
    path = tmp_path / "made" / "here" / "record.json"
    conversion.main(["--json", str(path)])
    assert len(json.loads(path.read_text())["tables"]) == 4
