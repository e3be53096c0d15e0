"""How the learning rates of the CNN recipes, "gaaf-cifar10" and the like, were chosen: on validation data.

    DROPACT_DATA=FOLDER python scripts/choose_cnn_setting.py

The two networks without GAAF on CIFAR-10, shortened to what a core does in an hour: 10,000 training images, 6 epochs of
one cycle, one seed of its own. Prints one line per network and rate. The test error is not read.
"""

import sys
from dataclasses import replace

import torch

from dropact.experiments import RunConfig, load_dataset, recipe, train
from dropact.experiments.hardware import fast_fields

IMAGES, EPOCHS, SEED = 10_000, 6, 100


def main() -> None:
    torch.set_num_threads(1)
    data = load_dataset("cifar10")
    data = replace(data, x_train=data.x_train[:IMAGES], y_train=data.y_train[:IMAGES])
    data = replace(data, x_test=data.x_test[:250], y_test=data.y_test[:250])  # not read
    sys.stdout.write("network     lr  validation error %  train loss\n")
    for row in recipe("gaaf-cifar10").rows:
        for lr in (0.01, 0.03, 0.1, 0.3) if row.name == "cnn-bn" else (0.003, 0.01, 0.03, 0.1):
            fields = {"train_on": "train", "epochs": EPOCHS, "seed": SEED, "lr": lr, **fast_fields("cpu", "cifar10")}
            last = train(RunConfig(**{**row.setting, **fields}), data).metrics[-1]
            sys.stdout.write(f"{row.name:7} {lr:6} {last['validation_error']:19.2f} {last['train_loss']:11.3f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
