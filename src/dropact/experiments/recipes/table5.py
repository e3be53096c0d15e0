"""Table 5: test error on CIFAR-100, Drop-Activation together with Cutout."""

from dropact.experiments.recipes.recipe import Printed, Recipe, Row
from dropact.experiments.recipes.settings import CUTOUT, PAPER, PRINTED_AS_20_10
from dropact.experiments.recipes.table1 import CIFAR100


def table5() -> Recipe:
    """The two networks of Table 5.

    [P]: networks, data, and the code of DeVries and Taylor 2017, from which come one hole of 8×8 pixels, optimiser and
    schedule [C, theirs] and the dropout 0.3 of its WideResNet. Ours: the number of seeds.
    """
    resnet = {**CIFAR100, **CUTOUT}
    wide = {**resnet, "dropout": 0.3}
    return Recipe(
        name="table5",
        title="Table 5: test error (%) on CIFAR-100, with Cutout",
        source=PAPER,
        rows=(
            Row.of(
                "resnet-18",
                "ResNet-18",
                resnet,
                {"baseline": Printed(22.46, 0.13), "cutout": Printed(21.96, 0.24), "cutout+drop-activation": 20.99},
            ),
            Row.of(
                "wrn-28-10",
                "WideResNet-28-10",
                wide,
                {"baseline": Printed(18.8, 0.08), "cutout": Printed(18.41, 0.27), "cutout+drop-activation": 17.86},
                notes=(PRINTED_AS_20_10,),
            ),
        ),
        notes=(
            "The paper quotes baseline and Cutout from DeVries and Taylor (2017), with their ±, and does not say what "
            "it stands for; its own column has none.",
        ),
    )
