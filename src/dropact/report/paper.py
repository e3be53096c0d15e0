"""The numbers of a paper, to stand beside the runs that repeat them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.recipes import Recipe, Row, recipe
from dropact.experiments.reproduction import Reproduction


def _key(config: RunConfig) -> str:
    return json.dumps([config.setting, config.method, dict(config.options)], sort_keys=True)


@dataclass(frozen=True)
class Paper:
    """A recipe, and which of its rows each run belongs to."""

    recipe: Recipe
    rows: Mapping[str, Row]

    @classmethod
    def of(cls, reproduction: Reproduction, folder: Path) -> "Paper":
        """What stands beside the runs of `folder`.

        Raises:
            RecordError: its recipe, or a row of it, is not known here.
        """
        try:
            made = recipe(reproduction.recipe)
            rows = {
                _key(config): made.row(name)
                for name, comparison in reproduction.rows.items()
                for config in comparison.configs()
            }
        except ConfigError as error:
            raise RecordError(f"{folder / Reproduction.file}: {error}") from None
        return cls(made, rows)

    def row(self, config: RunConfig) -> Row | None:
        """The line of the paper's table that a run belongs to; None for a run that is in none."""
        return self.rows.get(_key(config))

    def place(self, config: RunConfig) -> int:
        """Sorts rows as the paper does; what is in none comes last."""
        row = self.row(config)
        return list(self.recipe.rows).index(row) if row else len(self.recipe.rows)
