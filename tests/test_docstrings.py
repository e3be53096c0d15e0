"""The examples in public docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import dropact

LAYERS = (
    "_random",
    "_elementwise",
    "_layout",
    "kernels",
    "theory",
    "methods",
    "schedules",
    "surgery",
    "diagnostics",
    "functional",
)
FACADES = ("diagnostics", "functional", "schedules", "theory")
MODULES = [
    info.name
    for info in pkgutil.walk_packages(dropact.__path__, "dropact.")
    if info.name.split(".")[1] in LAYERS and not info.name.rsplit(".", 1)[-1].startswith("_cpu")
]


@pytest.mark.parametrize("name", ["dropact", *MODULES])
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


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
