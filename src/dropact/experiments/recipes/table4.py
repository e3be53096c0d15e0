"""Table 4: test error on EMNIST Balanced, baseline and Drop-Activation."""

from dropact.experiments.recipes.recipe import Recipe
from dropact.experiments.recipes.settings import PAPER, paper_rows

EMNIST = {"dataset": "emnist-balanced", "augmentation": "none"}


def table4() -> Recipe:
    """The five networks of Table 4, on 28×28 grey images of 47 classes.

    [P]: networks, data, the hyper-parameters of CIFAR-100. [C]: WideResNet as in Table 1. Ours: no augmentation, which
    the paper describes for CIFAR only (a flipped letter is another letter, or none), and the number of seeds.
    """
    return Recipe(
        name="table4",
        title="Table 4: test error (%) on EMNIST Balanced",
        source=PAPER,
        rows=paper_rows(
            EMNIST,
            {
                "resnet-164": {"baseline": 8.85, "drop-activation": 8.82},
                "preresnet-164": {"baseline": 8.88, "drop-activation": 8.72},
                "wrn-28-10": {"baseline": 8.97, "drop-activation": 8.72},
                "densenet-bc-100-12": {"baseline": 8.81, "drop-activation": 8.90},
                "resnext-29-8x64d": {"baseline": 9.07, "drop-activation": 8.91},
            },
            {"wrn-28-10": ("The table prints WideResNet-28-10, the text WideResNet-20-10: 28-10 is trained here.",)},
        ),
        notes=("All of the paper's numbers are its authors' own, the baselines too.",),
    )
