"""Table 6: test error on CIFAR-100, Drop-Activation together with AutoAugment."""

from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import PAPER, PRINTED_AS_20_10, RESNET, WIDE_RESNET
from dropact.experiments.recipes.table1 import CIFAR100


def table6() -> Recipe:
    """The two networks of Table 6.

    [P]: networks, data, AutoAugment, which draws a sub-policy per image. Ours: optimisers and schedules as in Table 1,
    which the paper does not say otherwise; crop and flip beside the policy; torchvision's transforms; the number of
    seeds.
    """
    return Recipe(
        name="table6",
        title="Table 6: test error (%) on CIFAR-100, with AutoAugment",
        source=PAPER,
        rows=(
            Row.of(
                "resnet-164",
                "ResNet-164",
                {**CIFAR100, **RESNET},
                {"baseline": 25.16, "autoaugment": 21.12, "autoaugment+drop-activation": 20.39},
            ),
            Row.of(
                "wrn-28-10",
                "WideResNet-28-10",
                {**CIFAR100, **WIDE_RESNET},
                {"baseline": 18.85, "autoaugment": 17.09, "autoaugment+drop-activation": 16.20},
                notes=(
                    PRINTED_AS_20_10,
                    "The 17.09 is quoted from Cubuk et al. (2019), whose code applies a 16×16 Cutout after the policy, "
                    "lowers the learning rate along a cosine and uses no dropout. The paper does not say whether its "
                    "own runs do; here there is no Cutout, and the rest is as in Table 1.",
                ),
            ),
        ),
        notes=(
            "The baselines are the quoted numbers of Table 1.",
            "The transforms are torchvision's. Cubuk et al. fill what comes in from outside with the mean colour, here "
            "it is black; they move CIFAR's images by up to 10 pixels, here by up to 14.",
        ),
    )
