"""The budgets of Hayou and Ayed: profiles of survival rates that keep as many branches in the mean."""

from dropact.experiments.recipes.depth_settings import HAYOU, HUANG_NOTES, HUANG_SETTING
from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import Setting

LINEAR_DECAY = (3 * 54 - 1) / (4 * 54)  # the mean rate of 54 branches where it falls to a half in a line


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
    setting = {**HUANG_SETTING, "network": "resnet-56", "dataset": "cifar10"}
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


def depth_profiles() -> Recipe:
    """Three profiles with the budget of Huang's network, which is linear decay to a half, on CIFAR-10.

    [P]: network, optimiser and schedule, those of `depth_table`. Ours: the question.
    """
    methods = {
        "baseline": {},
        "depth-linear": {"linear_budget": LINEAR_DECAY},
        "depth-uniform": {"uniform_budget": LINEAR_DECAY},
        "depth-sensitivity": {"sensitive_budget": LINEAR_DECAY},
    }
    return Recipe(
        name="depth-profiles",
        title="Survival rates at the budget of linear decay to a half: test error (%) of ResNet-110 on CIFAR-10",
        source=HAYOU,
        rows=(Row("resnet-110", "ResNet-110", {**HUANG_SETTING, "dataset": "cifar10"}, methods),),
        notes=HUANG_NOTES,
    )
