"""The engine on the device: runs that go on where they stopped, many at a time, and the benchmark."""

import json

import pytest
import torch
from makers import config, tiny_data

from dropact.cli import main
from dropact.experiments.augmentation import Augmentation
from dropact.experiments.hardware import repeatable
from dropact.experiments.trainer import Trainer

STEPS, STOP = 12, 5
PACE = {"precision": "bfloat16", "memory_format": "channels_last"}
SETTINGS = [
    {},
    {"network": "resnet-20", **PACE},
    {"network": "resnet-20", "clip_norm": 0.5, "ema_decay": 0.7, **PACE},
    {"network": "resnet-20", "compiled": True, **PACE},
    {"network": "resnet-20", "compiled": "reduce-overhead", **PACE},
    {"network": "densenet-bc-100-12", **PACE},
]


def steps(trainer, first, last):
    feed = trainer.batches.endless()
    for number, (images, labels) in enumerate(feed):
        if number == last:
            break
        if number >= first:
            trainer.step(images, labels)
            if trainer.steps % trainer.batches.per_epoch == 0:
                trainer.close_epoch({"test_error": 0.0})
    feed.close()


@pytest.mark.parametrize("fields", SETTINGS, ids=lambda fields: "-".join(map(str, fields.values())) or "plain")
def test_a_run_that_goes_on_ends_with_the_same_bits(device, fields):
    if device.type != "cuda" and (fields.get("compiled") or "densenet" in fields.get("network", "")):
        pytest.skip("tests/experiments has it for the CPU")
    data = tiny_data(train=24, name="cifar10", channels=(3,), size=32)
    made = config(dataset="cifar10", method="drop-activation", augmentation="crop+flip", epochs=4, **fields)
    with repeatable(device):
        whole = Trainer(made, data, device)
        steps(whole, 0, STEPS)
        stopped = Trainer(made, data, device)
        steps(stopped, 0, STOP)
        state = stopped.state()
        going_on = Trainer(made, data, device)
        going_on.load(state, stopped.steps)
        steps(going_on, STOP, STEPS)
    for one, other in zip(whole.network.state_dict().items(), going_on.network.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1]), one[0]


def test_no_step_waits_for_the_device(cuda):
    """Nor does the making of its batch: the host is to run ahead."""
    data = tiny_data(train=24, name="cifar10", channels=(3,), size=32)
    made = config(dataset="cifar10", method="drop-activation+cutout", augmentation="crop+flip", network="resnet-20")
    trainer = Trainer(made, data, cuda)
    for number in range(6):
        torch.cuda.set_sync_debug_mode("error" if number > 2 else "default")
        try:
            trainer.step(*trainer.batches.make(torch.arange(8), number))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_augmentation_makes_the_batch_of_the_cpu_and_waits_for_nothing(cuda):
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    augment = Augmentation(4, True, 8)

    def normalise(images):
        return (images.float() - 120) / 60

    expected = augment(images, normalise, torch.Generator().manual_seed(1))
    there = images.to(cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = augment(there, normalise, torch.Generator().manual_seed(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(result.cpu(), expected)


def test_graphs_train_as_compiled_code_does(cuda):
    """Same weights and no masks: losses that differ by rounding alone."""
    data, losses = tiny_data(train=24, name="cifar10", channels=(3,), size=32), []
    for compiled in (True, "reduce-overhead"):
        trainer = Trainer(config(dataset="cifar10", network="resnet-20", compiled=compiled, lr=0.01), data, cuda)
        for number in range(2):
            images, labels = trainer.batches.make(torch.arange(8), number)
            trainer.step(images, labels)
        losses.append(torch.stack(trainer._losses))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)


def test_runs_side_by_side_leave_what_runs_one_after_the_other_leave(device, tmp_path):
    words = [
        "compare",
        "--methods",
        "baseline,drop-activation",
        "--seeds",
        "2",
        "--epochs",
        "2",
        "--device",
        device.type,
    ]
    found = []
    for name, where in (("one", []), ("two", ["--on", "local:2"])):
        assert main([*words, *where, "--out", str(tmp_path / name)]) == 0
        runs = sorted((tmp_path / name / "runs").iterdir())
        found.append({run.name: (run / "metrics.jsonl").read_bytes() for run in runs})
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_the_benchmark_runs(cuda, tmp_path):
    path = tmp_path / "bench.json"
    words = ["--device", "cuda", "--quick", "--compiled", "--only", "drop_activation", "--json", str(path)]
    assert main(["bench", *words]) == 0
    record = json.loads(path.read_text())
    assert record["complete"]
    assert record["environment"]["backend"] == "Triton"
    assert all(table["left_out"] == {} for table in record["tables"])
