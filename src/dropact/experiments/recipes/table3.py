"""Table 3: test error on SVHN, baseline and Drop-Activation."""

from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import DENSENET, PAPER, RESNEXT, WIDE_RESNET

SVHN = {"dataset": "svhn", "augmentation": "none", "normalisation": "scale"}


def table3() -> Recipe:
    """The three networks of Table 3, on train and extra together: 604,388 images.

    [P]: data, pixels to [0, 1], no augmentation, ResNeXt's schedule, the others as in the papers they come from
    (Zagoruyko and Komodakis 2016: dropout 0.4; Huang et al. 2017: dropout 0.2). Ours: the number of seeds; DenseNet's
    dropout stands after its 3×3 convolutions alone, the original's after the 1×1 ones too.
    """
    wide = {
        **SVHN,
        **WIDE_RESNET,
        "epochs": 160,
        "lr": 0.01,
        "milestones": (80, 120),
        "lr_factor": 0.1,
        "nesterov": True,
        "dropout": 0.4,
    }
    dense = {**SVHN, **DENSENET, "epochs": 40, "milestones": (20, 30), "dropout": 0.2}
    resnext = {**SVHN, **RESNEXT, "epochs": 100, "milestones": (40, 70)}
    return Recipe(
        name="table3",
        title="Table 3: test error (%) on SVHN",
        source=PAPER,
        rows=(
            Row.of("wrn-16-8", "WideResNet-16-8", wide, {"baseline": 1.54, "drop-activation": 1.46}),
            Row.of("densenet-bc-100-12", "DenseNet-BC-100-12", dense, {"baseline": 1.76, "drop-activation": 1.71}),
            Row.of("resnext-29-8x64d", "ResNeXt-29-8×64d", resnext, {"baseline": 1.79, "drop-activation": 1.69}),
        ),
        notes=(
            "The paper quotes the baselines of WideResNet and DenseNet from the original papers: other code and other "
            "runs than those of its own column.",
        ),
    )
