"""What one comparison is, and the folder that belongs to it.

A comparison is a setting (every field of a config but the method, its options and the seed), methods and seeds. Its
folder holds `comparison.json` beside `runs/`. The same setting may be extended there by methods and seeds, whose runs
join those that are there; another setting, or another option of a method that is there, is another comparison and
needs a folder of its own. A reproduction claims its folder in the same way, with a file of its own name.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypedDict, TypeVar

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.files import PARTIAL, parsed, read_text, write_text
from dropact.experiments.lock import held
from dropact.experiments.methods import METHODS, complete_options, parts_of, rank
from dropact.experiments.packed import STUDY, read_study
from dropact.experiments.records import RUNS
from dropact.experiments.schema import Count, MismatchError, checked

CLAIM_LOCK = ".lock"
EXTENDED_BY = {"comparison.json": "compare", "reproduction.json": "reproduce"}  # the verb for each claim


class ComparisonValues(TypedDict):
    """comparison.json"""

    setting: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    seeds: list[Count]


@dataclass(frozen=True)
class Comparison:
    """Methods with their options, and seeds, under one setting.

    >>> setting = RunConfig(dataset="digits", network="simple-small").setting
    >>> comparison = Comparison.of(setting, {"baseline": {}, "dropout": {"rate": 0.3}}, [0, 1])
    >>> [(config.method, config.seed) for config in comparison.configs()]
    [('baseline', 0), ('dropout', 0), ('baseline', 1), ('dropout', 1)]
    """

    file: ClassVar[str] = "comparison.json"
    form: ClassVar[Any] = ComparisonValues

    setting: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, float]]
    seeds: tuple[int, ...]

    @classmethod
    def of(
        cls, setting: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]], seeds: "list[int] | tuple[int, ...]"
    ) -> "Comparison":
        """A checked comparison with defaults filled in, in the order of `METHODS`.

        Raises:
            ConfigError: no methods, no seeds, a seed twice, or a config that cannot be run.
        """
        if not methods:
            raise ConfigError(f"methods: got none, accepted: at least one of {', '.join(METHODS)}")
        if not seeds:
            raise ConfigError("seeds: got none, accepted: at least one whole number of at least 0")
        twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
        if twice:
            raise ConfigError(f"seeds: got {twice[0]} more than once, accepted: each seed once")
        checked = RunConfig.from_dict(dict(setting)).setting
        named = {"+".join(parts_of(name)): values for name, values in methods.items()}
        ordered = {name: complete_options(name, named[name], checked["dataset"]) for name in sorted(named, key=rank)}
        comparison = cls(checked, ordered, tuple(sorted(seeds)))
        comparison.configs()
        return comparison

    def configs(self) -> list[RunConfig]:
        """One config per seed and method; seeds outermost, so that a part of the list still compares."""
        return [
            RunConfig.from_dict({**self.setting, "method": name, "options": options, "seed": seed})
            for seed in self.seeds
            for name, options in self.methods.items()
        ]

    def to_values(self) -> ComparisonValues:
        """Its JSON form."""
        methods = {name: dict(options) for name, options in self.methods.items()}
        return {"setting": dict(self.setting), "methods": methods, "seeds": list(self.seeds)}

    @classmethod
    def from_values(cls, values: ComparisonValues) -> "Comparison":
        """The comparison of parsed JSON.

        Raises:
            ConfigError: it cannot be trained.
        """
        return cls.of(values["setting"], values["methods"], values["seeds"])

    def joined(self, held: "Comparison", folder: Path) -> "Comparison":
        """This one together with `held`, which is what `folder` holds already.

        Raises:
            RecordError: they have another setting, or other options of a method.
        """
        for field, value in self.setting.items():
            if held.setting[field] != value:
                raise RecordError(
                    f"{folder}: holds another comparison ({field} {held.setting[field]!r}, asked for {value!r}); "
                    "choose another --out"
                )
        for name in self.methods.keys() & held.methods.keys():
            if held.methods[name] != self.methods[name]:
                raise RecordError(
                    f"{folder}: holds another comparison ({name} {dict(held.methods[name])}, "
                    f"asked for {dict(self.methods[name])}); choose another --out"
                )
        return Comparison.of(self.setting, {**held.methods, **self.methods}, sorted({*held.seeds, *self.seeds}))


class Claim(Protocol):
    """What a folder of runs belongs to: kept there in a file, and extended by more of its kind."""

    file: ClassVar[str]
    form: ClassVar[Any]

    def to_values(self) -> Any: ...

    @classmethod
    def from_values(cls: type["C"], values: Any) -> "C": ...

    def joined(self: "C", held: "C", folder: Path) -> "C": ...

    def configs(self) -> list[RunConfig]: ...


C = TypeVar("C", bound=Claim)


def read_claim(kind: type[C], folder: Path) -> C | None:
    """What `folder` belongs to, None where it holds no claim of that kind.

    Raises:
        RecordError: its file is damaged.
    """
    path, stem = folder / kind.file, kind.file.removesuffix(".json")
    try:
        if path.exists():
            return kind.from_values(parsed(kind.form, read_text(path), path))
        path, study = folder / STUDY, read_study(folder)
        return kind.from_values(checked(kind.form, study[stem], stem)) if stem in study else None
    except (ConfigError, MismatchError) as error:
        raise RecordError(f"{path}: damaged, {error}") from None


def check_folder(folder: Path) -> None:
    """That `folder` is a folder or not there, and could be written to; changes nothing.

    Raises:
        RecordError: it, or something above it, is a file, or it cannot be written.
    """
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise RecordError(f"{nearest}: a file, where a folder should be; choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RecordError(f"{folder}: cannot be written; choose another --out")


def check_holds(folder: Path, name: str) -> None:
    """That `folder`, if there is anything in it, has something of that name; changes nothing.

    Raises:
        RecordError: it has not; hidden files, and what a process that was killed may leave of its own, do not count.
    """
    there = folder.iterdir() if folder.exists() else ()
    others = sorted(path.name for path in there if not path.name.startswith(".") and path.suffix != PARTIAL)
    if others and name not in others:
        raise RecordError(f"{folder}: holds {others[0]!r} and no {name}; choose an empty or a new --out")


def join_folder(folder: Path, asked: C) -> C:
    """`asked` together with what `folder` already holds of it; changes nothing.

    Raises:
        RecordError: the folder is a file, cannot be written, or holds something else.
    """
    check_folder(folder)
    found = read_claim(type(asked), folder)
    if found is not None:
        return asked.joined(found, folder)
    check_holds(folder, asked.file)
    return asked


def claim_folder(folder: Path, asked: C) -> None:
    """Adds `asked` to the file of the folder's claim, unless it is already there.

    Raises:
        RecordError: the folder cannot be made or written, or holds something else.
    """
    if join_folder(folder, asked) == read_claim(type(asked), folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of two that join at once the second adds to what the first has written.
        with held(folder / CLAIM_LOCK, f"the {type(asked).__name__.lower()}", patience=10.0):
            values = join_folder(folder, asked).to_values()
            write_text(folder / asked.file, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def check_run_folder(folder: Path) -> None:
    """That single runs may be added to `folder`: it is new, empty, or holds `runs/` and no claim; changes nothing.

    Raises:
        RecordError: the folder is a file, cannot be written, or holds something else.
    """
    check_folder(folder)
    for file, verb in EXTENDED_BY.items():
        what = file.removesuffix(".json")
        if (folder / file).exists() or what in read_study(folder):
            raise RecordError(f"{folder}: holds a {what}; extend it with `dropact {verb}`, or choose another --out")
    check_holds(folder, RUNS)
