"""Figure 2: test error of the simple network on CIFAR-10 against the probability of keeping the nonlinearity."""

from collections.abc import Iterable

from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import PAPER, Setting

KEEP_PERCENT = range(60, 101, 5)
AUGMENTED_PERCENT = (80, 90, 95, 100)

# All ours: the paper gives neither widths nor schedule.
SETTING: Setting = {
    "dataset": "cifar10",
    "network": "simple",
    "epochs": 10,
    "batch_size": 128,
    "lr": 0.1,
    "schedule": "one-cycle",
    "weight_decay": 5e-4,
    "train_on": "train+validation",
    "recalibrated": True,
}


def _rows(percents: Iterable[int], setting: Setting) -> tuple[Row, ...]:
    return tuple(
        Row(
            name=f"{keep / 100:.2f}",
            label=f"p (keep) = {keep / 100:.2f}",
            setting=setting,
            methods={"drop-activation": {"drop_prob": (100 - keep) / 100}} if keep < 100 else {"baseline": {}},
        )
        for keep in percents
    )


def figure2() -> Recipe:
    """One row per p (keep): 0.60, 0.65, ..., 1.00, the last being plain ReLU.

    [P]: the grid, the kind of network, 20 runs for each point. The paper gives no widths, optimiser or schedule, and no
    numbers: only that the smallest mean error is at p = 0.95. Ours: widths 32-64-128 and 256 hidden units; 10 epochs of
    batch 128, one cycle up to 0.1, weight decay 5e-4, without augmentation. So trained the network all but fits its
    training images (train error 1.5 %; 8 epochs leave 4.0 %), which is where a regulariser has something to do.
    """
    return Recipe(
        name="figure2",
        title="Figure 2: test error (%) on CIFAR-10 against p (keep)",
        source=PAPER,
        rows=_rows(KEEP_PERCENT, SETTING),
        seeds=20,
        notes=(
            "The paper plots means of 20 runs with 95 % intervals and prints no number; its smallest error is at "
            "p (keep) = 0.95.",
        ),
    )


def figure2_augmented() -> Recipe:
    """Four of Figure 2's points with crop and flip, all ours: the network is far from fitting its training images."""
    return Recipe(
        name="figure2-augmented",
        title="Figure 2 with augmentation: test error (%) on CIFAR-10 against p (keep)",
        source=PAPER,
        rows=_rows(AUGMENTED_PERCENT, {**SETTING, "augmentation": "crop+flip"}),
        notes=("Not of the paper: the same network where it does not overfit.",),
    )
