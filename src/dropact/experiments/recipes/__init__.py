"""Settings and comparisons by name; one file per table or figure."""

from dropact.experiments.recipes.demo import DEMO_METHODS, DEMO_SEEDS, default_setting

__all__ = ["DEMO_METHODS", "DEMO_SEEDS", "default_setting"]
