"""The table of Huang et al.: constant depth against linear decay of the survival rates."""

from dropact.experiments.recipes.depth_settings import HUANG, HUANG_NOTES, HUANG_SETTING
from dropact.experiments.recipes.recipe import Printed, Recipe, Row


def _table_row(dataset: str, label: str, constant: float, dropped: float) -> Row:
    return Row(
        dataset,
        label,
        {**HUANG_SETTING, "dataset": dataset},
        {"baseline": {}, "stochastic-depth": {}},
        {"baseline": Printed(constant), "stochastic-depth": Printed(dropped)},
    )


def depth_table() -> Recipe:
    """ResNet-110 at constant depth and with linear decay to 0.5, on CIFAR-10 and CIFAR-100.

    [P]: network, optimiser, schedule, rates, numbers. Reconstructed: what is held out. Ours: projections in the
    shortcuts, the last epoch, the number of seeds. Left out: ResNet-152 on SVHN and ResNet-1202 on CIFAR-10.
    """
    return Recipe(
        name="depth-table",
        title="Stochastic depth: test error (%) of ResNet-110",
        source=HUANG,
        rows=(
            _table_row("cifar10", "CIFAR-10", 6.41, 5.23),
            _table_row("cifar100", "CIFAR-100", 27.22, 24.58),
        ),
        notes=(*HUANG_NOTES, "The paper also has ResNet-152 on SVHN and ResNet-1202 on CIFAR-10; these are left out."),
    )
