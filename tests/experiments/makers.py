"""Small data sets and finished runs, made without training; a pickle that must not be read."""

from pathlib import Path

import torch

from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.errors import DivergedError
from dropact.experiments.recipes import Printed, Recipe, Row
from dropact.experiments.records import RunWriter

ENVIRONMENT = {
    "command": "dropact compare",
    "git_revision": None,
    "data_sha256": "0" * 64,
    "data_note": "",
    "python": "3",
    "packages": {"torch": "2"},
    "system": "none",
    "processor": "an abacus",
    "cores": 1,
    "threads": 1,
    "device": "cpu",
    "accelerator": None,
}


def tiny_data(train=30, validation=12, test=17, size=8, name="digits", channels=()):
    """Noise with labels: enough to run the loop on."""
    generator = torch.Generator().manual_seed(0)

    def part(n):
        images = torch.randint(0, 17, (n, size, size, *channels), generator=generator, dtype=torch.uint8)
        return images, torch.arange(n, dtype=torch.uint8) % 10

    x_train, y_train = part(train)
    x_validation, y_validation = part(validation)
    x_test, y_test = part(test)
    return Dataset(name, 10, x_train, y_train, x_validation, y_validation, x_test, y_test)


def config(**fields):
    return RunConfig(**{"dataset": "digits", "network": "simple-small", "epochs": 2, "batch_size": 8, **fields})


def make_run(folder, errors=(9.0, 3.0), environment=ENVIRONMENT, readings=(), **fields):
    """A finished run whose test error is `errors`, one per epoch."""
    made = config(**{"epochs": len(errors), **fields})
    directory = folder / "runs" / made.key
    with RunWriter(directory, made, environment) as writer:
        for epoch, error in enumerate(errors, start=1):
            writer.epoch(
                {
                    "epoch": epoch,
                    "train_loss": 0.5,
                    "train_error": error / 2,
                    "validation_error": error if made.train_on == "train" else None,
                    "test_error": error,
                }
            )
        result = {
            "epochs": len(errors),
            "test_error": errors[-1],
            "validation_error": errors[-1] if made.train_on == "train" else None,
            "train_error": 0.25,
            **({"recalibrated_test_error": errors[-1] - 0.5 - made.seed / 4} if made.recalibrated else {}),
            "best_epoch": 1 + min(range(len(errors)), key=errors.__getitem__),
            "best_test_error": min(errors),
        }
        writer.finish(result, {"weight": torch.zeros(2)}, [0.1] * len(errors), readings)
    return directory


def make_diverged(folder, step=7, epoch=2, **fields):
    """A run that is no longer finite at a step."""
    made = config(**fields)
    with RunWriter(folder / "runs" / made.key, made, ENVIRONMENT) as writer:
        writer.diverged(DivergedError(f"the loss of step {step} is not finite", step, epoch))
    return made


def snapshot(folder):
    """Every file below `folder` with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Payload:
    """Whoever unpickles it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def digits_recipe():
    """A table that trains in seconds: two networks, two to three methods, a schedule with drops."""
    setting = {"dataset": "digits", "epochs": 20, "batch_size": 32, "lr": 0.1, "train_on": "train+validation"}
    drops = {"schedule": "step", "milestones": (10, 15), "lr_factor": 0.1}
    return Recipe(
        name="digits-table",
        title="Table 0: test error (%) on digits",
        source="Nobody, Nothing, 1900",
        rows=(
            Row.of(
                "simple-small",
                "Small-3",
                {**setting, **drops},
                {"baseline": Printed(4.25, 0.5), "rrelu": 4.5, "drop-activation": 3.75},
                notes=("A note on Small-3.",),
            ),
            Row.of("mlp-800-800", "MLP-2", {**setting, "lr": 0.05}, {"baseline": 5.25, "drop-activation": 5.0}),
        ),
        seeds=2,
        notes=("A note on all rows.",),
    )
