"""Figure 6: the variance shift at the output of ResNet-164's second module, CIFAR-100, over training."""

from dataclasses import replace

from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import PAPER
from dropact.experiments.recipes.table1 import table1


def figure6() -> Recipe:
    """The run of Table 1 that the figure looks into, and that records "stage2". [P], [C] and ours as there."""
    row = table1().row("resnet-164")
    methods = {"drop-activation": row.methods["drop-activation"]}
    return Recipe(
        name="figure6",
        title="Figure 6: Var(test) / Var(train) after the second module of ResNet-164 on CIFAR-100",
        source=PAPER,
        rows=(replace(row, methods=methods, printed={name: row.printed[name] for name in methods}),),
        runs_of="table1",
        notes=("The paper's ratio tends to 1 by the end of training.",),
    )


def figure6_small() -> Recipe:
    """Figures 4 and 6 on a network that a CPU can train with `--epochs`: ResNet-56, with ReLU and with Drop-Activation.

    Ours: the network, and that one recipe serves both figures. [P], of ResNets: optimiser, schedule, augmentation.
    """
    row = table1().row("resnet-164")
    return Recipe(
        name="figure6-small",
        title="Figures 4 and 6 on ResNet-56: errors and Var(test) / Var(train) after the second module, CIFAR-100",
        source=PAPER,
        rows=(
            Row(
                "resnet-56",
                "ResNet-56",
                {**row.setting, "network": "resnet-56"},
                {name: row.methods[name] for name in ("baseline", "drop-activation")},
            ),
        ),
        notes=("The paper shows ResNet-164.",),
    )
