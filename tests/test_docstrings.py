"""The examples in docstrings run and print what they say."""

import doctest
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import dropact

FACADES = ("diagnostics", "functional", "schedules", "theory")
MODULES = [
    info.name
    for info in pkgutil.walk_packages(dropact.__path__, "dropact.")
    if not info.name.rsplit(".", 1)[-1].startswith(("_cpu", "__main__"))
]


def has_examples(name):
    return ">>>" in Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in ("dropact", *MODULES) if has_examples(name)])
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("package", ["dropact", *(f"dropact.{name}" for name in FACADES)])
def test_a_public_name_is_there_and_never_that_of_a_module_too(package):
    """Where a function is named like the file that it stands in, documentation can show but one of the two."""
    module = importlib.import_module(package)
    for name in module.__all__:
        public = getattr(module, name)
        if package == "dropact" and name in FACADES:
            assert isinstance(public, ModuleType)
            continue
        assert not isinstance(public, ModuleType), name
        assert not hasattr(module, "__path__") or importlib.util.find_spec(f"{package}.{name}") is None, name


@pytest.mark.parametrize("name", [n for n in dropact.__all__ if n not in FACADES])
def test_public_names_have_an_example(name):
    assert ">>>" in getattr(dropact, name).__doc__


@pytest.mark.parametrize("name", dropact.schedules.__all__)
def test_public_schedules_have_an_example(name):
    assert ">>>" in getattr(dropact.schedules, name).__doc__


@pytest.mark.parametrize("name", dropact.functional.__all__)
def test_public_functions_have_an_example_and_their_errors(name):
    assert ">>>" in getattr(dropact.functional, name).__doc__
    assert "Raises:" in getattr(dropact.functional, name).__doc__
