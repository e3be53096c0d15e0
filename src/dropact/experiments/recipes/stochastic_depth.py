"""Stochastic depth: the table and the figure of Huang et al., and the budgets of Hayou and Ayed."""

from dropact.experiments.recipes.recipe import Printed, Recipe, Row
from dropact.experiments.recipes.settings import Setting

HUANG = "Huang, Sun, Liu, Sedra and Weinberger, Deep Networks with Stochastic Depth, arXiv:1603.09382"
HAYOU = "Hayou and Ayed, Regularization in ResNet with Stochastic Depth, arXiv:2106.03091"

# [P], but for the 5,000 images held out of the 50,000: reconstructed, the paper's text is not at hand.
_SETTING: Setting = {
    "network": "resnet-110",
    "augmentation": "crop+flip",
    "train_on": "train",
    "epochs": 500,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "schedule": "step",
    "milestones": (250, 375),
    "lr_factor": 0.1,
    "weight_decay": 1e-4,
    "nesterov": True,
}

_OUR_NETWORK = (
    "The paper's shortcuts have no parameters where the shape changes; here they are 1×1 convolutions, as everywhere "
    "in these tables.",
    "The test error is that of the last epoch. The paper reads it, we believe, at the epoch of the least validation "
    "error, on 5,000 images held out of the training set, as here: its text is not at hand.",
)

# Read off Figure 8, ± 0.02: error (%) by the survival rate of the last block, and of all blocks.
LINEAR = {0.1: 6.96, 0.2: 6.30, 0.3: 5.97, 0.4: 5.40, 0.5: 5.23, 0.6: 5.34, 0.7: 5.27, 0.8: 5.15, 0.9: 5.84}
UNIFORM = {0.3: 6.93, 0.4: 6.56, 0.5: 6.14, 0.6: 5.92, 0.7: 5.48, 0.8: 5.27, 0.9: 5.95}


def _table_row(dataset: str, label: str, constant: float, dropped: float) -> Row:
    return Row(
        dataset,
        label,
        {**_SETTING, "dataset": dataset},
        {"baseline": {}, "stochastic-depth": {}},
        {"baseline": Printed(constant), "stochastic-depth": Printed(dropped)},
    )


def depth_table() -> Recipe:
    """ResNet-110 at constant depth and with linear decay to 0.5, on CIFAR-10 and CIFAR-100.

    [P]: network, optimiser, schedule, rates, numbers. Reconstructed: what is held out. Ours: projections in the
    shortcuts, the last epoch, the number of seeds.
    """
    return Recipe(
        name="depth-table",
        title="Stochastic depth: test error (%) of ResNet-110",
        source=HUANG,
        rows=(
            _table_row("cifar10", "CIFAR-10", 6.41, 5.23),
            _table_row("cifar100", "CIFAR-100", 27.22, 24.58),
        ),
        notes=_OUR_NETWORK,
    )


def depth_figure() -> Recipe:
    """Error of ResNet-110 on CIFAR-10 against the last survival rate, linear decay beside the same rate for all blocks.

    [P]: network, optimiser, schedule, grid; the numbers are read off the figure. Ours: as in `depth_table`.
    """
    setting = {**_SETTING, "dataset": "cifar10"}
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
            *_OUR_NETWORK,
            "The ± is that of reading the figure. A line of this figure is no comparison at equal cost: under linear "
            "decay to p a share of (1 + p) / 2 of the branches is active, under the uniform rule p. At equal budget "
            "(linear 0.6, uniform 0.8, say) the printed numbers are 5.34 and 5.27.",
        ),
    )


def _budget_row(budget: float, setting: Setting) -> Row:
    """The profiles at one budget; a line that starts at 1 cannot express one below a half."""
    methods = {"depth-uniform": {"uniform_budget": budget}, "depth-sensitivity": {"sensitive_budget": budget}}
    if budget >= 0.5:
        methods["depth-linear"] = {"linear_budget": budget}
    return Row(f"{budget:.1f}", f"budget {budget:.1f}", setting, methods)


def _full_row(setting: Setting) -> Row:
    return Row("1.0", "every branch", setting, {"baseline": {}})


def depth_budget() -> Recipe:
    """Hayou and Ayed's sweep: ResNet-56 on CIFAR-10, three profiles at budgets of 0.1 to 1.

    Reconstructed: network, data set and grid (their tables are not at hand, and none is quoted), the rule of the
    sensitivities. Ours: optimiser and schedule, those of Huang et al.; the sensitivities are of the first 256 images.
    """
    setting = {**_SETTING, "network": "resnet-56", "dataset": "cifar10"}
    budgets = [tenths / 10 for tenths in range(1, 10)]
    return Recipe(
        name="depth-budget",
        title="Survival rates at a budget: test error (%) of ResNet-56 on CIFAR-10",
        source=HAYOU,
        rows=(*(_budget_row(budget, setting) for budget in budgets), _full_row(setting)),
        notes=(
            "The hypothesis: at a small budget rates by sensitivity are best, at a large one uniform rates. The "
            "paper's numbers are not at hand; grid and rule are a reconstruction.",
        ),
    )


def depth_budget_small() -> Recipe:
    """The same question on a CPU: ResNet-20 on CIFAR-10, three epochs, budgets 0.3 to 1.

    All ours. One cycle up to 0.1, without augmentation: far from convergence, where a regulariser mostly costs.
    """
    setting: Setting = {
        "network": "resnet-20",
        "dataset": "cifar10",
        "epochs": 3,
        "batch_size": 128,
        "lr": 0.1,
        "schedule": "one-cycle",
        "weight_decay": 5e-4,
        "train_on": "train+validation",
        "precision": "bfloat16",
        "memory_format": "channels_last",
    }
    return Recipe(
        name="depth-budget-small",
        title="Survival rates at a budget: test error (%) of ResNet-20 on CIFAR-10 after three epochs",
        source=HAYOU,
        rows=(*(_budget_row(budget, setting) for budget in (0.3, 0.5, 0.7, 0.9)), _full_row(setting)),
        notes=("A setting of ours, not of the paper: it says nothing about networks that are trained to the end.",),
    )
