"""Which rows of a recipe a folder holds, on which seeds and schedule.

Its folder holds `reproduction.json` beside one `runs/` for all rows. More rows, methods and seeds of the same recipe
may join there; a row has one setting in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from dropact.experiments.comparison import Comparison, ComparisonValues
from dropact.experiments.config import RunConfig
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.recipes import Recipe


class ReproductionValues(TypedDict):
    """reproduction.json"""

    recipe: str
    rows: dict[str, ComparisonValues]


@dataclass(frozen=True)
class Reproduction:
    """Rows of one recipe by name, each a comparison.

    >>> from dropact.experiments import recipe
    >>> asked = Reproduction.of(recipe("figure2"), seeds=[0, 1], rows=["0.95", "1.00"], epochs=3)
    >>> [(config.method, config.seed, config.epochs) for config in asked.configs()]
    [('drop-activation', 0, 3), ('baseline', 0, 3), ('drop-activation', 1, 3), ('baseline', 1, 3)]
    """

    file: ClassVar[str] = "reproduction.json"
    form: ClassVar[Any] = ReproductionValues

    recipe: str
    rows: Mapping[str, Comparison]

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        seeds: Sequence[int],
        rows: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        epochs: int | None = None,
        fields: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> "Reproduction":
        """The runs of `recipe` on `seeds`; of all its rows and methods, or of some.

        Args:
            epochs: length of the schedule, if not the recipe's own; milestones are scaled and runs marked.
            fields: what every row's setting has otherwise: precision and layout of memory.
            defaults: the same for what a row does not say itself.

        Raises:
            ConfigError: a row or method that the recipe does not have, or a schedule too short for its milestones.
        """
        for name in methods or ():
            if name not in recipe.methods:
                raise ConfigError(f"method: got {name!r} in {recipe.name}, accepted: {', '.join(recipe.methods)}")
        chosen = recipe.rows if rows is None else [recipe.row(name) for name in rows]
        comparisons = {}
        for row in chosen:
            here = [name for name in row.methods if methods is None or name in methods]
            if here:
                made = row.comparison(seeds, here, epochs)
                unsaid = {name: value for name, value in (defaults or {}).items() if name not in row.setting}
                setting = {**made.setting, **unsaid, **(fields or {})}
                comparisons[row.name] = Comparison.of(setting, made.methods, made.seeds)
        if not comparisons:
            raise ConfigError(
                f"method: got {', '.join(methods or ())} in {', '.join(row.name for row in chosen)} of {recipe.name}, "
                f"accepted: {', '.join(dict.fromkeys(name for row in chosen for name in row.methods))}"
            )
        return cls(recipe.runs_of or recipe.name, comparisons)

    def configs(self) -> list[RunConfig]:
        """Every run, seeds outermost, so that a part of the list still compares."""
        configs = [config for comparison in self.rows.values() for config in comparison.configs()]
        return sorted(configs, key=lambda config: config.seed)

    def to_values(self) -> ReproductionValues:
        """Its JSON form."""
        return {"recipe": self.recipe, "rows": {name: row.to_values() for name, row in self.rows.items()}}

    @classmethod
    def from_values(cls, values: ReproductionValues) -> "Reproduction":
        """The reproduction of parsed JSON.

        Raises:
            ConfigError: it cannot be trained.
        """
        return cls(values["recipe"], {name: Comparison.from_values(row) for name, row in values["rows"].items()})

    def joined(self, held: "Reproduction", folder: Path) -> "Reproduction":
        """This one together with `held`, which is what `folder` holds already.

        Raises:
            RecordError: they are of another recipe, or a row has another setting.
        """
        if held.recipe != self.recipe:
            raise RecordError(f"{folder}: holds {held.recipe}, asked for {self.recipe}; choose another --out")
        shared = self.rows.keys() & held.rows.keys()
        rows = {name: self.rows[name].joined(held.rows[name], folder) for name in sorted(shared)}
        return Reproduction(self.recipe, {**held.rows, **self.rows, **rows})
