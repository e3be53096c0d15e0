"""Figure 8 of Huang et al.: the error against the last survival rate."""

from dropact.experiments.recipes.depth_settings import HUANG, HUANG_NOTES, HUANG_SETTING
from dropact.experiments.recipes.recipe import Printed, Recipe, Row

# Read off Figure 8, ± 0.02: error (%) by the survival rate of the last block, and of all blocks.
LINEAR = {0.1: 6.96, 0.2: 6.30, 0.3: 5.97, 0.4: 5.40, 0.5: 5.23, 0.6: 5.34, 0.7: 5.27, 0.8: 5.15, 0.9: 5.84}
UNIFORM = {0.3: 6.93, 0.4: 6.56, 0.5: 6.14, 0.6: 5.92, 0.7: 5.48, 0.8: 5.27, 0.9: 5.95}


def depth_figure() -> Recipe:
    """Error of ResNet-110 on CIFAR-10 against the last survival rate, linear decay beside the same rate for all blocks.

    [P]: network, optimiser, schedule, grid; the numbers are read off the figure. Ours: as in `depth_table`.
    """
    setting = {**HUANG_SETTING, "dataset": "cifar10"}
    rows = [Row("1.0", "constant depth", setting, {"baseline": {}}, {"baseline": Printed(6.41)})]
    for rate in sorted(LINEAR, reverse=True):
        methods = {"stochastic-depth": {"last_survival": rate}}
        printed = {"stochastic-depth": Printed(LINEAR[rate], 0.02)}
        if rate in UNIFORM:
            methods["depth-uniform"] = {"uniform_budget": rate}
            printed["depth-uniform"] = Printed(UNIFORM[rate], 0.02)
        rows.append(Row(f"{rate:.1f}", f"last survival rate {rate:.1f}", setting, methods, printed))
    return Recipe(
        name="depth-figure",
        title="Stochastic depth: test error (%) on CIFAR-10 against the last survival rate",
        source=HUANG,
        rows=tuple(rows),
        notes=(
            *HUANG_NOTES,
            "The ± is that of reading the figure. A line of this figure is no comparison at equal cost: under linear "
            "decay to p a share of (1 + p) / 2 of the branches is active, under the uniform rule p. At equal budget "
            "(linear 0.6, uniform 0.8, say) the printed numbers are 5.34 and 5.27.",
        ),
    )
