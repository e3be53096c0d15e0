"""How the setting of the default comparison was chosen: the baseline alone, by validation error (see recipes/demo.py).

    python scripts/choose_digits_setting.py

Prints one line per setting; takes a few minutes on one core. The test error is not read.
"""

import itertools
import sys

import torch

from dropact.experiments import RunConfig, load_dataset, train
from dropact.experiments.statistics import summarise

SEEDS = range(100, 110)  # none of the seeds that the comparison uses


def main() -> None:
    torch.set_num_threads(1)
    data = load_dataset("digits")
    sys.stdout.write("batch   lr  epochs  validation error %      train error %\n")
    for batch_size, lr, epochs in itertools.product((32, 64), (0.03, 0.1, 0.3), (20, 30)):
        results = [
            train(
                RunConfig(
                    dataset="digits",
                    network="simple-small",
                    seed=seed,
                    epochs=epochs,
                    batch_size=batch_size,
                    lr=lr,
                ),
                data,
            ).result
            for seed in SEEDS
        ]
        validation = summarise([result["validation_error"] for result in results])
        fitted = summarise([result["train_error"] for result in results])
        sys.stdout.write(
            f"{batch_size:5} {lr:4} {epochs:7}  {validation.mean:.2f} ± {validation.half_width or 0:.2f}"
            f"             {fitted.mean:.2f}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
