"""The examples in the docstrings of these layers run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import dropact

LAYERS = ("experiments", "report", "cli")
MODULES = [
    info.name for info in pkgutil.walk_packages(dropact.__path__, "dropact.") if info.name.split(".")[1] in LAYERS
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
