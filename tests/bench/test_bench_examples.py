"""The examples in the docstrings of this layer run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import dropact.bench

MODULES = [info.name for info in pkgutil.walk_packages(dropact.bench.__path__, "dropact.bench.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL).failed == 0
