"""The one list of recipe names."""

from collections.abc import Callable, Mapping

from dropact.experiments.errors import ConfigError
from dropact.experiments.recipes.depth_budget import depth_budget, depth_budget_small, depth_profiles
from dropact.experiments.recipes.depth_figure import depth_figure
from dropact.experiments.recipes.depth_table import depth_table
from dropact.experiments.recipes.few_images import capacity, data_rate, data_rate_cifar100, harmony, length
from dropact.experiments.recipes.figure2 import figure2, figure2_augmented
from dropact.experiments.recipes.figure4 import figure4
from dropact.experiments.recipes.figure6 import figure6, figure6_small
from dropact.experiments.recipes.gaaf_cnn import gaaf_cifar10, gaaf_cifar100, gaaf_svhn
from dropact.experiments.recipes.gaaf_mnist import gaaf_mnist
from dropact.experiments.recipes.recipe import Recipe
from dropact.experiments.recipes.table1 import table1
from dropact.experiments.recipes.table2 import table2
from dropact.experiments.recipes.table3 import table3
from dropact.experiments.recipes.table4 import table4
from dropact.experiments.recipes.table5 import table5
from dropact.experiments.recipes.table6 import table6

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "figure2": figure2,
    "figure2-augmented": figure2_augmented,
    "figure4": figure4,
    "figure6": figure6,
    "figure6-small": figure6_small,
    "gaaf-mnist": gaaf_mnist,
    "gaaf-cifar10": gaaf_cifar10,
    "gaaf-cifar100": gaaf_cifar100,
    "gaaf-svhn": gaaf_svhn,
    "depth-table": depth_table,
    "depth-figure": depth_figure,
    "depth-budget": depth_budget,
    "depth-budget-small": depth_budget_small,
    "depth-profiles": depth_profiles,
    "data-rate": data_rate,
    "data-rate-cifar100": data_rate_cifar100,
    "capacity": capacity,
    "length": length,
    "harmony": harmony,
}


def recipe(name: str) -> Recipe:
    """A table or figure of a paper: its runs, with the printed numbers beside them.

    >>> table = recipe("table1")
    >>> row = table.row("resnet-164")
    >>> row.printed["drop-activation"].error
    23.88
    >>> [config.method for config in row.comparison(seeds=[0]).configs()]
    ['baseline', 'rrelu', 'drop-activation']
    >>> len(table.configs(seeds=5))        # 15 numbers, five seeds each
    75

    Args:
        name: one of `RECIPES`.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe: got {name!r}, accepted: {', '.join(RECIPES)}")
    return RECIPES[name]()
